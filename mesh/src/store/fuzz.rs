//! A store's rows, under any bytes.
use routing::model::{NodeId, TenantId};

use super::disk::{from_key, to_key};
use crate::records::Scope;

fuzz_kit::targets! {
    mesh_store_key: key, key_seeds;
}

/// A row has one key, and no other.
fn key(bytes: &[u8]) {
    if let Some((scope, author, number)) = from_key(bytes) {
        assert_eq!(to_key(scope, &author, number), bytes);
    }
}

fn key_seeds() -> Vec<Vec<u8>> {
    let author = NodeId::from_bytes([4; 32]);
    vec![
        to_key(Scope::Mesh, &author, 1),
        to_key(Scope::Tenant(TenantId::from_bytes([3; 16])), &author, 77),
    ]
}
