//! Where viewers and streamers can go: `/play/ID`, `/resolve/ID`, Content Steering, `resolveViewerEndpoint`,
//! `resolveIngestEndpoint`. All rank the same candidates as DNS does, through `routing`.
use std::sync::Arc;

use api::ports::{
    Asker as ApiAsker, ContentFacts, Forward, ForwardError, IngestEndpoints, ResolveError,
    Resolver, ViewerEndpoint, ViewerEndpoints,
};
use bytes::Bytes;
use dns::Work;
use futures::future::{BoxFuture, FutureExt};
use media::ports::{Pathway, Refusal, Resolve, Viewer};
use mesh::{
    config::{Config, Stream},
    view::{Member, Service, View},
};
use routing::{
    model::{BroadcastId, NodeId, PlaybackId, Prefix, Role, StreamId, StreamKey, TenantId, Verb},
    rank::{Holds, Ranked},
};
use serde_json::{Value, json};

use super::{
    House,
    elsewhere::{Found, Wanted},
    verified,
};

/// How many endpoints an answer names.
pub(super) const ENDPOINTS: usize = 5;
const NOBODY_SERVES: &str = "no node can serve this stream at the moment: try again shortly";

/// How a base URL is written for somebody.
#[derive(Clone, Copy, Debug)]
pub(super) struct Style<'a> {
    pub(super) secure: bool,
    /// The host that was asked for: inside the mesh's names, answers are names; else addresses, for a caller who does
    /// not resolve through the mesh.
    pub(super) host: Option<&'a str>,
}

/// Scheme, host and port (RFC 6454 6.2).
pub(super) fn origin(secure: bool, host: &str, port: u16) -> String {
    match (secure, port) {
        (true, 443) => format!("https://{host}"),
        (false, 80) => format!("http://{host}"),
        (true, port) => format!("https://{host}:{port}"),
        (false, port) => format!("http://{host}:{port}"),
    }
}

pub(super) struct Decision {
    pub(super) ranked: Ranked,
    view: Arc<View>,
}

impl Decision {
    pub(super) fn members(&self) -> impl Iterator<Item = (&Arc<Member>, &routing::rank::Scored)> {
        self.ranked
            .chosen
            .iter()
            .filter_map(|s| Some((self.view.members.get(&s.node)?, s)))
    }

    /// Living nodes that hold a broadcast, the origin first.
    pub(super) fn holders(&self, broadcast: BroadcastId) -> Vec<NodeId> {
        let mut holders: Vec<_> = self
            .view
            .alive()
            .filter(|m| holds(m, broadcast) != Holds::No)
            .map(|m| (holds(m, broadcast) != Holds::Origin, m.id))
            .collect();
        holders.sort_unstable();
        holders.into_iter().map(|(_, node)| node).collect()
    }
}

/// Said of a key that was deactivated.
pub(super) const WITHDRAWN: &str = "this stream key has been withdrawn";

impl House {
    /// Judges all nodes by the very zone that DNS answers from.
    pub(super) fn decide(
        &self,
        stream: &Stream,
        prefix: Prefix,
        work: Work,
    ) -> Result<Decision, Refusal> {
        let playback = (work == Work::Playback).then_some(stream.playback);
        let ranked = self
            .zone
            .load()
            .judge(stream.tenant, work, playback, &prefix);
        let ranked = ranked.ok_or_else(|| {
            Refusal::Unavailable("this stream's tenant has no name here yet".into())
        })?;
        Ok(Decision {
            ranked,
            view: self.mesh.view().borrow().clone(),
        })
    }

