//! Offers and ICE fragments as text: limits, directions, candidates.
//!
//! str0m reads the SDP; here it is only cut into its lines, so that media that is not wanted can be answered as inactive
//! (JSEP, RFC 9429 5.3.1) and an ICE restart (RFC 9725 4.3.3) can be put into the offer that it belongs to.
use str0m::Candidate;

/// The longest offer or fragment: a browser's is 6 KB long.
pub(crate) const MAX_SDP: usize = 64 << 10;
/// Media lines of an offer.
const MAX_MEDIA: usize = 8;
/// Candidates of a fragment.
const MAX_CANDIDATES: usize = 32;

/// Why an offer or a fragment is not taken. For the other side.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum SdpError {
    #[error("The body is not SDP text.")]
    Text,
    #[error("The offer has more than 8 media lines.")]
    TooMany,
    #[error("The offer cannot be read: {0}.")]
    Read(String),
    #[error("The ICE fragment has no ice-ufrag and ice-pwd, and no candidates.")]
    Fragment,
}

/// Audio or video.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Audio,
    Video,
}

/// What becomes of a media line in the answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Use {
    /// The peer sends.
    Receive,
    /// The peer receives.
    Send,
    /// Nothing.
    None,
}

/// The first media line of each kind is for `wanted`, where there is something for the kind; the others for nothing.
pub(super) fn first_of_each(
    mut video: bool,
    mut audio: bool,
    wanted: Use,
) -> impl FnMut(Kind) -> Use {
    move |kind| {
        let free = match kind {
            Kind::Video => &mut video,
            Kind::Audio => &mut audio,
        };
        if std::mem::take(free) {
            wanted
        } else {
            Use::None
        }
    }
}

/// An offer's text, without the media that is not wanted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Offer(Vec<String>);

impl Offer {
    /// Reads an offer. `wanted` is asked once for every line of sound or pictures, in order.
    ///
    /// # Errors
    /// [`SdpError::Text`], [`SdpError::TooMany`].
    pub(super) fn read(body: &[u8], mut wanted: impl FnMut(Kind) -> Use) -> Result<Self, SdpError> {
        let text = std::str::from_utf8(body).map_err(|_| SdpError::Text)?;
        if body.len() > MAX_SDP || !text.starts_with("v=0") {
            return Err(SdpError::Text);
        }
        let (mut lines, mut medias) = (Vec::new(), 0);
        // What the running media line is for, and its direction, which may stand anywhere in it or not at all.
        let mut running: Option<(Use, String)> = None;
        for line in text.lines() {
            if let Some(media) = line.strip_prefix("m=") {
                medias += 1;
                lines.extend(running.take().map(direction));
                let used = match media.split(' ').next() {
                    Some("audio") => Some(wanted(Kind::Audio)),
                    Some("video") => Some(wanted(Kind::Video)),
                    _ => None,
                };
                running = used.map(|used| (used, "a=sendrecv".into()));
            } else if matches!(
                line,
                "a=sendrecv" | "a=sendonly" | "a=recvonly" | "a=inactive"
            ) && let Some((_, direction)) = &mut running
            {
                line.clone_into(direction);
                continue;
            }
            lines.push(line.to_owned());
        }
        lines.extend(running.map(direction));
        if medias > MAX_MEDIA {
            return Err(SdpError::TooMany);
        }
        Ok(Self(lines))
    }

    /// As str0m takes it.
    ///
    /// # Errors
    /// [`SdpError::Read`].
    pub(super) fn parse(&self) -> Result<str0m::change::SdpOffer, SdpError> {
        let text: String = self.0.iter().flat_map(|line| [line, "\r\n"]).collect();
        str0m::change::SdpOffer::from_sdp_string(&text)
            .map_err(|error| SdpError::Read(error.to_string()))
    }

    /// The same offer with these ICE credentials instead, and without candidates.
    pub(super) fn restarted(&self, ufrag: &str, password: &str) -> Self {
        let lines = self.0.iter().filter(|l| !l.starts_with("a=candidate:"));
        let lines = lines.map(|line| {
            if line.starts_with("a=ice-ufrag:") {
                format!("a=ice-ufrag:{ufrag}")
            } else if line.starts_with("a=ice-pwd:") {
                format!("a=ice-pwd:{password}")
            } else {
                line.clone()
            }
        });
        Self(lines.collect())
    }

    /// Its ICE credentials.
    pub(super) fn credentials(&self) -> Option<(&str, &str)> {
        Some((value(&self.0, "ice-ufrag")?, value(&self.0, "ice-pwd")?))
    }
}

/// One that only sends is not to be sent to, and the other way round.
fn direction((used, offered): (Use, String)) -> String {
    let (sends, receives) = match &offered[..] {
        "a=sendrecv" => (true, true),
        "a=sendonly" => (true, false),
        "a=recvonly" => (false, true),
        _ => (false, false),
    };
    match used {
        Use::Receive if sends => "a=sendonly",
        Use::Send if receives => "a=recvonly",
        _ => "a=inactive",
    }
    .to_owned()
}

fn value<'a>(lines: &'a [String], name: &str) -> Option<&'a str> {
    let of = |line: &'a String| {
        line.strip_prefix("a=")?
            .strip_prefix(name)?
            .strip_prefix(':')
    };
    lines.iter().find_map(of).map(str::trim)
}

/// An SDP fragment of a PATCH (RFC 8840 9, RFC 9725 4.3).
#[derive(Debug, Default)]
pub(super) struct Fragment {
    /// User fragment and password.
    pub(super) credentials: Option<(String, String)>,
    /// Those that str0m can use; names of mDNS are left out.
    pub(super) candidates: Vec<Candidate>,
}

