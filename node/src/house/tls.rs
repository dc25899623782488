//! Certificates for this node's HTTPS port, from the mesh's own authority.
//!
//! A gateway of the founding cluster holds the authority's key: the founder made it, the next gateways ask one that has
//! it. Every other node asks a holder for a leaf. Both go over the mesh's own links, where both sides are proven; a
//! holder issues only names under the mesh's base name and addresses that it knows the asker by.
use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use futures::future::{BoxFuture, FutureExt};
use mesh::{
    carry::{HandleError, Handler},
    identity::{DataDir, DataDirError},
};
use routing::model::{Exposed, NodeId, Role, Secret};
use serde::{Deserialize, Serialize};
use zeroize::{Zeroize as _, Zeroizing};

use super::{House, refuse};
use crate::certs::{Authority, Leaf, LeafKey};

const LEAF: &str = "shoal/tls-leaf/1";
const AUTHORITY: &str = "shoal/tls-authority/1";
/// Names in one certificate; more tenants than that get it when public certificates come.
const MAX_NAMES: usize = 200;
/// Between attempts while nobody issues.
const RETRY: Duration = Duration::from_millis(500);

/// What a node asks a holder of the authority to certify.
#[derive(Serialize, Deserialize)]
struct Ask {
    names: Vec<String>,
    public_key: String,
}

/// The authority itself, as it crosses a link to a fellow gateway.
#[derive(Debug, Serialize, Deserialize)]
struct Pair {
    certificate: String,
    key: Exposed,
}

impl Pair {
    /// Its bytes for the link, wiped when the last of them is sent.
    fn to_bytes(&self) -> serde_json::Result<Bytes> {
        // With room for all of it: what a vector leaves behind when it grows is not wiped.
        let room = self.certificate.len() + self.key.0.expose().len();
        let mut bytes = Zeroizing::new(Vec::with_capacity(2 * room + 64));
        serde_json::to_writer(&mut *bytes, self)?;
        Ok(Bytes::from_owner(bytes))
    }

    /// Reads them, and wipes them where nobody else holds them.
    fn from_bytes(bytes: Bytes) -> serde_json::Result<Self> {
        let pair = serde_json::from_slice(&bytes);
        if let Ok(mut bytes) = bytes.try_into_mut() {
            bytes.as_mut().zeroize();
        }
        pair
    }
}

const KEY: &str = "ca.key";
const CERTIFICATE: &str = "ca.pem";

fn text(data: &DataDir, name: &str) -> Option<String> {
    let bytes = data.read(name).ok()??;
    Some(std::str::from_utf8(&bytes).ok()?.to_owned())
}

fn store(data: &DataDir, authority: &Authority) -> Result<(), DataDirError> {
    data.write(KEY, authority.key_pem().expose().as_bytes())?;
    data.write(CERTIFICATE, authority.certificate_pem().as_bytes())
}

/// Makes the authority of a mesh that is being founded.
///
/// # Errors
/// Where it cannot be made or kept.
pub fn found(data: &DataDir, base: &str, now: routing::model::UnixMillis) -> anyhow::Result<()> {
    store(data, &Authority::create(base, now)?)?;
    Ok(())
}

impl House {
    /// Every name that viewers may ask this node by.
    pub(crate) fn names(&self) -> Vec<String> {
        let config = self.mesh.records().config();
        let base = config.base();
        let under = |parent: String| [parent.clone(), format!("*.{parent}")];
        let cluster = config
            .cluster(self.cluster)
            .and_then(|c| Some(format!("{}.{base}", c.slug.as_ref()?)));
        let official = [base.to_owned(), format!("*.{base}")];
        let tenants = config
            .tenants()
            .filter(|t| config.entitled(t.id, self.cluster) != routing::model::Verbs::NONE)
            .filter_map(|t| Some(format!("{}.{}.{base}", t.label.as_ref()?, config.suffix())));
        let addresses = self.announced.iter().map(ToString::to_string);
        let mut names: Vec<String> = official.into_iter().collect();
        names.extend(cluster.into_iter().chain(tenants).flat_map(under));
        names.extend(addresses);
        names.push("localhost".into());
        names.truncate(MAX_NAMES);
        names
    }