    /// Scheme, host and port of a member's playback.
    pub(super) fn base_url(
        &self,
        config: &Config,
        tenant: TenantId,
        member: &Member,
        style: Style<'_>,
    ) -> Option<String> {
        let service = if style.secure {
            Service::Https
        } else {
            Service::Http
        };
        let addr = verified(member, service).into_iter().next()?;
        let named = style.host.is_some_and(|host| {
            host == config.base()
                || host
                    .strip_suffix(config.base())
                    .is_some_and(|rest| rest.ends_with('.'))
        });
        let label = config
            .tenant(tenant)
            .and_then(|t| t.label.clone())
            .filter(|_| named);
        let host = match label {
            Some(tenant) => format!(
                "{}.{tenant}.{}.{}",
                member.id.label(),
                config.suffix(),
                config.base()
            ),
            None if addr.is_ipv6() => format!("[{}]", addr.ip()),
            None => addr.ip().to_string(),
        };
        Some(origin(style.secure, &host, addr.port()))
    }

    fn stream(&self, id: PlaybackId) -> Result<Stream, Refusal> {
        let config = self.mesh.records().config();
        let stream = config.stream_by_playback(id).cloned();
        stream.ok_or_else(|| Refusal::Unknown("no stream has this playback id".into()))
    }

    fn viewer_endpoints(
        &self,
        id: PlaybackId,
        prefix: Prefix,
        style: Style<'_>,
    ) -> Result<(ViewerEndpoints, Stream), Refusal> {
        let stream = self.stream(id)?;
        let decision = self.decide(&stream, prefix, Work::Playback)?;
        let endpoints = self.playback_endpoints((stream.tenant, id), &decision, style);
        if endpoints.is_empty() {
            return Err(Refusal::Unavailable(NOBODY_SERVES.into()));
        }
        let broadcast = BroadcastId::of(stream.id);
        let content = ContentFacts {
            content_id: id.to_string(),
            broadcast: Some(broadcast),
            title: Some(stream.name.clone()),
            description: stream.description.clone(),
            live: None,
            holders: decision.holders(broadcast),
        };
        let explained = serde_json::to_value(&decision.ranked).unwrap_or_default();
        Ok((
            ViewerEndpoints {
                endpoints,
                content,
                decision: explained,
            },
            stream,
        ))
    }

    /// The chosen nodes as viewers are told of them.
    fn playback_endpoints(
        &self,
        (tenant, id): (TenantId, PlaybackId),
        decision: &Decision,
        style: Style<'_>,
    ) -> Vec<ViewerEndpoint> {
        let config = self.mesh.records().config();
        let endpoint = |(member, scored): (&Arc<Member>, &routing::rank::Scored)| {
            let base_url = self.base_url(&config, tenant, member, style)?;
            let cmaf = format!("{base_url}/play/{id}/cmaf/index.m3u8");
            let hls = format!("{base_url}/play/{id}/hls/index.m3u8");
            let dash = format!("{base_url}/play/{id}/cmaf/index.mpd");
            let whep = format!("{base_url}/play/{id}/webrtc");
            Some(ViewerEndpoint {
                node_id: member.id,
                outputs: json!({
                    "cmaf": { "url": cmaf }, "hls": { "url": hls }, "dash": { "url": dash },
                    "whep": { "url": whep },
                }),
                url: cmaf,
                protocol: "cmaf".into(),
                geo_distance: scored.terms.km.map(f64::from),
                load_score: -f64::from(scored.total),
                terms: serde_json::to_value(scored.terms).unwrap_or_default(),
                base_url,
            })
        };
        let all = decision.members().filter_map(endpoint);
        all.take(ENDPOINTS).collect()
    }

