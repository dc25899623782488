//! Resolving what this node has no records of: it asks gateways that have them.
//!
//! A playback id or a stream key does not say whose it is. So where this node lacks the scope of some tenants, one gateway
//! of each cluster that may write for them is asked, all at once. An answer gives the stream and the ranking; names and
//! addresses are made of those here, from what this node itself knows of the nodes, and only of nodes whose cluster is
//! entitled to the work.
//!
//! Of a stream key the others learn half of its hash, and whoever knows the stream proves that by the other half: a
//! cluster that does not have the tenant's records cannot pretend that the key is its own, and learns nothing that it
//! could publish with. A playback id is public and proves nothing, so answers that contradict each other do not count.
use std::{collections::BTreeMap, sync::Arc, time::Duration};

use api::ports::{LiveFacts, ResolveError};
use bytes::Bytes;
use dns::Work;
use futures::future::{BoxFuture, FutureExt, join_all};
use mesh::{
    carry::{HandleError, Handler},
    config::{Config, Stream},
    view::View,
};
use routing::{
    model::{
        BroadcastId, NodeId, PlaybackId, Prefix, Role, StreamId, StreamKey, TenantId, TrackSummary,
        UnixMillis, Verb,
    },
    rank::Ranked,
};
use serde::{Deserialize, Serialize};

use super::{House, LiveDesk, refuse};

const PROTOCOL: &str = "shoal/resolve/1";
/// Questions of this node that are under way at once, each to several gateways.
pub(super) const AT_ONCE: usize = 16;
/// Clusters that one question goes to.
const CLUSTERS: usize = 16;
/// Gateways of one cluster that are asked, one after the other.
const GATEWAYS: usize = 2;
/// How long one gateway is waited for.
const PATIENCE: Duration = Duration::from_secs(1);

/// What a viewer or a streamer asked for.
#[derive(Clone, Copy, Debug)]
pub(super) enum Wanted<'a> {
    Playback(PlaybackId),
    Key(&'a StreamKey),
}

impl Wanted<'_> {
    fn subject(self) -> Subject {
        match self {
            Self::Playback(id) => Subject::Playback(id),
            Self::Key(key) => Subject::Key(half(&key.hash())),
        }
    }

    /// Whether an answer can be of this.
    fn is_proven_by(self, found: &Found) -> bool {
        match self {
            Self::Playback(id) => found.playback == id,
            Self::Key(key) => found.hash == Some(key.hash()),
        }
    }

    const fn work(self) -> (Role, Verb) {
        match self {
            Self::Playback(_) => (Role::Edge, Verb::Serve),
            Self::Key(_) => (Role::Ingest, Verb::Ingest),
        }
    }
}

fn half(hash: &[u8; 32]) -> [u8; 16] {
    let mut half = [0; 16];
    half.copy_from_slice(&hash[..16]);
    half
}

#[derive(Serialize, Deserialize)]
enum Subject {
    Playback(PlaybackId),
    /// The first half of a key's hash.
    Key([u8; 16]),
}

#[derive(Serialize, Deserialize)]
struct Question {
    subject: Subject,
    /// Of the viewer or streamer, cut as everywhere.
    prefix: String,
}

#[derive(Serialize, Deserialize)]
enum Answer {
    Unknown,
    Denied(String),
    Unavailable(String),
    Found(Box<Found>),
}

/// What a gateway with the records knows.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Found {
    /// The key's whole hash.
    hash: Option<[u8; 32]>,
    pub(super) tenant: TenantId,
    pub(super) stream: StreamId,
    playback: PlaybackId,
    pub(super) title: String,
    pub(super) description: Option<String>,
    pub(super) holders: Vec<NodeId>,
    pub(super) ranked: Ranked,
    live: Option<Live>,
}

impl Found {
    pub(super) fn live(&mut self) -> Option<LiveFacts> {
        self.live.take().map(|live| LiveFacts {
            origin: live.origin,
            started: live.started,
            updated: live.updated,
            tracks: live.tracks,
            viewers: live.viewers,
        })
    }
}

#[derive(Debug, Serialize, Deserialize)]
struct Live {
    origin: NodeId,
    started: UnixMillis,
    updated: UnixMillis,
    tracks: Vec<TrackSummary>,
    viewers: u32,
}

/// The gateways to ask, by cluster.
fn gateways(config: &Config, view: &View, me: NodeId) -> Vec<Vec<NodeId>> {
    let lacking: Vec<TenantId> = config
        .tenants()
        .map(|t| t.id)
        .filter(|t| !config.has_scope(*t))
        .collect();
    let mut by_cluster = BTreeMap::<_, Vec<NodeId>>::new();
    for cluster in config.clusters() {
        let writes = |t: &TenantId| config.entitled(*t, cluster.id).has(Verb::Write);
        if by_cluster.len() < CLUSTERS && lacking.iter().any(writes) {
            by_cluster.insert(cluster.id, Vec::new());
        }
    }
    for member in view.alive() {
        if let Some(nodes) = by_cluster.get_mut(&member.cluster)
            && member.id != me
            && member.roles.has(Role::Gateway)
            && nodes.len() < GATEWAYS
        {
            nodes.push(member.id);
        }
    }
    by_cluster.into_values().collect()
}

