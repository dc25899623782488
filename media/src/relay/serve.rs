//! The answering side: subscriptions, fetches and probes of other nodes. Each subscription has a task of its own and
//! each group a stream of its own, so that a slow subscriber holds up nobody and loses only old groups.
use std::{
    collections::BTreeMap,
    sync::{Arc, PoisonError},
    time::Duration,
};

use quinn::{Connection, RecvStream, SendStream, VarInt};
use routing::model::{BroadcastId, NodeId, TrackKind};
use tokio::{
    task::JoinSet,
    time::{interval, timeout},
};
use tokio_util::sync::CancellationToken;

use super::{
    Relay,
    announce::{predecessors, spans, starts},
    intake::{Intake, position},
    replica::Hold,
    streams::{StreamError, read_message, write_frame, write_group_end, write_message},
    wire::{
        Accepted, Announce, End, Fetch, GroupHead, MAX_HOPS, MAX_TRACKS, MAX_TRY, Path, Reason,
        Refused, Reply, Request, Resume, Subscribe,
    },
};
use crate::{
    live::{Broadcast, EpochLine, Group, GroupSeq, Phase, TrackId},
    origin::Past,
};

/// A request must be complete within this.
const REQUEST: Duration = Duration::from_secs(3);
/// Groups under way to one subscriber. Beyond it the oldest is reset: it can be fetched later, the new cannot wait.
const GROUPS: usize = 64;
/// Entitlement is asked for again this often, and whenever the relay is told to.
const RECHECK: Duration = Duration::from_secs(1);
/// Why a stream was reset: the group is too old for this subscriber, or its frames end early here.
const RESET: VarInt = VarInt::from_u32(2);
/// How much later a picture must have begun to go before sound: sound is small, and its absence is noticed first.
const AUDIO_FIRST_MS: i64 = 10_000;

/// Answers one request stream.
pub(super) async fn request(
    relay: Arc<Relay>,
    peer: NodeId,
    connection: Connection,
    mut send: SendStream,
    mut recv: RecvStream,
) {
    let Ok(Ok(request)) = timeout(REQUEST, read_message::<Request>(&mut recv)).await else {
        drop(send.reset(RESET));
        return;
    };
    let done = match request {
        Request::Subscribe(wanted) => {
            subscription(&relay, peer, &connection, &mut send, recv, wanted).await
        }
        Request::Fetch(wanted) => fetch(&relay, peer, &mut send, wanted).await,
        Request::Probe(wanted) => probe(&relay, peer, &mut send, wanted.broadcast).await,
        Request::Past(wanted) => past(&relay, peer, &mut send, wanted.broadcast).await,
    };
    match done {
        Ok(()) => drop(send.finish()),
        Err(StreamError::Gone | StreamError::Wire(_)) => drop(send.reset(RESET)),
    }
}

fn no(reason: Reason) -> Reply {
    let instead = Vec::new();
    Reply::Refused(Refused { reason, instead })
}

async fn probe(
    relay: &Relay,
    peer: NodeId,
    send: &mut SendStream,
    id: BroadcastId,
) -> Result<(), StreamError> {
    let answer = if relay.gate.may_relay(peer, id) {
        let held = relay.broadcasts.get(id);
        held.and_then(|broadcast| position(&broadcast, relay.path(id).unwrap_or_default()))
            .map_or(no(Reason::Unknown), Reply::Position)
    } else {
        no(Reason::NotEntitled)
    };
    write_message(send, &answer).await
}

async fn past(
    relay: &Relay,
    peer: NodeId,
    send: &mut SendStream,
    id: BroadcastId,
) -> Result<(), StreamError> {
    let answer = if relay.gate.may_relay(peer, id) {
        let held = relay.broadcasts.get(id);
        let newest = held.and_then(|broadcast| broadcast.current());
        newest.map_or(no(Reason::Unknown), |line| Reply::Past(Past::of(&line)))
    } else {
        no(Reason::NotEntitled)
    };
    write_message(send, &answer).await
}

