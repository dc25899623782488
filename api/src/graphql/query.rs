//! Queries about streams and keys.
use async_graphql::{Context, Enum, ID, Object, SimpleObject};
use routing::model::{StreamId, StreamKey as Key};

use super::{
    error::{Fault, code},
    id::{self, Kind},
    page::{self, ConnectionInput},
    resolve::{self, IngestEndpointResponse, ViewerEndpointResponse},
    stream::{
        self, Stream, StreamEdge, StreamKey, StreamKeyEdge, StreamKeysConnection, StreamsConnection,
    },
    write::{self, WriteAcknowledgement},
};
use crate::gateway::{deps, session};

/// What can be asked.
pub struct Query;

/// Whether a stream key opens a stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Enum)]
pub enum ValidationStatus {
    /// It does.
    Valid,
    /// It does not.
    Invalid,
    /// That could not be found out.
    Error,
}

/// What is said of a stream key.
#[derive(Clone, SimpleObject)]
pub struct StreamValidation {
    /// Whether it opens a stream.
    pub status: ValidationStatus,
    /// The key as it was given.
    pub stream_key: String,
    /// Why not.
    pub error: Option<String>,
}

/// The names and ports to publish to and watch at; absent what does not exist.
#[derive(Clone, Debug, Default, SimpleObject)]
pub struct StreamingConfig {
    /// Names of the official clusters, for all.
    pub global_ingest_domain: Option<String>,
    /// For direct egress.
    pub global_edge_domain: Option<String>,
    /// For playback.
    pub global_play_domain: Option<String>,
    /// The tenant's own names.
    pub tenant_ingest_domain: Option<String>,
    /// For direct egress.
    pub tenant_edge_domain: Option<String>,
    /// For playback.
    pub tenant_play_domain: Option<String>,
    /// The usual port of RTMP.
    pub rtmp_port: Option<i32>,
    /// The usual port of SRT.
    pub srt_port: Option<i32>,
}

#[Object]
impl Query {
    /// The stream with this id, global or raw; `null` when there is none.
    async fn stream(&self, ctx: &Context<'_>, id: ID) -> async_graphql::Result<Option<Stream>> {
        let tenant = session(ctx)?.tenant()?;
        match id::read::<StreamId>(Kind::Stream, &id) {
            Ok(raw) => Ok(stream::find(deps(ctx)?, tenant, raw).map(Stream)),
            Err(id::IdFault::Malformed { .. }) => Ok(None),
            Err(fault) => Err(Fault::id("id", Kind::Stream, &id, &fault).into()),
        }
    }

    /// The tenant's streams, newest first. `search` keeps those whose name contains it, without regard to case.
    async fn streams_connection(
        &self,
        ctx: &Context<'_>,
        page: Option<ConnectionInput>,
        search: Option<String>,
    ) -> async_graphql::Result<StreamsConnection> {
        let tenant = session(ctx)?.tenant()?;
        let wanted = search.unwrap_or_default().trim().to_lowercase();
        let config = deps(ctx)?.records.config();
        let mut streams: Vec<_> = config
            .streams(tenant)
            .filter(|s| wanted.is_empty() || s.name.to_lowercase().contains(&wanted))
            .collect();
        // Newest first; the complement makes that ascending, as a cursor wants it.
        let place = |s: &&mesh::config::Stream| (u64::MAX - s.created.0, s.id.to_string());
        streams.sort_by_cached_key(|s| place(s));
        let cut = page::cut(streams, page.as_ref(), place)?;
        Ok(StreamsConnection {
            edges: cut
                .edges
                .into_iter()
                .map(|(cursor, s)| StreamEdge {
                    cursor,
                    node: Stream(s.clone()),
                })
                .collect(),
            page_info: cut.info,
            total_count: cut.total,
        })
    }

