//! Join tokens: what an operator carries from a gateway to a new machine.
use std::{fmt, net::SocketAddr, str::FromStr, time::Duration};

use data_encoding::BASE64URL_NOPAD;
use minicbor::{Decode, Encode};
use routing::model::{ClusterId, MeshId, NodeId, Roles, Secret, UnixMillis};
use zeroize::{Zeroize as _, Zeroizing};

use crate::{
    authority::{Signed, Statement},
    identity::{ClusterKey, NodeKey, PublicKey, Signature},
};

const PREFIX: &str = "shoal-join-";
/// The longest text that is read at all.
const MAX_TEXT: usize = 2_048;
/// Addresses in a token.
pub(super) const MAX_ADDRS: usize = 8;

/// What a token lets its first user do.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct JoinPermit {
    /// The mesh.
    #[n(0)]
    pub mesh: MeshId,
    /// The cluster, whose key signs.
    #[n(1)]
    pub cluster: ClusterId,
    /// The token's key: its secret half proves who holds the token.
    #[n(2)]
    pub token: PublicKey,
    /// The roles that the node may ask for.
    #[n(3)]
    pub roles: Roles,
    /// Who made it. Others redeem it only while that node is not there.
    #[n(4)]
    pub issuer: NodeId,
    /// When it ends.
    #[n(5)]
    pub expires: UnixMillis,
}

impl Statement for JoinPermit {
    const KIND: &'static str = "join permit 1";
    fn check(&self) -> Result<(), &'static str> {
        Ok(())
    }
}

/// What a new token is good for.
#[derive(Clone, Debug)]
pub struct TokenOptions {
    /// The roles that the node may ask for.
    pub roles: Roles,
    /// How long it may be used.
    pub lasts: Duration,
    /// Where the joiner finds a gateway, at most eight; without any, where this node's control links are, and those of
    /// living gateways that can redeem the token in its place.
    pub addrs: Vec<SocketAddr>,
}

/// Why there is no token, or a text is none.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum TokenError {
    /// The text is no token.
    #[error(
        "this is no join token: it begins with {PREFIX} and is one line; copy all of what `shoal token` printed"
    )]
    Text,
    /// This machine cannot make one.
    #[error(
        "this machine does not hold its cluster's key, so it cannot let others in: run `shoal token` on a gateway of the cluster"
    )]
    NoKey,
    /// A limit is broken.
    #[error("no token was made: {0}")]
    Limit(String),
}

#[derive(Encode, Decode)]
struct Wire {
    /// Wiped by whoever drops it: [`Wire::drop`].
    #[cbor(n(0), with = "minicbor::bytes")]
    secret: [u8; 32],
    #[n(1)]
    permit: Signed<JoinPermit>,
    #[n(2)]
    addrs: Vec<String>,
}

impl Drop for Wire {
    fn drop(&mut self) {
        self.secret.zeroize();
    }
}

/// A one-time token. It cannot be printed by accident; [`JoinToken::text`] is for the operator's eyes.
#[derive(Clone)]
pub struct JoinToken {
    /// Signs like a node's key, in a context of its own.
    key: NodeKey,
    pub(super) permit: Signed<JoinPermit>,
    pub(super) addrs: Vec<SocketAddr>,
}

impl JoinToken {
    /// A token from a fresh random seed, signed by the cluster.
    ///
    /// # Errors
    /// [`TokenError::Limit`] without an address.
    pub(crate) fn new(
        (mesh, cluster, issuer): (MeshId, ClusterId, NodeId),
        key: &ClusterKey,
        seed: [u8; 32],
        options: TokenOptions,
        now: UnixMillis,
    ) -> Result<Self, TokenError> {
        let TokenOptions {
            roles,
            lasts,
            mut addrs,
        } = options;
        addrs.truncate(MAX_ADDRS);
        if addrs.is_empty() {
            let text = "it needs an address at which the new machine finds this one: give one";
            return Err(TokenError::Limit(text.into()));
        }
        let token = NodeKey::from_seed(seed);
        let permit = JoinPermit {
            mesh,
            cluster,
            token: token.public(),
            roles,
            issuer,
            expires: now.plus(lasts),
        };
        let permit = Signed::sign(permit, &[key]).map_err(|e| TokenError::Limit(e.to_string()))?;
        Ok(Self {
            key: token,
            permit,
            addrs,
        })
    }

