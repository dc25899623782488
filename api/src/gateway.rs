//! The gateway: who asks, whether this node may answer, and the answer, from here or from a node that has the tenant's
//! records.
//!
//! Shape: [`Gateway`] is a cheap handle. [`Gateway::execute`] takes a request and a [`Session`]: limits first, then
//! the token, then either the schema here or [`Forward`]. A forwarded request
//! carries the token itself, and [`Gateway::answer_forwarded`] checks it anew and never forwards again.
use std::{
    net::IpAddr,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use async_graphql::{Context, Name, Request, Response, ServerError, Value, value};
use bytes::Bytes;
use futures::{Stream, StreamExt as _, future::Either, stream};
use mesh::{
    config::Config,
    records::{Ack, Records, changes::token_hash},
    view::View,
};
use rand::SeedableRng as _;
use rand_chacha::ChaCha20Rng;
use routing::model::{Clock, Exposed, NodeId, Role, Secret, TenantId, Verb};
use serde::{Deserialize, Serialize};
use tokio::sync::{Semaphore, watch};

use crate::{
    graphql::{
        Schema,
        error::{Fault, code},
        write::{Acknowledgement, WriteId},
    },
    limits::{self, Shape},
    ports::{Asker, Forward, LiveStats, Operators, Readiness, Resolver, SessionControl},
};

/// The longest request, in bytes, over HTTP, WebSocket and the mesh.
pub const MAX_BODY: usize = 256 * 1024;
/// WebSocket connections at once; a further one is answered 503.
pub const MAX_SOCKETS: usize = 1024;

/// What resolvers use.
pub(crate) struct Deps {
    pub(crate) node: NodeId,
    pub(crate) records: Records,
    pub(crate) view: watch::Receiver<Arc<View>>,
    pub(crate) live: Arc<dyn LiveStats>,
    pub(crate) sessions: Arc<dyn SessionControl>,
    pub(crate) resolve: Arc<dyn Resolver>,
    pub(crate) forward: Arc<dyn Forward>,
    pub(crate) ready: Arc<dyn Readiness>,
    pub(crate) operators: Arc<dyn Operators>,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) rng: Mutex<ChaCha20Rng>,
    pub(crate) sockets: Arc<Semaphore>,
}

impl Deps {
    /// A generator of its own for one operation.
    pub(crate) fn rng(&self) -> ChaCha20Rng {
        let mut all = lock(&self.rng);
        ChaCha20Rng::from_rng(&mut *all)
    }

    /// Whether this node answers for a tenant itself: it has the tenant's scope, is a gateway, and may write.
    pub(crate) fn serves(&self, config: &Config, tenant: TenantId) -> bool {
        config.has_scope(tenant)
            && config.standing(self.node).is_some_and(|own| {
                own.roles.has(Role::Gateway)
                    && config.entitled(tenant, own.cluster).has(Verb::Write)
            })
    }
}

/// What the gateway needs from the node.
pub struct ApiOptions {
    /// This node.
    pub node: NodeId,
    /// The agreed state.
    pub records: Records,
    /// What this node believes of the mesh.
    pub view: watch::Receiver<Arc<View>>,
    /// What is true of broadcasts.
    pub live: Arc<dyn LiveStats>,
    /// Sessions here.
    pub sessions: Arc<dyn SessionControl>,
    /// Where to send people.
    pub resolver: Arc<dyn Resolver>,
    /// How to reach a node with a tenant's scope.
    pub forward: Arc<dyn Forward>,
    /// For `/readyz`.
    pub ready: Arc<dyn Readiness>,
    /// Who may see the console.
    pub operators: Arc<dyn Operators>,
    /// The time.
    pub clock: Arc<dyn Clock>,
    /// From the operating system's generator, new at every start: stream keys and ids are drawn from it.
    pub seed: [u8; 32],
}

/// Who asks.
#[derive(Clone, Debug)]
pub(crate) enum Auth {
    /// Nobody said.
    Anonymous,
    /// A token of this tenant.
    Tenant { tenant: TenantId, token: Secret },
    /// A token that is not valid.
    Refused,
}

impl Auth {
    /// What a bearer token proves.
    pub(crate) fn of(config: &Config, token: Option<&str>) -> Self {
        let Some(text) = token else {
            return Self::Anonymous;
        };
        match config.token(token_hash(text)) {
            Some(token) => Self::Tenant {
                tenant: token.tenant,
                token: Secret::new(text.to_owned()),
            },
            None => Self::Refused,
        }
    }
}

/// How safe what a request wrote is, and its last write, where there was one.
type Written = (Ack, Option<WriteId>);

/// One request's surroundings.
#[derive(Clone)]
pub(crate) struct Session {
    pub(crate) auth: Auth,
    pub(crate) addr: IpAddr,
    pub(crate) idempotency: Option<String>,
    acks: Arc<Mutex<Option<Written>>>,
    refusals: Arc<Mutex<Vec<Value>>>,
}

