use std::collections::BTreeSet;
use std::ops::Range;
use std::sync::Barrier;
use std::sync::atomic::{AtomicU32, Ordering};

use proptest::prelude::*;
use weave_core::mesh::{PeerName, SessionKey};
use weave_core::time::Instant;

use super::schedule::EpochKey;
use super::*;

const SUITES: [Suite; 2] = [Suite::Aes128Gcm, Suite::ChaCha20Poly1305];
const START: Instant = Instant::ORIGIN;

fn own() -> PeerName {
    PeerName::from_bytes([0x7a, 0x9f, 0xeb, 0xb6, 0x0c, 0x6e])
}

fn key() -> SessionKey {
    SessionKey(std::array::from_fn(|n| n.try_into().unwrap()))
}

/// Returns a sealer of the side that dialled and an opener of the other side.
fn pair(suite: Suite) -> (Sealer, Opener) {
    (Sealer::new(&key(), true, suite, START), Opener::new(&key(), false, suite))
}

/// Returns a time at which a sealer that seals once per epoch is in this epoch.
fn in_epoch(number: u32) -> Instant {
    START + EPOCH_AGE * number
}

fn with_room(text: &[u8]) -> Vec<u8> {
    [&[0; HEADER_LEN], text, &[0; TAG_LEN]].concat()
}

fn seal(sealer: &Sealer, now: Instant, text: &[u8]) -> Vec<u8> {
    let mut datagram = with_room(text);
    sealer.seal(now, own(), &mut datagram);
    datagram
}

fn open(opener: &mut Opener, datagram: &[u8]) -> Result<Vec<u8>, OpenError> {
    opener.open(&mut datagram.to_vec()).map(<[u8]>::to_vec)
}

fn number(datagram: &[u8]) -> (u8, u32) {
    (datagram[1], u32::from_be_bytes(datagram[8..12].try_into().unwrap()))
}

fn unhex(text: &str) -> Vec<u8> {
    hex::decode(text).unwrap()
}

/// Computed by this program, with the session key 00 01 .. 1f:
///
/// ```python
/// import hmac
/// from cryptography.hazmat.primitives.ciphers.aead import AESGCM, ChaCha20Poly1305
///
/// def mac(key, text): return hmac.digest(key, text, "sha256")
/// def expand(prk, info, n): return mac(prk, info + b"\x01")[:n]
/// def datagram(suite, side, epoch, counter, own, text):
///     aead, key_len = {b"aes128gcm": (AESGCM, 16), b"chacha20poly1305": (ChaCha20Poly1305, 32)}[suite]
///     root = mac(bytes(32), bytes(range(32)))
///     secret = expand(root, b"weave native 1 " + suite + b" from " + side, 32)
///     for _ in range(epoch):
///         secret = expand(secret, b"weave native 1 next", 32)
///     key = expand(secret, b"weave native 1 key", key_len)
///     iv = expand(secret, b"weave native 1 iv", 12)
///     nonce = (int.from_bytes(iv, "big") ^ counter).to_bytes(12, "big")
///     header = bytes([3, epoch % 256]) + own + counter.to_bytes(4, "big")
///     return header + aead(key).encrypt(nonce, text, header)
///
/// for suite in (b"aes128gcm", b"chacha20poly1305"):
///     for side, epoch, counter in ((b"dialler", 0, 0), (b"acceptor", 0, 1), (b"dialler", 2, 3), (b"acceptor", 257, 0)):
///         print(datagram(suite, side, epoch, counter, bytes.fromhex("7a9febb60c6e"), b"frame").hex())
/// ```
const DATAGRAMS: [(Suite, [&str; 4]); 2] = [
    (
        Suite::Aes128Gcm,
        [
            "03007a9febb60c6e00000000d9e4deae8d7ff4908407ad08a3e7afe20a5fded524",
            "03007a9febb60c6e00000001fbd54847b56f834293d430a51cff9b1e84d6790858",
            "03027a9febb60c6e00000003c568c3ea8a5b7f6640c4fa37f6dbf57c81c5d8ebdc",
            "03017a9febb60c6e00000000977efd6eee90de9368f9241789dc2c6b57905f6ca5",
        ],
    ),
    (
        Suite::ChaCha20Poly1305,
        [
            "03007a9febb60c6e00000000437dff817df5248e7d88685bc71d5aeb55fbcf4560",
            "03007a9febb60c6e000000011b0d951c6d030ddbd18a520745575bd0d23155ad4b",
            "03027a9febb60c6e000000038511a81a8096e75f4ff541d4f40ac711be278be9cb",
            "03017a9febb60c6e00000000b5c8e4c732be460425c34ddaee6ca2115389d57c8e",
        ],
    ),
];

