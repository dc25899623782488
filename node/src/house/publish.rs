//! Where streamers can go: `resolveIngestEndpoint`, and whom `/ingest/KEY` leads to.
use std::{net::SocketAddr, sync::Arc};

use api::ports::{IngestEndpoint, IngestKind};
use dns::Work;
use media::ports::{Pathway, Viewer};
use mesh::view::{Member, Service};
use routing::model::{StreamKey, TenantId};

use super::{
    House,
    resolve::{Decision, ENDPOINTS, Style, origin},
    verified,
};

impl House {
    /// The best node for whoever has this key and publishes by HTTP.
    pub(super) fn publish_at(&self, key: &StreamKey, publisher: &Viewer) -> Option<Pathway> {
        let config = self.mesh.records().config();
        let (stream, _) = config
            .key_by_hash(key.hash())
            .filter(|(_, key)| key.active)?;
        let decision = self.decide(stream, publisher.prefix, Work::Ingest).ok()?;
        let style = Style {
            secure: publisher.secure,
            host: publisher.host.as_deref(),
        };
        let reachable = |(member, _): (&Arc<Member>, _)| {
            let base_url = self.base_url(&config, stream.tenant, member, style)?;
            let id = member.id.label().to_string();
            Some(Pathway { id, base_url })
        };
        decision.members().find_map(reachable)
    }

    /// The chosen nodes as streamers are told of them.
    pub(super) fn ingest_endpoints(
        &self,
        (tenant, key): (TenantId, &StreamKey),
        decision: &Decision,
    ) -> Vec<IngestEndpoint> {
        let config = self.mesh.records().config();
        let label = config.tenant(tenant).and_then(|t| t.label.clone());
        let under = label.map(|l| format!("{l}.{}.{}", config.suffix(), config.base()));
        let rtmp = |host: &str, addr: SocketAddr| match addr.port() {
            1935 => format!("rtmp://{host}/live/{}", key.expose()),
            port => format!("rtmp://{host}:{port}/live/{}", key.expose()),
        };
        let srt = |host: &str, addr: SocketAddr| {
            format!("srt://{host}:{}?streamid={}", addr.port(), key.expose())
        };
        let (secure, by_http) = match self.doors.https {
            Some(_) => (true, Service::Https),
            None => (false, Service::Http),
        };
        let whip = |host: &str, addr: SocketAddr| {
            format!(
                "{}/webrtc/{}",
                origin(secure, host, addr.port()),
                key.expose()
            )
        };
        let mut endpoints = Vec::new();
        for (member, scored) in decision.members().take(ENDPOINTS) {
            let at = |service| verified(member, service).into_iter().next();
            let (over_rtmp, over_srt) = (at(Service::Rtmp), at(Service::Srt));
            let over_http = at(by_http);
            let Some(addr) = over_rtmp.or(over_srt) else {
                continue;
            };
            let scheme = if over_rtmp.is_some() { "rtmp" } else { "srt" };
            let endpoint = |host: String, kind| IngestEndpoint {
                node_id: member.id,
                rtmp_url: over_rtmp.map(|addr| rtmp(&host, addr)),
                base_url: format!("{scheme}://{host}"),
                whip_url: over_http.map(|addr| whip(&host, addr)),
                srt_url: over_srt.map(|addr| srt(&host, addr)),
                region: member.place.as_ref().map(|p| p.region().to_string()),
                load_score: -f64::from(scored.total),
                cluster_id: member.cluster,
                kind,
            };
            if let Some(under) = &under {
                if endpoints.is_empty() {
                    endpoints.push(endpoint(
                        format!("edge-ingest.{under}"),
                        IngestKind::TenantAlias,
                    ));
                }
                endpoints.push(endpoint(
                    format!("{}.{under}", member.id.label()),
                    IngestKind::NodeSpecific,
                ));
            } else {
                endpoints.push(endpoint(addr.ip().to_string(), IngestKind::NodeSpecific));
            }
        }
        endpoints
    }
}