impl Session {
    pub(crate) fn new(auth: Auth, addr: IpAddr, idempotency: Option<String>) -> Self {
        Self {
            auth,
            addr,
            idempotency,
            acks: Arc::default(),
            refusals: Arc::default(),
        }
    }

    /// The tenant that asks.
    pub(crate) fn tenant(&self) -> Result<TenantId, Fault> {
        match self.auth {
            Auth::Tenant { tenant, .. } => Ok(tenant),
            Auth::Anonymous => Err(Fault::unauthorized(
                "this needs an API token: send Authorization: Bearer TOKEN (shoal tenant create makes one)",
            )),
            Auth::Refused => Err(Fault::unauthorized(
                "this API token is not known, has ended or was revoked: make another one",
            )),
        }
    }

    pub(crate) const fn asker(&self) -> Asker {
        Asker { addr: self.addr }
    }

    /// Keeps how safe a write is, of several the least safe; and which it was, of several the last.
    pub(crate) fn acknowledged(&self, ack: Ack, id: Option<WriteId>) {
        let mut acks = lock(&self.acks);
        let (before, last) = acks.unwrap_or((Ack::Replicated, None));
        let ack = match (before, ack) {
            (Ack::Replicated, Ack::Replicated) => Ack::Replicated,
            _ => Ack::Local,
        };
        *acks = Some((ack, id.or(last)));
    }

    /// Keeps why the field `name` was answered by an error member of its union: a document that selects only the
    /// success would otherwise show nothing at all.
    pub(crate) fn refused(&self, name: &str, fault: &Fault) {
        let (code, message, field) = fault.parts();
        let mut refusal = value!({ "path": [name.to_owned()], "code": code.to_owned(), "message": message.to_owned() });
        if let (Value::Object(refusal), Some(field)) = (&mut refusal, field) {
            refusal.insert(Name::new("field"), Value::String(field.to_owned()));
        }
        lock(&self.refusals).push(refusal);
    }

    fn ack(&self) -> Option<Written> {
        *lock(&self.acks)
    }
}

/// The lock; none of these values can be left half changed.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

pub(crate) fn deps<'a>(ctx: &Context<'a>) -> async_graphql::Result<&'a Deps> {
    ctx.data::<Arc<Deps>>().map(AsRef::as_ref)
}

pub(crate) fn session<'a>(ctx: &Context<'a>) -> async_graphql::Result<&'a Session> {
    ctx.data::<Session>()
}

/// A request on its way to a node that has the tenant's records.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Forwarded {
    token: Exposed,
    request: Request,
    idempotency_key: Option<String>,
    addr: IpAddr,
}

/// Answers GraphQL. Cheap to clone.
#[derive(Clone)]
pub struct Gateway {
    pub(crate) schema: Schema,
    pub(crate) deps: Arc<Deps>,
}

impl Gateway {
    /// A gateway of this node.
    #[must_use]
    pub fn new(options: ApiOptions) -> Self {
        let deps = Arc::new(Deps {
            node: options.node,
            records: options.records,
            view: options.view,
            live: options.live,
            sessions: options.sessions,
            resolve: options.resolver,
            forward: options.forward,
            ready: options.ready,
            operators: options.operators,
            clock: options.clock,
            rng: Mutex::new(ChaCha20Rng::from_seed(options.seed)),
            sockets: Arc::new(Semaphore::new(MAX_SOCKETS)),
        });
        Self {
            schema: crate::graphql::schema(deps.clone()),
            deps,
        }
    }

    /// Answers a query or a mutation, and counts it in `shoal_graphql_answers_total`.
    pub(crate) async fn execute(&self, request: Request, session: Session) -> Response {
        let response = self.run(request, session).await;
        let outcome = if response.errors.is_empty() {
            "ok"
        } else {
            "errors"
        };
        metrics::counter!("shoal_graphql_answers_total", "outcome" => outcome).increment(1);
        response
    }

    async fn run(&self, mut request: Request, session: Session) -> Response {
        let shape = match limits::check(&mut request) {
            Ok(shape) => shape,
            Err(error) => return Response::from_errors(vec![error]),
        };
        if shape.subscription {
            let message =
                "subscriptions are answered over a WebSocket (graphql-transport-ws) at this path";
            return failure(code::VALIDATION_ERROR, message);
        }
        if let Auth::Tenant { tenant, .. } = session.auth
            && shape.of_tenant
            && !self.deps.serves(&self.deps.records.config(), tenant)
        {
            return forward(&self.deps, tenant, &session, request).await;
        }
        self.answer(request, shape, session).await
    }

