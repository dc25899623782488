//! Streams that peers open.
use routing::model::NodeId;

use crate::{
    carry::Handlers,
    join::Issuer,
    link::{ConnectionId, Stream, frame},
    live::{
        hello::First,
        line::{HELLO, Line},
    },
};

/// What a stream that a peer opened may lead to.
pub(super) struct Serve {
    pub(super) line: Line,
    pub(super) handlers: Handlers,
    pub(super) issuer: Issuer,
    pub(super) admitted: bool,
}

impl Serve {
    pub(super) async fn stream(self, mut stream: Stream, connection: ConnectionId, peer: NodeId) {
        let first = frame::read_value::<_, First>(&mut stream, frame::LINK);
        match tokio::time::timeout(HELLO, first).await {
            Ok(Ok(First::Link(hello))) => {
                self.line.answered(stream, connection, peer, hello).await;
            }
            Ok(Ok(First::Call(protocol))) if self.admitted => {
                self.handlers.answer(stream, peer, protocol).await;
            }
            Ok(Ok(First::Call(_))) => {
                tracing::debug!(peer = %peer.short(), "a stranger's request was dropped");
            }
            Ok(Ok(First::Join(greeting))) => self.issuer.admit(stream, peer, greeting).await,
            Ok(Ok(First::Renew(asked))) => self.issuer.renewal(stream, peer, asked).await,
            Ok(Err(error)) => {
                tracing::debug!(peer = %peer.short(), %error, "unreadable first words");
            }
            Err(_) => {}
        }
    }
}
