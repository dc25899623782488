//! The handshake (RTMP 1.0 section 5.2), in its simple form on both sides. Clients that offer a digest (Flash, librtmp,
//! ffmpeg) fall back to it when the server's version field is zero.
use bytes::{Buf, BytesMut};

use super::ProtocolError;

/// The length of C1, C2, S1 and S2.
const BLOCK: usize = 1536;
const VERSION: u8 = 3;

/// 1528 bytes that differ from connection to connection. They only serve as an echo, so that a small generator
/// (xorshift64*) does; nothing secret depends on it.
fn filler(seed: u64, out: &mut Vec<u8>) {
    let mut x = seed | 1;
    for _ in 0..(BLOCK - 8) / 8 {
        x ^= x >> 12;
        x ^= x << 25;
        x ^= x >> 27;
        out.extend(x.wrapping_mul(0x2545_f491_4f6c_dd1d).to_be_bytes());
    }
}

/// Which side this end is, and how far it is.
#[derive(Debug)]
enum Step {
    /// Server: waits for C0 and C1.
    Hello,
    /// Server: waits for C2.
    Echo,
    /// Client: waits for S0, S1 and S2.
    Answer,
    Done,
}

/// One end of a handshake.
#[derive(Debug)]
pub struct Handshake {
    step: Step,
    seed: u64,
}

impl Handshake {
    /// The server's end.
    #[must_use]
    pub const fn server(seed: u64) -> Self {
        Self {
            step: Step::Hello,
            seed,
        }
    }

    /// The client's end; writes C0 and C1 to `out`.
    #[must_use]
    pub fn client(seed: u64, out: &mut Vec<u8>) -> Self {
        out.push(VERSION);
        out.extend([0; 8]);
        filler(seed, out);
        Self {
            step: Step::Answer,
            seed,
        }
    }

    /// Takes its share from the front of `input`, answers to `out`; true when the handshake is done. It takes at most
    /// 3073 bytes, and leaves what follows.
    ///
    /// # Errors
    /// [`ProtocolError::NotRtmp`] when the first byte is not version 3.
    pub fn advance(
        &mut self,
        input: &mut BytesMut,
        out: &mut Vec<u8>,
    ) -> Result<bool, ProtocolError> {
        loop {
            match self.step {
                Step::Hello => {
                    if input.first().is_some_and(|v| *v != VERSION) {
                        return Err(ProtocolError::NotRtmp);
                    }
                    if input.len() < 1 + BLOCK {
                        return Ok(false);
                    }
                    out.push(VERSION);
                    out.extend([0; 8]);
                    filler(self.seed, out);
                    out.extend(&input[1..=BLOCK]);
                    input.advance(1 + BLOCK);
                    self.step = Step::Echo;
                }
                Step::Echo => {
                    if input.len() < BLOCK {
                        return Ok(false);
                    }
                    // Its content is not checked: digest-style clients send other bytes than the echo.
                    input.advance(BLOCK);
                    self.step = Step::Done;
                }
                Step::Answer => {
                    if input.first().is_some_and(|v| *v != VERSION) {
                        return Err(ProtocolError::NotRtmp);
                    }
                    if input.len() < 1 + 2 * BLOCK {
                        return Ok(false);
                    }
                    out.extend(&input[1..=BLOCK]);
                    input.advance(1 + 2 * BLOCK);
                    self.step = Step::Done;
                }
                Step::Done => return Ok(true),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_ends_agree_whatever_the_pieces() {
        for piece in [1, 7, 1536, 5000] {
            let (mut to_server, mut to_client) = (Vec::new(), Vec::new());
            let mut client = Handshake::client(1, &mut to_server);
            let mut server = Handshake::server(2);
            let (mut at_server, mut at_client) = (BytesMut::new(), BytesMut::new());
            let (mut s, mut c) = (false, false);
            while !(s && c) {
                let n = piece.min(to_server.len());
                at_server.extend(to_server.drain(..n));
                s = server.advance(&mut at_server, &mut to_client).unwrap();
                let n = piece.min(to_client.len());
                at_client.extend(to_client.drain(..n));
                c = client.advance(&mut at_client, &mut to_server).unwrap();
            }
            assert!(at_server.is_empty() && at_client.is_empty());
        }
    }

    #[test]
    fn another_protocol_is_refused_at_its_first_byte() {
        let mut input = BytesMut::from(&b"G"[..]);
        let refused = Handshake::server(1).advance(&mut input, &mut Vec::new());
        assert_eq!(refused, Err(ProtocolError::NotRtmp));
    }
}
