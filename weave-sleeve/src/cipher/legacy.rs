//! The encryption of Weave Net 2.x (spec sleeve.md, section 2).
//!
//! ```text
//!   word (8)    bit 63: "don't fragment"; bits 62-0: sequence number
//!   tag (16)    Poly1305
//!   the rest    XSalsa20 over the records
//!
//!   nonce (24)  | 80 if the sender dialled, else 00 | 15 zeros | word |
//! ```
//!
//! Both directions and both channels share the key and differ in the nonce. Sequence numbers start
//! at zero with each connection, which has a new key. Bit 0x40 of the first byte belongs to the
//! mesh connection.

use std::sync::atomic::{AtomicU64, Ordering};

use weave_core::mesh::SessionKey;
use weave_secretbox::{Message, PREFIX_LEN, PrefixKey, TAG_LEN};

use super::{Channel, NoncesExhausted, OpenError};
use crate::datagram::NAME_LEN;
use crate::replay::Windows;

const WORD_LEN: usize = 8;
const NAME_AND_WORD: usize = NAME_LEN + WORD_LEN;
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
    /// Length of the header that precedes the records: name, word, tag.
    pub const HEADER_LEN: usize = NAME_LEN + WORD_LEN + TAG_LEN;

    /// Starts a session; `outbound` is true on the side that dialled.
    pub fn new(key: &SessionKey, outbound: bool) -> Self {
        Self::starting_at(key, outbound, 0)
    }

    /// Starts at a later sequence number.
    fn starting_at(key: &SessionKey, outbound: bool, sequence: u64) -> Self {
        Self {
            sealing: PrefixKey::new(&key.0, &nonce_prefix(outbound)),
            opening: PrefixKey::new(&key.0, &nonce_prefix(!outbound)),
            next_unfragmented: AtomicU64::new(sequence),
            next_fragmentable: AtomicU64::new(sequence),
        }
    }

    /// Seals what follows the name in `count` datagrams.
    pub(super) fn seal<'d>(
        &self,
        channel: Channel,
        count: usize,
        datagrams: impl Iterator<Item = &'d mut [u8]>,
    ) -> Result<(), NoncesExhausted> {
        let (counter, flag) = match channel {
            Channel::DontFragment => (&self.next_unfragmented, DONT_FRAGMENT),
            Channel::Fragmentable => (&self.next_fragmentable, 0),
        };
        // Numbers stay within 63 bits, and so are never used twice. No other memory depends on the
        // order in which threads take theirs.
        let first = counter
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |n| {
                n.checked_add(count as u64).filter(|end| *end <= DONT_FRAGMENT)
            })
            .map_err(|_| NoncesExhausted)?;
        let numbers = first..first + count as u64;
        self.sealing.seal_each(numbers.zip(datagrams).map(|(sequence, datagram)| {
            let (word, tag, text) = split(datagram).expect("made with room for the header");
            *word = (sequence | flag).to_be_bytes();
            Message { nonce: *word, tag, text }
        }));
        Ok(())
    }

    /// Opens datagrams of which all but the last have the length `each_len`, and passes the records
    /// of each to `each`. Those that are too short come last.
    pub(super) fn open<'d>(
        &self,
        windows: &mut Windows,
        batch: &'d mut [u8],
        each_len: usize,
        mut each: impl FnMut(Result<&'d [u8], OpenError>),
    ) {
        let last = batch.len() % each_len;
        let short = match each_len {
            ..Self::HEADER_LEN => batch.len(),
            _ if last < Self::HEADER_LEN => last,
            _ => 0,
        };
        let (whole, short) = batch.split_at_mut(batch.len() - short);
        let messages = whole.chunks_mut(each_len).map(|datagram| {
            let (word, tag, text) = split(datagram).expect("long enough for the header");
            Message { nonce: *word, tag, text }
        });
        self.opening.open_each(messages, |word, opened| {
            each(opened.map_err(|_| OpenError::Forged).and_then(|records| {
                let word = u64::from_be_bytes(word);
                let window = if word & DONT_FRAGMENT == 0 {
                    &mut windows.fragmentable
                } else {
                    &mut windows.unfragmented
                };
                let first = window.admit(word & !DONT_FRAGMENT);
                if first { Ok(&*records) } else { Err(OpenError::Replayed) }
            }));
        });
        for datagram in short.chunks(each_len) {
            let length = datagram.len();
            each(Err(match length {
                ..NAME_AND_WORD => OpenError::TooShort { length },
                _ => OpenError::Forged,
            }));
        }
    }
}

/// Splits a datagram into word, tag and records.
fn split(datagram: &mut [u8]) -> Option<(&mut [u8; WORD_LEN], &mut [u8; TAG_LEN], &mut [u8])> {
    let (word, rest) = datagram.get_mut(NAME_LEN..)?.split_first_chunk_mut()?;
    let (tag, records) = rest.split_first_chunk_mut()?;
    Some((word, tag, records))
}