impl House {
    /// What the clusters that may know it say of `wanted`.
    pub(super) async fn ask_elsewhere(
        &self,
        wanted: Wanted<'_>,
        prefix: Prefix,
    ) -> Result<Found, ResolveError> {
        let unknown = || ResolveError::Unknown("nothing has this playback id or key".into());
        let unavailable = |why: &str| ResolveError::Unavailable(why.to_owned());
        let config = self.mesh.records().config();
        let view = self.mesh.view().borrow().clone();
        let clusters = gateways(&config, &view, self.id);
        if clusters.is_empty() {
            return Err(unknown());
        }
        let Ok(_place) = self.questions.try_acquire() else {
            return Err(unavailable(
                "this node asks others for too many unknown ids and keys already: try again shortly",
            ));
        };
        let question = Question {
            subject: wanted.subject(),
            prefix: prefix.to_string(),
        };
        let body = Bytes::from(serde_json::to_vec(&question).unwrap_or_default());
        let asked = clusters.iter().map(|nodes| self.ask_one_of(nodes, &body));
        let mut founds = Vec::new();
        let (mut silent, mut why) = (false, None);
        for answered in join_all(asked).await {
            let Some((by, answer)) = answered else {
                silent = true;
                continue;
            };
            match answer {
                Answer::Unknown => {}
                Answer::Denied(text) => why = Some(ResolveError::Denied(text)),
                Answer::Unavailable(text) => why = Some(ResolveError::Unavailable(text)),
                Answer::Found(mut found) => {
                    if self.is_credible(&config, wanted, by, &mut found) {
                        founds.push(*found);
                    }
                }
            }
        }
        let mut founds = founds.into_iter();
        match (founds.next(), why) {
            (Some(first), _) if founds.all(|other| other.stream == first.stream) => Ok(first),
            (Some(_), _) => Err(unavailable(
                "two clusters say that this is theirs: ask at a node of the right one",
            )),
            (None, Some(why)) => Err(why),
            (None, None) if silent => Err(unavailable(
                "this node does not have the records of all tenants, and a cluster that may know this does not answer: try again, or at another node",
            )),
            (None, None) => Err(unknown()),
        }
    }

    /// The first answer of a cluster's gateways, and whose it is.
    async fn ask_one_of(&self, nodes: &[NodeId], body: &Bytes) -> Option<(NodeId, Answer)> {
        for node in nodes {
            let request = self.mesh.request(*node, PROTOCOL, body.clone());
            if let Ok(Ok(answer)) = tokio::time::timeout(PATIENCE, request).await
                && let Ok(answer) = serde_json::from_slice(&answer)
            {
                return Some((*node, answer));
            }
        }
        None
    }

    /// Whether `by` may say this; takes away nodes that may not do the work for the tenant.
    fn is_credible(
        &self,
        config: &Config,
        wanted: Wanted<'_>,
        by: NodeId,
        found: &mut Found,
    ) -> bool {
        let (role, verb) = wanted.work();
        let tenant = found.tenant;
        let may = |node| Self::node_may(config, node, role, tenant, verb);
        found.ranked.chosen.retain(|s| may(s.node));
        wanted.is_proven_by(found)
            && !config.has_scope(tenant)
            && Self::node_may(config, by, Role::Gateway, tenant, Verb::Write)
    }

    pub(crate) fn serve_resolving(self: &Arc<Self>) {
        self.serve(PROTOCOL, Desk(Arc::clone(self)));
    }
}

/// Answers such questions from this node's own records.
struct Desk(Arc<House>);

impl Desk {
    async fn answer(&self, question: Question) -> Result<Answer, HandleError> {
        let house = &self.0;
        let prefix: Prefix = question.prefix.parse().map_err(refuse)?;
        let config = house.mesh.records().config();
        let (stream, hash, work) = match question.subject {
            Subject::Playback(id) => (config.stream_by_playback(id), None, Work::Playback),
            Subject::Key(half) => match config.key_by_half(half) {
                Some((_, key)) if !key.active => {
                    return Ok(Answer::Denied(super::resolve::WITHDRAWN.into()));
                }
                Some((stream, key)) => (Some(stream), Some(key.hash), Work::Ingest),
                None => (None, None, Work::Ingest),
            },
        };
        let Some(stream) = stream else {
            return Ok(Answer::Unknown);
        };
        let Stream {
            id,
            tenant,
            playback,
            ..
        } = *stream;
        let decision = match house.decide(stream, prefix, work) {
            Ok(decision) => decision,
            Err(why) => return Ok(Answer::Unavailable(why.to_string())),
        };
        let broadcast = BroadcastId::of(id);
        let live = match work {
            Work::Playback => {
                let desk = LiveDesk(Arc::clone(house));
                api::ports::LiveStats::facts(&desk, broadcast).await
            }
            Work::Ingest => None,
        };
        Ok(Answer::Found(Box::new(Found {
            hash,
            tenant,
            stream: id,
            playback,
            title: stream.name.clone(),
            description: stream.description.clone(),
            holders: decision.holders(broadcast),
            ranked: decision.ranked,
            live: live.map(|f| Live {
                origin: f.origin,
                started: f.started,
                updated: f.updated,
                tracks: f.tracks,
                viewers: f.viewers,
            }),
        })))
    }
}