    /// The mesh that it leads to.
    #[must_use]
    pub fn mesh(&self) -> MeshId {
        self.permit.mesh
    }

    /// The same token with other addresses, for a joiner that finds the gateway elsewhere. At most eight count.
    #[must_use]
    pub fn with_addrs(&self, addrs: &[SocketAddr]) -> Self {
        Self {
            addrs: addrs.iter().copied().take(MAX_ADDRS).collect(),
            ..self.clone()
        }
    }

    /// What it lets its user do.
    #[must_use]
    pub fn permit(&self) -> &JoinPermit {
        &self.permit
    }

    /// Its text, one line of about 450 characters, and 25 more for each further address.
    #[must_use]
    pub fn text(&self) -> Secret {
        let wire = Wire {
            secret: *self.key.seed(),
            permit: self.permit.clone(),
            addrs: self.addrs.iter().map(ToString::to_string).collect(),
        };
        let bytes = Zeroizing::new(minicbor::to_vec(&wire).unwrap_or_default());
        Secret::new(format!("{PREFIX}{}", BASE64URL_NOPAD.encode(&bytes)))
    }

    pub(super) fn prove(&self, transcript: &[u8; 32]) -> Signature {
        self.key.sign(super::wire::PROOF, transcript)
    }
}

impl fmt::Debug for JoinToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JoinToken(..)")
    }
}

impl FromStr for JoinToken {
    type Err = TokenError;

    fn from_str(text: &str) -> Result<Self, TokenError> {
        let text = text.trim();
        if text.len() > MAX_TEXT {
            return Err(TokenError::Text);
        }
        let body = text.strip_prefix(PREFIX).ok_or(TokenError::Text)?;
        let bytes = BASE64URL_NOPAD.decode(body.as_bytes());
        let bytes = Zeroizing::new(bytes.map_err(|_| TokenError::Text)?);
        let wire: Wire = minicbor::decode(&bytes).map_err(|_| TokenError::Text)?;
        let key = NodeKey::from_seed(wire.secret);
        let addrs = wire.addrs.iter().take(MAX_ADDRS).map(|a| a.parse());
        let addrs: Result<Vec<_>, _> = addrs.collect();
        let addrs = addrs.map_err(|_| TokenError::Text)?;
        if key.public() != wire.permit.token || addrs.is_empty() {
            return Err(TokenError::Text);
        }
        Ok(Self {
            key,
            permit: wire.permit.clone(),
            addrs,
        })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn token() -> JoinToken {
        let options = TokenOptions {
            roles: Roles::NONE,
            lasts: Duration::from_secs(60),
            addrs: vec!["192.0.2.1:7000".parse().unwrap()],
        };
        let ids = (
            MeshId::from_bytes([1; 32]),
            ClusterId::from_bytes([2; 16]),
            NodeId::from_bytes([3; 32]),
        );
        let key = ClusterKey::from_seed([4; 32]);
        JoinToken::new(ids, &key, [5; 32], options, UnixMillis(1)).unwrap()
    }

    #[test]
    fn a_token_reads_back_and_cannot_be_printed() {
        let token = token();
        let text = token.text();
        let back: JoinToken = text.expose().parse().unwrap();
        assert_eq!(
            (back.permit, back.addrs),
            (token.permit.clone(), token.addrs.clone())
        );
        assert_eq!(format!("{token:?}"), "JoinToken(..)");
        let short = &text.expose()[..60];
        assert_eq!(short.parse::<JoinToken>().unwrap_err(), TokenError::Text);
    }

    proptest! {
        #[test]
        fn any_text_is_read_or_refused(body in "[A-Za-z0-9_-]{0,200}", at in 0usize..200, byte in 0u8..128) {
            let _ = format!("{PREFIX}{body}").parse::<JoinToken>();
            let mut text = token().text().expose().to_owned().into_bytes();
            let at = at % text.len();
            text[at] = byte;
            let _ = String::from_utf8_lossy(&text).parse::<JoinToken>();
        }
    }
}