async fn fetch(
    relay: &Relay,
    peer: NodeId,
    send: &mut SendStream,
    wanted: Fetch,
) -> Result<(), StreamError> {
    // Live groups go first.
    drop(send.set_priority(-1));
    if !relay.gate.may_relay(peer, wanted.broadcast) {
        return write_message(send, &no(Reason::NotEntitled)).await;
    }
    let held = relay.broadcasts.get(wanted.broadcast);
    let Some(line) = held.and_then(|broadcast| broadcast.epoch(wanted.epoch)) else {
        return write_message(send, &no(Reason::Unknown)).await;
    };
    write_message(send, &Reply::Accepted(Accepted { path: Vec::new() })).await?;
    for seq in (wanted.from.0..wanted.to.0).map(GroupSeq) {
        let Some(group) = line.group(wanted.track, seq) else {
            continue;
        };
        let (frames, phase) = group.with_frames(|frames, phase| (frames.to_vec(), phase));
        if phase != Phase::Finished {
            continue;
        }
        let header = group.header().clone();
        write_message(send, &GroupHead { number: 0, header }).await?;
        for frame in &frames {
            write_frame(send, frame).await?;
        }
        write_group_end(send).await?;
    }
    Ok(())
}

/// Why this subscription cannot be, or what holds the broadcast for it.
fn admit(relay: &Arc<Relay>, peer: NodeId, wanted: &Subscribe) -> Result<(Hold, Child), Reply> {
    let id = wanted.broadcast;
    if !relay.gate.may_relay(peer, id) {
        return Err(no(Reason::NotEntitled));
    }
    let hold = relay.hold_present(id).ok_or_else(|| no(Reason::Unknown))?;
    let way = hold.replica().way.borrow().clone();
    if !way.standing || way.path.is_empty() {
        return Err(no(Reason::NoSource));
    }
    if way.path.contains(&peer) || way.path.len() >= MAX_HOPS {
        return Err(no(Reason::Loop));
    }
    let replica = hold.replica();
    let mut children = replica
        .children
        .lock()
        .unwrap_or_else(PoisonError::into_inner);
    if !children.contains_key(&peer) && children.len() >= relay.limits.fan_out {
        let instead = children.keys().take(MAX_TRY).copied().collect();
        let reason = Reason::Full;
        return Err(Reply::Refused(Refused { reason, instead }));
    }
    let token = relay.stopping.child_token();
    // A node that lost its connection comes again before the old one is known to be gone.
    if let Some(old) = children.insert(peer, token.clone()) {
        old.cancel();
    }
    drop(children);
    let replica = Arc::clone(hold.replica());
    let child = Child {
        replica,
        peer,
        token,
    };
    Ok((hold, child))
}

/// A subscriber's place among those of a replica.
struct Child {
    replica: Arc<super::replica::Replica>,
    peer: NodeId,
    token: CancellationToken,
}

impl Drop for Child {
    fn drop(&mut self) {
        let mut children = self
            .replica
            .children
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        // Cancelled means replaced (or stopping): the entry is another's by then.
        if !self.token.is_cancelled() {
            children.remove(&self.peer);
        }
        drop(children);
        self.token.cancel();
    }
}

