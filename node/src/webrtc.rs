//! WebRTC's port and its settings.
use std::{
    net::{SocketAddr, TcpListener, UdpSocket},
    sync::Arc,
};

use anyhow::Context as _;
use media::{
    ingest::Publishers,
    webrtc::{IceServer, Limits, WebRtc, WebRtcOptions},
};

use crate::{
    config::{Config, IceServerConfig},
    house::House,
    listen::{self, ListenError},
    setup,
};

/// The port, where the configuration does not say otherwise.
pub const PORT: u16 = 18203;

/// Where it listens, unless closed.
pub(crate) fn address(config: &Config) -> Option<SocketAddr> {
    match config.listen.webrtc {
        Some(listen) => listen.address(),
        None => Some(SocketAddr::from(([0, 0, 0, 0], PORT))),
    }
}

/// Its sockets, UDP and TCP on one port, unless closed.
pub(crate) fn open(config: &Config) -> Result<Option<(UdpSocket, TcpListener)>, ListenError> {
    let open = |addr| {
        let tcp = listen::tcp("webrtc", addr)?;
        // Port 0 is whatever TCP got.
        let port = tcp.local_addr().map_or(addr.port(), |got| got.port());
        let udp = listen::udp("webrtc", SocketAddr::new(addr.ip(), port))?;
        Ok((udp, tcp))
    };
    address(config).map(open).transpose()
}

/// WebRTC on these sockets.
pub(crate) fn start(
    (socket, listener): (UdpSocket, TcpListener),
    house: &House,
    publishers: Publishers,
) -> anyhow::Result<WebRtc> {
    let server = |server: &IceServerConfig| IceServer {
        url: server.url.clone(),
        login: server
            .username
            .clone()
            .zip(server.credential.clone().map(|c| c.0)),
    };
    let ice_servers = house.settings.webrtc.ice_servers.iter().map(server);
    WebRtc::new(WebRtcOptions {
        socket,
        listener,
        addresses: house.announced.clone(),
        ice_servers: ice_servers.collect(),
        publishers,
        clock: Arc::clone(&house.clock),
        seed: setup::entropy()?,
        limits: Limits::default(),
    })
    .context("WebRTC cannot start")
}