/// Returns the beginning of all nonces of a direction.
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
    fn the_last_sequence_number_is_used_once() {
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
    fn reflected_datagrams_are_rejected() {
        let side = Cipher::Legacy(LegacyBox::new(&SessionKey([7; 32]), true));
        let mut datagram = [0; LegacyBox::HEADER_LEN + 20];
        side.seal(PeerName::from_bytes([1; 6]), Channel::DontFragment, &mut datagram).unwrap();
        assert_eq!(side.open(&mut Windows::default(), &mut datagram), Err(OpenError::Forged));
    }

    #[test]
    fn a_batch_is_sealed_as_its_datagrams_would_be() {
        let (key, own) = (SessionKey([7; 32]), PeerName::from_bytes([1; 6]));
        // A gap precedes each datagram, as it may in a buffer.
        let lengths = [[LegacyBox::HEADER_LEN + 400; 20].as_slice(), &[30, 31, 1472, 30]].concat();
        let mut end = 0;
        let ranges: Vec<_> = lengths
            .iter()
            .map(|length| {
                end += 3 + length;
                end - length..end
            })
            .collect();
        let plain: Vec<u8> = (0..=255).cycle().take(end).collect();
        let cipher = || Cipher::Legacy(LegacyBox::new(&key, true));

        let mut batch = plain.clone();
        cipher().seal_batch(own, Channel::DontFragment, &mut batch, &ranges).unwrap();
        let (mut alone, cipher) = (plain, cipher());
        for range in ranges {
            cipher.seal(own, Channel::DontFragment, &mut alone[range]).unwrap();
        }
        assert!(batch == alone);
    }

    #[test]
    fn each_datagram_of_a_batch_is_reported() {
        let key = SessionKey([7; 32]);
        let sealer = Cipher::Legacy(LegacyBox::new(&key, true));
        let own = PeerName::from_bytes([1; 6]);
        const LEN: usize = LegacyBox::HEADER_LEN + 50;
        for (tail, last) in [
            (LEN, Ok(50)),
            (LegacyBox::HEADER_LEN, Ok(0)),
            (LegacyBox::HEADER_LEN - 1, Err(OpenError::Forged)),
            (NAME_AND_WORD - 1, Err(OpenError::TooShort { length: NAME_AND_WORD - 1 })),
        ] {
            let opener = Cipher::Legacy(LegacyBox::new(&key, false));
            let mut batch = vec![0; 20 * LEN + tail];
            for datagram in batch.chunks_mut(LEN).filter(|it| it.len() >= LegacyBox::HEADER_LEN) {
                sealer.seal(own, Channel::DontFragment, datagram).unwrap();
            }
            batch.copy_within(..LEN, 17 * LEN);
            batch[5 * LEN + NAME_LEN] ^= 1;
            let mut reported = Vec::new();
            opener.open_batch(&mut Windows::default(), &mut batch, LEN, |opened| {
                reported.push(opened.map(<[u8]>::len));
            });
            let mut expected = vec![Ok(50); 20];
            expected[5] = Err(OpenError::Forged);
            expected[17] = Err(OpenError::Replayed);
            expected.push(last);
            assert_eq!(reported, expected);
        }
        // All datagrams are too short, or there are none.
        for (length, datagrams) in [(60, 6), (0, 0)] {
            let mut count = 0;
            sealer.open_batch(&mut Windows::default(), &mut vec![0; length], 10, |opened| {
                assert_eq!(opened, Err(OpenError::TooShort { length: 10 }));
                count += 1;
            });
            assert_eq!(count, datagrams);
        }
    }

    #[test]
    fn threads_never_share_a_number() {
        let side = LegacyBox::new(&SessionKey([7; 32]), true);
        let mut words: Vec<[u8; 8]> = std::thread::scope(|scope| {
            let take = || {
                let mut taken = Vec::new();
                for _ in 0..200 {
                    let mut datagrams = [[0; LegacyBox::HEADER_LEN]; 3];
                    let each = datagrams.iter_mut().map(|datagram| &mut datagram[..]);
                    side.seal(Channel::DontFragment, 3, each).unwrap();
                    taken.extend(
                        datagrams.map(|datagram| *datagram[NAME_LEN..].first_chunk().unwrap()),
                    );
                }
                taken
            };
            let threads: Vec<_> = (0..4).map(|_| scope.spawn(take)).collect();
            threads.into_iter().flat_map(|thread| thread.join().unwrap()).collect()
        });
        words.sort_unstable();
        let expected: Vec<_> = (0..2400_u64).map(|n| (n | 1 << 63).to_be_bytes()).collect();
        assert_eq!(words, expected);
    }
}
