//! Packet in, packet out: what DNS asks of a server beside the answer's content. No I/O.
//!
//! | what comes | what goes (rule) |
//! | --- | --- |
//! | anything before the zone is ready; under 12 bytes; a response | nothing |
//! | an operation other than a query | `NOTIMP` |
//! | not one question, a broken name, record or option, bytes left over, two OPTs | `FORMERR` (RFC 1035, 6891) |
//! | a client subnet that breaks RFC 7871 section 6 | `FORMERR` |
//! | EDNS of a later version | `BADVERS` |
//! | another class; a zone transfer; a name outside the zone | `REFUSED` |
//! | a meta type other than `ANY` | `NOTIMP` |
//! | the rest | [`answer()`], authoritative |
//!
//! The question goes back byte for byte (draft-vixie-dnsext-dns0x20). A response over UDP has at most what the client
//! takes, and never more than 1,232 bytes: it passes everywhere unfragmented (DNS flag day 2020). What does not fit goes
//! empty with TC, so that the client comes back over TCP.
//!
//! No limit on responses a second is kept: answers here are a few times the size of their questions and never above 1,232
//! bytes, which makes a poor amplifier.
mod request;

use std::net::IpAddr;

use hickory_proto::{
    op::ResponseCode,
    rr::Record,
    serialize::binary::{BinEncodable, BinEncoder},
};
use routing::model::Prefix;

use self::request::{Edns, Request, Subnet};
use crate::{
    answer::{Answer, Query, answer},
    zone::Zone,
};

/// What a packet came over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Transport {
    /// One packet each way.
    Udp,
    /// A stream, with a length before each message.
    Tcp,
}

/// The most that a response over UDP has, in bytes.
pub const MAX_UDP: u16 = 1232;

/// Answers one packet from `peer` into `out`, which is overwritten, and says with what response code; `None` when nothing
/// is to be sent. Any bytes are fit input.
pub fn respond(
    packet: &[u8],
    peer: IpAddr,
    transport: Transport,
    zone: &Zone,
    out: &mut Vec<u8>,
) -> Option<ResponseCode> {
    out.clear();
    if !zone.facts().ready {
        return None;
    }
    let (mut request, read) = Request::read(packet)?;
    let mut rcode = match read {
        Err(rcode) => rcode,
        Ok(()) => judge(&request),
    };
    let content = match (&request.query, rcode) {
        (Some(query), ResponseCode::NoError) => {
            let (from, subnet) = asker(request.edns.as_mut(), peer);
            let answer = answer(query, &from, zone);
            if let Some(subnet) = subnet {
                subnet.scope = subnet.scope_of(answer.scope);
            }
            rcode = answer.rcode;
            Some(answer)
        }
        _ => None,
    };
    let limit = match (transport, &request.edns) {
        (Transport::Tcp, _) => u16::MAX,
        (Transport::Udp, Some(edns)) => edns.payload.clamp(512, MAX_UDP),
        (Transport::Udp, None) => 512,
    };
    write(&request, rcode, content.as_ref(), limit, out);
    Some(rcode)
}

/// Whether a well-formed query is one that this server answers.
fn judge(request: &Request) -> ResponseCode {
    let Some(Query { kind, .. }) = &request.query else {
        return ResponseCode::FormErr;
    };
    if request.edns.as_ref().is_some_and(|e| e.version > 0) {
        return ResponseCode::BADVERS;
    }
    match u16::from(*kind) {
        _ if !request.class_is_internet => ResponseCode::Refused,
        41 => ResponseCode::FormErr,
        251 | 252 => ResponseCode::Refused,
        0 | 128..=254 => ResponseCode::NotImp, // 255 is ANY
        _ => ResponseCode::NoError,
    }
}

/// Whom to answer for. A source length of 0 says "not by my address": then it is by the resolver's, with scope 0.
fn asker(edns: Option<&mut Edns>, peer: IpAddr) -> (Prefix, Option<&mut Subnet>) {
    let resolver = Prefix::of_viewer(peer);
    match edns.and_then(|e| e.subnet.as_mut()) {
        Some(subnet) if subnet.source > 0 => (subnet.prefix(), Some(subnet)),
        _ => (resolver, None),
    }
}

fn write(
    request: &Request,
    rcode: ResponseCode,
    content: Option<&Answer>,
    limit: u16,
    out: &mut Vec<u8>,
) {
    let mut option = Vec::new();
    if let Some(edns) = &request.edns {
        edns.write(rcode.high(), &mut option);
    }
    let mut encoder = BinEncoder::new(out);
    encoder.set_max_size(limit - u16::try_from(option.len()).unwrap_or(0));
    let mut counts = [0u16; 4];
    let mut truncated = false;
    // The header's place; nothing can fail to fit before the question of a name of 255 bytes has.
    let _ = encoder.emit_vec(&[0; 12]);
    if let Some(query) = &request.query {
        let asked = encoder.offset();
        let fits = query
            .name
            .emit(&mut encoder)
            .and_then(|()| encoder.emit_vec(&request.kind_and_class));
        match fits {
            Ok(()) => counts[0] = 1,
            Err(_) => rewind(&mut encoder, asked),
        }
    }
    if let Some(answer) = content {
        let start = encoder.offset();
        for (section, records) in [
            (1, &answer.answers),
            (2, &answer.authority),
            (3, &answer.additional),
        ] {
            let before = encoder.offset();
            match emit(&mut encoder, records) {
                Ok(n) => counts[section] = n,
                // Glue is a courtesy.
                Err(()) if section == 3 => rewind(&mut encoder, before),
                Err(()) => {
                    truncated = true;
                    counts[1..].fill(0);
                    rewind(&mut encoder, start);
                    break;
                }
            }
        }
    }
    if !option.is_empty() {
        encoder.set_max_size(limit);
        if encoder.emit_vec(&option).is_ok() {
            counts[3] += 1;
        }
    }
    let authoritative = content.is_some() && rcode != ResponseCode::Refused;
    let flags = 0x8000
        | request.flags & 0x7910 // operation, RD, CD
        | if authoritative { 0x0400 } else { 0 }
        | if truncated { 0x0200 } else { 0 }
        | u16::from(rcode.low());
    let header = [
        request.id, flags, counts[0], counts[1], counts[2], counts[3],
    ];
    for (slot, word) in out.chunks_exact_mut(2).zip(header) {
        slot.copy_from_slice(&word.to_be_bytes());
    }
}

fn emit(encoder: &mut BinEncoder<'_>, records: &[Record]) -> Result<u16, ()> {
    for record in records {
        record.emit(encoder).map_err(|_| ())?;
    }
    u16::try_from(records.len()).map_err(|_| ())
}

fn rewind(encoder: &mut BinEncoder<'_>, offset: usize) {
    encoder.set_offset(offset);
    encoder.trim();
}
