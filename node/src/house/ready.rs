//! Whether this node can do its work, for `/readyz`; and GraphQL that other nodes forward here.
use std::sync::Arc;

use api::{
    Gateway,
    ports::{Check, Readiness},
};
use bytes::Bytes;
use futures::future::{BoxFuture, FutureExt};
use mesh::carry::{HandleError, Handler};
use routing::model::{NodeId, Role};

use super::House;

/// Answers `/readyz`.
#[derive(Clone, Debug)]
pub struct ReadyDesk(pub Arc<House>);

impl Readiness for ReadyDesk {
    fn checks(&self) -> Vec<Check> {
        let house = &self.0;
        let view = house.mesh.view().borrow().clone();
        let check = |name: &str, ok: bool, good: &str, bad: &str| Check {
            name: name.into(),
            ok,
            detail: if ok { good.into() } else { bad.into() },
        };
        let granted = house.mesh.records().config().node(house.id).is_some();
        let mut all = vec![
            check(
                "mesh",
                view.settled,
                "the mesh's records are complete here",
                "still fetching the mesh's records from another node",
            ),
            check(
                "grant",
                granted,
                "this node's grant counts",
                "this node has no grant that counts: join again with a new token",
            ),
        ];
        if house.has_role(house.id, Role::Dns) {
            let ready = house.zone.load().facts().ready;
            all.push(check(
                "dns",
                ready,
                "names are answered",
                "names are not answered before the mesh's records are complete",
            ));
        }
        all
    }
}

/// Answers what other nodes forward.
pub struct ForwardDesk(pub Gateway);

impl Handler for ForwardDesk {
    fn handle(&self, _: NodeId, body: Bytes) -> BoxFuture<'static, Result<Bytes, HandleError>> {
        let gateway = self.0.clone();
        async move { Ok(gateway.answer_forwarded(body).await) }.boxed()
    }
}