    /// A stream's keys, oldest first, deactivated ones too.
    async fn stream_keys_connection(
        &self,
        ctx: &Context<'_>,
        page: Option<ConnectionInput>,
        stream_id: ID,
    ) -> async_graphql::Result<StreamKeysConnection> {
        let tenant = session(ctx)?.tenant()?;
        let deps = deps(ctx)?;
        let raw = id::read(Kind::Stream, &stream_id)
            .map_err(|e| Fault::id("streamId", Kind::Stream, &stream_id, &e))?;
        if stream::find(deps, tenant, raw).is_none() {
            return Err(Fault::not_found(Kind::Stream, &stream_id).into());
        }
        let config = deps.records.config();
        let mut keys: Vec<_> = config.keys(raw).iter().collect();
        let place = |k: &&mesh::config::KeyRecord| (k.created.0, k.id.to_string());
        keys.sort_by_cached_key(|k| place(k));
        let cut = page::cut(keys, page.as_ref(), place)?;
        Ok(StreamKeysConnection {
            edges: cut
                .edges
                .into_iter()
                .map(|(cursor, k)| StreamKeyEdge {
                    cursor,
                    node: StreamKey(k.clone()),
                })
                .collect(),
            page_info: cut.info,
            total_count: cut.total,
        })
    }

    /// Whether a stream key opens one of the tenant's streams.
    async fn validate_stream_key(
        &self,
        ctx: &Context<'_>,
        stream_key: String,
    ) -> async_graphql::Result<StreamValidation> {
        let tenant = session(ctx)?.tenant()?;
        let config = deps(ctx)?.records.config();
        let found = (stream_key.len() <= Key::MAX)
            .then(|| config.key_by_hash(Key::new(&stream_key).hash()))
            .flatten()
            .filter(|(stream, _)| stream.tenant == tenant);
        let (status, error) = match found {
            Some((_, key)) if key.active => (ValidationStatus::Valid, None),
            Some(_) => (ValidationStatus::Invalid, Some("this key was deactivated")),
            None => (ValidationStatus::Invalid, Some("no stream has this key")),
        };
        Ok(StreamValidation {
            status,
            stream_key,
            error: error.map(str::to_owned),
        })
    }

    /// How safe a write is by now, by the `extensions.writeId` of the mutation that made it.
    async fn write_acknowledgement(
        &self,
        ctx: &Context<'_>,
        id: ID,
    ) -> async_graphql::Result<WriteAcknowledgement> {
        let tenant = session(ctx)?.tenant()?;
        Ok(write::state(deps(ctx)?, tenant, &id).await?)
    }

    /// Nodes that can show this to the caller, the best first. Public.
    async fn resolve_viewer_endpoint(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "The playback id.")] content_id: String,
    ) -> async_graphql::Result<Option<ViewerEndpointResponse>> {
        resolve::viewer(ctx, &content_id).await
    }

    /// Where the caller can publish with this key, the best first. Public: the key is the proof.
    async fn resolve_ingest_endpoint(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "The stream key.")] stream_key: String,
    ) -> async_graphql::Result<Option<IngestEndpointResponse>> {
        resolve::ingest(ctx, &stream_key).await
    }

    /// The names to publish to and watch at.
    async fn streaming_config(
        &self,
        ctx: &Context<'_>,
    ) -> async_graphql::Result<Option<StreamingConfig>> {
        let tenant = session(ctx)?.tenant()?;
        let config = deps(ctx)?.records.config();
        let base = config.base();
        if base.is_empty() {
            let message = "this node does not know its mesh's name yet: try again in a moment";
            return Err(Fault::Other(code::UNAVAILABLE, message.into()).into());
        }
        let own = config
            .tenant(tenant)
            .filter(|t| t.branded)
            .and_then(|t| t.label.as_ref())
            .map(|label| match config.suffix() {
                "" => format!("{label}.{base}"),
                suffix => format!("{label}.{suffix}.{base}"),
            });
        let under = |service: &str, zone: &str| format!("{service}.{zone}");
        Ok(Some(StreamingConfig {
            global_ingest_domain: Some(under("edge-ingest", base)),
            global_edge_domain: Some(under("edge-egress", base)),
            global_play_domain: Some(under("foghorn", base)),
            tenant_ingest_domain: own.as_deref().map(|zone| under("edge-ingest", zone)),
            tenant_edge_domain: own.as_deref().map(|zone| under("edge-egress", zone)),
            tenant_play_domain: own.as_deref().map(|zone| under("foghorn", zone)),
            rtmp_port: Some(1935),
            srt_port: Some(8889),
        }))
    }
}
