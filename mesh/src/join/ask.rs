//! The joiner's side.
use std::{
    collections::{BTreeSet, VecDeque},
    net::SocketAddr,
    sync::Arc,
    time::Duration,
};

use bytes::Bytes;
use ed25519_dalek::SigningKey;
use futures::AsyncWriteExt as _;
use rand::{RngExt as _, SeedableRng as _};
use rand_chacha::ChaCha20Rng;
use routing::model::{Clock, ClusterId, Label, MeshId, NodeId, Role, Roles};

use super::{
    CLOCK, JoinToken, KeepError, keep,
    wire::{Asked, Granted, Greeting, Introduction, MAX_GRANTED, Welcome, transcript},
};
use crate::{
    authority::{ClusterGrant, Facts, NodeGrant, Signed},
    identity::{ClusterKey, DataDir, DataDirError, EpochSecret, NodeKey},
    link::{LinkError, LinkEvent, Links, Stream, frame},
    live::{grants, hello::First},
};

/// How long one address may take to connect, and each word to come.
const STEP: Duration = Duration::from_secs(5);
/// Addresses that are asked at most, those of the token and those that were named meanwhile.
const MOST: usize = 16;

/// What the new node wants to be.
#[derive(Clone, Debug)]
pub struct JoinOptions {
    /// Its name.
    pub name: Label,
    /// Its roles; without any, all that the token allows.
    pub roles: Option<Roles>,
}

/// A node that joined.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Joined {
    /// The mesh.
    pub mesh: MeshId,
    /// The cluster.
    pub cluster: ClusterId,
    /// This node.
    pub node: NodeId,
    /// What it may do.
    pub roles: Roles,
    /// Who let it in.
    pub by: NodeId,
}

