//! Founding and joining, before a node runs.
use std::{path::Path, sync::Arc};

use anyhow::Context;
use mesh::{
    identity::DataDir,
    join::{FoundOptions, JoinOptions, JoinToken, found, join as join_mesh},
};
use routing::model::{Clock, Label, Role, Roles, Secret};
use serde::Serialize;

use crate::{clock::SystemClock, house};

/// What a mesh is founded with.
#[derive(Clone, Debug)]
pub struct Founding {
    /// Its base name.
    pub base: String,
    /// The first cluster's label.
    pub slug: Label,
    /// The first node's name.
    pub node_name: Label,
}

/// What came of it.
#[derive(Clone, Debug, Serialize)]
pub struct Founded {
    /// The mesh's base name, where it is known already.
    pub base: Option<String>,
    /// The mesh's root key.
    pub mesh: String,
    /// The node's name.
    pub node: Label,
    /// The node's key.
    pub node_id: String,
}

/// 32 bytes of the system's generator: everything random in this process is drawn from seeds of it.
///
/// # Errors
/// Where the system has none.
pub fn entropy() -> anyhow::Result<[u8; 32]> {
    use std::io::Read as _;
    let mut seed = [0; 32];
    std::fs::File::open("/dev/urandom")
        .and_then(|mut f| f.read_exact(&mut seed))
        .context("the system gives no random bytes (/dev/urandom)")?;
    Ok(seed)
}

/// This machine's name as a label: what stands before the first dot of its host name.
///
/// # Errors
/// Where it has none that can be a label.
pub fn machine_name() -> anyhow::Result<Label> {
    let uname = rustix::system::uname();
    let name = uname.nodename().to_string_lossy().into_owned();
    let first = name.split('.').next().unwrap_or_default().to_owned();
    first.parse().with_context(|| {
        format!("this machine's name, {first:?}, cannot be a node's: give one with --name")
    })
}

/// A mesh's base name as it is kept: in lower case, without a last dot.
fn base_name(text: &str) -> anyhow::Result<String> {
    let base = text.trim().trim_end_matches('.').to_ascii_lowercase();
    let good = base.len() <= 180 && base.split('.').all(|part| part.parse::<Label>().is_ok());
    anyhow::ensure!(
        good,
        "{text:?} cannot be a mesh's base name: it is a domain that you control, in letters, digits and hyphens between \
         dots, up to 180 characters, as video.example"
    );
    Ok(base)
}

/// Founds a mesh in `dir`.
///
/// # Errors
/// Where the directory belongs to a mesh already or cannot be written, or a name is none.
pub async fn init(dir: &Path, founding: Founding) -> anyhow::Result<Founded> {
    let base = base_name(&founding.base)?;
    let data = DataDir::open(dir)?;
    let clock: Arc<dyn Clock> = Arc::new(SystemClock::start());
    let now = clock.unix();
    let all: Roles = Role::ALL.iter().copied().collect();
    let options = FoundOptions {
        base: base.clone(),
        suffix: "cdn".into(),
        cluster_name: founding.slug.to_string(),
        slug: founding.slug,
        cluster_roles: all,
        node_name: founding.node_name.clone(),
        node_roles: all,
    };
    let (mesh, node) = found(&data, options, clock, entropy()?).await?;
    house::found_authority(&data, &base, now)?;
    Ok(Founded {
        base: Some(base),
        mesh: mesh.to_string(),
        node: founding.node_name,
        node_id: node.to_string(),
    })
}

/// Joins the token's mesh in `dir`.
///
/// # Errors
/// What the token, the gateway or the directory refuses; the token is not used up by it.
pub async fn join(dir: &Path, token: &Secret, name: Option<Label>) -> anyhow::Result<Founded> {
    let token: JoinToken = token.expose().parse()?;
    let data = DataDir::open(dir)?;
    let name = match name {
        Some(name) => name,
        None => machine_name()?,
    };
    let clock: Arc<dyn Clock> = Arc::new(SystemClock::start());
    let options = JoinOptions {
        name: name.clone(),
        roles: None,
    };
    let joined = join_mesh(&data, &token, options, clock, entropy()?).await?;
    Ok(Founded {
        base: None,
        mesh: joined.mesh.to_string(),
        node: name,
        node_id: joined.node.to_string(),
    })
}

#[cfg(test)]
mod tests {
    use super::base_name;

    #[test]
    fn base_names_are_domains() {
        assert_eq!(base_name(" Video.Example. ").unwrap(), "video.example");
        for bad in ["", "bad name", "a..b", "-a.test", &"a.".repeat(120)] {
            assert!(
                base_name(bad)
                    .unwrap_err()
                    .to_string()
                    .contains("as video.example")
            );
        }
    }
}
