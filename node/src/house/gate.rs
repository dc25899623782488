//! Who may publish, watch and relay here: answered from the records that this node holds.
use std::sync::Arc;

use futures::future::{BoxFuture, FutureExt};
use media::ports::{Gate, Protocol, Publish, Refusal, Viewer, Watch};
use mesh::config::Config;
use routing::model::{BroadcastId, NodeId, PlaybackId, Role, StreamId, StreamKey, TenantId, Verb};

use super::House;

impl House {
    /// The stream whose broadcast this is, where its tenant's scope is held here.
    pub(crate) fn stream_of(
        config: &Config,
        broadcast: BroadcastId,
    ) -> Option<(StreamId, TenantId)> {
        let stream = config.stream(StreamId::from_bytes(*broadcast.as_bytes()))?;
        Some((stream.id, stream.tenant))
    }

    /// Whether a node's cluster may do `verb` for a tenant, and its grant has `role`.
    pub(crate) fn node_may(
        config: &Config,
        node: NodeId,
        role: Role,
        tenant: TenantId,
        verb: Verb,
    ) -> bool {
        config
            .node(node)
            .is_some_and(|n| n.roles.has(role) && config.entitled(tenant, n.cluster).has(verb))
    }
}

impl Gate for House {
    fn may_publish<'a>(
        &'a self,
        key: &'a StreamKey,
        _: Protocol,
    ) -> BoxFuture<'a, Result<Publish, Refusal>> {
        async move {
            let config = self.mesh.records().config();
            let Some((stream, key)) = config.key_by_hash(key.hash()) else {
                return Err(Refusal::Unknown(
                    "this stream key is not known here: check it for typing errors, or make a new one".into(),
                ));
            };
            if !key.active {
                return Err(Refusal::Forbidden("this stream key has been withdrawn: use the stream's present one".into()));
            }
            if !Self::node_may(&config, self.id, Role::Ingest, stream.tenant, Verb::Ingest) {
                return Err(Refusal::Unavailable(
                    "this node does not take this tenant's streams: publish to the tenant's own edge-ingest name".into(),
                ));
            }
            Ok(Publish { broadcast: BroadcastId::of(stream.id), stream: stream.id, tenant: stream.tenant })
        }
        .boxed()
    }

    fn may_watch<'a>(
        &'a self,
        id: PlaybackId,
        _: &'a Viewer,
    ) -> BoxFuture<'a, Result<Watch, Refusal>> {
        async move {
            let config: Arc<Config> = self.mesh.records().config();
            let Some(stream) = config.stream_by_playback(id) else {
                return Err(Refusal::Unknown("no stream has this playback id".into()));
            };
            if !Self::node_may(&config, self.id, Role::Edge, stream.tenant, Verb::Serve) {
                return Err(Refusal::Unavailable(
                    "this node does not serve this tenant's viewers: use the tenant's own name"
                        .into(),
                ));
            }
            Ok(Watch {
                broadcast: BroadcastId::of(stream.id),
                stream: stream.id,
                tenant: stream.tenant,
            })
        }
        .boxed()
    }

    fn may_relay(&self, peer: NodeId, broadcast: BroadcastId) -> bool {
        let config = self.mesh.records().config();
        Self::stream_of(&config, broadcast).is_some_and(|(_, tenant)| {
            Self::node_may(&config, peer, Role::Edge, tenant, Verb::Serve)
        })
    }
}