/// Why a node did not join. The token is as good as before, unless it says otherwise.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum JoinError {
    /// This directory is of another mesh.
    #[error(
        "this data directory belongs to mesh {}, the token to mesh {}: give another directory",
        ours.short(), theirs.short()
    )]
    OtherMesh {
        /// The directory's.
        ours: MeshId,
        /// The token's.
        theirs: MeshId,
    },
    /// The token has ended.
    #[error(
        "the token ended {} s ago by this machine's clock: check the clock, or make a new token with `shoal token`",
        ago.as_secs()
    )]
    Ended {
        /// How long ago.
        ago: Duration,
    },
    /// Nobody answered.
    #[error(
        "none of the token's addresses answers ({tried}): check that the gateway runs and that UDP to it passes, then join again; the token is still good"
    )]
    Unreachable {
        /// Each address and what became of it.
        tried: String,
    },
    /// Whoever answered is not of that mesh.
    #[error(
        "{addr} answers, but does not prove that it is a gateway of the token's mesh ({why}): check the address, and join again; nothing was told to it"
    )]
    Stranger {
        /// Where.
        addr: SocketAddr,
        /// What was missing.
        why: String,
    },
    /// The clocks differ.
    #[error(
        "this machine's clock is {} s {} the gateway's: set it (NTP), and join again; the token is still good",
        by.as_secs(), if *ahead { "ahead of" } else { "behind" }
    )]
    Clock {
        /// How far.
        by: Duration,
        /// Whether this machine is ahead.
        ahead: bool,
    },
    /// The gateway said no.
    #[error("the gateway at {addr} refused: {why}")]
    Refused {
        /// Where.
        addr: SocketAddr,
        /// In its words.
        why: String,
    },
    /// It answered with something else than was agreed on.
    #[error(
        "the gateway at {addr} did not keep to the protocol ({why}): it may run another version"
    )]
    Protocol {
        /// Where.
        addr: SocketAddr,
        /// What was wrong.
        why: String,
    },
    /// The link.
    #[error(transparent)]
    Link(#[from] LinkError),
    /// What it was given could not be kept.
    #[error(transparent)]
    Keep(#[from] KeepError),
}

/// Joins the token's mesh. The node's key is made first and kept, so that a repeated call is the same node asking
/// again. `entropy` is 32 bytes of the system's generator.
///
/// # Errors
/// [`JoinError`]; call again once its cause is mended.
pub async fn join(
    dir: &DataDir,
    token: &JoinToken,
    options: JoinOptions,
    clock: Arc<dyn Clock>,
    entropy: [u8; 32],
) -> Result<Joined, JoinError> {
    let mesh = token.mesh();
    let ours = dir.mesh().map_err(KeepError::Dir)?;
    if let Some(ours) = ours.filter(|ours| *ours != mesh) {
        return Err(JoinError::OtherMesh { ours, theirs: mesh });
    }
    let now = clock.unix();
    if let Some(ago) = now
        .0
        .checked_sub(token.permit.expires.0)
        .filter(|ago| *ago > 0)
    {
        let ago = Duration::from_millis(ago);
        return Err(JoinError::Ended { ago });
    }
    let mut rng = ChaCha20Rng::from_seed(entropy);
    let key = own_key(dir, || rng.random()).map_err(KeepError::Dir)?;
    let (links, mut events, _) = Links::start(&SigningKey::from_bytes(&key.seed()), None).await?;
    let joiner = Joiner {
        key: &key,
        token,
        name: options.name,
        roles: options.roles.unwrap_or(token.permit.roles),
        clock: &clock,
        nonce: rng.random(),
    };
    let mut tried = Vec::new();
    let (mut refused, mut sent_on) = (None, None);
    let mut way = Way::new(&token.addrs);
    while let Some(addr) = way.next() {
        let (gateway, stream) = match connect(&links, &mut events, addr).await {
            Ok(found) => found,
            Err(why) => {
                tried.push(format!("{addr}: {why}"));
                continue;
            }
        };
        match joiner.talk(stream, gateway, addr).await {
            Ok(Answer::Welcome(welcome)) => {
                let joined = take(dir, &key, mesh, *welcome, (gateway, addr), clock).await?;
                return Ok(joined);
            }
            Ok(Answer::Elsewhere { addrs, why }) => {
                way.send_on(addr, &addrs);
                sent_on = Some(JoinError::Refused { addr, why });
            }
            // Another gateway may answer otherwise; and where the token's gateway was, somebody else may be now.
            Err(
                error @ (JoinError::Refused { .. }
                | JoinError::Protocol { .. }
                | JoinError::Stranger { .. }),
            ) => refused = Some(error),
            Err(error) => return Err(error),
        }
    }
    let tried = tried.join("; ");
    let unreachable = JoinError::Unreachable { tried };
    Err(refused.or(sent_on).unwrap_or(unreachable))
}

/// The key that this node joins by: the one that an earlier attempt kept, or a new one.
fn own_key(dir: &DataDir, seed: impl FnOnce() -> [u8; 32]) -> Result<NodeKey, DataDirError> {
    if let Some(key) = dir.node_key()? {
        return Ok(key);
    }
    let key = NodeKey::from_seed(seed());
    dir.set_node_key(&key)?;
    Ok(key)
}

/// The addresses still to be asked.
struct Way {
    next: VecDeque<SocketAddr>,
    /// All that were in it.
    known: BTreeSet<SocketAddr>,
    /// Those that sent this node on, and are asked once more.
    again: BTreeSet<SocketAddr>,
}

impl Way {
    fn new(addrs: &[SocketAddr]) -> Self {
        let known: BTreeSet<_> = addrs.iter().copied().collect();
        Self {
            next: addrs.iter().copied().collect(),
            known,
            again: BTreeSet::new(),
        }
    }

    fn next(&mut self) -> Option<SocketAddr> {
        self.next.pop_front()
    }

    /// `by` named others. When those do not let this node in, `by` is asked once more: meanwhile it has noticed if
    /// they are dead.
    fn send_on(&mut self, by: SocketAddr, to: &[SocketAddr]) {
        if self.again.insert(by) {
            self.next.push_front(by);
        }
        for addr in to.iter().rev() {
            if self.known.len() < MOST && self.known.insert(*addr) {
                self.next.push_front(*addr);
            }
        }
    }
}

/// What came of a talk.
enum Answer {
    Welcome(Box<Welcome>),
    Elsewhere { addrs: Vec<SocketAddr>, why: String },
}

async fn connect(
    links: &Links,
    events: &mut tokio::sync::mpsc::Receiver<LinkEvent>,
    addr: SocketAddr,
) -> Result<(NodeId, Stream), String> {
    links.dial(None, vec![addr]).await;
    let up = async {
        loop {
            match events.recv().await {
                Some(LinkEvent::Up {
                    connection, peer, ..
                }) => return Ok((connection, peer)),
                Some(LinkEvent::Failed { why, .. }) => return Err(plain(why)),
                Some(_) => {}
                None => return Err("stopped".to_owned()),
            }
        }
    };
    let (connection, peer) = tokio::time::timeout(STEP, up)
        .await
        .map_err(|_| "no answer in 5 s".to_owned())??;
    let stream = links.open(connection).await.map_err(|e| e.to_string())?;
    Ok((peer, stream))
}

/// The two common failures in plain words; others as the library has them.
fn plain(why: String) -> String {
    let lower = why.to_lowercase();
    if lower.contains("timed out") || lower.contains("timeout") {
        "no answer".into()
    } else if lower.contains("refused") {
        "nothing listens there".into()
    } else {
        why
    }
}

struct Joiner<'a> {
    key: &'a NodeKey,
    token: &'a JoinToken,
    name: Label,
    roles: Roles,
    clock: &'a Arc<dyn Clock>,
    nonce: [u8; 32],
}

