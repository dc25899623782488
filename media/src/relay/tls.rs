//! QUIC between nodes that know each other by their keys: certificates as libp2p makes them (one Ed25519 key signs for
//! an ephemeral one), both sides present one, and the handshake tells each side the other's [`NodeId`].
use std::{sync::Arc, time::Duration};

use libp2p_identity::Keypair;
use quinn::{
    Connection, TransportConfig, VarInt,
    crypto::rustls::{QuicClientConfig, QuicServerConfig},
};
use routing::model::NodeId;
use rustls::pki_types::CertificateDer;

use super::{RelayError, wire};

/// Keeps the way open and finds a death soon; idle holds five of them.
const KEEP_ALIVE: Duration = Duration::from_millis(300);
/// A peer that says nothing for this long is gone. In milliseconds.
const IDLE_MS: u32 = 1_500;
/// Frames in flight of one group: a 100 Mbit/s stream over 300 ms.
const STREAM_WINDOW: u32 = 4 << 20;
/// All that one connection may make this node keep unread, and keep unsent.
const CONNECTION_WINDOW: u32 = 32 << 20;
/// Groups under way on one connection: some hundred broadcasts of two tracks.
const UNI_STREAMS: u32 = 1_024;
/// Subscriptions, fetches and probes under way on one connection.
const BIDI_STREAMS: u32 = 512;

fn transport() -> Arc<TransportConfig> {
    let mut config = TransportConfig::default();
    config
        .keep_alive_interval(Some(KEEP_ALIVE))
        .max_idle_timeout(Some(VarInt::from_u32(IDLE_MS).into()))
        .stream_receive_window(VarInt::from_u32(STREAM_WINDOW))
        .receive_window(VarInt::from_u32(CONNECTION_WINDOW))
        .send_window(u64::from(CONNECTION_WINDOW))
        .max_concurrent_uni_streams(VarInt::from_u32(UNI_STREAMS))
        .max_concurrent_bidi_streams(VarInt::from_u32(BIDI_STREAMS))
        .datagram_receive_buffer_size(None)
        // Before the first measurement; the default of a third of a second would make every join on a good link late.
        .initial_rtt(Duration::from_millis(100));
    Arc::new(config)
}

/// Both halves of an endpoint's configuration, and the node's id.
pub(super) fn configs(
    mut seed: [u8; 32],
) -> Result<(quinn::ServerConfig, quinn::ClientConfig, NodeId), RelayError> {
    let key = |_| RelayError::Key;
    let pair = Keypair::ed25519_from_bytes(&mut seed).map_err(|_| RelayError::Key)?;
    let me = node_of(&pair.public().to_peer_id().to_bytes()).ok_or(RelayError::Key)?;
    let mut server = libp2p_tls::make_server_config(&pair).map_err(key)?;
    server.alpn_protocols = vec![wire::ALPN.to_vec()];
    // libp2p's default writes session keys where an environment variable says.
    server.key_log = Arc::new(rustls::NoKeyLog {});
    let mut client = libp2p_tls::make_client_config(&pair, None).map_err(key)?;
    client.alpn_protocols = vec![wire::ALPN.to_vec()];
    client.key_log = Arc::new(rustls::NoKeyLog {});

    let suite = |_| RelayError::Key;
    let server = QuicServerConfig::try_from(server).map_err(suite)?;
    let mut server = quinn::ServerConfig::with_crypto(Arc::new(server));
    server.transport_config(transport());
    let client = QuicClientConfig::try_from(client).map_err(suite)?;
    let mut client = quinn::ClientConfig::new(Arc::new(client));
    client.transport_config(transport());
    Ok((server, client, me))
}

/// Who the other side of a connection proved to be.
pub(super) fn peer(connection: &Connection) -> Option<NodeId> {
    let chain = connection
        .peer_identity()?
        .downcast::<Vec<CertificateDer<'static>>>()
        .ok()?;
    named_in(chain.first()?)
}

/// Who a certificate names, where it is whole and signed as libp2p asks for.
fn named_in(certificate: &CertificateDer<'_>) -> Option<NodeId> {
    let certificate = libp2p_tls::certificate::parse(certificate).ok()?;
    node_of(&certificate.peer_id().to_bytes())
}

/// The same of any bytes.
#[cfg(any(test, fuzzing))]
pub(super) fn named(certificate: &[u8]) -> Option<NodeId> {
    named_in(&CertificateDer::from(certificate))
}

/// An Ed25519 peer id is its public key behind a fixed head: identity multihash of 36 bytes, key type 1, 32 bytes.
fn node_of(peer_id: &[u8]) -> Option<NodeId> {
    let key = peer_id.strip_prefix(&[0x00, 0x24, 0x08, 0x01, 0x12, 0x20])?;
    key.try_into().ok().map(NodeId::from_bytes)
}