    /// The document of `/play/ID`, with the route by which frames reach each holder.
    fn document(&self, id: PlaybackId, viewer: &Viewer) -> Result<Value, Refusal> {
        let style = Style {
            secure: viewer.secure,
            host: viewer.host.as_deref(),
        };
        let (found, stream) = self.viewer_endpoints(id, viewer.prefix, style)?;
        let view = self.mesh.view().borrow().clone();
        let broadcast = BroadcastId::of(stream.id);
        let name = |node: NodeId| {
            view.members
                .get(&node)
                .map_or_else(|| node.short(), |m| m.name.to_string())
        };
        let route: Vec<Value> = view
            .members
            .values()
            .filter(|m| m.alive)
            .filter_map(|m| Some((m, m.adverts.iter().find(|a| a.broadcast == broadcast)?)))
            .map(|(m, advert)| {
                json!({
                    "node": m.id, "name": m.name, "place": m.place,
                    "from": advert.replica_of, "from_name": advert.replica_of.map(name),
                })
            })
            .collect();
        let endpoints: Vec<Value> = found
            .endpoints
            .iter()
            .map(|e| {
                let mut value = serde_json::to_value(e).unwrap_or_default();
                value["name"] = json!(name(e.node_id));
                value
            })
            .collect();
        Ok(json!({
            "primary": endpoints.first(),
            "fallbacks": endpoints.get(1..).unwrap_or_default(),
            "metadata": {
                "contentId": id, "contentType": "live", "title": found.content.title,
                "description": found.content.description,
                "isLive": !route.is_empty(), "status": if route.is_empty() { "OFFLINE" } else { "LIVE" },
            },
            "served_by": { "node": self.id, "label": self.id.label(), "name": name(self.id) },
            "route": route,
            "decision": found.decision,
        }))
    }
}

fn holds(member: &Member, broadcast: BroadcastId) -> Holds {
    match member.adverts.iter().find(|a| a.broadcast == broadcast) {
        None => Holds::No,
        Some(advert) if advert.replica_of.is_none() => Holds::Origin,
        Some(_) => Holds::Replica,
    }
}

/// The handle that `media` and `api` resolve by.
#[derive(Clone, Debug)]
pub struct ResolveDesk(pub Arc<House>);

impl Resolve for ResolveDesk {
    fn resolve<'a>(
        &'a self,
        id: PlaybackId,
        viewer: &'a Viewer,
    ) -> BoxFuture<'a, Result<Value, Refusal>> {
        futures::future::ready(self.0.document(id, viewer)).boxed()
    }

    fn publish_at<'a>(
        &'a self,
        key: &'a StreamKey,
        publisher: &'a Viewer,
    ) -> BoxFuture<'a, Option<Pathway>> {
        futures::future::ready(self.0.publish_at(key, publisher)).boxed()
    }

    fn pathways(&self, id: PlaybackId, viewer: &Viewer) -> Vec<Pathway> {
        let style = Style {
            secure: viewer.secure,
            host: viewer.host.as_deref(),
        };
        let Ok((found, _)) = self.0.viewer_endpoints(id, viewer.prefix, style) else {
            return Vec::new();
        };
        found
            .endpoints
            .into_iter()
            .map(|e| Pathway {
                id: e.node_id.label().to_string(),
                base_url: e.base_url,
            })
            .collect()
    }
}

fn refused(refusal: Refusal) -> ResolveError {
    match refusal {
        Refusal::Unknown(why) => ResolveError::Unknown(why),
        Refusal::Forbidden(why) => ResolveError::Denied(why),
        other => ResolveError::Unavailable(other.to_string()),
    }
}