    async fn answer(&self, request: Request, shape: Shape, session: Session) -> Response {
        let request = if shape.introspection {
            request.only_introspection()
        } else {
            request
        };
        let mut response = self.schema.execute(request.data(session.clone())).await;
        if let Some((ack, id)) = session.ack() {
            let word = Acknowledgement::from(ack).word();
            let extensions = &mut response.extensions;
            extensions.insert("acknowledgement".to_owned(), word.into());
            if let Some(id) = id {
                extensions.insert("writeId".to_owned(), id.global().0.into());
            }
        }
        let refusals = std::mem::take(&mut *lock(&session.refusals));
        if !refusals.is_empty() {
            let refusals = Value::List(refusals);
            response.extensions.insert("refusals".to_owned(), refusals);
        }
        response
    }

    /// Answers what another node forwarded under [`FORWARD_PROTOCOL`](crate::ports::FORWARD_PROTOCOL): JSON in, JSON
    /// out. Nothing is believed but the token that it carries; what this node cannot answer either is an error.
    pub async fn answer_forwarded(&self, body: Bytes) -> Bytes {
        let response = self.forwarded(&body).await;
        serde_json::to_vec(&response).unwrap_or_default().into()
    }

    async fn forwarded(&self, body: &[u8]) -> Response {
        if body.len() > 2 * MAX_BODY {
            return failure(code::VALIDATION_ERROR, "a forwarded request is too long");
        }
        let Ok(mut forwarded) = serde_json::from_slice::<Forwarded>(body) else {
            return failure(
                code::VALIDATION_ERROR,
                "a forwarded request is not understood",
            );
        };
        let shape = match limits::check(&mut forwarded.request) {
            Ok(shape) if !shape.subscription => shape,
            Ok(_) => return failure(code::VALIDATION_ERROR, "subscriptions are not forwarded"),
            Err(error) => return Response::from_errors(vec![error]),
        };
        let config = self.deps.records.config();
        let auth = Auth::of(&config, Some(forwarded.token.0.expose()));
        if let Auth::Tenant { tenant, .. } = &auth
            && !self.deps.serves(&config, *tenant)
        {
            let message =
                "the node that was asked does not hold this tenant's configuration either";
            return failure(code::UNAVAILABLE, message);
        }
        let session = Session::new(auth, forwarded.addr, forwarded.idempotency_key);
        self.answer(forwarded.request, shape, session).await
    }

    /// Answers a subscription, or anything else as a stream of one answer. The stream ends when the token does.
    pub(crate) fn subscribe(
        &self,
        mut request: Request,
        session: Session,
    ) -> impl Stream<Item = Response> + Send + 'static {
        let this = self.clone();
        let answers = match limits::check(&mut request) {
            Err(error) => {
                let answer = Response::from_errors(vec![error]);
                Either::Left(stream::once(std::future::ready(answer)).boxed())
            }
            Ok(shape) if shape.subscription => {
                let live = this.schema.execute_stream(request.data(session.clone()));
                Either::Left(live.boxed())
            }
            Ok(_) => {
                let session = session.clone();
                Either::Right(stream::once(
                    async move { this.execute(request, session).await },
                ))
            }
        };
        answers.take_until(ended(self.deps.records.clone(), session.auth))
    }
}

/// The answer of a node that serves the tenant whose token the session shows.
pub(crate) async fn forward(
    deps: &Deps,
    tenant: TenantId,
    session: &Session,
    request: Request,
) -> Response {
    let Auth::Tenant { token, .. } = &session.auth else {
        return failure(code::UNAUTHORIZED, "only a tenant's requests are passed on");
    };
    let forwarded = Forwarded {
        token: Exposed(token.clone()),
        request,
        idempotency_key: session.idempotency.clone(),
        addr: session.addr,
    };
    let Ok(body) = serde_json::to_vec(&forwarded) else {
        return failure(code::VALIDATION_ERROR, "this request cannot be passed on");
    };
    metrics::counter!("shoal_graphql_forwarded_total").increment(1);
    match deps.forward.forward(tenant, body.into()).await {
        Ok(answer) => serde_json::from_slice(&answer).unwrap_or_else(|_| {
            let message =
                "another node's answer is not understood: it may run another version of Shoal";
            failure(code::UNAVAILABLE, message)
        }),
        Err(error) => failure(code::UNAVAILABLE, &error.to_string()),
    }
}

/// Reads what another node forwards, and hands its request on.
#[cfg(any(test, fuzzing))]
pub(crate) fn bear(body: &[u8], request: impl FnOnce(Request)) {
    if let Ok(forwarded) = serde_json::from_slice::<Forwarded>(body) {
        request(forwarded.request);
    }
}

/// Resolves when the token no longer counts; never for those without one.
async fn ended(records: Records, auth: Auth) {
    let Auth::Tenant { token, .. } = auth else {
        return std::future::pending().await;
    };
    let hash = token_hash(token.expose());
    let mut config = records.watch();
    let gone = config.wait_for(|c| c.token(hash).is_none()).await;
    drop(gone);
}

/// An answer that is one error.
pub(crate) fn failure(code: &'static str, message: &str) -> Response {
    let mut error = ServerError::new(message, None);
    error.extensions.get_or_insert_default().set("code", code);
    Response::from_errors(vec![error])
}
