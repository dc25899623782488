//! The gateway's side: redeeming tokens and renewing grants.
use std::{net::SocketAddr, sync::Arc, time::Duration};

use futures::AsyncWriteExt as _;
use minicbor::bytes::ByteVec;
use routing::model::{Clock, ClusterId, NodeId, Role};
use tokio::sync::{Mutex, Semaphore};

use super::{
    JoinPermit, JoinToken, TokenError, TokenOptions,
    token::MAX_ADDRS,
    wire::{
        Asked, Granted, Greeting, Introduction, Keys, MAX_PIECES, PROOF, Renewal, Renewed, Welcome,
        transcript,
    },
};
use crate::{
    authority::{ClusterGrant, NodeGrant, Signed},
    identity::{ClusterKey, DataDir},
    link::{Stream, frame},
    live::{
        entropy::Entropy,
        grants::{self, Known},
        hello::First,
    },
    records::{Change, Records, Scope},
    view::{Member, Service, View},
};

/// Joins and renewals that are handled at once. Further ones wait for a place, and give up with their stream.
const AT_ONCE: usize = 16;
/// How long a joiner waits for a gateway that has just started, less than it is patient for.
const SETTLE: Duration = Duration::from_secs(3);
/// How long one may take.
const TALK: Duration = Duration::from_secs(15);

/// Lets nodes in, where this node holds its cluster's key.
#[derive(Clone)]
pub(crate) struct Issuer(Arc<Inner>);

struct Inner {
    dir: DataDir,
    id: NodeId,
    records: Records,
    clock: Arc<dyn Clock>,
    entropy: Entropy,
    view: tokio::sync::watch::Receiver<Arc<View>>,
    addrs: Box<dyn Fn() -> Known + Send + Sync>,
    /// One grant is issued at a time, so that one token is not redeemed twice here.
    one: Mutex<()>,
    slots: Semaphore,
}

type Grants = (Signed<ClusterGrant>, Signed<NodeGrant>);

impl Issuer {
    pub(crate) fn new(
        (dir, id, records): (DataDir, NodeId, Records),
        clock: Arc<dyn Clock>,
        entropy: Entropy,
        view: tokio::sync::watch::Receiver<Arc<View>>,
        addrs: Box<dyn Fn() -> Known + Send + Sync>,
    ) -> Self {
        Self(Arc::new(Inner {
            dir,
            id,
            records,
            clock,
            entropy,
            view,
            addrs,
            one: Mutex::new(()),
            slots: Semaphore::new(AT_ONCE),
        }))
    }

    /// Makes a token of this node's cluster.
    pub(crate) fn token(&self, options: TokenOptions) -> Result<JoinToken, TokenError> {
        let (key, grants) = self.key().ok_or(TokenError::NoKey)?;
        let mesh = self.0.records.config().mesh_id();
        let ids = (mesh, grants.0.cluster, self.0.id);
        let now = self.0.clock.unix();
        JoinToken::new(ids, &key, self.0.entropy.bytes(), options, now)
    }

    /// Where a token of this node's leads: here, and to others that could redeem it, one address of each first.
    pub(crate) fn addrs(&self, own: &[SocketAddr]) -> Vec<SocketAddr> {
        let view = self.0.view.borrow().clone();
        let cluster = view.members.get(&self.0.id).map(|m| m.cluster);
        let others: Vec<Vec<_>> = view
            .alive()
            .filter(|m| m.id != self.0.id && m.issues && Some(m.cluster) == cluster)
            .map(|m| m.addrs(Service::Control).collect())
            .collect();
        let first = others.iter().filter_map(|all| all.first());
        let rest = others.iter().flat_map(|all| all.iter().skip(1));
        let own = own.iter().take(MAX_ADDRS / 2);
        let all = own.chain(first).chain(rest).copied();
        all.take(MAX_ADDRS).collect()
    }