async fn subscription(
    relay: &Arc<Relay>,
    peer: NodeId,
    connection: &Connection,
    send: &mut SendStream,
    mut recv: RecvStream,
    wanted: Subscribe,
) -> Result<(), StreamError> {
    drop(send.set_priority(i32::MAX));
    let (hold, child) = match admit(relay, peer, &wanted) {
        Ok(admitted) => admitted,
        Err(refusal) => return write_message(send, &refusal).await,
    };
    let broadcast = Arc::clone(&hold.replica().broadcast);
    let mut way = hold.replica().way.subscribe();
    let mut path = way.borrow_and_update().path.clone();
    write_message(send, &Reply::Accepted(Accepted { path: path.clone() })).await?;

    let mut changes = broadcast.changes();
    let mut recheck = relay.recheck.subscribe();
    let mut beat = interval(RECHECK);
    let mut sender = Sender {
        relay: Arc::clone(relay),
        intake: Arc::clone(&hold.replica().intake),
        connection: connection.clone(),
        number: wanted.number,
        token: child.token.child_token(),
        tasks: JoinSet::new(),
        active: BTreeMap::new(),
        begun: 0,
        lines: Vec::new(),
        joined: false,
    };
    let mut resume = wanted.resume;
    loop {
        let mut judge = false;
        changes.borrow_and_update();
        sender.follow(&broadcast, &mut resume, send).await?;
        tokio::select! {
            _ = changes.changed() => {}
            Some(ended) = sender.tasks.join_next() => {
                if let Ok(number) = ended {
                    sender.active.remove(&number);
                }
            }
            changed = way.changed() => {
                let now = way.borrow_and_update().clone();
                if changed.is_ok() && now.path != path {
                    path.clone_from(&now.path);
                    write_message(send, &Reply::Path(Path { path: now.path })).await?;
                }
            }
            // The subscriber says nothing more; what ends here is its interest.
            _ = recv.read_chunk(1, true) => return Ok(()),
            () = child.token.cancelled() => {
                return write_message(send, &no(Reason::Leaving)).await;
            }
            _ = beat.tick() => judge = true,
            _ = recheck.changed() => judge = true,
        }
        if judge && !relay.gate.may_relay(peer, wanted.broadcast) {
            sender.token.cancel();
            return write_message(send, &no(Reason::NotEntitled)).await;
        }
    }
}

/// An epoch on its way to one subscriber.
struct Line {
    line: Arc<EpochLine>,
    next: Vec<GroupSeq>,
    ended: bool,
}

/// One subscription's groups.
struct Sender {
    relay: Arc<Relay>,
    intake: Arc<Intake>,
    connection: Connection,
    number: u64,
    token: CancellationToken,
    tasks: JoinSet<u64>,
    /// Groups under way by when they began, oldest first.
    active: BTreeMap<u64, CancellationToken>,
    begun: u64,
    lines: Vec<Line>,
    /// Whether a current epoch was announced: those that open later are sent from their first group.
    joined: bool,
}

impl Drop for Sender {
    fn drop(&mut self) {
        self.token.cancel();
        // Each task resets its stream; aborted, they would seem to end as they should.
        self.tasks.detach_all();
    }
}

impl Sender {
    /// Announces what is new and starts sending it.
    async fn follow(
        &mut self,
        broadcast: &Broadcast,
        resume: &mut Option<Resume>,
        send: &mut SendStream,
    ) -> Result<(), StreamError> {
        let Some(current) = broadcast.current() else {
            return Ok(());
        };
        let known = |line: &Line| line.line.epoch().id == current.epoch().id;
        if !self.lines.iter().any(known) {
            if !self.joined && !starts(&current) {
                return Ok(());
            }
            if !self.joined {
                for line in predecessors(broadcast, &current) {
                    let resume = resume.as_ref().filter(|r| r.epoch == line.epoch().id);
                    self.add(line, resume, false, send).await?;
                }
            }
            let resume = resume.take().filter(|r| r.epoch == current.epoch().id);
            self.add(current, resume.as_ref(), true, send).await?;
            self.joined = true;
        }
        for place in 0..self.lines.len() {
            self.advance(place);
            let line = &mut self.lines[place];
            // The mark first, then a last look: what began before the mark is sent before it is told.
            if !line.ended && line.line.ended() {
                line.ended = true;
                self.advance(place);
                let line = &self.lines[place];
                let (epoch, next) = (line.line.epoch().id, line.next.clone());
                write_message(send, &Reply::End(End { epoch, next })).await?;
            }
        }
        self.lines
            .retain(|l| !l.ended || broadcast.epoch(l.line.epoch().id).is_some());
        Ok(())
    }