#[test]
fn datagrams_are_those_of_another_implementation() {
    let places = [(true, 0, 0), (false, 0, 1), (true, 2, 3), (false, 257, 0)];
    for (suite, datagrams) in DATAGRAMS {
        for ((outbound, epoch, counter), expected) in places.into_iter().zip(datagrams) {
            let sealer = Sealer::new(&key(), outbound, suite, START);
            let mut opener = Opener::new(&key(), !outbound, suite);
            let mut sealed = Vec::new();
            for epoch in 0..=epoch {
                sealed = seal(&sealer, in_epoch(epoch), b"frame");
                assert_eq!(open(&mut opener, &sealed), Ok(b"frame".to_vec()), "epoch {epoch}");
            }
            for _ in 0..counter {
                sealed = seal(&sealer, in_epoch(epoch), b"frame");
            }
            assert_eq!(hex::encode(sealed), expected, "{suite:?} {outbound} {epoch} {counter}");
        }
    }
}

/// RFC 8439, section 2.8.2, and test case 4 of "The Galois/Counter Mode of Operation" (McGrew and
/// Viega), which NIST SP 800-38D refers to.
#[test]
fn the_suites_are_those_of_their_specifications() {
    let sunscreen = b"Ladies and Gentlemen of the class of '99: If I could offer you only one tip \
                      for the future, sunscreen would be it.";
    let cases = [
        (
            Suite::ChaCha20Poly1305,
            "808182838485868788898a8b8c8d8e8f909192939495969798999a9b9c9d9e9f",
            "070000004041424344454647",
            "50515253c0c1c2c3c4c5c6c7",
            hex::encode(sunscreen),
            "d31a8d34648e60db7b86afbc53ef7ec2a4aded51296e08fea9e2b5a736ee62d63dbea45e8ca9671282fafb69\
             da92728b1a71de0a9e060b2905d6a5b67ecd3b3692ddbd7f2d778b8c9803aee328091b58fab324e4fad67594\
             5585808b4831d7bc3ff4def08e4b7a9de576d26586cec64b61161ae10b594f09e26a7e902ecbd0600691",
        ),
        (
            Suite::Aes128Gcm,
            "feffe9928665731c6d6a8f9467308308",
            "cafebabefacedbaddecaf888",
            "feedfacedeadbeeffeedfacedeadbeefabaddad2",
            "d9313225f88406e5a55909c5aff5269a86a7a9531534f7da2e4c303d8a318a721c3c0c95956809532fcf0e24\
             49a6b525b16aedf5aa0de657ba637b39"
                .into(),
            "42831ec2217774244b7221b784d0d49ce3aa212f2c02a4e035c17e2329aca12e21d514b25466931c7d8f6a5a\
             ac84aa051ba30b396a0aac973d58e0915bc94fbc3221a5db94fae95ae7121a47",
        ),
    ];
    for (suite, key, nonce, header, text, expected) in cases {
        let (header, mut text) = (unhex(header), unhex(&text));
        let clear = text.clone();
        let key = EpochKey::new(suite, &unhex(key), unhex(nonce).try_into().unwrap());
        let tag = key.seal(0, &header, &mut text);
        text.extend(tag);
        assert_eq!(hex::encode(&text), expected);
        assert!(key.open(0, &header, &mut text).is_ok());
        assert_eq!(text[..clear.len()], clear);
    }
}

