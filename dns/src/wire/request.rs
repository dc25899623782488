//! Reading a query: the header, one question, and EDNS with its client subnet.
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use hickory_proto::{
    op::ResponseCode,
    rr::{Name, RecordType},
    serialize::binary::{BinDecodable, BinDecoder},
};
use routing::model::Prefix;

use super::MAX_UDP;
use crate::answer::Query;

/// What was read of a packet; on an error, what was read up to there.
#[derive(Debug)]
pub(super) struct Request {
    pub(super) id: u16,
    pub(super) flags: u16,
    pub(super) query: Option<Query>,
    /// As asked, to go back as they came.
    pub(super) kind_and_class: [u8; 4],
    pub(super) class_is_internet: bool,
    pub(super) edns: Option<Edns>,
}

/// What the client's OPT record says (RFC 6891).
#[derive(Debug)]
pub(super) struct Edns {
    /// The largest response that it takes over UDP, in bytes.
    pub(super) payload: u16,
    pub(super) version: u8,
    dnssec_ok: bool,
    pub(super) subnet: Option<Subnet>,
}

/// A client subnet (RFC 7871 section 6).
#[derive(Debug)]
pub(super) struct Subnet {
    family: u16,
    /// Host bits are 0.
    addr: IpAddr,
    pub(super) source: u8,
    pub(super) scope: u8,
}

const FORM: ResponseCode = ResponseCode::FormErr;
const OPT: u16 = 41;
const CLIENT_SUBNET: u16 = 8;

impl Request {
    /// Reads a packet; `None` when it deserves no response.
    pub(super) fn read(packet: &[u8]) -> Option<(Self, Result<(), ResponseCode>)> {
        let header = packet.first_chunk::<12>()?;
        let word = |at: usize| u16::from_be_bytes([header[at], header[at + 1]]);
        let mut request = Self {
            id: word(0),
            flags: word(2),
            query: None,
            kind_and_class: [0; 4],
            class_is_internet: false,
            edns: None,
        };
        if request.flags & 0x8000 != 0 {
            return None;
        }
        let read = if request.flags & 0x7800 != 0 {
            Err(ResponseCode::NotImp)
        } else if word(4) != 1 || word(6) != 0 {
            Err(FORM)
        } else {
            request.body(packet, usize::from(word(8)), usize::from(word(10)))
        };
        Some((request, read))
    }

    /// The question, `skip` records of authority (an IXFR has one), and `extra` additional ones up to the packet's end.
    fn body(&mut self, packet: &[u8], skip: usize, extra: usize) -> Result<(), ResponseCode> {
        let mut at = self.question(packet)?;
        for index in 0..skip + extra {
            let owner = at;
            at = skip_name(packet, at).ok_or(FORM)?;
            let fixed: &[u8; 10] = packet.get(at..).and_then(<[u8]>::first_chunk).ok_or(FORM)?;
            let end = at + 10 + usize::from(u16::from_be_bytes([fixed[8], fixed[9]]));
            let data = packet.get(at + 10..end).ok_or(FORM)?;
            if index >= skip && u16::from_be_bytes([fixed[0], fixed[1]]) == OPT {
                if packet[owner] != 0 || self.edns.is_some() {
                    return Err(FORM);
                }
                let edns = self.edns.insert(Edns {
                    payload: u16::from_be_bytes([fixed[2], fixed[3]]),
                    version: fixed[5],
                    dnssec_ok: fixed[6] & 0x80 != 0,
                    subnet: None,
                });
                // Options of another version are not ours to read.
                if edns.version == 0 {
                    edns.options(data)?;
                }
            }
            at = end;
        }
        if at == packet.len() {
            Ok(())
        } else {
            Err(FORM)
        }
    }

    fn question(&mut self, packet: &[u8]) -> Result<usize, ResponseCode> {
        let end = skip_labels(packet, 12)
            .filter(|(_, pointer)| !pointer)
            .ok_or(FORM)?
            .0;
        let tail: [u8; 4] = *packet
            .get(end..)
            .and_then(<[u8]>::first_chunk)
            .ok_or(FORM)?;
        // A name that hickory reads otherwise than up to here is refused as well: it caps lengths.
        let mut decoder = BinDecoder::new(&packet[..end]).clone(12);
        let name = Name::read(&mut decoder).map_err(|_| FORM)?;
        self.query = Some(Query {
            name,
            kind: RecordType::from(u16::from_be_bytes([tail[0], tail[1]])),
        });
        self.kind_and_class = tail;
        self.class_is_internet = matches!(u16::from_be_bytes([tail[2], tail[3]]), 1 | 255);
        Ok(end + 4)
    }
}