    async fn add(
        &mut self,
        line: Arc<EpochLine>,
        resume: Option<&Resume>,
        current: bool,
        send: &mut SendStream,
    ) -> Result<(), StreamError> {
        let mut spans = spans(&line, resume, current, self.joined);
        if !self.intake.broadcast().backfilled() {
            // What this node is still fetching itself can be had: here soon, elsewhere now.
            for (span, track) in spans.iter_mut().zip(&line.epoch().tracks) {
                let low = self.intake.low(line.epoch().id, track.id);
                span.back = span.back.min(low.unwrap_or(span.back));
            }
        }
        let next = spans.iter().map(|span| span.live).collect();
        let epoch = Arc::clone(line.epoch());
        self.lines.push(Line {
            line,
            next,
            ended: false,
        });
        let announce = Announce {
            epoch,
            spans,
            current,
        };
        write_message(send, &Reply::Epoch(announce)).await
    }

    /// Starts a stream for each group that began.
    fn advance(&mut self, place: usize) {
        for track in (0..MAX_TRACKS).filter_map(|t| u8::try_from(t).ok().map(TrackId)) {
            loop {
                let line = &mut self.lines[place];
                let Some(next) = line.next.get_mut(track.index()) else {
                    break;
                };
                let Some(group) = line.line.next_group(track, *next) else {
                    break;
                };
                *next = group.header().seq.next();
                let priority = self.priority(place, &group);
                self.start(group, priority);
            }
        }
    }

    /// Later first, whatever the broadcast: by when the group began on this node's clock, in twentieths of a second.
    fn priority(&self, place: usize, group: &Group) -> i32 {
        let line = &self.lines[place].line;
        let header = group.header();
        let Some(track) = line.epoch().track(header.track) else {
            return 0;
        };
        let newest = line.groups(header.track).pop();
        let edge = newest.map_or(0, |newest| newest.header().stamp.base_decode_time);
        let ticks = edge.saturating_sub(header.stamp.base_decode_time);
        let age = ticks.saturating_mul(1000) / i64::from(track.timescale);
        let uptime = self.relay.clock.uptime().0.as_millis();
        let began = i64::try_from(uptime)
            .unwrap_or(i64::MAX)
            .saturating_sub(age);
        let first = match track.kind {
            TrackKind::Audio => AUDIO_FIRST_MS,
            TrackKind::Video | TrackKind::Data => 0,
        };
        i32::try_from((began + first) / 50).unwrap_or(i32::MAX - 1)
    }

    fn start(&mut self, group: Arc<Group>, priority: i32) {
        if self.active.len() >= GROUPS
            && let Some((_, oldest)) = self.active.pop_first()
        {
            oldest.cancel();
        }
        self.begun += 1;
        let (begun, token) = (self.begun, self.token.child_token());
        self.active.insert(begun, token.clone());
        let (connection, number) = (self.connection.clone(), self.number);
        self.tasks.spawn(async move {
            // The subscriber finds what is missing and asks for it.
            drop(send_group(&connection, number, &group, priority, &token).await);
            begun
        });
    }
}

async fn send_group(
    connection: &Connection,
    number: u64,
    group: &Arc<Group>,
    priority: i32,
    token: &CancellationToken,
) -> Result<(), StreamError> {
    let opened = tokio::select! {
        opened = connection.open_uni() => opened,
        () = token.cancelled() => return Ok(()),
    };
    let mut send = opened.map_err(|_| StreamError::Gone)?;
    drop(send.set_priority(priority));
    let sent = tokio::select! {
        sent = pump(&mut send, number, group) => sent,
        () = token.cancelled() => Err(StreamError::Gone),
    };
    match sent {
        Ok(()) => drop(send.finish()),
        Err(_) => drop(send.reset(RESET)),
    }
    Ok(())
}

/// Frames as they come, each on its way before the next is there.
async fn pump(send: &mut SendStream, number: u64, group: &Arc<Group>) -> Result<(), StreamError> {
    let header = group.header().clone();
    write_message(send, &GroupHead { number, header }).await?;
    let mut reader = group.reader();
    while let Some(frame) = reader.next().await {
        write_frame(send, &frame).await?;
    }
    if group.phase() != Phase::Finished {
        return Err(StreamError::Gone);
    }
    write_group_end(send).await
}