/// Returns a number that was taken twice.
fn repeated(taken: &[(u8, u32)]) -> Option<(u8, u32)> {
    let mut seen = BTreeSet::new();
    taken.iter().copied().find(|number| !seen.insert(*number))
}

/// Returns what threads take that all run this function at the same time.
fn taken_by_threads(threads: u32, take: impl Fn(u32) -> Vec<(u8, u32)> + Sync) -> Vec<(u8, u32)> {
    let take = &take;
    std::thread::scope(|scope| {
        let threads: Vec<_> = (0..threads).map(|n| scope.spawn(move || take(n))).collect();
        threads.into_iter().flat_map(|thread| thread.join().unwrap()).collect()
    })
}

#[test]
fn threads_never_share_a_number_of_an_epoch() {
    const LIMIT: u32 = 300;
    for suite in SUITES {
        let sealer = Sealer::with_limit(&key(), true, suite, START, LIMIT);
        let start = Barrier::new(4);
        // Two threads seal single datagrams and two seal batches; one changes epochs by the clock
        // too.
        let taken = taken_by_threads(4, |thread| {
            start.wait();
            let mut taken = Vec::new();
            for round in 0..400 {
                let now = in_epoch(if thread == 3 { round / 100 } else { 0 });
                let batches = if thread < 2 { 1 } else { 7 };
                let (mut arena, ranges) = arena(&vec![&b"text"[..]; batches]);
                if thread < 2 {
                    sealer.seal(now, own(), &mut arena);
                } else {
                    sealer.seal_batch(now, own(), &mut arena, &ranges);
                }
                taken.extend(ranges.into_iter().map(|range| number(&arena[range])));
            }
            taken
        });
        assert_eq!(taken.len(), 2 * 400 + 2 * 400 * 7);
        assert_eq!(repeated(&taken), None);
        assert!(taken.iter().all(|(_, counter)| *counter < LIMIT));
        let epochs: BTreeSet<u8> = taken.iter().map(|(epoch, _)| *epoch).collect();
        assert!((10..200).contains(&epochs.len()), "{} epochs, each once", epochs.len());
    }
}

/// The check above is sound: it finds a counter that is read and then written, and one that starts
/// again under the same key.
#[test]
fn a_broken_counter_is_found() {
    let (counter, both) = (AtomicU32::new(0), Barrier::new(2));
    let taken = taken_by_threads(2, |_| {
        let number = counter.load(Ordering::SeqCst);
        both.wait();
        counter.store(number + 1, Ordering::SeqCst);
        vec![(0, number)]
    });
    assert_eq!(repeated(&taken), Some((0, 0)));

    let again = || number(&seal(&pair(Suite::Aes128Gcm).0, START, b""));
    assert_eq!(repeated(&[again(), again()]), Some((0, 0)));
}

/// Lays out datagrams with these texts in one buffer, with room for headers and tags.
fn arena(texts: &[&[u8]]) -> (Vec<u8>, Vec<Range<usize>>) {
    let (mut arena, mut ranges) = (Vec::new(), Vec::new());
    for text in texts {
        let start = arena.len();
        arena.extend(with_room(text));
        ranges.push(start..arena.len());
    }
    (arena, ranges)
}

#[test]
fn a_batch_is_sealed_as_its_datagrams_are() {
    for suite in SUITES {
        let texts: Vec<Vec<u8>> = (0..150_u8).map(|n| vec![n; n.into()]).collect();
        let slices: Vec<&[u8]> = texts.iter().map(Vec::as_slice).collect();
        let (mut buffer, ranges) = arena(&slices);
        let ((one, _), (batch, mut opener)) = (pair(suite), pair(suite));
        batch.seal_batch(START, own(), &mut buffer, &ranges);
        for (text, range) in texts.iter().zip(ranges) {
            assert_eq!(buffer[range.clone()], seal(&one, START, text));
            assert_eq!(open(&mut opener, &buffer[range]).as_ref(), Ok(text));
        }
    }
}