impl Resolver for ResolveDesk {
    fn viewer(
        &self,
        content: PlaybackId,
        asker: ApiAsker,
    ) -> BoxFuture<'_, Result<ViewerEndpoints, ResolveError>> {
        async move {
            let house = &self.0;
            let base = house.mesh.records().config().base().to_owned();
            let style = Style {
                secure: house.doors.https.is_some(),
                host: Some(&base),
            };
            let prefix = Prefix::of_viewer(asker.addr);
            match house.viewer_endpoints(content, prefix, style) {
                Ok((mut found, stream)) => {
                    let live = super::LiveDesk(Arc::clone(house));
                    found.content.live =
                        api::ports::LiveStats::facts(&live, BroadcastId::of(stream.id)).await;
                    Ok(found)
                }
                Err(Refusal::Unknown(_)) => {
                    let wanted = Wanted::Playback(content);
                    let found = house.ask_elsewhere(wanted, prefix).await?;
                    self.viewer_found(content, found, style)
                }
                Err(refusal) => Err(refused(refusal)),
            }
        }
        .boxed()
    }

    fn ingest<'a>(
        &'a self,
        key: &'a StreamKey,
        asker: ApiAsker,
    ) -> BoxFuture<'a, Result<IngestEndpoints, ResolveError>> {
        async move {
            let house = &self.0;
            let prefix = Prefix::of_viewer(asker.addr);
            let config = house.mesh.records().config();
            let Some((stream, record)) = config.key_by_hash(key.hash()) else {
                let found = house.ask_elsewhere(Wanted::Key(key), prefix).await?;
                let decision = house.decided(found.ranked);
                let about = (found.stream, found.tenant, found.title, found.description);
                return house.ingest_found(key, about, &decision);
            };
            if !record.active {
                return Err(ResolveError::Denied(WITHDRAWN.into()));
            }
            let decision = house
                .decide(stream, prefix, Work::Ingest)
                .map_err(refused)?;
            let (name, description) = (stream.name.clone(), stream.description.clone());
            let about = (stream.id, stream.tenant, name, description);
            house.ingest_found(key, about, &decision)
        }
        .boxed()
    }
}

impl House {
    /// A ranking that another node made, with this node's view.
    fn decided(&self, ranked: Ranked) -> Decision {
        let view = self.mesh.view().borrow().clone();
        Decision { ranked, view }
    }

    fn ingest_found(
        &self,
        key: &StreamKey,
        (stream, tenant, title, description): (StreamId, TenantId, String, Option<String>),
        decision: &Decision,
    ) -> Result<IngestEndpoints, ResolveError> {
        let endpoints = self.ingest_endpoints((tenant, key), decision);
        if endpoints.is_empty() {
            return Err(ResolveError::Unavailable(
                "no node can take this stream now: try again shortly".into(),
            ));
        }
        Ok(IngestEndpoints {
            endpoints,
            stream,
            tenant,
            title,
            description,
            decision: serde_json::to_value(&decision.ranked).unwrap_or_default(),
        })
    }
}

impl ResolveDesk {
    fn viewer_found(
        &self,
        id: PlaybackId,
        mut found: Found,
        style: Style<'_>,
    ) -> Result<ViewerEndpoints, ResolveError> {
        let live = found.live();
        let decision = self.0.decided(found.ranked);
        let endpoints = self
            .0
            .playback_endpoints((found.tenant, id), &decision, style);
        if endpoints.is_empty() {
            return Err(ResolveError::Unavailable(NOBODY_SERVES.into()));
        }
        Ok(ViewerEndpoints {
            endpoints,
            content: ContentFacts {
                content_id: id.to_string(),
                broadcast: Some(BroadcastId::of(found.stream)),
                title: Some(found.title),
                description: found.description,
                live,
                holders: found.holders,
            },
            decision: serde_json::to_value(&decision.ranked).unwrap_or_default(),
        })
    }
}

impl Forward for ResolveDesk {
    fn forward(
        &self,
        tenant: TenantId,
        request: Bytes,
    ) -> BoxFuture<'_, Result<Bytes, ForwardError>> {
        async move {
            let house = &self.0;
            let config = house.mesh.records().config();
            let view = house.mesh.view().borrow().clone();
            let able: Vec<_> = view
                .members
                .values()
                .filter(|m| m.id != house.id && m.alive && m.roles.has(Role::Gateway))
                .filter(|m| config.entitled(tenant, m.cluster).has(Verb::Write))
                .collect();
            let mut last = None;
            for member in able {
                match house
                    .mesh
                    .request(member.id, api::ports::FORWARD_PROTOCOL, request.clone())
                    .await
                {
                    Ok(answer) => return Ok(answer),
                    Err(error) => last = Some(error.to_string()),
                }
            }
            Err(last.map_or(ForwardError::Nobody, ForwardError::Failed))
        }
        .boxed()
    }
}
