//! Sockets: bound at start, so that a taken port is an error before anything else happens.
use std::{
    io,
    net::{SocketAddr, TcpListener as StdTcpListener, UdpSocket as StdUdpSocket},
};

use socket2::{Domain, Protocol, Socket, Type};

use crate::config::Listen;

/// Why a port could not be opened. Says which setting it is and what to do.
#[derive(Debug, thiserror::Error)]
pub enum ListenError {
    /// Somebody else has it.
    #[error(
        "{what}: {addr} is taken by another program. Stop that one, or set listen.{what} in the configuration to another \
         address{}.",
        or_false(what)
    )]
    Taken {
        /// The setting.
        what: &'static str,
        /// The address.
        addr: SocketAddr,
    },
    /// Ports below 1024 ask for privilege.
    #[error(
        "{what}: this user may not open {addr}. Start shoal with the capability CAP_NET_BIND_SERVICE, or set \
         listen.{what} to a port above 1023."
    )]
    Forbidden {
        /// The setting.
        what: &'static str,
        /// The address.
        addr: SocketAddr,
    },
    /// Anything else.
    #[error(
        "{what}: {addr} cannot be opened: {source}. Set listen.{what} to an address of this machine."
    )]
    Other {
        /// The setting.
        what: &'static str,
        /// The address.
        addr: SocketAddr,
        /// The system's word.
        source: io::Error,
    },
}

/// What else can be done about a port that a node can do without.
fn or_false(what: &str) -> &'static str {
    match what {
        "control" | "media" => "",
        _ => " (or to false, where the node should not offer it)",
    }
}

fn explain(what: &'static str, addr: SocketAddr) -> impl FnOnce(io::Error) -> ListenError {
    move |source| match source.kind() {
        io::ErrorKind::AddrInUse => ListenError::Taken { what, addr },
        io::ErrorKind::PermissionDenied => ListenError::Forbidden { what, addr },
        _ => ListenError::Other { what, addr, source },
    }
}

fn socket(addr: SocketAddr, kind: Type, protocol: Protocol) -> io::Result<Socket> {
    let socket = Socket::new(Domain::for_address(addr), kind, Some(protocol))?;
    socket.set_nonblocking(true)?;
    if addr.is_ipv6() {
        socket.set_only_v6(false)?;
    }
    Ok(socket)
}

/// Opens a TCP port.
///
/// # Errors
/// [`ListenError`].
pub fn tcp(what: &'static str, addr: SocketAddr) -> Result<StdTcpListener, ListenError> {
    let open = || {
        let socket = socket(addr, Type::STREAM, Protocol::TCP)?;
        // A restarted node must not wait for its old connections' TIME_WAIT.
        socket.set_reuse_address(true)?;
        socket.bind(&addr.into())?;
        socket.listen(1024)?;
        Ok(socket.into())
    };
    open().map_err(explain(what, addr))
}

/// Opens a UDP port.
///
/// # Errors
/// [`ListenError`].
pub fn udp(what: &'static str, addr: SocketAddr) -> Result<StdUdpSocket, ListenError> {
    let open = || {
        let socket = socket(addr, Type::DGRAM, Protocol::UDP)?;
        socket.bind(&addr.into())?;
        Ok(socket.into())
    };
    open().map_err(explain(what, addr))
}

/// Where a service listens: the configured address, else the well-known port, else, where this user may not open that,
/// the documented high port.
#[must_use]
pub fn choose(
    configured: Option<Listen>,
    well_known: u16,
    unprivileged: u16,
) -> Option<SocketAddr> {
    match configured {
        Some(listen) => listen.address(),
        None => {
            let at = |port| SocketAddr::from(([0, 0, 0, 0], port));
            let privileged = matches!(
                tcp("probe", at(well_known)),
                Err(ListenError::Forbidden { .. })
            );
            Some(at(if privileged { unprivileged } else { well_known }))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_taken_port_is_named_with_its_setting() {
        let first = tcp("rtmp", "127.0.0.1:0".parse().unwrap()).unwrap();
        let addr = first.local_addr().unwrap();
        let error = tcp("rtmp", addr).unwrap_err().to_string();
        assert!(
            error.contains(&addr.to_string()) && error.contains("listen.rtmp"),
            "{error}"
        );
    }
}