#[test]
fn the_next_epoch_begins_before_the_numbers_end() {
    let sealer = Sealer::with_limit(&key(), true, Suite::Aes128Gcm, START, 200);
    let mut opener = Opener::new(&key(), false, Suite::Aes128Gcm);
    let mut numbers = Vec::new();
    for _ in 0..250 {
        let datagram = seal(&sealer, START, b"text");
        assert_eq!(open(&mut opener, &datagram), Ok(b"text".to_vec()));
        numbers.push(number(&datagram));
    }
    let expected: Vec<_> = (0..3).flat_map(|epoch| (0..100).map(move |n| (epoch, n))).collect();
    assert_eq!(numbers, expected[..250]);
}

#[test]
fn the_next_epoch_begins_after_two_minutes() {
    let (sealer, _) = pair(Suite::Aes128Gcm);
    let times = [0, 119_999, 120_000, 239_999, 240_000, 3_600_000, 3_600_001];
    let epochs = times.map(|ms| {
        let now = START + Duration::from_millis(ms);
        number(&seal(&sealer, now, b"")).0
    });
    assert_eq!(epochs, [0, 0, 1, 1, 2, 3, 3], "an idle time counts as one epoch");
}

#[test]
fn any_change_is_detected() {
    for suite in SUITES {
        let (sealer, mut opener) = pair(suite);
        let datagram = seal(&sealer, START, b"a frame");
        for place in 0..datagram.len() {
            for bit in 0..8 {
                let mut changed = datagram.clone();
                changed[place] ^= 1 << bit;
                let error = open(&mut opener, &changed).unwrap_err();
                let another_epoch = place == 1 && changed[1] >= 15;
                assert_eq!(matches!(error, OpenError::Epoch { .. }), another_epoch, "{error}");
                assert!(another_epoch || error == OpenError::Forged, "{place} {bit}: {error}");
            }
        }
        let shorter = &datagram[..datagram.len() - 1];
        assert_eq!(open(&mut opener, shorter), Err(OpenError::Forged));
        assert_eq!(open(&mut opener, &datagram), Ok(b"a frame".to_vec()));
    }
}

#[test]
fn datagrams_shorter_than_header_and_tag_are_too_short() {
    let (sealer, mut opener) = pair(Suite::Aes128Gcm);
    let datagram = seal(&sealer, START, b"");
    for length in 0..datagram.len() {
        assert_eq!(open(&mut opener, &datagram[..length]), Err(OpenError::TooShort { length }));
    }
    assert_eq!(open(&mut opener, &datagram), Ok(vec![]));
}

#[test]
fn only_the_other_side_of_the_same_connection_opens() {
    for suite in SUITES {
        let (sealer, _) = pair(suite);
        let datagram = seal(&sealer, START, b"a frame");
        let [other] = SUITES
            .map(|other| (other != suite).then_some(other))
            .into_iter()
            .flatten()
            .collect::<Vec<_>>()[..]
        else {
            unreachable!("there are two suites")
        };
        for (what, mut opener) in [
            ("sent back", Opener::new(&key(), true, suite)),
            ("another suite", Opener::new(&key(), false, other)),
            ("another connection", Opener::new(&SessionKey([1; 32]), false, suite)),
        ] {
            assert_eq!(open(&mut opener, &datagram), Err(OpenError::Forged), "{what}");
        }
    }
}

