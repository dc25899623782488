//! The asking side: subscriptions, group streams that come of them, fetches and probes.
use std::{net::SocketAddr, sync::Arc, time::Duration};

use quinn::{Connection, RecvStream, SendStream, VarInt};
use routing::model::{BroadcastId, NodeId};
use tokio::{sync::mpsc, time::timeout};
use tokio_util::sync::CancellationToken;

use super::{
    Relay,
    follow::{Ask, Input},
    holes::Plan,
    intake::{Feed, Intake, IntakeError},
    replica::Event,
    streams::{StreamError, read_frame, read_message, write_message},
    wire::{Fetch, GroupHead, Position, Probe, Reply, Request, Subscribe},
};
use crate::origin::Past;

/// A probe that takes longer says nothing of now.
const PROBE: Duration = Duration::from_millis(500);
/// A fetch ends when nothing came for this long.
const FETCH_IDLE: Duration = Duration::from_secs(2);
/// A group whose epoch is not announced within this is not taken.
const ANNOUNCE: Duration = Duration::from_secs(2);
/// Says that the other side need not go on with a stream.
const STOP: VarInt = VarInt::from_u32(3);

async fn open(
    relay: &Arc<Relay>,
    node: NodeId,
    addresses: &[SocketAddr],
    request: &Request,
) -> Result<(Connection, SendStream, RecvStream), StreamError> {
    let connection = relay.connect(node, addresses).await;
    let connection = connection.ok_or(StreamError::Gone)?;
    let (mut send, recv) = connection.open_bi().await.map_err(|_| StreamError::Gone)?;
    drop(send.set_priority(i32::MAX));
    write_message(&mut send, request).await?;
    Ok((connection, send, recv))
}

/// Where a node's copy of a broadcast stands; `None` where it has none or does not say in time.
pub(super) async fn probe(
    relay: &Arc<Relay>,
    broadcast: BroadcastId,
    node: NodeId,
    addresses: &[SocketAddr],
) -> Option<Position> {
    match ask(relay, node, addresses, &Request::Probe(Probe { broadcast })).await {
        Some(Reply::Position(position)) => Some(position),
        _ => None,
    }
}

/// The newest epoch that a node holds of a broadcast; `None` where it has none or does not say in time.
pub(super) async fn past(
    relay: &Arc<Relay>,
    broadcast: BroadcastId,
    node: NodeId,
    addresses: &[SocketAddr],
) -> Option<Past> {
    match ask(relay, node, addresses, &Request::Past(Probe { broadcast })).await {
        Some(Reply::Past(past)) => Some(past),
        _ => None,
    }
}

/// A question that is one message, as is its answer.
async fn ask(
    relay: &Arc<Relay>,
    node: NodeId,
    addresses: &[SocketAddr],
    request: &Request,
) -> Option<Reply> {
    let answer = async {
        let (_, _send, mut recv) = open(relay, node, addresses, request).await?;
        read_message::<Reply>(&mut recv).await
    };
    timeout(PROBE, answer).await.ok()?.ok()
}

/// Fetches past groups into the model; what does not come is missing still.
pub(super) async fn fetch(
    relay: &Arc<Relay>,
    broadcast: BroadcastId,
    plan: &Plan,
    addresses: &[SocketAddr],
    intake: &Arc<Intake>,
) {
    let request = Request::Fetch(Fetch {
        broadcast,
        epoch: plan.epoch,
        track: plan.track,
        from: plan.from,
        to: plan.to,
    });
    let asked = timeout(FETCH_IDLE, open(relay, plan.node, addresses, &request)).await;
    let Ok(Ok((_connection, _send, mut recv))) = asked else {
        return;
    };
    let reply = timeout(FETCH_IDLE, read_message::<Reply>(&mut recv)).await;
    if !matches!(reply, Ok(Ok(Reply::Accepted(_)))) {
        return;
    }
    while let Ok(Ok(head)) = timeout(FETCH_IDLE, read_message::<GroupHead>(&mut recv)).await {
        let header = head.header;
        let wanted = (header.epoch, header.track) == (plan.epoch, plan.track)
            && (plan.from..plan.to).contains(&header.seq);
        if !wanted {
            return;
        }
        let mut feed = match intake.feed(header) {
            Ok(feed) => Some(feed),
            Err(IntakeError::NotWanted) => None,
            Err(IntakeError::Foreign) => return,
        };
        // A group that came otherwise meanwhile is read past.
        loop {
            let frame = timeout(FETCH_IDLE, read_frame(&mut recv)).await;
            let Ok(Ok(frame)) = frame else { return };
            let Some(frame) = frame else { break };
            let now = relay.clock.uptime();
            if let Some(Err(IntakeError::Foreign)) = feed.as_mut().map(|f| f.offer(frame, now)) {
                return;
            }
        }
        if let Some(Err(IntakeError::Foreign)) = feed.map(Feed::finish) {
            return;
        }
    }
}

