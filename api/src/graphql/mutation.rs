//! Mutations: each checks, writes one record of the tenant's scope, and reads back what it answers.
use std::borrow::Cow;

use async_graphql::{
    Context, ContextSelectionSet, ID, MaybeUndefined, Object, OutputType, Positioned, ServerResult,
    SimpleObject, Union, Value, indexmap::IndexMap, parser::types::Field, registry::Registry,
};
use mesh::{
    identity::EpochSecret,
    records::{Ack, Change, IdempotencyKey, KeyId, Scope},
    seal,
};
use rand::Rng as _;
use rand_chacha::ChaCha20Rng;
use routing::model::{BroadcastId, PlaybackId, StreamId, StreamKey, TenantId};
use sha2::{Digest as _, Sha256};

use super::{
    error::{AuthError, Fault, NotFoundError, ValidationError, code},
    id::{self, Kind},
    input::{self, CreateStreamInput, CreateStreamKeyInput, UpdateStreamInput},
    stream::{self, Stream, StreamKey as Key},
    write::WriteId,
};
use crate::{
    gateway::{Deps, Session, deps, session},
    ports::EndReason,
};

/// Keys of one stream, deactivated ones counted: each is a record for good.
const MAX_KEYS: usize = 100;

/// A union's answer of which no field was asked: `{}`, where the library says `null` in the place of a non-null.
pub struct Whole<T>(T);

impl<T: OutputType> OutputType for Whole<T> {
    fn type_name() -> Cow<'static, str> {
        T::type_name()
    }
    fn create_type_info(registry: &mut Registry) -> String {
        T::create_type_info(registry)
    }
    async fn resolve(
        &self,
        ctx: &ContextSelectionSet<'_>,
        field: &Positioned<Field>,
    ) -> ServerResult<Value> {
        Ok(match self.0.resolve(ctx, field).await? {
            Value::Null => Value::Object(IndexMap::new()),
            value => value,
        })
    }
}

/// It is gone.
#[derive(Clone, Debug, SimpleObject)]
pub struct DeleteSuccess {
    /// Always true.
    pub success: bool,
    /// The id as it was given.
    pub deleted_id: ID,
    /// Whether something of it still goes on.
    pub pending: Option<bool>,
}