impl Fragment {
    /// Reads a fragment.
    ///
    /// # Errors
    /// [`SdpError::Text`], [`SdpError::Fragment`].
    pub(super) fn read(body: &[u8]) -> Result<Self, SdpError> {
        let text = std::str::from_utf8(body).map_err(|_| SdpError::Text)?;
        if body.len() > MAX_SDP {
            return Err(SdpError::Text);
        }
        let lines: Vec<_> = text.lines().map(str::to_owned).collect();
        let candidates = lines.iter().filter_map(|l| l.strip_prefix("a=candidate:"));
        let known = |c: &str| Candidate::from_sdp_string(&format!("candidate:{c}")).ok();
        let this = Self {
            credentials: value(&lines, "ice-ufrag")
                .zip(value(&lines, "ice-pwd"))
                .map(|(u, p)| (u.to_owned(), p.to_owned())),
            candidates: candidates.take(MAX_CANDIDATES).filter_map(known).collect(),
        };
        let ends = lines.iter().any(|l| l.starts_with("a=end-of-candidates"));
        let any = ends || lines.iter().any(|l| l.starts_with("a=candidate:"));
        if this.credentials.is_none() && !any {
            return Err(SdpError::Fragment);
        }
        Ok(this)
    }

    /// Writes the fragment that answers a restart, from the new answer.
    pub(super) fn of(answer: &str) -> String {
        let wanted = |line: &&str| {
            ["a=ice-", "a=candidate:", "a=end-of-candidates"]
                .iter()
                .any(|start| line.starts_with(start))
        };
        let first = answer.split("\r\nm=").nth(1).unwrap_or_default();
        let session = answer.split("\r\nm=").next().unwrap_or_default();
        let mut out = String::new();
        for line in session.lines().filter(wanted) {
            out += &format!("{line}\r\n");
        }
        out += &format!("m={}\r\n", first.lines().next().unwrap_or_default());
        for line in first.lines().skip(1) {
            if wanted(&line) || line.starts_with("a=mid:") {
                out += &format!("{line}\r\n");
            }
        }
        out
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const OFFER: &str = "v=0\r\no=- 1 2 IN IP4 0.0.0.0\r\ns=-\r\nt=0 0\r\nm=audio 9 UDP/TLS/RTP/SAVPF 111\r\n\
        a=ice-ufrag:abcd\r\na=ice-pwd:0123456789012345678901\r\na=candidate:1 1 udp 1 192.0.2.1 9 typ host\r\na=recvonly\r\n\
        m=video 9 UDP/TLS/RTP/SAVPF 96\r\na=sendrecv\r\nm=video 9 UDP/TLS/RTP/SAVPF 96\r\na=recvonly\r\n";

    #[test]
    fn media_that_is_not_wanted_is_inactive() {
        let mut videos = 0;
        let wanted = |kind| match kind {
            Kind::Audio => Use::None,
            Kind::Video => {
                videos += 1;
                if videos == 1 { Use::Send } else { Use::None }
            }
        };
        let offer = Offer::read(OFFER.as_bytes(), wanted).unwrap();
        let directions: Vec<_> = offer
            .0
            .iter()
            .filter(|l| l.ends_with("only") || l.ends_with("active"))
            .collect();
        assert_eq!(directions, ["a=inactive", "a=recvonly", "a=inactive"]);
        assert_eq!(Offer::read(b"hello", |_| Use::None), Err(SdpError::Text));
        let many = OFFER.replace("s=-", &"m=audio 9 x 1\r\n".repeat(8));
        assert_eq!(
            Offer::read(many.as_bytes(), |_| Use::None),
            Err(SdpError::TooMany)
        );
    }

    #[test]
    fn a_restart_changes_the_credentials_alone() {
        let offer = Offer::read(OFFER.as_bytes(), |_| Use::Send).unwrap();
        let again = offer.restarted("efgh", "p");
        assert_eq!(again.credentials(), Some(("efgh", "p")));
        assert_eq!(again.0.len(), offer.0.len() - 1);
    }

    #[test]
    fn fragments_are_read_and_written() {
        let read = Fragment::read(
            b"a=ice-ufrag:EsAw\r\na=ice-pwd:P2uYro0UCOQ4zxjKXaWCBui1\r\nm=audio 9 RTP/AVP 0\r\na=mid:0\r\n\
              a=candidate:1387637174 1 udp 2122260223 192.0.2.1 61764 typ host generation 0 ufrag EsAw network-id 1\r\n\
              a=candidate:1 1 udp 2122260223 5f3c4d7e.local 61764 typ host\r\na=end-of-candidates\r\n",
        )
        .unwrap();
        assert_eq!(read.candidates.len(), 1);
        assert_eq!(read.credentials.unwrap().0, "EsAw");
        assert!(Fragment::read(b"a=end-of-candidates\r\n").is_ok());
        assert_eq!(Fragment::read(b"a=mid:0").err(), Some(SdpError::Fragment));
        let answer = "v=0\r\na=ice-lite\r\nm=audio 9 X 1\r\na=ice-ufrag:a\r\na=rtpmap:1 x\r\na=mid:0\r\nm=video 9 X 2\r\na=mid:1\r\n";
        assert_eq!(
            Fragment::of(answer),
            "a=ice-lite\r\nm=audio 9 X 1\r\na=ice-ufrag:a\r\na=mid:0\r\n"
        );
    }

    proptest! {
        #[test]
        fn any_text_is_read_or_refused(text in "(v=0\r\n)?([amv]=[ -~]{0,40}\r?\n){0,20}") {
            let _ = Fragment::read(text.as_bytes());
            if let Ok(offer) = Offer::read(text.as_bytes(), |_| Use::Receive) {
                let _ = offer.restarted("a", "b").credentials();
                let _ = offer.parse();
            }
        }
    }
}