impl Edns {
    fn options(&mut self, mut data: &[u8]) -> Result<(), ResponseCode> {
        while !data.is_empty() {
            let head: &[u8; 4] = data.first_chunk().ok_or(FORM)?;
            let end = 4 + usize::from(u16::from_be_bytes([head[2], head[3]]));
            let body = data.get(4..end).ok_or(FORM)?;
            if u16::from_be_bytes([head[0], head[1]]) == CLIENT_SUBNET {
                if self.subnet.is_some() {
                    return Err(FORM);
                }
                self.subnet = Some(Subnet::read(body).ok_or(FORM)?);
            }
            data = &data[end..];
        }
        Ok(())
    }

    /// The OPT record of the response.
    pub(super) fn write(&self, rcode_high: u8, out: &mut Vec<u8>) {
        let [kind, size] = [OPT.to_be_bytes(), MAX_UDP.to_be_bytes()];
        let dnssec_ok = u8::from(self.dnssec_ok) << 7;
        out.extend_from_slice(&[
            0, kind[0], kind[1], size[0], size[1], rcode_high, 0, dnssec_ok, 0,
        ]);
        let Some(subnet) = &self.subnet else {
            out.extend_from_slice(&[0, 0]);
            return;
        };
        let bytes = match subnet.addr {
            IpAddr::V4(a) => a.octets().to_vec(),
            IpAddr::V6(a) => a.octets().to_vec(),
        };
        let addr = &bytes[..usize::from(subnet.source.div_ceil(8)).min(bytes.len())];
        // At most 4 + 16 bytes.
        let body = u16::try_from(4 + addr.len()).unwrap_or(0);
        for word in [body + 4, CLIENT_SUBNET, body, subnet.family] {
            out.extend_from_slice(&word.to_be_bytes());
        }
        out.extend_from_slice(&[subnet.source, subnet.scope]);
        out.extend_from_slice(addr);
    }
}

impl Subnet {
    /// `None` when it is malformed. Family 0 with a source length of 0 stands for "no address".
    fn read(body: &[u8]) -> Option<Self> {
        let (head, addr) = body.split_first_chunk::<4>()?;
        let [family, source] = [u16::from_be_bytes([head[0], head[1]]), u16::from(head[2])];
        let bits = match family {
            0 => 0,
            1 => 32,
            2 => 128,
            _ => return None,
        };
        if head[3] != 0 || source > bits || addr.len() != usize::from(source.div_ceil(8)) {
            return None;
        }
        let mut bytes = [0; 16];
        bytes[..addr.len()].copy_from_slice(addr);
        let host_bits = match source % 8 {
            0 => 0,
            used => *addr.last()? & (0xff >> used),
        };
        let addr = if family == 2 {
            IpAddr::V6(Ipv6Addr::from(bytes))
        } else {
            IpAddr::V4(Ipv4Addr::new(bytes[0], bytes[1], bytes[2], bytes[3]))
        };
        (host_bits == 0).then_some(Self {
            family,
            addr,
            source: head[2],
            scope: 0,
        })
    }

    /// Bits before an IPv4 address that is written as IPv6.
    fn mapped(&self) -> u8 {
        if self.addr.is_ipv6() && self.addr.to_canonical().is_ipv4() {
            96
        } else {
            0
        }
    }

    pub(super) fn prefix(&self) -> Prefix {
        Prefix::new(self.addr, self.source.saturating_sub(self.mapped()))
    }

    /// A scope of [`Subnet::prefix`]'s family in bits of this option's.
    pub(super) fn scope_of(&self, scope: u8) -> u8 {
        if scope == 0 {
            0
        } else {
            scope.saturating_add(self.mapped())
        }
    }
}

/// Where a name that starts at `at` ends, and whether that is in a compression pointer, which is not followed.
fn skip_labels(packet: &[u8], mut at: usize) -> Option<(usize, bool)> {
    loop {
        let len = usize::from(*packet.get(at)?);
        match len {
            0 => return Some((at + 1, false)),
            1..64 => at += 1 + len,
            0xc0.. => return (at + 2 <= packet.len()).then_some((at + 2, true)),
            _ => return None,
        }
    }
}

fn skip_name(packet: &[u8], at: usize) -> Option<usize> {
    skip_labels(packet, at).map(|(end, _)| end)
}