impl Handler for Desk {
    fn handle(&self, _: NodeId, body: Bytes) -> BoxFuture<'static, Result<Bytes, HandleError>> {
        let desk = Self(Arc::clone(&self.0));
        async move {
            let question = serde_json::from_slice(&body).map_err(refuse)?;
            let answer = desk.answer(question).await?;
            serde_json::to_vec(&answer).map(Bytes::from).map_err(refuse)
        }
        .boxed()
    }
}

/// What nodes ask and answer here: it is read as it was written, and its ranking can be told.
#[cfg(any(test, fuzzing))]
pub(super) fn bear(bytes: &[u8]) {
    fn again<T: Serialize + for<'d> Deserialize<'d>>(value: &T) {
        let written = serde_json::to_vec(value).expect("what was read can be written");
        let read: T = serde_json::from_slice(&written).expect("what was written can be read");
        assert_eq!(serde_json::to_vec(&read).ok(), Some(written));
    }
    if let Ok(question) = serde_json::from_slice::<Question>(bytes) {
        if let Ok(prefix) = question.prefix.parse::<Prefix>() {
            assert_eq!(prefix.to_string().parse(), Ok(prefix));
        }
        again(&question);
    }
    if let Ok(answer) = serde_json::from_slice::<Answer>(bytes) {
        if let Answer::Found(found) = &answer {
            let lines = found.ranked.explain().lines().count();
            assert!(lines > found.ranked.chosen.len() + found.ranked.rejected.len());
        }
        again(&answer);
    }
}

/// A question and an answer.
#[cfg(any(test, fuzzing))]
pub(super) fn samples() -> Vec<Vec<u8>> {
    let id = PlaybackId::from_random([3; 16]);
    let question = Question {
        subject: Subject::Playback(id),
        prefix: "192.0.2.0/24".into(),
    };
    let node = |n| routing::rank::Scored {
        node: NodeId::from_bytes([n; 32]),
        label: NodeId::from_bytes([n; 32]).label(),
        cluster: routing::model::ClusterId::from_bytes([1; 16]),
        terms: routing::rank::Terms::default(),
        total: u32::from(n) * 700,
    };
    let ranked = Ranked {
        chosen: vec![node(1), node(2), node(3)],
        ..Ranked::default()
    };
    let found = Found {
        hash: Some([7; 32]),
        tenant: TenantId::from_bytes([1; 16]),
        stream: StreamId::from_bytes([2; 16]),
        playback: id,
        title: "one".into(),
        description: None,
        holders: vec![NodeId::from_bytes([1; 32])],
        ranked,
        live: Some(Live {
            origin: NodeId::from_bytes([1; 32]),
            started: UnixMillis(1),
            updated: UnixMillis(2),
            tracks: Vec::new(),
            viewers: 3,
        }),
    };
    let answers = [
        Answer::Found(Box::new(found)),
        Answer::Denied("no".into()),
        Answer::Unknown,
    ];
    let mut all: Vec<_> = answers.iter().map(serde_json::to_vec).collect();
    all.push(serde_json::to_vec(&question));
    all.into_iter().filter_map(Result::ok).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cluster_that_has_only_heard_the_question_cannot_answer_for_a_key() {
        let key = StreamKey::from_random([7; 28]);
        let wanted = Wanted::Key(&key);
        let Subject::Key(heard) = wanted.subject() else {
            panic!("a key is asked for as one");
        };
        let claim = |hash| Found {
            hash,
            tenant: TenantId::from_bytes([1; 16]),
            stream: StreamId::from_bytes([2; 16]),
            playback: "abcdefghij234567".parse().unwrap(),
            title: String::new(),
            description: None,
            holders: Vec::new(),
            ranked: Ranked::default(),
            live: None,
        };
        let mut guess = [0; 32];
        guess[..16].copy_from_slice(&heard);
        assert!(!wanted.is_proven_by(&claim(Some(guess))));
        assert!(!wanted.is_proven_by(&claim(None)));
        assert!(wanted.is_proven_by(&claim(Some(key.hash()))));
    }
}