    /// The cluster's key, where it is held and the one that counts, and this node's grants.
    fn key(&self) -> Option<(ClusterKey, Grants)> {
        let key = self.0.dir.cluster_key().ok()??;
        let config = self.0.records.config();
        let facts = config.facts();
        let grants = match facts.node(self.0.id) {
            Some(node) => (facts.cluster(node.cluster)?.clone(), node.clone()),
            None => grants::load(&self.0.dir).ok()??,
        };
        (grants.0.key == key.public()).then_some((key, grants))
    }

    /// Serves one joiner, whose key `joiner` the connection has proven.
    pub(crate) async fn admit(&self, mut stream: Stream, joiner: NodeId, greeting: Greeting) {
        let Ok(_slot) = self.0.slots.acquire().await else {
            return;
        };
        let talk = async {
            if let Err(why) = self.talk(&mut stream, joiner, greeting).await? {
                tracing::info!(joiner = %joiner.short(), why, "a join was refused");
            }
            stream.close().await
        };
        if !matches!(tokio::time::timeout(TALK, talk).await, Ok(Ok(()))) {
            tracing::debug!(joiner = %joiner.short(), "a join ended in the middle");
        }
    }

    async fn talk(
        &self,
        stream: &mut Stream,
        joiner: NodeId,
        greeting: Greeting,
    ) -> std::io::Result<Result<(), String>> {
        let permit = greeting.permit;
        let mut view = self.0.view.clone();
        // Where it does not come about, the answer says so.
        drop(tokio::time::timeout(SETTLE, view.wait_for(|v| v.settled)).await);
        let (key, (cluster, node)) = match self.may_redeem(&permit) {
            Ok(found) => found,
            Err(no) => {
                let why = match &no {
                    Introduction::Refused(why) | Introduction::Elsewhere { why, .. } => why.clone(),
                    Introduction::Here { .. } => String::new(),
                };
                frame::write_value(stream, &no).await?;
                return Ok(Err(why));
            }
        };
        let nonce = self.0.entropy.bytes();
        let here = Introduction::Here {
            cluster: cluster.clone(),
            node,
            nonce,
            at: self.0.clock.unix(),
        };
        frame::write_value(stream, &here).await?;
        let asked: Asked = frame::read_value(stream, frame::LINK).await?;
        let text = transcript(
            permit.mesh,
            (self.0.id, &nonce),
            (joiner, &greeting.nonce),
            &asked.name,
            asked.roles,
        );
        let granted = if permit.token.verify(PROOF, &text, &asked.proof).is_err() {
            Err("the proof of the token is wrong: it was not made by the token's holder for this connection".to_owned())
        } else {
            self.redeem(&key, &cluster, &permit, joiner, &asked).await
        };
        match granted {
            Ok(node) => {
                let welcome = self.welcome(&key, cluster, node).await;
                let granted = Granted::Welcome(Box::new(welcome));
                frame::write_value(stream, &granted).await?;
                Ok(Ok(()))
            }
            Err(why) => {
                frame::write_value(stream, &Granted::Refused(why.clone())).await?;
                Ok(Err(why))
            }
        }
    }

    /// The key and the grants to redeem a token with; else what to say instead.
    fn may_redeem(
        &self,
        permit: &Signed<JoinPermit>,
    ) -> Result<(ClusterKey, Grants), Introduction> {
        let config = self.0.records.config();
        let refused = |why: String| Err(Introduction::Refused(why));
        if permit.mesh != config.mesh_id() {
            let (ours, theirs) = (config.mesh_id().short(), permit.mesh.short());
            return refused(format!(
                "this node is of mesh {ours}, the token of mesh {theirs}: ask a gateway of that mesh"
            ));
        }
        let Some((key, grants)) = self.key() else {
            return refused(
                "this node does not hold its cluster's key: ask a gateway of the cluster, or make a token there"
                    .into(),
            );
        };
        if permit.cluster != grants.0.cluster || permit.signed_by(&[key.public()]).is_err() {
            return refused(
                "the token was not signed by this node's cluster as it is now: make a new one with `shoal token`"
                    .into(),
            );
        }
        let now = self.0.clock.unix();
        if now > permit.expires {
            let ago = (now.0 - permit.expires.0) / 1_000;
            return refused(format!(
                "the token ended {ago} s ago: make a new one with `shoal token`"
            ));
        }
        let view = self.0.view.borrow().clone();
        if !view.settled {
            return refused(
                "this gateway has just started and does not know yet which tokens were used: try again in a moment"
                    .into(),
            );
        }
        match redeemer(&view, permit, self.0.id) {
            None => Ok((key, grants)),
            Some(other) => Err(elsewhere(other, permit)),
        }
    }

