//! Offers, fragments and datagrams under any bytes.
use std::{
    sync::{Mutex, OnceLock, PoisonError},
    time::Instant,
};

use str0m::{Candidate, IceCreds, Rtc, config::DtlsCert, media::*, net::Protocol};

use super::{
    door::user_fragment,
    peer::{Peer, Remote},
    sdp::{Fragment, Kind, Offer, Use},
    whip,
};

fuzz_kit::targets! {
    webrtc_offer: offer, offer_seeds;
    webrtc_fragment: fragment, fragment_seeds;
    webrtc_datagram: datagram, datagram_seeds;
}

#[expect(clippy::disallowed_methods, reason = "some instant to count from")]
fn now() -> Instant {
    Instant::now()
}

fn cert() -> DtlsCert {
    static CERT: OnceLock<Option<DtlsCert>> = OnceLock::new();
    let made = CERT.get_or_init(|| {
        let crypto = str0m::crypto::from_feature_flags();
        crypto.dtls_provider.generate_certificate()
    });
    made.clone().expect("a certificate")
}

fn creds() -> IceCreds {
    IceCreds {
        ufrag: "ours".into(),
        pass: "0123456789012345678901".into(),
    }
}

fn answer(offer: &Offer) -> Option<(Peer, str0m::change::SdpAnswer)> {
    let at = ([192, 0, 2, 1], 18203).into();
    let parsed = offer.parse().ok()?;
    Peer::answer(now(), whip::config(), (cert(), creds()), &[at], parsed).ok()
}

/// An offer of a client, as it is sent.
fn valid(direction: Direction) -> Vec<u8> {
    let mut rtc = Rtc::new(now());
    let at = ([198, 51, 100, 1], 5000).into();
    rtc.add_local_candidate(Candidate::host(at, Protocol::Udp).expect("a candidate"));
    let mut change = rtc.sdp_api();
    change.add_media(MediaKind::Audio, direction, None, None, None);
    change.add_media(MediaKind::Video, direction, None, None, None);
    let (offer, _) = change.apply().expect("an offer");
    offer.to_sdp_string().into_bytes()
}

/// What is not wanted is never answered as sent or received, and every answer's fragment is one.
fn offer(bytes: &[u8]) {
    let video = if bytes.len().is_multiple_of(2) {
        Use::Receive
    } else {
        Use::Send
    };
    let wanted = |kind| match kind {
        Kind::Video => video,
        Kind::Audio => Use::None,
    };
    if let Ok(offer) = Offer::read(bytes, wanted)
        && let Some((_, answer)) = answer(&offer)
    {
        let text = answer.to_sdp_string();
        let audio = text
            .split("\r\nm=")
            .filter(|media| media.starts_with("audio"));
        for media in audio {
            assert!(
                !media.contains("a=send") && !media.contains("a=recv"),
                "{text}"
            );
        }
        assert!(
            Fragment::read(Fragment::of(&text).as_bytes()).is_ok(),
            "{text}"
        );
    }
}

fn offer_seeds() -> Vec<Vec<u8>> {
    vec![valid(Direction::SendOnly), valid(Direction::RecvOnly)]
}

/// What a restart puts into an offer can be read again, or is refused.
fn fragment(bytes: &[u8]) {
    static OFFER: OnceLock<Option<Offer>> = OnceLock::new();
    let valid = || Offer::read(&valid(Direction::SendOnly), |_| Use::Receive).ok();
    if let Ok(read) = Fragment::read(bytes)
        && let Some((ufrag, password)) = &read.credentials
        && let Some(offer) = OFFER.get_or_init(valid)
    {
        let again = offer.restarted(ufrag, password);
        assert_eq!(again.credentials(), Some((&ufrag[..], &password[..])));
        let _ = again.parse();
    }
}

fn fragment_seeds() -> Vec<Vec<u8>> {
    vec![
        b"a=ice-ufrag:EsAw\r\na=ice-pwd:P2uYro0UCOQ4zxjKXaWCBui1\r\nm=audio 9 RTP/AVP 0\r\na=mid:0\r\n\
          a=candidate:1387637174 1 udp 2122260223 192.0.2.1 61764 typ host generation 0 ufrag EsAw network-id 1\r\n\
          a=candidate:3471623853 1 tcp 1518280447 192.0.2.1 9 typ host tcptype active\r\na=end-of-candidates\r\n"
            .to_vec(),
    ]
}

/// No stranger's datagram is taken for the peer's, whatever came before it.
fn datagram(bytes: &[u8]) {
    static PEER: OnceLock<Option<Mutex<Peer>>> = OnceLock::new();
    let made = || {
        let offer = Offer::read(&valid(Direction::SendOnly), |_| Use::Receive).ok()?;
        Some(Mutex::new(answer(&offer)?.0))
    };
    let _ = user_fragment(bytes);
    if let Some(peer) = PEER.get_or_init(made) {
        let mut peer = peer.lock().unwrap_or_else(PoisonError::into_inner);
        let stranger = Remote::udp(([203, 0, 113, 9], 9).into());
        assert!(!peer.receive(now(), stranger, None, bytes));
    }
}

fn datagram_seeds() -> Vec<Vec<u8>> {
    let mut stun = vec![0, 1, 0, 20, 0x21, 0x12, 0xa4, 0x42];
    stun.extend([7; 12]);
    stun.extend([0, 6, 0, 9]);
    stun.extend(b"ours:them\0\0\0");
    let hello = [
        &[22, 254, 253, 0, 0, 0, 0, 0, 0, 0, 0, 0, 2, 1, 0][..],
        &[0; 40],
    ]
    .concat();
    let rtp = [&[0x80, 96, 0, 1][..], &[0; 20]].concat();
    vec![stun, hello, rtp]
}