#[test]
fn a_datagram_counts_once_also_across_a_change_of_epoch() {
    let (sealer, mut opener) = pair(Suite::ChaCha20Poly1305);
    let sent: Vec<_> =
        [0, 0, 0, 1, 1, 2].map(|epoch: u8| seal(&sealer, in_epoch(epoch.into()), &[epoch])).into();
    let replayed = Err(OpenError::Replayed);
    assert_eq!(open(&mut opener, &sent[0]), Ok(vec![0]));
    assert_eq!(open(&mut opener, &sent[0]), replayed);
    assert_eq!(open(&mut opener, &sent[4]), Ok(vec![1]));
    assert_eq!(open(&mut opener, &sent[0]), replayed, "remembered beyond the change");
    assert_eq!(open(&mut opener, &sent[2]), Ok(vec![0]), "late, but not too late");
    assert_eq!(open(&mut opener, &sent[2]), replayed);
    assert_eq!(open(&mut opener, &sent[3]), Ok(vec![1]));
    assert_eq!(open(&mut opener, &sent[4]), replayed);
    assert_eq!(open(&mut opener, &sent[5]), Ok(vec![2]));
    let too_late = Err(OpenError::Epoch { epoch: 0, current: 2 });
    assert_eq!(open(&mut opener, &sent[1]), too_late, "two epochs ago");
    for datagram in &sent[3..] {
        assert_eq!(open(&mut opener, datagram), replayed);
    }
}

#[test]
fn counters_older_than_the_window_are_rejected() {
    let (sealer, mut opener) = pair(Suite::Aes128Gcm);
    let first = seal(&sealer, START, b"");
    for _ in 0..1024 * 64 {
        let _ = seal(&sealer, START, b"");
    }
    let last = seal(&sealer, START, b"");
    assert_eq!(open(&mut opener, &last), Ok(vec![]));
    assert_eq!(open(&mut opener, &first), Err(OpenError::Replayed));
}

#[test]
fn epochs_can_be_lost_on_the_way() {
    let (sealer, mut opener) = pair(Suite::Aes128Gcm);
    let sent: Vec<_> = (0..40).map(|epoch| seal(&sealer, in_epoch(epoch), b"text")).collect();
    let ok = Ok(b"text".to_vec());
    let unknown = |epoch, current| Err(OpenError::Epoch { epoch, current });
    assert_eq!(open(&mut opener, &sent[16]), unknown(16, 0));
    assert_eq!(open(&mut opener, &sent[15]), ok, "before the first one of this connection");
    assert_eq!(open(&mut opener, &sent[14]), ok, "late");
    assert_eq!(open(&mut opener, &sent[14]), Err(OpenError::Replayed));
    assert_eq!(open(&mut opener, &sent[13]), unknown(13, 15));
    assert_eq!(open(&mut opener, &sent[30]), unknown(30, 15));
    assert_eq!(open(&mut opener, &sent[29]), ok);
    assert_eq!(open(&mut opener, &sent[15]), unknown(15, 29));
    assert_eq!(open(&mut opener, &sent[30]), ok, "the next one");
    assert_eq!(open(&mut opener, &sent[29]), Err(OpenError::Replayed));
}

#[test]
fn forged_datagrams_change_nothing() {
    let (sealer, mut opener) = pair(Suite::Aes128Gcm);
    let genuine = seal(&sealer, START, b"text");
    for epoch in 0..=255 {
        for counter in [0, 1, u32::MAX] {
            let mut forged = genuine.clone();
            forged[1] = epoch;
            forged[8..12].copy_from_slice(&counter.to_be_bytes());
            if (epoch, counter) != (0, 0) {
                let expected = if epoch < 16 {
                    OpenError::Forged
                } else {
                    OpenError::Epoch { epoch, current: 0 }
                };
                assert_eq!(open(&mut opener, &forged), Err(expected));
            }
        }
    }
    assert_eq!(open(&mut opener, &genuine), Ok(b"text".to_vec()));
    let next = seal(&sealer, in_epoch(1), b"next");
    assert_eq!(open(&mut opener, &next), Ok(b"next".to_vec()));
}

