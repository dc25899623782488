//! Encryption (draft section 6): AES in counter mode, with keys that come wrapped by one made from a passphrase.
use std::num::NonZeroU32;

use aws_lc_rs::{
    cipher::{AES_128, AES_192, AES_256, DecryptingKey, DecryptionContext, UnboundCipherKey},
    iv::FixedLength,
    pbkdf2,
};
use routing::model::Secret;
use zeroize::Zeroizing;

use super::packet::{Kk, Seq};

/// Rounds of PBKDF2 (6.1.4).
const ROUNDS: u32 = 2048;
const SALT: usize = 16;

/// Why a text cannot be a passphrase.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("an SRT passphrase has 10 to 79 bytes")]
pub struct BadPassphrase;

/// What callers have to know before their streams are taken. Cannot be printed.
#[derive(Clone, Debug)]
pub struct Passphrase(Secret);

impl Passphrase {
    /// A passphrase of 10 to 79 bytes, as libsrt takes it.
    ///
    /// # Errors
    /// [`BadPassphrase`].
    pub fn new(text: Secret) -> Result<Self, BadPassphrase> {
        if (10..80).contains(&text.expose().len()) {
            Ok(Self(text))
        } else {
            Err(BadPassphrase)
        }
    }
}

/// Why keys were not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum KeyError {
    /// The message cannot be read.
    Broken,
    /// Another cipher than AES in counter mode.
    Cipher,
    /// They were wrapped by another passphrase.
    Secret,
}

/// A connection's keys.
#[derive(Debug)]
pub(super) struct Keys {
    passphrase: Passphrase,
    salt: [u8; SALT],
    even: Option<DecryptingKey>,
    odd: Option<DecryptingKey>,
}

impl Keys {
    /// Takes the keys of a key material message (3.2.2).
    pub(super) fn open(passphrase: &Passphrase, message: &[u8]) -> Result<Self, KeyError> {
        let mut this = Self {
            passphrase: passphrase.clone(),
            salt: [0; SALT],
            even: None,
            odd: None,
        };
        this.update(message)?;
        Ok(this)
    }

    /// Takes further keys; those that it does not have stay.
    pub(super) fn update(&mut self, message: &[u8]) -> Result<(), KeyError> {
        let (head, rest) = message.split_first_chunk::<16>().ok_or(KeyError::Broken)?;
        // Version 1, packet type 2, the signature "HAI".
        if head[..3] != [0x12, 0x20, 0x29] {
            return Err(KeyError::Broken);
        }
        // AES-CTR without authentication, in SRT.
        if head[8..11] != [2, 0, 2] {
            return Err(KeyError::Cipher);
        }
        let (which, len) = (head[3] & 3, usize::from(head[15]) * 4);
        if head[14] != 4 || !matches!(len, 16 | 24 | 32) || which == 0 {
            return Err(KeyError::Broken);
        }
        let (salt, wrapped) = rest.split_first_chunk::<SALT>().ok_or(KeyError::Broken)?;
        let keys = if which == 3 { 2 } else { 1 };
        if wrapped.len() != 8 + keys * len {
            return Err(KeyError::Broken);
        }
        let mut kek = Zeroizing::new(vec![0; len]);
        pbkdf2::derive(
            pbkdf2::PBKDF2_HMAC_SHA1,
            NonZeroU32::new(ROUNDS).unwrap_or(NonZeroU32::MIN),
            // The last 64 bits (6.1.4).
            &salt[8..],
            self.passphrase.0.expose().as_bytes(),
            &mut kek,
        );
        let unwrapped = unwrap(&kek, wrapped).ok_or(KeyError::Secret)?;
        let mut new = unwrapped
            .chunks_exact(len)
            .map(|key| cipher(key).and_then(|key| DecryptingKey::ctr(key).ok()));
        // Of two keys the even one comes first.
        if which & 1 != 0 {
            self.even = new.next().flatten();
        }
        if which & 2 != 0 {
            self.odd = new.next().flatten();
        }
        self.salt = *salt;
        Ok(())
    }

