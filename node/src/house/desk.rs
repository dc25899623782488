//! The way from the mesh's thread to the house: what the mesh calls, handlers and probes, works on the shared runtime,
//! so that no answer keeps beats waiting and no socket of others ends up on the mesh's thread.
use std::sync::Arc;

use bytes::Bytes;
use futures::future::{BoxFuture, FutureExt};
use mesh::{
    carry::{HandleError, Handler},
    probe::Probe,
    view::Service,
};
use routing::model::NodeId;
use tokio::runtime::Handle;
use tokio_util::task::AbortOnDropHandle;

use super::{House, refuse};

/// Its work is done on the runtime. When the mesh no longer waits for it, it ends.
struct Desk<T> {
    runtime: Handle,
    inner: Arc<T>,
}

impl<T: Handler> Handler for Desk<T> {
    fn handle(&self, from: NodeId, body: Bytes) -> BoxFuture<'static, Result<Bytes, HandleError>> {
        let inner = Arc::clone(&self.inner);
        let work = async move { inner.handle(from, body).await };
        let task = AbortOnDropHandle::new(self.runtime.spawn(work));
        async move { task.await.unwrap_or_else(|error| Err(refuse(error))) }.boxed()
    }
}

impl<T: Probe> Probe for Desk<T> {
    fn probe(
        &self,
        node: NodeId,
        service: Service,
        addr: std::net::SocketAddr,
    ) -> BoxFuture<'static, bool> {
        let inner = Arc::clone(&self.inner);
        let work = async move { inner.probe(node, service, addr).await };
        let task = AbortOnDropHandle::new(self.runtime.spawn(work));
        async move { task.await.unwrap_or(false) }.boxed()
    }
}

impl House {
    /// Serves a protocol of the mesh's. Must be called in the shared runtime.
    pub(crate) fn serve(&self, protocol: &str, handler: impl Handler) {
        self.mesh.serve(protocol, Arc::new(desk(handler)));
    }

    /// Tries other nodes' addresses. Must be called in the shared runtime.
    pub(crate) fn serve_probes(self: &Arc<Self>) {
        let prober = super::Prober(Arc::clone(self));
        self.mesh.set_prober(Arc::new(desk(prober)));
    }
}

fn desk<T>(inner: T) -> Desk<T> {
    Desk {
        runtime: Handle::current(),
        inner: Arc::new(inner),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Names;

    fn thread() -> String {
        std::thread::current().name().unwrap_or_default().to_owned()
    }

    impl Handler for Names {
        fn handle(&self, _: NodeId, _: Bytes) -> BoxFuture<'static, Result<Bytes, HandleError>> {
            async { Ok(thread().into()) }.boxed()
        }
    }

    impl Probe for Names {
        fn probe(
            &self,
            _: NodeId,
            _: Service,
            _: std::net::SocketAddr,
        ) -> BoxFuture<'static, bool> {
            async { thread() == "shared" }.boxed()
        }
    }

    #[test]
    fn what_the_mesh_calls_runs_on_the_shared_runtime() {
        let runtime = |name: &str| {
            tokio::runtime::Builder::new_multi_thread()
                .worker_threads(1)
                .thread_name(name)
                .build()
                .unwrap()
        };
        let (shared, control) = (runtime("shared"), runtime("control"));
        let names = shared.block_on(async { Arc::new(desk(Names)) });
        let node = NodeId::from_bytes([1; 32]);
        let asked = Arc::clone(&names);
        let answer = control.spawn(async move { asked.handle(node, Bytes::new()).await });
        assert_eq!(control.block_on(answer).unwrap().unwrap(), "shared");
        let at = "127.0.0.1:1".parse().unwrap();
        let probed = control.spawn(async move { names.probe(node, Service::Http, at).await });
        assert!(control.block_on(probed).unwrap());
    }
}
