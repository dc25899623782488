//! Where to watch and where to publish, from the [`Resolver`](crate::ports::Resolver). What has a stream key in it has no
//! `Debug`.
use async_graphql::{Context, Enum, ID, Json, SimpleObject};
use routing::model::{PlaybackId, StreamKey, TrackDetail, TrackKind};
use serde_json::Value;

use super::{
    error::{Fault, code},
    id::Kind,
    stream::int,
};
use crate::{
    gateway::{deps, session},
    ports::{self, Asker, ContentFacts, ResolveError},
};

/// A node that can serve a viewer.
#[derive(Clone, Debug, SimpleObject)]
pub struct ViewerEndpoint {
    /// The node.
    pub node_id: String,
    /// Scheme, host and port.
    pub base_url: String,
    /// The protocol of `url`.
    pub protocol: String,
    /// The preferred output.
    pub url: String,
    /// Kilometres from the caller's place; absent when either place is unknown.
    pub geo_distance: Option<f64>,
    /// Higher is better.
    pub load_score: Option<f64>,
    /// Every output by protocol.
    pub outputs: Option<Json<Value>>,
}

impl From<ports::ViewerEndpoint> for ViewerEndpoint {
    fn from(e: ports::ViewerEndpoint) -> Self {
        Self {
            node_id: e.node_id.to_string(),
            base_url: e.base_url,
            protocol: e.protocol,
            url: e.url,
            geo_distance: e.geo_distance,
            load_score: Some(e.load_score),
            outputs: Some(Json(e.outputs)),
        }
    }
}

/// A track of what is played.
#[derive(Clone, Debug, SimpleObject)]
pub struct PlaybackTrack {
    /// `video`, `audio` or `data`.
    #[graphql(name = "type")]
    pub kind: String,
    /// How it is coded.
    pub codec: String,
    /// Kilobits a second; 0 when unknown.
    pub bitrate_kbps: i32,
    /// In pixels; 0 of sound.
    pub width: i32,
    /// In pixels; 0 of sound.
    pub height: i32,
    /// Of sound; 0 of pictures.
    pub channels: i32,
    /// In hertz; 0 of pictures.
    pub sample_rate: i32,
}

/// A node that holds what is played.
#[derive(Clone, Debug, SimpleObject)]
pub struct PlaybackInstance {
    /// The node.
    pub node_id: String,
    /// Viewer sessions there.
    pub viewers: i32,
}

/// What is known of what is played.
#[derive(Clone, Debug, SimpleObject)]
pub struct PlaybackMetadata {
    /// `LIVE` or `OFFLINE`.
    pub status: String,
    /// Whether it is live.
    pub is_live: bool,
    /// Viewer sessions at all nodes.
    pub viewers: i32,
    /// Its tracks.
    pub tracks: Option<Vec<PlaybackTrack>>,
    /// Protocols to try, the best first.
    pub protocol_hints: Option<Vec<String>>,
    /// The nodes that hold it, the origin first.
    pub instances: Option<Vec<PlaybackInstance>>,
    /// The playback id.
    pub content_id: String,
    /// `live`.
    pub content_type: String,
    /// The stream's name.
    pub title: Option<String>,
    /// What its tenant says of it.
    pub description: Option<String>,
}

/// Where a viewer can go.
#[derive(Clone, Debug, SimpleObject)]
pub struct ViewerEndpointResponse {
    /// The best.
    pub primary: Option<ViewerEndpoint>,
    /// The next best, in order.
    pub fallbacks: Vec<ViewerEndpoint>,
    /// Of what is played.
    pub metadata: Option<PlaybackMetadata>,
}

fn tracks(content: &ContentFacts) -> Option<Vec<PlaybackTrack>> {
    let live = content.live.as_ref()?;
    let track = |t: &routing::model::TrackSummary| {
        let mut track = PlaybackTrack {
            kind: match t.kind {
                TrackKind::Video => "video",
                TrackKind::Audio => "audio",
                TrackKind::Data => "data",
            }
            .to_owned(),
            codec: t.codec.name().to_owned(),
            bitrate_kbps: int(t.bitrate.0 / 1000),
            width: 0,
            height: 0,
            channels: 0,
            sample_rate: 0,
        };
        match t.detail {
            TrackDetail::Video { width, height, .. } => {
                (track.width, track.height) = (int(width), int(height));
            }
            TrackDetail::Audio {
                sample_rate,
                channels,
            } => {
                track.sample_rate = int(sample_rate);
                track.channels = int(channels);
            }
            TrackDetail::Data {} => {}
        }
        track
    };
    Some(live.tracks.iter().map(track).collect())
}