    /// A certificate for these names: made here where this node holds the authority, else asked of one that does.
    pub(crate) async fn leaf(self: &Arc<Self>, names: Vec<String>) -> anyhow::Result<Leaf> {
        self.obtain_authority().await;
        let key = LeafKey::create()?;
        let public_key = key.public_pem();
        let chain = match self.authority.load_full() {
            Some(authority) => authority.issue(&names, &public_key, self.clock.unix())?,
            None => {
                let body = Bytes::from(serde_json::to_vec(&Ask { names, public_key })?);
                let chain: String = serde_json::from_slice(&self.ask_gateways(LEAF, body).await?)?;
                // The chain ends with the authority, which this node then serves as `/ca.pem` too.
                let authority = chain
                    .rfind("-----BEGIN CERTIFICATE")
                    .map_or("", |at| &chain[at..]);
                self.data.write(CERTIFICATE, authority.as_bytes())?;
                chain
            }
        };
        Ok(key.with_chain(chain))
    }

    /// Gets the authority from a fellow gateway, where this node may have it and does not.
    async fn obtain_authority(&self) {
        if self.authority.load().is_some() || !self.has_role(self.id, Role::Gateway) {
            return;
        }
        let Ok(answer) = self.ask_gateways(AUTHORITY, Bytes::new()).await else {
            return;
        };
        let Ok(pair) = Pair::from_bytes(answer) else {
            return;
        };
        let authority = Authority::from_pem(pair.certificate, pair.key.0);
        if let Err(error) = store(&self.data, &authority) {
            tracing::warn!(%error, "the mesh's certificate authority is kept in memory only");
        }
        self.authority.store(Some(Arc::new(authority)));
    }

    pub(crate) fn has_role(&self, node: NodeId, role: Role) -> bool {
        self.mesh
            .records()
            .config()
            .node(node)
            .is_some_and(|n| n.roles.has(role))
    }

    /// The first answer of a living gateway.
    async fn ask_gateways(&self, protocol: &str, body: Bytes) -> anyhow::Result<Bytes> {
        let view = self.mesh.view().borrow().clone();
        let mut last = anyhow::anyhow!("no other gateway is in sight");
        for member in view
            .members
            .values()
            .filter(|m| m.alive && m.id != self.id && m.roles.has(Role::Gateway))
        {
            match self.mesh.request(member.id, protocol, body.clone()).await {
                Ok(answer) => return Ok(answer),
                Err(error) => last = error.into(),
            }
        }
        Err(last)
    }

    /// Keeps the HTTPS port's certificate right: asked for at start, and again when names change or it grows old.
    pub(crate) async fn keep_certificate(self: Arc<Self>, shown: crate::http::SharedTls) {
        /// Renewed daily: leaves last 30 days.
        const RENEW: Duration = Duration::from_secs(24 * 3600);
        let mut config = self.mesh.records().watch();
        let mut have = Vec::new();
        loop {
            config.borrow_and_update();
            let names = self.names();
            if names != have {
                match self
                    .leaf(names.clone())
                    .await
                    .and_then(|leaf| Ok(leaf.server_config()?))
                {
                    Ok(served) => {
                        shown.store(served);
                        have = names;
                        self.tls_ready.send_replace(true);
                    }
                    Err(error) => {
                        tracing::debug!(%error, "no certificate yet");
                        tokio::select! {
                            () = self.stop.cancelled() => return,
                            () = tokio::time::sleep(RETRY) => continue,
                        }
                    }
                }
            }
            tokio::select! {
                () = self.stop.cancelled() => return,
                () = tokio::time::sleep(RENEW) => have.clear(),
                changed = config.changed() => if changed.is_err() { return },
            }
        }
    }

