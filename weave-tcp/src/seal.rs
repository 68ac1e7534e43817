//! Sealing of record bodies.
//!
//! Keys belong to one direction of one TCP connection: they are derived from the session key of the
//! mesh connection and from a salt of each side. The nonce is the number of the record, so a record
//! that is repeated, left out or moved does not open.
//!
//! ChaCha20-Poly1305 has no limit of data per key that a connection reaches, as AES-GCM has.

use ring::aead::{Aad, CHACHA20_POLY1305, LessSafeKey, Nonce, UnboundKey};
use ring::hkdf::{HKDF_SHA256, Prk, Salt as HkdfSalt};
use weave_core::mesh::SessionKey;

use crate::wire::{LENGTH_LEN, MAX_BODY, Salt, StreamError, TAG_LEN};

/// The name of the cipher in the status.
pub(crate) const CIPHER: &str = "chacha20poly1305";

const FROM_DIALLER: &[u8] = b"weave tcp 1: from the dialler";
const FROM_ACCEPTOR: &[u8] = b"weave tcp 1: from the acceptor";

/// Which side of the TCP connection this is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Side {
    Dialler,
    Acceptor,
}

/// Seals the bodies that leave; without a key they stay as they are.
pub(crate) struct Sealer(Option<Numbered>);

/// Opens the bodies that come in.
pub(crate) struct Opener(Option<Numbered>);

struct Numbered {
    key: LessSafeKey,
    next: u64,
}

impl Numbered {
    fn nonce(&mut self) -> Nonce {
        let mut nonce = [0; 12];
        nonce[4..].copy_from_slice(&self.next.to_be_bytes());
        self.next += 1;
        Nonce::assume_unique_for_key(nonce)
    }
}

/// Returns the keys of a TCP connection. Without a session key nothing is sealed.
pub(crate) fn keys(
    session_key: Option<&SessionKey>,
    side: Side,
    dialler: &Salt,
    acceptor: &Salt,
) -> (Sealer, Opener) {
    let Some(SessionKey(secret)) = session_key else { return (Sealer(None), Opener(None)) };
    let extracted = HkdfSalt::new(HKDF_SHA256, &[*dialler, *acceptor].concat()).extract(secret);
    let [from_dialler, from_acceptor] =
        [FROM_DIALLER, FROM_ACCEPTOR].map(|label| derive(&extracted, label));
    match side {
        Side::Dialler => (Sealer(from_dialler), Opener(from_acceptor)),
        Side::Acceptor => (Sealer(from_acceptor), Opener(from_dialler)),
    }
}

#[allow(clippy::expect_used, reason = "the length of the key is that of the cipher")]
fn derive(extracted: &Prk, label: &[u8]) -> Option<Numbered> {
    let label = [label];
    let expanded = extracted.expand(&label, &CHACHA20_POLY1305).expect("32 bytes can be derived");
    Some(Numbered { key: LessSafeKey::new(UnboundKey::from(expanded)), next: 0 })
}

impl Sealer {
    /// Appends a record to `buffer` whose content `encode` appends.
    pub(crate) fn append(&mut self, buffer: &mut Vec<u8>, encode: impl FnOnce(&mut Vec<u8>)) {
        let start = buffer.len();
        buffer.extend_from_slice(&[0; LENGTH_LEN]);
        encode(buffer);
        let tag_len = if self.0.is_some() { TAG_LEN } else { 0 };
        let body_len = buffer.len() - start - LENGTH_LEN + tag_len;
        debug_assert!(body_len <= MAX_BODY, "the caller checks that it fits");
        let length = u32::try_from(body_len).unwrap_or(u32::MAX).to_be_bytes();
        let (head, body) = buffer[start..].split_at_mut(LENGTH_LEN);
        head.copy_from_slice(&length);
        if let Some(numbered) = &mut self.0 {
            let nonce = numbered.nonce();
            let sealed = numbered.key.seal_in_place_separate_tag(nonce, Aad::from(length), body);
            match sealed {
                Ok(tag) => buffer.extend_from_slice(tag.as_ref()),
                // Bodies are far shorter than the cipher's limit.
                Err(ring::error::Unspecified) => buffer.truncate(start),
            }
        }
    }
}

impl Opener {
    /// Opens the body that `length` precedes, and returns its content.
    ///
    /// # Errors
    /// It was not sealed as the next one of this connection.
    pub(crate) fn open<'a>(
        &mut self,
        length: [u8; LENGTH_LEN],
        body: &'a mut [u8],
    ) -> Result<&'a [u8], StreamError> {
        let Some(numbered) = &mut self.0 else { return Ok(body) };
        let nonce = numbered.nonce();
        match numbered.key.open_in_place(nonce, Aad::from(length), body) {
            Ok(content) => Ok(content),
            Err(ring::error::Unspecified) => Err(StreamError::Sealed),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: SessionKey = SessionKey([7; 32]);

    fn record(sealer: &mut Sealer, content: &[u8]) -> Vec<u8> {
        let mut buffer = Vec::new();
        sealer.append(&mut buffer, |buffer| buffer.extend_from_slice(content));
        buffer
    }

    fn open(opener: &mut Opener, mut record: Vec<u8>) -> Result<Vec<u8>, StreamError> {
        let (length, body) = record.split_at_mut(LENGTH_LEN);
        opener.open(length.try_into().unwrap(), body).map(<[u8]>::to_vec)
    }

    #[test]
    fn records_open_in_order_and_once() {
        let (mut sealer, _) = keys(Some(&KEY), Side::Dialler, &[1; 16], &[2; 16]);
        let records: Vec<_> = (0..3).map(|n| record(&mut sealer, &[n; 40])).collect();
        assert!(!records[0].windows(40).any(|part| part == [0; 40]), "nothing is in clear");
        let opener = || keys(Some(&KEY), Side::Acceptor, &[1; 16], &[2; 16]).1;
        let mut in_order = opener();
        for (n, record) in (0..).zip(&records) {
            assert_eq!(open(&mut in_order, record.clone()), Ok(vec![n; 40]));
        }
        let mut repeated = opener();
        open(&mut repeated, records[0].clone()).unwrap();
        assert_eq!(open(&mut repeated, records[0].clone()), Err(StreamError::Sealed));
        assert_eq!(open(&mut opener(), records[1].clone()), Err(StreamError::Sealed));
    }

    #[test]
    fn other_keys_salts_and_directions_open_nothing() {
        let (mut sealer, mut own) = keys(Some(&KEY), Side::Dialler, &[1; 16], &[2; 16]);
        let record = record(&mut sealer, b"frame");
        let other = SessionKey([8; 32]);
        let mut openers = [
            keys(Some(&other), Side::Acceptor, &[1; 16], &[2; 16]).1,
            keys(Some(&KEY), Side::Acceptor, &[3; 16], &[2; 16]).1,
            keys(Some(&KEY), Side::Acceptor, &[1; 16], &[3; 16]).1,
        ];
        for opener in openers.iter_mut().chain([&mut own]) {
            assert_eq!(open(opener, record.clone()), Err(StreamError::Sealed));
        }
        let mut longer = record;
        longer[3] += 1;
        let mut opener = keys(Some(&KEY), Side::Acceptor, &[1; 16], &[2; 16]).1;
        assert_eq!(open(&mut opener, longer), Err(StreamError::Sealed), "the length is sealed too");
    }

    #[test]
    fn without_a_key_records_are_in_clear() {
        let (mut sealer, _) = keys(None, Side::Dialler, &[1; 16], &[2; 16]);
        assert_eq!(record(&mut sealer, b"ab"), b"\0\0\0\x02ab");
    }
}
