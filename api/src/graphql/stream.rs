//! `Stream` and what hangs on it, read from the records at the moment of the question.
use async_graphql::{ComplexObject, Context, Enum, ID, Object, SimpleObject};
use mesh::config::{self, KeyRecord};
use routing::model::{BroadcastId, NodeId, StreamId, TenantId, TrackDetail, TrackKind};

use super::{
    error::{Fault, code},
    id::Kind,
    input::IngestMode,
    page::PageInfo,
    scalar::Time,
};
use crate::{
    gateway::{Deps, deps},
    ports::LiveFacts,
};

/// What a tenant publishes to.
pub struct Stream(pub config::Stream);

#[Object]
impl Stream {
    /// The global id.
    async fn id(&self) -> ID {
        Kind::Stream.global(&self.0.id.to_string())
    }
    /// The public id, a UUID.
    async fn stream_id(&self) -> String {
        self.0.id.to_string()
    }
    /// The name for people.
    async fn name(&self) -> &str {
        &self.0.name
    }
    /// What its tenant says of it.
    async fn description(&self) -> Option<&str> {
        self.0.description.as_deref()
    }
    /// The primary stream key's text; `null` while no key is active, or, with an error, where it cannot be read back.
    async fn stream_key(&self, ctx: &Context<'_>) -> async_graphql::Result<Option<String>> {
        let deps = deps(ctx)?;
        let config = deps.records.config();
        let Some(key) = config.keys(self.0.id).iter().find(|k| k.active) else {
            return Ok(None);
        };
        reveal(deps, key).map(Some)
    }
    /// The id that viewers use.
    async fn playback_id(&self) -> String {
        self.0.playback.to_string()
    }
    /// Whether it is recorded.
    async fn record(&self) -> bool {
        false
    }
    /// How media comes in.
    async fn ingest_mode(&self) -> IngestMode {
        IngestMode::Push
    }
    /// When it was created.
    async fn created_at(&self) -> Time {
        Time(self.0.created)
    }
    /// When anything of it, its keys included, changed last.
    async fn updated_at(&self) -> Time {
        Time(self.0.updated)
    }
    /// What is true of it now.
    async fn metrics(&self, ctx: &Context<'_>) -> async_graphql::Result<StreamMetrics> {
        let deps = deps(ctx)?;
        let facts = deps.live.facts(BroadcastId::of(self.0.id)).await;
        Ok(StreamMetrics::new(facts.as_ref(), Time(deps.clock.unix())))
    }
}

/// A key's text.
pub(crate) fn reveal(deps: &Deps, key: &KeyRecord) -> async_graphql::Result<String> {
    deps.records
        .reveal(key)
        .map(|key| key.expose().to_owned())
        .map_err(|e| Fault::Other(code::UNAVAILABLE, e.to_string()).into())
}

/// The stream with this id, when it is this tenant's.
pub(crate) fn find(deps: &Deps, tenant: TenantId, id: StreamId) -> Option<config::Stream> {
    let config = deps.records.config();
    config.stream(id).filter(|s| s.tenant == tenant).cloned()
}

/// Whether a stream is live.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Enum)]
pub enum StreamStatus {
    /// Nobody publishes.
    Offline,
    /// Somebody publishes.
    Live,
    /// Somebody publishes, and it is recorded.
    Recording,
    /// The publisher has gone.
    Ended,
}

/// What is true of a stream now.
#[derive(Clone, Debug, SimpleObject)]
pub struct StreamMetrics {
    /// Whether it is live.
    pub status: StreamStatus,
    /// Whether it is live.
    pub is_live: bool,
    /// Viewer sessions now, at all nodes.
    pub current_viewers: i32,
    /// When the current epoch opened.
    pub started_at: Option<Time>,
    /// When this was gathered.
    pub updated_at: Time,
    /// The node that the publisher is connected to.
    pub node_id: Option<String>,
    /// How many tracks it has; absent while they are unknown.
    pub track_count: Option<i32>,
    /// Of the first video track, in pixels.
    pub primary_width: Option<i32>,
    /// Of the first video track, in pixels.
    pub primary_height: Option<i32>,
    /// Of the first video track, frames a second.
    pub primary_fps: Option<f64>,
    /// Of the first video track; of the first track where there is no video.
    pub primary_codec: Option<String>,
    /// Of the same track, bits a second.
    pub primary_bitrate: Option<i32>,
}

/// The first video track, or else the first track, as the metrics and events show it.
#[derive(Clone, Debug, Default)]
pub(crate) struct Primary {
    pub(crate) width: Option<i32>,
    pub(crate) height: Option<i32>,
    pub(crate) fps: Option<f64>,
    pub(crate) codec: Option<String>,
    pub(crate) bitrate: Option<i32>,
}