#[test]
fn too_many_forged_datagrams_end_the_session() {
    let (sealer, opener) = pair(Suite::Aes128Gcm);
    let mut opener = opener.with_limit(3);
    let genuine: Vec<_> = (0..3).map(|epoch| seal(&sealer, in_epoch(epoch), b"")).collect();
    let mut forged = genuine[0].clone();
    forged[11] ^= 1;
    assert_eq!(open(&mut opener, &forged), Err(OpenError::Forged));
    assert_eq!(open(&mut opener, &forged), Err(OpenError::Forged));
    // Neither success nor another key resets the count: the limit is that of the connection.
    assert_eq!(open(&mut opener, &genuine[0]), Ok(vec![]));
    assert_eq!(open(&mut opener, &genuine[1]), Ok(vec![]));
    // Datagrams rejected without decryption do not count.
    assert_eq!(open(&mut opener, &genuine[1]), Err(OpenError::Replayed));
    assert_eq!(open(&mut opener, &forged), Err(OpenError::Forged));
    assert_eq!(open(&mut opener, &genuine[2]), Err(OpenError::TooManyForged));
    assert_eq!(open(&mut opener, &forged), Err(OpenError::TooManyForged));
}

#[test]
fn debug_output_contains_no_keys() {
    let (sealer, opener) = pair(Suite::Aes128Gcm);
    let shown = format!("{sealer:?} {opener:?}");
    assert!(shown.contains("EpochKey(..)") && shown.contains("Ratchet(aes128gcm, ..)"), "{shown}");
}

#[derive(Clone, Debug)]
enum Step {
    /// Seals so many datagrams, then lets so many epochs pass, all but the last without a datagram:
    /// an epoch ends when something is sealed.
    Seal(usize, u32),
    /// Delivers the datagram sealed so many before the latest.
    Deliver(usize),
    /// Delivers it with one bit changed.
    Change(usize, usize),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        3 => (1..4_usize, 0..4_u32).prop_map(|(count, epochs)| Step::Seal(count, epochs)),
        6 => (0..40_usize).prop_map(Step::Deliver),
        1 => (0..40_usize, any::<usize>()).prop_map(|(back, bit)| Step::Change(back, bit)),
    ];
    prop::collection::vec(step, 1..300)
}

proptest! {
    #[test]
    fn opens_exactly_what_the_rules_allow(steps in steps()) {
        let (sealer, mut opener) = pair(Suite::Aes128Gcm);
        let (mut sent, mut epoch): (Vec<(u32, Vec<u8>)>, _) = (Vec::new(), 0);
        let (mut current, mut came) = (0, BTreeSet::new());
        for step in steps {
            match step {
                Step::Seal(count, epochs) => {
                    for _ in 0..count {
                        let text = sent.len().to_be_bytes();
                        sent.push((epoch, seal(&sealer, in_epoch(epoch), &text)));
                    }
                    for _ in 0..epochs {
                        epoch += 1;
                        let _ = seal(&sealer, in_epoch(epoch), b"lost");
                    }
                }
                Step::Deliver(back) => {
                    let Some(index) = sent.len().checked_sub(1 + back) else { continue };
                    let (epoch, datagram) = &sent[index];
                    let distance = i64::from(*epoch) - i64::from(current);
                    // Beyond this distance the octet stands for another epoch.
                    if distance.abs() >= 128 {
                        continue;
                    }
                    let octet = |n: u32| n.to_be_bytes()[3];
                    let last = if current == 0 { 15 } else { 14 };
                    let expected = if !(-1..=last).contains(&distance) {
                        Err(OpenError::Epoch { epoch: octet(*epoch), current: octet(current) })
                    } else if came.insert(index) {
                        current = current.max(*epoch);
                        Ok(index.to_be_bytes().to_vec())
                    } else {
                        Err(OpenError::Replayed)
                    };
                    prop_assert_eq!(open(&mut opener, datagram), expected);
                }
                Step::Change(back, bit) => {
                    let Some(index) = sent.len().checked_sub(1 + back) else { continue };
                    let mut changed = sent[index].1.clone();
                    let bit = bit % (changed.len() * 8);
                    changed[bit / 8] ^= 1 << (bit % 8);
                    prop_assert!(open(&mut opener, &changed).is_err());
                }
            }
        }
    }
}