    /// Issues the grant, or gives the one that this node had by this token.
    async fn redeem(
        &self,
        key: &ClusterKey,
        cluster: &Signed<ClusterGrant>,
        permit: &Signed<JoinPermit>,
        joiner: NodeId,
        asked: &Asked,
    ) -> Result<Signed<NodeGrant>, String> {
        let _one = self.0.one.lock().await;
        let config = self.0.records.config();
        let mut used = config
            .facts()
            .nodes()
            .filter(|n| n.token == Some(permit.token));
        if let Some(user) = used.next() {
            return if user.node == joiner && !config.is_revoked(joiner) {
                Ok(user.clone())
            } else {
                Err(format!(
                    "the token was used by node {} ({}), and one token lets one node in: make a new one with `shoal token`",
                    user.name,
                    user.node.short()
                ))
            };
        }
        if config.is_revoked(joiner) {
            return Err("this node was revoked: join with a fresh data directory".into());
        }
        // The joiner may have taken its time.
        let view = self.0.view.borrow().clone();
        if let Some(other) = redeemer(&view, permit, self.0.id) {
            let name = &other.name;
            return Err(format!(
                "gateway {name} redeems this token since a moment ago: join again"
            ));
        }
        let beyond: Vec<_> = asked
            .roles
            .iter()
            .filter(|r| !permit.roles.has(*r) || !cluster.roles.has(*r))
            .map(Role::as_str)
            .collect();
        if !beyond.is_empty() {
            let beyond = beyond.join(", ");
            return Err(format!(
                "the token does not give the roles asked for ({beyond}): ask for fewer, or make a token with them"
            ));
        }
        let now = self.0.clock.unix();
        let grant = NodeGrant {
            mesh: permit.mesh,
            cluster: permit.cluster,
            node: joiner,
            name: asked.name.clone(),
            roles: asked.roles,
            not_before: now,
            expires: now.plus(NodeGrant::LASTS),
            consent: asked.consent,
            token: Some(permit.token),
        };
        let grant = grant.issue(key).map_err(|e| e.to_string())?;
        self.write(&grant).await?;
        tracing::info!(node = %joiner.short(), name = %asked.name, "a node joined");
        Ok(grant)
    }

    async fn write(&self, grant: &Signed<NodeGrant>) -> Result<(), String> {
        let change = Change::Node(grant.clone());
        let written = self.0.records.write(Scope::Mesh, vec![change], None).await;
        written.map(drop).map_err(|e| e.to_string())
    }

    async fn welcome(
        &self,
        key: &ClusterKey,
        cluster: Signed<ClusterGrant>,
        node: Signed<NodeGrant>,
    ) -> Welcome {
        let mut room = MAX_PIECES;
        let pieces = self.0.records.export_mesh().await.into_iter();
        let pieces = pieces.take_while(|p| {
            let fits = p.len() <= room;
            room = room.saturating_sub(p.len());
            fits
        });
        let peers = (self.0.addrs)().into_iter();
        let peers = peers.map(|(id, a)| (id, a.iter().map(ToString::to_string).collect()));
        let gateway = node.roles.has(Role::Gateway);
        let epoch = self.0.records.epoch().filter(|_| gateway);
        Welcome {
            cluster,
            node,
            pieces: pieces.map(|p| ByteVec::from(p.to_vec())).collect(),
            peers: peers.collect(),
            keys: epoch.map(|epoch| Keys {
                cluster: *key.seed(),
                epoch: *epoch.bytes(),
            }),
        }
    }

