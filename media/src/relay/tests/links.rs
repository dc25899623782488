//! Attesting addresses.
use tokio::net::UdpSocket;

use super::world::*;

#[tokio::test]
async fn an_address_is_attested_by_a_connection_of_its_own_that_does_not_stay() {
    let world = World::new();
    let nodes = [1, 2, 3].map(|seed| Node::start(&world, seed));
    let [a, b, c] = &nodes;
    assert!(b.relay.shows(a.id, a.address()).await);
    assert!(
        !b.relay.shows(a.id, c.address()).await,
        "another node answers there"
    );
    for node in &nodes {
        // Ends when no connection is left, closing ones included.
        node.relay.links.endpoint.wait_idle().await;
    }

    // A link that is there says nothing of an address where nobody answers.
    b.relay.connect(a.id, &[a.address()]).await.unwrap();
    let silent = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    assert!(!b.relay.shows(a.id, silent.local_addr().unwrap()).await);
    assert!(b.relay.shows(a.id, a.address()).await);
    let (link, new) = b.relay.links.connect(a.id, &[]).await.unwrap();
    assert!(!new && link.close_reason().is_none(), "the link stays");
}