/// Who waits for group streams with a subscription's number.
#[derive(Clone, Debug)]
pub(super) struct Inbox {
    peer: NodeId,
    ask: Ask,
    intake: Arc<Intake>,
    tell: mpsc::Sender<Event>,
}

/// One subscription to one node.
pub(super) struct Subscription {
    pub(super) relay: Arc<Relay>,
    pub(super) intake: Arc<Intake>,
    pub(super) broadcast: BroadcastId,
    pub(super) addresses: Vec<SocketAddr>,
    pub(super) ask: Ask,
    pub(super) node: NodeId,
    pub(super) tell: mpsc::Sender<Event>,
}

impl Subscription {
    /// Subscribes and tells what comes, until it is over or `token` is cancelled.
    pub(super) async fn run(self, token: CancellationToken) {
        let number = self.relay.expect_groups(Inbox {
            peer: self.node,
            ask: self.ask,
            intake: Arc::clone(&self.intake),
            tell: self.tell.clone(),
        });
        tokio::select! {
            _ = self.converse(number) => {
                drop(self.tell.send(Event::Input(Input::Lost(self.ask))).await);
            }
            () = token.cancelled() => {}
        }
        self.relay.expect_no_groups(number);
    }

    async fn converse(&self, number: u64) -> Result<(), StreamError> {
        let request = Request::Subscribe(Subscribe {
            broadcast: self.broadcast,
            number,
            resume: self.intake.resume(),
        });
        let opened = open(&self.relay, self.node, &self.addresses, &request).await?;
        // The sending half stays open: its end would say that this node is no longer interested.
        let (_connection, _send, mut recv) = opened;
        loop {
            let ask = self.ask;
            let event = match read_message::<Reply>(&mut recv).await? {
                Reply::Accepted(accepted) => Event::Input(Input::Accepted(ask, accepted.path)),
                Reply::Refused(no) => Event::Input(Input::Refused(ask, no.reason, no.instead)),
                Reply::Path(way) => Event::Input(Input::Path(ask, way.path)),
                Reply::End(end) => Event::End(ask, end),
                Reply::Epoch(announce) => {
                    if announce.epoch.broadcast != self.broadcast {
                        return Err(StreamError::Gone);
                    }
                    Event::Announce(ask, announce)
                }
                Reply::Position(_) | Reply::Past(_) => return Err(StreamError::Gone),
            };
            self.tell.send(event).await.map_err(|_| StreamError::Gone)?;
        }
    }
}

/// A group stream came.
pub(super) async fn group(relay: Arc<Relay>, peer: NodeId, mut recv: RecvStream) {
    let Ok(head) = read_message::<GroupHead>(&mut recv).await else {
        return;
    };
    let inbox = relay.inbox(head.number).filter(|inbox| inbox.peer == peer);
    let Some(inbox) = inbox else {
        drop(recv.stop(STOP));
        return;
    };
    if receive(&relay, &inbox, head, &mut recv).await == Err(IntakeError::Foreign) {
        tracing::warn!(source = %peer.short(), "a source sent frames that are not of the epoch it announced; leaving it");
        drop(inbox.tell.send(Event::Input(Input::Lost(inbox.ask))).await);
    }
    drop(recv.stop(STOP));
}

async fn receive(
    relay: &Relay,
    inbox: &Inbox,
    head: GroupHead,
    recv: &mut RecvStream,
) -> Result<(), IntakeError> {
    let epoch = head.header.epoch;
    if !inbox.intake.knows(epoch) {
        let mut changes = inbox.intake.broadcast().changes();
        let announced =
            async { while !inbox.intake.knows(epoch) && changes.changed().await.is_ok() {} };
        if timeout(ANNOUNCE, announced).await.is_err() {
            return Err(IntakeError::NotWanted);
        }
    }
    let mut feed = inbox.intake.feed(head.header)?;
    loop {
        match read_frame(recv).await {
            Ok(Some(frame)) => feed.offer(frame, relay.clock.uptime())?,
            Ok(None) => return feed.finish(),
            // Cut off: what is here stays, the rest comes by another stream.
            Err(StreamError::Gone) => return Ok(()),
            Err(StreamError::Wire(_)) => return Err(IntakeError::Foreign),
        }
    }
}