pub(crate) async fn viewer(
    ctx: &Context<'_>,
    content_id: &str,
) -> async_graphql::Result<Option<ViewerEndpointResponse>> {
    let deps = deps(ctx)?;
    let asker = session(ctx)?.asker();
    let Ok(id) = content_id.parse::<PlaybackId>() else {
        return Ok(None);
    };
    let answer = match deps.resolve.viewer(id, asker).await {
        Ok(answer) => answer,
        Err(ResolveError::Unknown(_)) => return Ok(None),
        Err(error) => return Err(fault(error).into()),
    };
    let content = answer.content;
    let watched = deps.live.watched();
    let viewers_at = |node| {
        let there = |w: &&ports::Watched| w.node == node && Some(w.broadcast) == content.broadcast;
        watched.iter().find(there).map_or(0, |w| int(w.viewers))
    };
    let metadata = PlaybackMetadata {
        status: if content.live.is_some() {
            "LIVE"
        } else {
            "OFFLINE"
        }
        .to_owned(),
        is_live: content.live.is_some(),
        viewers: content.live.as_ref().map_or(0, |l| int(l.viewers)),
        tracks: tracks(&content),
        protocol_hints: answer
            .endpoints
            .first()
            .and_then(|e| e.outputs.as_object())
            .map(|outputs| outputs.keys().cloned().collect()),
        instances: Some(
            content
                .holders
                .iter()
                .map(|node| PlaybackInstance {
                    node_id: node.to_string(),
                    viewers: viewers_at(*node),
                })
                .collect(),
        ),
        content_id: content.content_id,
        content_type: "live".to_owned(),
        title: content.title,
        description: content.description,
    };
    let mut endpoints = answer.endpoints.into_iter().map(ViewerEndpoint::from);
    Ok(Some(ViewerEndpointResponse {
        primary: endpoints.next(),
        fallbacks: endpoints.collect(),
        metadata: Some(metadata),
    }))
}

/// What kind of name an ingest endpoint has.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Enum)]
#[graphql(remote = "ports::IngestKind")]
pub enum IngestEndpointKind {
    /// The tenant's own name.
    TenantAlias,
    /// The official clusters' common name.
    RootPool,
    /// One cluster's name.
    ClusterPool,
    /// One node's name.
    NodeSpecific,
}

/// Where a stream can be published.
#[derive(Clone, SimpleObject)]
pub struct IngestEndpoint {
    /// The node that the name leads to.
    pub node_id: String,
    /// Scheme, host and port.
    pub base_url: String,
    /// For WHIP.
    pub whip_url: Option<String>,
    /// For RTMP.
    pub rtmp_url: Option<String>,
    /// For SRT.
    pub srt_url: Option<String>,
    /// The node's region.
    pub region: Option<String>,
    /// Higher is better.
    pub load_score: Option<f64>,
    /// What kind of name it is.
    pub kind: IngestEndpointKind,
    /// The node's cluster.
    pub cluster_id: String,
}

impl From<ports::IngestEndpoint> for IngestEndpoint {
    fn from(e: ports::IngestEndpoint) -> Self {
        Self {
            node_id: e.node_id.to_string(),
            base_url: e.base_url,
            whip_url: e.whip_url,
            rtmp_url: e.rtmp_url,
            srt_url: e.srt_url,
            region: e.region,
            load_score: Some(e.load_score),
            kind: e.kind.into(),
            cluster_id: e.cluster_id.to_string(),
        }
    }
}

/// Of the stream that a key opens.
#[derive(Clone, SimpleObject)]
pub struct IngestMetadata {
    /// The stream's global id.
    pub stream_id: ID,
    /// The key as it was given.
    pub stream_key: String,
    /// The tenant.
    pub tenant_id: String,
    /// Whether it is recorded.
    pub recording_enabled: bool,
    /// The stream's name.
    pub title: Option<String>,
    /// What its tenant says of it.
    pub description: Option<String>,
}

/// Where a streamer can go.
#[derive(Clone, SimpleObject)]
pub struct IngestEndpointResponse {
    /// The best.
    pub primary: IngestEndpoint,
    /// The next best, in order.
    pub fallbacks: Vec<IngestEndpoint>,
    /// Of the stream.
    pub metadata: Option<IngestMetadata>,
}

pub(crate) async fn ingest(
    ctx: &Context<'_>,
    stream_key: &str,
) -> async_graphql::Result<Option<IngestEndpointResponse>> {
    if stream_key.len() > StreamKey::MAX {
        return Ok(None);
    }
    let asker: Asker = session(ctx)?.asker();
    let key = StreamKey::new(stream_key);
    let answer = match deps(ctx)?.resolve.ingest(&key, asker).await {
        Ok(answer) => answer,
        Err(ResolveError::Unknown(_)) => return Ok(None),
        Err(error) => return Err(fault(error).into()),
    };
    let metadata = IngestMetadata {
        stream_id: Kind::Stream.global(&answer.stream.to_string()),
        stream_key: stream_key.to_owned(),
        tenant_id: answer.tenant.to_string(),
        recording_enabled: false,
        title: Some(answer.title),
        description: answer.description,
    };
    let mut endpoints = answer.endpoints.into_iter().map(IngestEndpoint::from);
    Ok(endpoints.next().map(|primary| IngestEndpointResponse {
        primary,
        fallbacks: endpoints.collect(),
        metadata: Some(metadata),
    }))
}

fn fault(error: ResolveError) -> Fault {
    match error {
        ResolveError::Unknown(m) => Fault::Other(code::NOT_FOUND, m),
        ResolveError::Denied(m) => Fault::Other(code::FORBIDDEN, m),
        ResolveError::Unavailable(m) => Fault::Other(code::UNAVAILABLE, m),
    }
}