    /// Serves a node that wants its grant renewed; the connection has proven that it is `node`.
    pub(crate) async fn renewal(&self, mut stream: Stream, node: NodeId, asked: Renewal) {
        let Ok(_slot) = self.0.slots.acquire().await else {
            return;
        };
        let answer = match self.renewed(node, &asked.grant).await {
            Ok((cluster, node)) => Renewed::Grant { cluster, node },
            Err(why) => Renewed::Refused(why),
        };
        let send = async {
            frame::write_value(&mut stream, &answer).await?;
            stream.close().await
        };
        drop(tokio::time::timeout(TALK, send).await);
    }

    /// The next grant of a node of this cluster, of this node as well: an expired one may still ask.
    pub(crate) async fn renewed(
        &self,
        node: NodeId,
        shown: &Signed<NodeGrant>,
    ) -> Result<Grants, String> {
        let (key, (cluster, _)) = self
            .key()
            .ok_or("this node does not hold its cluster's key")?;
        let _one = self.0.one.lock().await;
        let config = self.0.records.config();
        if config.is_revoked(node) {
            return Err("this node was revoked: join with a fresh data directory".into());
        }
        let last = config.facts().node(node).unwrap_or(shown).clone();
        if last.node != node
            || last.cluster != cluster.cluster
            || (last.signed_by(&[cluster.key]).is_err() && config.facts().node(node).is_none())
        {
            return Err("the grant that it shows is not one of this cluster's to it".into());
        }
        let now = self.0.clock.unix();
        if last.in_force(now) && !last.wants_renewal(now) {
            return Ok((cluster, last));
        }
        let next = NodeGrant {
            not_before: now,
            expires: now.plus(NodeGrant::LASTS),
            ..(*last).clone()
        };
        let next = next.issue(&key).map_err(|e| e.to_string())?;
        self.write(&next).await?;
        Ok((cluster, next))
    }

    /// Whether this node can let others in and renew their grants.
    pub(crate) fn issues(&self) -> bool {
        self.key().is_some()
    }

    /// Whether this node can renew grants of `cluster`.
    pub(crate) fn issues_for(&self, cluster: ClusterId) -> bool {
        self.key()
            .is_some_and(|(_, grants)| grants.0.cluster == cluster)
    }
}

/// Who redeems a token, when it is not `me`: the node that made it while that lives, else of the cluster's living
/// gateways with its key the one with the lowest id. So those that see each other send joiners to one of them.
fn redeemer<'a>(view: &'a View, permit: &JoinPermit, me: NodeId) -> Option<&'a Member> {
    if permit.issuer == me {
        return None;
    }
    let maker = view.members.get(&permit.issuer).filter(|m| m.alive);
    let first = || {
        view.alive()
            .find(|m| m.cluster == permit.cluster && m.issues && m.id < me)
    };
    maker.map(AsRef::as_ref).or_else(first)
}

fn elsewhere(gateway: &Member, permit: &JoinPermit) -> Introduction {
    let addrs: Vec<_> = gateway
        .addrs(Service::Control)
        .map(|a| a.to_string())
        .collect();
    let (at, name) = (addrs.join(" or "), &gateway.name);
    let why = if gateway.id == permit.issuer {
        format!("the node that made the token is up: join at {at} ({name})")
    } else {
        format!(
            "another gateway takes the place of the one that made the token: join at {at} ({name})"
        )
    };
    Introduction::Elsewhere { addrs, why }
}

/// Asks for the next grant on a fresh stream.
pub(crate) async fn renew(
    mut stream: Stream,
    grant: Signed<NodeGrant>,
) -> Result<(Signed<ClusterGrant>, Signed<NodeGrant>), String> {
    let talk = async {
        frame::write_value(&mut stream, &First::Renew(Renewal { grant })).await?;
        frame::read_value::<_, Renewed>(&mut stream, frame::LINK).await
    };
    let answer = tokio::time::timeout(TALK, talk).await;
    match answer
        .map_err(|_| "no answer in 15 s")?
        .map_err(|e| e.to_string())?
    {
        Renewed::Grant { cluster, node } => Ok((cluster, node)),
        Renewed::Refused(why) => Err(why),
    }
}