    /// Decrypts a payload; false where there is no such key.
    pub(super) fn decrypt(&self, key: Kk, seq: Seq, payload: &mut [u8]) -> bool {
        let key = match key {
            Kk::Plain => return false,
            Kk::Even => &self.even,
            Kk::Odd => &self.odd,
        };
        let Some(key) = key else { return false };
        // 112 bits of salt, the number in the last 32 of them; 16 bits count blocks (6.2.2).
        let mut iv = self.salt;
        iv[14..].fill(0);
        for (byte, seq) in iv[10..].iter_mut().zip(seq.get().to_be_bytes()) {
            *byte ^= seq;
        }
        let context = DecryptionContext::Iv128(FixedLength::from(iv));
        key.decrypt(payload, context).is_ok()
    }
}

fn cipher(key: &[u8]) -> Option<UnboundCipherKey> {
    let algorithm = match key.len() {
        16 => &AES_128,
        24 => &AES_192,
        _ => &AES_256,
    };
    UnboundCipherKey::new(algorithm, key).ok()
}

/// AES key unwrap (RFC 3394 section 2.2.2).
fn unwrap(kek: &[u8], wrapped: &[u8]) -> Option<Zeroizing<Vec<u8>>> {
    let kek = DecryptingKey::ecb(cipher(kek)?).ok()?;
    let (check, blocks) = wrapped.split_first_chunk::<8>()?;
    let mut check = u64::from_be_bytes(*check);
    let mut blocks = Zeroizing::new(blocks.to_vec());
    let count = blocks.len() / 8;
    for round in (1..=6 * count).rev() {
        let place = (round - 1) % count * 8;
        let block = blocks.get_mut(place..place + 8)?;
        let mut both = Zeroizing::new([0; 16]);
        check ^= u64::try_from(round).ok()?;
        both[..8].copy_from_slice(&check.to_be_bytes());
        both[8..].copy_from_slice(block);
        kek.decrypt(&mut both[..], DecryptionContext::None).ok()?;
        block.copy_from_slice(&both[8..]);
        check = u64::from_be_bytes(*both.first_chunk()?);
    }
    (check == 0xa6a6_a6a6_a6a6_a6a6).then_some(blocks)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hex(text: &str) -> Vec<u8> {
        data_encoding::HEXUPPER.decode(text.as_bytes()).unwrap()
    }

    #[test]
    fn keys_of_all_lengths_are_unwrapped() {
        // RFC 3394 sections 4.1, 4.2 and 4.6.
        for (kek, wrapped, key) in [
            (
                "000102030405060708090A0B0C0D0E0F",
                "1FA68B0A8112B447AEF34BD8FB5A7B829D3E862371D2CFE5",
                "00112233445566778899AABBCCDDEEFF",
            ),
            (
                "000102030405060708090A0B0C0D0E0F1011121314151617",
                "96778B25AE6CA435F92B5B97C050AED2468AB8A17AD84E5D",
                "00112233445566778899AABBCCDDEEFF",
            ),
            (
                "000102030405060708090A0B0C0D0E0F101112131415161718191A1B1C1D1E1F",
                "28C9F404C4B810F4CBCCB35CFB87F8263F5786E2D80ED326CBC7F0E71A99F43BFB988B9B7A02DD21",
                "00112233445566778899AABBCCDDEEFF000102030405060708090A0B0C0D0E0F",
            ),
        ] {
            assert_eq!(unwrap(&hex(kek), &hex(wrapped)).unwrap()[..], hex(key));
            let mut other = hex(wrapped);
            other[9] ^= 1;
            assert!(unwrap(&hex(kek), &other).is_none());
        }
    }

    #[test]
    fn a_passphrase_cannot_be_printed_and_has_a_length() {
        let new = |text: &str| Passphrase::new(Secret::new(text.into()));
        let shown = format!("{:?}", new("open sesame").unwrap());
        assert!(!shown.contains("sesame"), "{shown}");
        assert!(new("too short").is_err() && new(&"x".repeat(80)).is_err());
    }
}