macro_rules! result {
    ($(#[$doc:meta])* $name:ident { $($variant:ident($ty:ty)),* } $($fault:ident),*) => {
        $(#[$doc])*
        #[derive(Union)]
        #[allow(clippy::large_enum_variant, reason = "answered once, never kept")]
        pub enum $name { $(#[allow(missing_docs)] $variant($ty),)* }

        impl $name {
            fn from_fault(fault: Fault) -> async_graphql::Result<Self> {
                match fault {
                    $(result!(@pat $fault e) => Ok(result!(@make $fault e)),)*
                    #[allow(unreachable_patterns, reason = "some unions have every member")]
                    other => Err(other.into()),
                }
            }
        }
    };
    (@pat Validation $e:ident) => { Fault::Validation($e) };
    (@pat NotFound $e:ident) => { Fault::NotFound($e) };
    (@pat Auth $e:ident) => { Fault::Auth($e) };
    (@make Validation $e:ident) => { Self::ValidationError($e) };
    (@make NotFound $e:ident) => { Self::NotFoundError($e) };
    (@make Auth $e:ident) => { Self::AuthError($e) };
}

result! {
    /// What `createStream` answers.
    CreateStreamResult {
        Stream(Stream), ValidationError(ValidationError), AuthError(AuthError)
    } Validation, Auth
}
result! {
    /// What `updateStream` and `refreshStreamKey` answer.
    UpdateStreamResult {
        Stream(Stream), ValidationError(ValidationError), NotFoundError(NotFoundError), AuthError(AuthError)
    } Validation, NotFound, Auth
}
result! {
    /// What `deleteStream` answers.
    DeleteStreamResult {
        DeleteSuccess(DeleteSuccess), NotFoundError(NotFoundError), AuthError(AuthError)
    } NotFound, Auth
}
result! {
    /// What `createStreamKey` answers.
    CreateStreamKeyResult {
        StreamKey(Key), ValidationError(ValidationError), NotFoundError(NotFoundError), AuthError(AuthError)
    } Validation, NotFound, Auth
}
result! {
    /// What `deleteStreamKey` answers.
    DeleteStreamKeyResult {
        DeleteSuccess(DeleteSuccess), NotFoundError(NotFoundError), AuthError(AuthError)
    } NotFound, Auth
}

/// One mutation's surroundings.
struct Work<'a> {
    deps: &'a Deps,
    session: &'a Session,
    tenant: TenantId,
    /// The client's name for this field of its request; the ids of what is made follow from it, so that a repeated
    /// request finds them at whichever gateway it reaches.
    once: Option<String>,
    rng: ChaCha20Rng,
}

impl<'a> Work<'a> {
    fn begin(ctx: &Context<'a>) -> Result<Self, Fault> {
        let internal = |e: async_graphql::Error| Fault::Other(code::UNAVAILABLE, e.message);
        let session = session(ctx).map_err(internal)?;
        let deps = deps(ctx).map_err(internal)?;
        let once = session.idempotency.as_ref().map(|key| {
            let field = ctx.field();
            format!("{} {} {key}", field.name(), field.alias().unwrap_or(""))
        });
        Ok(Self {
            deps,
            session,
            tenant: session.tenant()?,
            once,
            rng: deps.rng(),
        })
    }

    /// 16 bytes for an id: from the client's idempotency key where it gave one, else at random.
    fn id(&mut self, what: &str) -> [u8; 16] {
        let mut bytes = [0; 16];
        if let Some(once) = &self.once {
            let hash = Sha256::new()
                .chain_update(b"shoal api id 1")
                .chain_update(self.tenant.as_bytes())
                .chain_update(what)
                .chain_update([0])
                .chain_update(once)
                .finalize();
            bytes.copy_from_slice(&hash[..16]);
        } else {
            bytes = self.draw();
        }
        bytes
    }

    fn epoch(&self) -> Result<&'a EpochSecret, Fault> {
        self.deps.records.epoch().ok_or_else(|| {
            let message = "this node cannot make stream keys, since it holds no epoch secret: ask another gateway";
            Fault::Other(code::UNAVAILABLE, message.to_owned())
        })
    }

    fn stream(&self, field: &str, text: &str) -> Result<mesh::config::Stream, Fault> {
        let raw: StreamId =
            id::read(Kind::Stream, text).map_err(|e| Fault::id(field, Kind::Stream, text, &e))?;
        stream::find(self.deps, self.tenant, raw)
            .ok_or_else(|| Fault::not_found(Kind::Stream, text))
    }

    async fn write(&self, changes: Vec<Change>) -> Result<(), Fault> {
        let once = self.once.as_ref();
        let once = once.map(|text| IdempotencyKey::new(self.tenant, text));
        let scope = Scope::Tenant(self.tenant);
        let written = self.deps.records.write(scope, changes, once).await;
        let written = written.map_err(|e| Fault::write(&e))?;
        let id = WriteId::new(self.deps.node, written.number);
        self.session.acknowledged(written.ack, id);
        Ok(())
    }

    /// What is there of a stream just written.
    fn read_back(&self, id: StreamId) -> Result<Stream, Fault> {
        stream::find(self.deps, self.tenant, id)
            .map(Stream)
            .ok_or_else(|| {
                let message = "the stream that this request made is gone: it was deleted meanwhile; use a new Idempotency-Key for another";
                Fault::Other(code::NOT_FOUND, message.to_owned())
            })
    }

    /// A new key with the id that [`Work::id`] gives, and the change that makes it; no change when this node knows the
    /// key already, since the request is a repeated one.
    fn new_key(
        &mut self,
        stream: StreamId,
        name: String,
    ) -> Result<(KeyId, Option<Change>), Fault> {
        let epoch = self.epoch()?;
        let key = KeyId::from_bytes(self.id("key"));
        let config = self.deps.records.config();
        if config.keys(stream).iter().any(|k| k.id == key) {
            return Ok((key, None));
        }
        let text = StreamKey::from_random(self.draw());
        let sealed = seal::seal(epoch, (self.tenant, stream, key), &text, self.draw());
        let hash = text.hash();
        let made = Change::KeyCreated {
            stream,
            key,
            hash,
            sealed,
            name,
        };
        Ok((key, Some(made)))
    }

    fn draw<const N: usize>(&mut self) -> [u8; N] {
        let mut bytes = [0; N];
        self.rng.fill_bytes(&mut bytes);
        bytes
    }

    async fn create(&mut self, input: CreateStreamInput) -> Result<Stream, Fault> {
        input.check()?;
        let name = input::name(&input.name)?;
        let description = input.description.filter(|d| !d.is_empty());
        input::description(description.as_deref().unwrap_or_default())?;
        let id = StreamId::from_bytes(self.id("stream"));
        let playback = PlaybackId::from_random(self.id("playback"));
        let (key, made) = self.new_key(id, "Primary Key".to_owned())?;
        let Some(made) = made else {
            return self.repeated(id);
        };
        let mut changes = vec![
            Change::StreamCreated {
                stream: id,
                playback,
            },
            Change::StreamNamed { stream: id, name },
            made,
            Change::KeyPrimary { stream: id, key },
        ];
        if description.is_some() {
            changes.push(Change::StreamDescribed {
                stream: id,
                description,
            });
        }
        self.write(changes).await?;
        self.read_back(id)
    }

    /// The answer to a request whose first run this node knows of. Its own disk has that, which is all it can say.
    fn repeated(&self, stream: StreamId) -> Result<Stream, Fault> {
        self.session.acknowledged(Ack::Local, None);
        self.read_back(stream)
    }

    async fn update(&self, id: &str, input: UpdateStreamInput) -> Result<Stream, Fault> {
        let found = self.stream("id", id)?;
        input.check()?;
        let stream = found.id;
        let mut changes = Vec::new();
        if let Some(name) = &input.name {
            let name = input::name(name)?;
            changes.push(Change::StreamNamed { stream, name });
        }
        let description = match input.description {
            MaybeUndefined::Undefined => None,
            MaybeUndefined::Null => Some(None),
            MaybeUndefined::Value(text) => Some(Some(text).filter(|t| !t.is_empty())),
        };
        if let Some(description) = description {
            input::description(description.as_deref().unwrap_or_default())?;
            changes.push(Change::StreamDescribed {
                stream,
                description,
            });
        }
        if !changes.is_empty() {
            self.write(changes).await?;
        }
        self.read_back(stream)
    }

    async fn delete(&self, id: &str) -> Result<DeleteSuccess, Fault> {
        let stream = self.stream("id", id)?.id;
        self.write(vec![Change::StreamDeleted { stream }]).await?;
        let broadcast = BroadcastId::of(stream);
        self.deps.sessions.end(broadcast, EndReason::StreamDeleted);
        Ok(deleted(id))
    }

    async fn refresh(&mut self, id: &str) -> Result<Stream, Fault> {
        let stream = self.stream("id", id)?.id;
        let (key, made) = self.new_key(stream, "Primary Key".to_owned())?;
        let Some(made) = made else {
            return self.repeated(stream);
        };
        let old: Vec<_> = {
            let config = self.deps.records.config();
            let primary = config.keys(stream).iter().filter(|k| k.primary && k.active);
            primary.map(|k| k.id).collect()
        };
        let mut changes = vec![made, Change::KeyPrimary { stream, key }];
        let end = |key| Change::KeyDeactivated { stream, key };
        changes.extend(old.into_iter().map(end));
        self.write(changes).await?;
        self.read_back(stream)
    }

    async fn create_key(
        &mut self,
        stream_id: &str,
        input: CreateStreamKeyInput,
    ) -> Result<Key, Fault> {
        let stream = self.stream("streamId", stream_id)?.id;
        let name = input::name(&input.name)?;
        let (key, made) = self.new_key(stream, name)?;
        if let Some(made) = made {
            if self.deps.records.config().keys(stream).len() >= MAX_KEYS {
                let message = format!(
                    "a stream has at most {MAX_KEYS} keys in its life: make another stream"
                );
                return Err(Fault::validation("streamId", "too many keys", message));
            }
            self.write(vec![made]).await?;
        } else {
            self.session.acknowledged(Ack::Local, None);
        }
        let config = self.deps.records.config();
        let made = config.keys(stream).iter().find(|k| k.id == key).cloned();
        made.map(Key).ok_or_else(|| {
            let message = "the key that this request made is gone: it was deleted meanwhile";
            Fault::Other(code::NOT_FOUND, message.to_owned())
        })
    }

    async fn delete_key(&self, stream_id: &str, key_id: &str) -> Result<DeleteSuccess, Fault> {
        let stream = self.stream("streamId", stream_id)?.id;
        let key: KeyId = id::read(Kind::StreamKey, key_id)
            .map_err(|e| Fault::id("keyId", Kind::StreamKey, key_id, &e))?;
        let config = self.deps.records.config();
        if !config.keys(stream).iter().any(|k| k.id == key) {
            return Err(Fault::not_found(Kind::StreamKey, key_id));
        }
        self.write(vec![Change::KeyDeactivated { stream, key }])
            .await?;
        Ok(deleted(key_id))
    }
}

fn deleted(id: &str) -> DeleteSuccess {
    DeleteSuccess {
        success: true,
        deleted_id: id.into(),
        pending: Some(false),
    }
}

/// What can be changed. A header `Idempotency-Key` (at most 128 bytes) makes a repeated request answer as the first did.
pub struct Mutation;

macro_rules! answer {
    ($union:ident, $ok:ident, $ctx:ident, $work:ident => $body:expr) => {{
        let done = async {
            #[allow(unused_mut, reason = "some need a generator")]
            let mut $work = Work::begin($ctx)?;
            $body.await
        };
        match done.await {
            Ok(value) => Ok(Whole($union::$ok(value))),
            Err(fault) => {
                let answer = $union::from_fault(fault.clone())?;
                let field = $ctx.field();
                session($ctx)?.refused(field.alias().unwrap_or(field.name()), &fault);
                Ok(Whole(answer))
            }
        }
    }};
}

#[Object]
impl Mutation {
    /// Makes a stream with one stream key.
    async fn create_stream(
        &self,
        ctx: &Context<'_>,
        input: CreateStreamInput,
    ) -> async_graphql::Result<Whole<CreateStreamResult>> {
        answer!(CreateStreamResult, Stream, ctx, work => work.create(input))
    }

    /// Changes what is given of a stream.
    async fn update_stream(
        &self,
        ctx: &Context<'_>,
        id: ID,
        input: UpdateStreamInput,
    ) -> async_graphql::Result<Whole<UpdateStreamResult>> {
        answer!(UpdateStreamResult, Stream, ctx, work => work.update(&id, input))
    }

    /// Deletes a stream for good: its keys open nothing, its sessions end, its ids are never used again.
    async fn delete_stream(
        &self,
        ctx: &Context<'_>,
        id: ID,
    ) -> async_graphql::Result<Whole<DeleteStreamResult>> {
        answer!(DeleteStreamResult, DeleteSuccess, ctx, work => work.delete(&id))
    }

    /// Makes a new primary stream key; the one before opens nothing from then on. Who publishes with it now goes on.
    async fn refresh_stream_key(
        &self,
        ctx: &Context<'_>,
        id: ID,
    ) -> async_graphql::Result<Whole<UpdateStreamResult>> {
        answer!(UpdateStreamResult, Stream, ctx, work => work.refresh(&id))
    }

    /// Makes a further stream key.
    async fn create_stream_key(
        &self,
        ctx: &Context<'_>,
        stream_id: ID,
        input: CreateStreamKeyInput,
    ) -> async_graphql::Result<Whole<CreateStreamKeyResult>> {
        answer!(CreateStreamKeyResult, StreamKey, ctx, work => work.create_key(&stream_id, input))
    }

    /// Deactivates a stream key for good.
    async fn delete_stream_key(
        &self,
        ctx: &Context<'_>,
        stream_id: ID,
        key_id: ID,
    ) -> async_graphql::Result<Whole<DeleteStreamKeyResult>> {
        answer!(DeleteStreamKeyResult, DeleteSuccess, ctx, work => work.delete_key(&stream_id, &key_id))
    }
}