impl Joiner<'_> {
    async fn talk(
        &self,
        mut stream: Stream,
        gateway: NodeId,
        addr: SocketAddr,
    ) -> Result<Answer, JoinError> {
        let broken = |why: String| JoinError::Protocol { addr, why };
        let io = |e: std::io::Error| broken(e.to_string());
        let late = |_| broken("no answer in 5 s".into());
        let sent = self.clock.unix();
        let greeting = Greeting {
            permit: self.token.permit.clone(),
            nonce: self.nonce,
            at: sent,
        };
        let first = async {
            frame::write_value(&mut stream, &First::Join(greeting)).await?;
            frame::read_value::<_, Introduction>(&mut stream, frame::LINK).await
        };
        let first = tokio::time::timeout(STEP, first).await;
        let (cluster, node, nonce, at) = match first.map_err(late)?.map_err(io)? {
            Introduction::Here {
                cluster,
                node,
                nonce,
                at,
            } => (cluster, node, nonce, at),
            Introduction::Refused(why) => return Err(JoinError::Refused { addr, why }),
            Introduction::Elsewhere { addrs, why } => {
                let addrs = addrs.iter().filter_map(|a| a.parse().ok()).collect();
                return Ok(Answer::Elsewhere { addrs, why });
            }
        };
        let here = self.clock.unix();
        // Half of the way there and back is the network's.
        let mid = sent.0.midpoint(here.0);
        let by = Duration::from_millis(mid.abs_diff(at.0));
        if by > CLOCK {
            let ahead = mid > at.0;
            return Err(JoinError::Clock { by, ahead });
        }
        self.verify(gateway, &cluster, &node, at)
            .map_err(|why| JoinError::Stranger { addr, why })?;
        let mesh = self.token.mesh();
        let id = self.key.id();
        let text = transcript(
            mesh,
            (gateway, &nonce),
            (id, &self.nonce),
            &self.name,
            self.roles,
        );
        let asked = Asked {
            name: self.name.clone(),
            roles: self.roles,
            consent: self.key.consent(&mesh, self.token.permit.cluster),
            proof: self.token.prove(&text),
        };
        let second = async {
            frame::write_value(&mut stream, &asked).await?;
            let granted = frame::read_value::<_, Granted>(&mut stream, MAX_GRANTED).await;
            // A goodbye that does not arrive changes nothing.
            drop(stream.close().await);
            granted
        };
        let second = tokio::time::timeout(3 * STEP, second).await;
        let welcome = match second.map_err(late)?.map_err(io)? {
            Granted::Welcome(welcome) => welcome,
            Granted::Refused(why) => return Err(JoinError::Refused { addr, why }),
        };
        let mut facts = Facts::new(mesh);
        let mine = facts
            .add_cluster(&welcome.cluster)
            .and_then(|_| facts.add_node(&welcome.node));
        mine.map_err(|e| broken(e.to_string()))?;
        if welcome.node.node != id {
            return Err(broken("it sent another node's grant".into()));
        }
        Ok(Answer::Welcome(welcome))
    }

    /// Whether whoever answered is a gateway of the token's mesh and cluster, back to the root.
    fn verify(
        &self,
        gateway: NodeId,
        cluster: &Signed<ClusterGrant>,
        node: &Signed<NodeGrant>,
        at: routing::model::UnixMillis,
    ) -> Result<(), String> {
        let permit = &self.token.permit;
        let mut facts = Facts::new(permit.mesh);
        facts.add_cluster(cluster).map_err(|e| e.to_string())?;
        facts.add_node(node).map_err(|e| e.to_string())?;
        let standing = facts
            .standing(gateway, at)
            .ok_or("the grant that it shows is another node's, or has ended")?;
        if standing.cluster != permit.cluster || !standing.roles.has(Role::Gateway) {
            return Err("it is no gateway of the token's cluster".into());
        }
        permit
            .signed_by(&[cluster.key])
            .map_err(|_| "the token was not signed by this cluster's key".to_owned())
    }
}

/// Keeps what was given. The directory counts as a member's only when all of it is there.
async fn take(
    dir: &DataDir,
    key: &NodeKey,
    mesh: MeshId,
    welcome: Welcome,
    (by, addr): (NodeId, SocketAddr),
    clock: Arc<dyn Clock>,
) -> Result<Joined, KeepError> {
    let Welcome {
        cluster,
        node,
        pieces,
        peers,
        keys,
    } = welcome;
    let mut known = grants::parse(peers);
    known.entry(by).or_default().insert(0, addr);
    grants::save_peers(dir, &known)?;
    grants::save(dir, &cluster, &node)?;
    if let Some(keys) = keys {
        dir.set_cluster_key(&ClusterKey::from_seed(keys.cluster))?;
        dir.set_epoch_secret(&EpochSecret::from_bytes(keys.epoch))?;
    }
    let records = keep::records(dir, mesh, key, clock).await?;
    let pieces = pieces.into_iter().map(|p| Bytes::from(Vec::from(p)));
    let imported = records.import(pieces.collect()).await;
    records.stop().await;
    imported?;
    dir.set_cluster(node.cluster)?;
    dir.set_mesh(mesh)?;
    Ok(Joined {
        mesh,
        cluster: node.cluster,
        node: key.id(),
        roles: node.roles,
        by,
    })
}