    /// What clients are to trust, once this node knows it.
    pub(crate) fn authority_pem(&self) -> Option<String> {
        if let Some(authority) = self.authority.load().as_ref() {
            return Some(authority.certificate_pem().to_owned());
        }
        text(&self.data, CERTIFICATE)
    }

    pub(crate) fn load_authority(data: &DataDir) -> Option<Arc<Authority>> {
        let key = Secret::new(text(data, KEY)?);
        Some(Arc::new(Authority::from_pem(text(data, CERTIFICATE)?, key)))
    }

    pub(crate) fn serve_tls(self: &Arc<Self>) {
        self.serve(LEAF, LeafDesk(Arc::clone(self)));
        self.serve(AUTHORITY, AuthorityDesk(Arc::clone(self)));
    }
}

struct LeafDesk(Arc<House>);

impl Handler for LeafDesk {
    fn handle(&self, from: NodeId, body: Bytes) -> BoxFuture<'static, Result<Bytes, HandleError>> {
        let house = Arc::clone(&self.0);
        async move {
            let authority = house
                .authority
                .load_full()
                .ok_or_else(|| refuse("this node does not issue"))?;
            let Ask { names, public_key } = serde_json::from_slice(&body).map_err(refuse)?;
            let known = house.known_names(from);
            let allowed = |name: &String| {
                known.contains(name) || name == "localhost" || house.under_base(name)
            };
            if names.len() > MAX_NAMES || !names.iter().all(allowed) {
                return Err(refuse(
                    "a name is not under the mesh's base, and not an address of the asker's",
                ));
            }
            let chain = authority
                .issue(&names, &public_key, house.clock.unix())
                .map_err(refuse)?;
            serde_json::to_vec(&chain).map(Bytes::from).map_err(refuse)
        }
        .boxed()
    }
}

struct AuthorityDesk(Arc<House>);

impl Handler for AuthorityDesk {
    fn handle(&self, from: NodeId, _: Bytes) -> BoxFuture<'static, Result<Bytes, HandleError>> {
        let house = Arc::clone(&self.0);
        async move {
            let authority = house
                .authority
                .load_full()
                .ok_or_else(|| refuse("this node has none"))?;
            let config = house.mesh.records().config();
            let fellow = config
                .node(from)
                .is_some_and(|n| n.cluster == house.cluster && n.roles.has(Role::Gateway));
            if !fellow {
                return Err(refuse(
                    "only gateways of the same cluster get the authority",
                ));
            }
            let pair = Pair {
                certificate: authority.certificate_pem().to_owned(),
                key: Exposed(authority.key_pem().clone()),
            };
            pair.to_bytes().map_err(refuse)
        }
        .boxed()
    }
}

impl House {
    fn known_names(&self, node: NodeId) -> Vec<String> {
        let view = self.mesh.view().borrow().clone();
        let services = view
            .members
            .get(&node)
            .map(|m| m.services.clone())
            .unwrap_or_default();
        services.iter().map(|s| s.addr.ip().to_string()).collect()
    }

    fn under_base(&self, name: &str) -> bool {
        let config = self.mesh.records().config();
        name == config.base()
            || name
                .strip_suffix(config.base())
                .is_some_and(|rest| rest.ends_with('.'))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_authoritys_key_crosses_a_link_whole_and_cannot_be_printed() {
        let pair = Pair {
            certificate: "CERTIFICATE\n".into(),
            key: Exposed(Secret::new("KEY\n".into())),
        };
        assert!(!format!("{pair:?}").contains("KEY"), "{pair:?}");
        let bytes = pair.to_bytes().unwrap();
        let back = Pair::from_bytes(bytes).unwrap();
        assert_eq!(
            (&back.certificate, &back.key),
            (&pair.certificate, &pair.key)
        );
        assert!(Pair::from_bytes(Bytes::from_static(b"{}")).is_err());
    }
}
