//! Free loopback addresses and ports for the demo's nodes.
use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use crate::listen;

/// The ports that all nodes of a demo use, each on its own address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Ports {
    /// HTTP.
    pub http: u16,
    /// HTTPS.
    pub https: u16,
    /// RTMP.
    pub rtmp: u16,
    /// SRT, UDP.
    pub srt: u16,
    /// WebRTC, UDP and TCP.
    pub webrtc: u16,
    /// DNS, UDP and TCP.
    pub dns: u16,
    /// Links between nodes, UDP.
    pub control: u16,
    /// Frames between nodes, UDP.
    pub media: u16,
}

/// For each service the usual port first, then those taken where it is not free.
const HTTP: [u16; 4] = [80, 8080, 18080, 28080];
const HTTPS: [u16; 4] = [443, 8443, 18443, 28443];
const RTMP: [u16; 3] = [1935, 11935, 21935];
const SRT: [u16; 3] = [8889, 18889, 28889];
const WEBRTC: [u16; 3] = [18203, 28203, 38203];
const DNS: [u16; 4] = [53, 5353, 15353, 25353];
const CONTROL: [u16; 3] = [7380, 17380, 27380];
const MEDIA: [u16; 3] = [7381, 17381, 27381];

fn tcp_free(ip: IpAddr, port: u16) -> bool {
    listen::tcp("demo", SocketAddr::new(ip, port)).is_ok()
}

fn udp_free(ip: IpAddr, port: u16) -> bool {
    listen::udp("demo", SocketAddr::new(ip, port)).is_ok()
}

fn both_free(ip: IpAddr, port: u16) -> bool {
    tcp_free(ip, port) && udp_free(ip, port)
}

fn first(candidates: &[u16], ips: &[IpAddr], free: impl Fn(IpAddr, u16) -> bool) -> Option<u16> {
    candidates
        .iter()
        .copied()
        .find(|port| ips.iter().all(|ip| free(*ip, *port)))
}

fn ports(ips: &[IpAddr]) -> Option<Ports> {
    Some(Ports {
        http: first(&HTTP, ips, tcp_free)?,
        https: first(&HTTPS, ips, tcp_free)?,
        rtmp: first(&RTMP, ips, tcp_free)?,
        srt: first(&SRT, ips, udp_free)?,
        webrtc: first(&WEBRTC, ips, both_free)?,
        dns: first(&DNS, ips, both_free)?,
        control: first(&CONTROL, ips, udp_free)?,
        media: first(&MEDIA, ips, udp_free)?,
    })
}

/// Three loopback addresses and ports that are free on all of them: the first block of 127.83.0.0/16 and its
/// neighbours that no other demo holds, so that several demos can run side by side with the usual ports.
#[must_use]
pub(super) fn find(wanted: &[IpAddr]) -> Option<(Vec<IpAddr>, Ports)> {
    if !wanted.is_empty() {
        return ports(wanted).map(|ports| (wanted.to_vec(), ports));
    }
    let block = |n: u8| {
        (1..=3)
            .map(|host| IpAddr::V4(Ipv4Addr::new(127, 83, n, host)))
            .collect::<Vec<_>>()
    };
    // A block whose control port is taken belongs to another demo: its other ports would only look free by chance.
    let whole = (0..=250)
        .map(block)
        .find(|ips| ips.iter().all(|ip| udp_free(*ip, CONTROL[0])));
    let ips = whole.unwrap_or_else(|| block(0));
    ports(&ips).map(|ports| (ips, ports))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_demo_gets_other_addresses() {
        let (ips, ports) = find(&[]).unwrap();
        let _held = listen::udp("demo", SocketAddr::new(ips[0], ports.control)).unwrap();
        let (others, _) = find(&[]).unwrap();
        assert!(
            others.iter().all(|ip| !ips.contains(ip)),
            "{ips:?} {others:?}"
        );
    }
}
