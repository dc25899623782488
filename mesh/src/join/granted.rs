//! What a node is, before it runs.
use routing::model::Roles;

use crate::{
    identity::{DataDir, DataDirError},
    live::grants,
};

/// The roles that the newest grant in a node's directory gives it. Its records may have a newer one; they are told of by
/// [`Config`](crate::config::Config) once they are open.
///
/// # Errors
/// [`DataDirError`].
pub fn granted(dir: &DataDir) -> Result<Option<Roles>, DataDirError> {
    Ok(grants::load(dir)?.map(|(_, node)| node.roles))
}
