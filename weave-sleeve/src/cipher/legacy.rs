//! The seal of Weave Net 2.x (spec sleeve.md, section 2).
//!
//! ```text
//!   word (8)    bit 63: "don't fragment"; bits 62-0: sequence number
//!   tag (16)    Poly1305
//!   the rest    XSalsa20 over the records
//!
//!   nonce (24)  | 80 if the sender dialled, else 00 | 15 zeros | word |
//! ```
//!
//! Both directions and both channels share the key and differ in the nonce; sequence numbers
//! start at zero with each connection, which has a new key. Bit 0x40 of the first byte belongs to
//! the mesh connection.

use std::sync::atomic::{AtomicU64, Ordering};

use weave_core::mesh::SessionKey;
use weave_core::secretbox::{PREFIX_LEN, PrefixKey, TAG_LEN};

use super::{Channel, NoncesExhausted, OpenError};
use crate::datagram::NAME_LEN;
use crate::replay::Windows;

const WORD_LEN: usize = 8;
const DONT_FRAGMENT: u64 = 1 << 63;

/// XSalsa20-Poly1305 under a session key, with the sequence numbers of both channels.
///
/// Several threads may seal at once: each takes its own number.
#[derive(Debug)]
pub struct LegacyBox {
    sealing: PrefixKey,
    opening: PrefixKey,
    next_unfragmented: AtomicU64,
    next_fragmentable: AtomicU64,
}

impl LegacyBox {
    /// What precedes the records: name, word, tag.
    pub const HEADER_LEN: usize = NAME_LEN + WORD_LEN + TAG_LEN;

    /// A fresh session; `outbound` if this side dialled.
    pub fn new(key: &SessionKey, outbound: bool) -> Self {
        Self::starting_at(key, outbound, 0)
    }

    /// The same, at a later point of the session.
    fn starting_at(key: &SessionKey, outbound: bool, sequence: u64) -> Self {
        Self {
            sealing: PrefixKey::new(&key.0, &nonce_prefix(outbound)),
            opening: PrefixKey::new(&key.0, &nonce_prefix(!outbound)),
            next_unfragmented: AtomicU64::new(sequence),
            next_fragmentable: AtomicU64::new(sequence),
        }
    }

    /// Seals what follows the name.
    pub(super) fn seal(&self, channel: Channel, rest: &mut [u8]) -> Result<(), NoncesExhausted> {
        let (counter, flag) = match channel {
            Channel::DontFragment => (&self.next_unfragmented, DONT_FRAGMENT),
            Channel::Fragmentable => (&self.next_fragmentable, 0),
        };
        // Never beyond 63 bits, and so never the same number twice. No other memory depends on
        // the order in which threads take theirs.
        let sequence = counter
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |n| {
                (n < DONT_FRAGMENT).then_some(n + 1)
            })
            .map_err(|_| NoncesExhausted)?;
        let word = (sequence | flag).to_be_bytes();
        let (header, records) =
            rest.split_first_chunk_mut::<{ WORD_LEN + TAG_LEN }>().expect("made with room for it");
        let tag = self.sealing.seal_in_place(&word, records);
        header[..WORD_LEN].copy_from_slice(&word);
        header[WORD_LEN..].copy_from_slice(&tag);
        Ok(())
    }

    /// Opens what follows the name.
    pub(super) fn open<'d>(
        &self,
        windows: &mut Windows,
        rest: &'d mut [u8],
    ) -> Result<&'d [u8], OpenError> {
        let length = rest.len() + NAME_LEN;
        let Some((word, rest)) = rest.split_first_chunk_mut::<WORD_LEN>() else {
            return Err(OpenError::TooShort { length });
        };
        let Some((tag, records)) = rest.split_first_chunk_mut::<TAG_LEN>() else {
            return Err(OpenError::Forged);
        };
        self.opening.open_in_place(word, tag, records).map_err(|_| OpenError::Forged)?;
        let word = u64::from_be_bytes(*word);
        let window = if word & DONT_FRAGMENT == 0 {
            &mut windows.fragmentable
        } else {
            &mut windows.unfragmented
        };
        if window.admit(word & !DONT_FRAGMENT) { Ok(records) } else { Err(OpenError::Replayed) }
    }
}

/// What all nonces of a direction begin with.
fn nonce_prefix(sender_dialled: bool) -> [u8; PREFIX_LEN] {
    let mut prefix = [0; PREFIX_LEN];
    prefix[0] = if sender_dialled { 0x80 } else { 0 };
    prefix
}

#[cfg(test)]
mod tests {
    use weave_core::mesh::PeerName;

    use super::*;
    use crate::cipher::Cipher;

    #[test]
    fn the_last_number_is_used_once() {
        let key = SessionKey([7; 32]);
        let sealer = Cipher::Legacy(LegacyBox::starting_at(&key, true, (1 << 63) - 1));
        let opener = Cipher::Legacy(LegacyBox::new(&key, false));
        let own = PeerName::from_bytes([1; 6]);
        for channel in [Channel::DontFragment, Channel::Fragmentable] {
            let mut datagram = [0; LegacyBox::HEADER_LEN];
            sealer.seal(own, channel, &mut datagram).unwrap();
            assert_eq!(opener.open(&mut Windows::default(), &mut datagram), Ok(&[][..]));
            for _ in 0..3 {
                assert_eq!(sealer.seal(own, channel, &mut datagram), Err(NoncesExhausted));
            }
        }
    }

    #[test]
    fn what_was_sent_back_is_not_believed() {
        let side = Cipher::Legacy(LegacyBox::new(&SessionKey([7; 32]), true));
        let mut datagram = [0; LegacyBox::HEADER_LEN + 20];
        side.seal(PeerName::from_bytes([1; 6]), Channel::DontFragment, &mut datagram).unwrap();
        assert_eq!(side.open(&mut Windows::default(), &mut datagram), Err(OpenError::Forged));
    }

    #[test]
    fn threads_never_share_a_number() {
        let side = LegacyBox::new(&SessionKey([7; 32]), true);
        let mut words: Vec<[u8; 8]> = std::thread::scope(|scope| {
            let take = || {
                let mut taken = Vec::new();
                for _ in 0..500 {
                    let mut rest = [0; WORD_LEN + TAG_LEN];
                    side.seal(Channel::DontFragment, &mut rest).unwrap();
                    taken.push(*rest.first_chunk().unwrap());
                }
                taken
            };
            let threads: Vec<_> = (0..4).map(|_| scope.spawn(take)).collect();
            threads.into_iter().flat_map(|thread| thread.join().unwrap()).collect()
        });
        words.sort_unstable();
        let expected: Vec<_> = (0..2000_u64).map(|n| (n | 1 << 63).to_be_bytes()).collect();
        assert_eq!(words, expected);
    }
}