pub(crate) fn int(n: impl TryInto<i32>) -> i32 {
    n.try_into().unwrap_or(i32::MAX)
}

impl Primary {
    pub(crate) fn of(facts: &LiveFacts) -> Self {
        let video = facts.tracks.iter().find(|t| t.kind == TrackKind::Video);
        let Some(track) = video.or(facts.tracks.first()) else {
            return Self::default();
        };
        let mut primary = Self {
            codec: Some(track.codec.name().to_owned()),
            bitrate: (track.bitrate.0 > 0).then(|| int(track.bitrate.0)),
            ..Self::default()
        };
        if let TrackDetail::Video {
            width,
            height,
            rate: (num, den),
        } = track.detail
        {
            primary.width = Some(int(width));
            primary.height = Some(int(height));
            primary.fps = (num > 0 && den > 0).then(|| f64::from(num) / f64::from(den));
        }
        primary
    }
}

impl StreamMetrics {
    fn new(facts: Option<&LiveFacts>, now: Time) -> Self {
        let primary = facts.map(Primary::of).unwrap_or_default();
        Self {
            status: if facts.is_some() {
                StreamStatus::Live
            } else {
                StreamStatus::Offline
            },
            is_live: facts.is_some(),
            current_viewers: facts.map_or(0, |f| int(f.viewers)),
            started_at: facts.map(|f| Time(f.started)),
            updated_at: facts.map_or(now, |f| Time(f.updated)),
            node_id: facts.map(|f| NodeId::to_string(&f.origin)),
            track_count: facts
                .filter(|f| !f.tracks.is_empty())
                .map(|f| int(f.tracks.len())),
            primary_width: primary.width,
            primary_height: primary.height,
            primary_fps: primary.fps,
            primary_codec: primary.codec,
            primary_bitrate: primary.bitrate,
        }
    }
}

/// A key that opens a stream for publishing.
pub struct StreamKey(pub KeyRecord);

#[Object]
impl StreamKey {
    /// The global id.
    async fn id(&self) -> ID {
        Kind::StreamKey.global(&self.0.id.to_string())
    }
    /// The stream's global id.
    async fn stream_id(&self) -> ID {
        Kind::Stream.global(&self.0.stream.to_string())
    }
    /// The stream.
    async fn stream(&self, ctx: &Context<'_>) -> async_graphql::Result<Option<Stream>> {
        Ok(find(deps(ctx)?, self.0.tenant, self.0.stream).map(Stream))
    }
    /// The text that an encoder shows; `null`, with an error, where it cannot be read back.
    async fn key_value(&self, ctx: &Context<'_>) -> async_graphql::Result<Option<String>> {
        reveal(deps(ctx)?, &self.0).map(Some)
    }
    /// The name for people.
    async fn key_name(&self) -> &str {
        &self.0.name
    }
    /// Whether it opens the stream.
    async fn is_active(&self) -> bool {
        self.0.active
    }
    /// When it was made.
    async fn created_at(&self) -> Time {
        Time(self.0.created)
    }
}

/// A page of streams, newest first.
#[derive(SimpleObject)]
#[graphql(complex)]
pub struct StreamsConnection {
    /// Streams with their cursors.
    pub edges: Vec<StreamEdge>,
    /// What lies beside the page.
    pub page_info: PageInfo,
    /// How many there are.
    pub total_count: i32,
}

#[ComplexObject]
impl StreamsConnection {
    /// The streams alone.
    async fn nodes(&self) -> Vec<Stream> {
        let streams = self.edges.iter().map(|e| Stream(e.node.0.clone()));
        streams.collect()
    }
}

/// A stream in a page.
#[derive(SimpleObject)]
pub struct StreamEdge {
    /// Where it is.
    pub cursor: String,
    /// The stream.
    pub node: Stream,
}

/// A page of a stream's keys, oldest first.
#[derive(SimpleObject)]
#[graphql(complex)]
pub struct StreamKeysConnection {
    /// Keys with their cursors.
    pub edges: Vec<StreamKeyEdge>,
    /// What lies beside the page.
    pub page_info: PageInfo,
    /// How many there are.
    pub total_count: i32,
}

#[ComplexObject]
impl StreamKeysConnection {
    /// The keys alone.
    async fn nodes(&self) -> Vec<StreamKey> {
        let keys = self.edges.iter().map(|e| StreamKey(e.node.0.clone()));
        keys.collect()
    }
}

/// A key in a page.
#[derive(SimpleObject)]
pub struct StreamKeyEdge {
    /// Where it is.
    pub cursor: String,
    /// The key.
    pub node: StreamKey,
}
