//! Live events, and writes that become safer.
use std::sync::Arc;

use async_graphql::{Context, Enum, ID, Json, SimpleObject, Subscription as Subscribe};
use futures::{Stream, stream::unfold};
use routing::model::{BroadcastId, StreamId, TenantId};
use serde_json::{Value, json};
use tokio::sync::broadcast::{Receiver, error::RecvError};

use super::{
    error::{Fault, code},
    id::{self, Kind},
    scalar::Time,
    stream::{self, Primary, StreamStatus, int},
    write::{self, WriteAcknowledgement},
};
use crate::{
    gateway::{Deps, deps, session},
    ports::{LiveEvent, LiveEventKind},
};

/// What happened to a stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Enum)]
pub enum StreamEventType {
    /// A replica came or went, or the count of viewers changed.
    StreamLifecycleUpdate,
    /// A publisher came.
    StreamStart,
    /// The publisher went.
    StreamEnd,
    /// Its buffer changed.
    BufferUpdate,
    /// Its tracks became known or changed.
    TrackListUpdate,
    /// A viewer was sent on.
    PlayRewrite,
    /// Another epoch, or another origin took over.
    StreamSource,
}

/// One event of a stream.
#[derive(Clone, Debug, SimpleObject)]
pub struct StreamEvent {
    /// The global id.
    pub id: ID,
    /// The id, of this node and this subscription.
    pub event_id: ID,
    /// The stream's global id.
    pub stream_id: Option<ID>,
    /// The node that it happened at.
    pub node_id: Option<String>,
    /// What happened.
    #[graphql(name = "type")]
    pub kind: StreamEventType,
    /// Whether the stream is live after it.
    pub status: Option<StreamStatus>,
    /// When the node that answers learnt of it.
    pub timestamp: Time,
    /// The tracks after it, as `{"tracks": […]}`.
    pub payload: Option<Json<Value>>,
    /// How many tracks it has.
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
    /// Viewer sessions at all nodes.
    pub total_viewers: Option<i32>,
}

impl StreamEvent {
    fn new(number: u64, event: &LiveEvent) -> Self {
        let primary = event.facts.as_ref().map(Primary::of).unwrap_or_default();
        let live = event.kind != LiveEventKind::End;
        let raw = format!("{}-{number}", event.at.0);
        Self {
            id: Kind::StreamEvent.global(&raw),
            event_id: ID(raw),
            stream_id: Some(Kind::Stream.global(&event.broadcast.to_string())),
            node_id: Some(event.node.to_string()),
            kind: match event.kind {
                LiveEventKind::Start => StreamEventType::StreamStart,
                LiveEventKind::End => StreamEventType::StreamEnd,
                LiveEventKind::Source => StreamEventType::StreamSource,
                LiveEventKind::Tracks => StreamEventType::TrackListUpdate,
                LiveEventKind::Lifecycle => StreamEventType::StreamLifecycleUpdate,
            },
            status: Some(if live {
                StreamStatus::Live
            } else {
                StreamStatus::Ended
            }),
            timestamp: Time(event.at),
            payload: event
                .facts
                .as_ref()
                .map(|f| Json(json!({ "tracks": f.tracks }))),
            track_count: event.facts.as_ref().map(|f| int(f.tracks.len())),
            primary_width: primary.width,
            primary_height: primary.height,
            primary_fps: primary.fps,
            primary_codec: primary.codec,
            primary_bitrate: primary.bitrate,
            total_viewers: event.facts.as_ref().map(|f| int(f.viewers)),
        }
    }
}

/// What can be followed.
pub struct Subscription;

#[Subscribe]
impl Subscription {
    /// Events of one stream, or of all of the tenant's. Who reads too slowly gets an error with code `LAGGED` that
    /// says how many events it missed, and then what follows.
    async fn live_stream_events(
        &self,
        ctx: &Context<'_>,
        stream_id: Option<ID>,
    ) -> async_graphql::Result<impl Stream<Item = async_graphql::Result<StreamEvent>> + use<>> {
        let tenant = session(ctx)?.tenant()?;
        let deps = deps(ctx)?;
        let wanted = match &stream_id {
            None => None,
            Some(text) => {
                let raw: StreamId = id::read(Kind::Stream, text)
                    .map_err(|e| Fault::id("streamId", Kind::Stream, text, &e))?;
                // Without the tenant's records this node cannot tell; the events themselves name their tenant.
                let has_records = deps.records.config().has_scope(tenant);
                if has_records && stream::find(deps, tenant, raw).is_none() {
                    return Err(Fault::not_found(Kind::Stream, text).into());
                }
                Some(BroadcastId::of(raw))
            }
        };
        Ok(follow(deps.live.events(), tenant, wanted))
    }

    /// Tells once when a write is `REPLICATED`, at once where it is already, and then ends. The id is the
    /// `extensions.writeId` of the mutation that made it. Any node answers.
    async fn write_acknowledged(
        &self,
        ctx: &Context<'_>,
        id: ID,
    ) -> async_graphql::Result<
        impl Stream<Item = async_graphql::Result<WriteAcknowledgement>> + use<>,
    > {
        let session = session(ctx)?.clone();
        let tenant = session.tenant()?;
        let deps = Arc::clone(ctx.data::<Arc<Deps>>()?);
        Ok(write::follow(deps, session, tenant, id.0)?)
    }
}

fn follow(
    events: Receiver<LiveEvent>,
    tenant: TenantId,
    wanted: Option<BroadcastId>,
) -> impl Stream<Item = async_graphql::Result<StreamEvent>> {
    unfold(
        (events, 0_u64),
        move |(mut events, mut number)| async move {
            loop {
                match events.recv().await {
                    Ok(event) => {
                        let ours =
                            event.tenant == tenant && wanted.is_none_or(|w| w == event.broadcast);
                        if ours {
                            number += 1;
                            let item = StreamEvent::new(number, &event);
                            return Some((Ok(item), (events, number)));
                        }
                    }
                    Err(RecvError::Lagged(missed)) => {
                        let message = format!(
                            "{missed} events were missed, since this subscription is read too slowly: ask for the streams as they are now"
                        );
                        let fault = Fault::Other(code::LAGGED, message);
                        return Some((Err(fault.into()), (events, number)));
                    }
                    Err(RecvError::Closed) => return None,
                }
            }
        },
    )
}
