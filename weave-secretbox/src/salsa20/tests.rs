//! Each backend against the published vectors and against the crate `salsa20`.

use proptest::collection::vec;
use proptest::prelude::*;
use salsa20::cipher::{KeyIvInit, StreamCipher, StreamCipherSeek};

use super::*;

/// "Salsa20 specification", section 9, the example with a 32-byte key.
#[test]
fn expands_as_specified() {
    let key: Vec<u8> = (1..=16).chain(201..=216).collect();
    let input: Vec<u8> = (101..=116).collect();
    let mut block = [0; 64];
    portable::apply(&initial(&array(&key), &array(&input)), &mut block);
    let expected = [
        69, 37, 68, 39, 41, 15, 107, 193, 255, 139, 122, 6, 170, 233, 217, 98, 89, 144, 182, 106,
        21, 51, 200, 65, 239, 49, 222, 34, 215, 114, 40, 126, 104, 197, 7, 225, 197, 153, 31, 2,
        102, 78, 76, 176, 84, 245, 246, 184, 177, 160, 133, 130, 6, 72, 149, 119, 192, 195, 132,
        236, 234, 103, 246, 74,
    ];
    assert_eq!(block, expected);
}

/// "Cryptography in NaCl", section 8: from the shared secret to the two derived keys.
#[test]
fn derives_as_nacl_does() {
    let shared = "4a5d9d5ba4ce2de1728e3bf480350f25e07e21c947d19e3376f09b3c1e161742";
    let first = hsalsa20(&array(&hex::decode(shared).unwrap()), &[0; 16]);
    assert_eq!(
        hex::encode(first),
        "1b27556473e985d462cd51197a9a46c76009549eac6474f206c4ee0844f68389"
    );
    let prefix = hex::decode("69696ee955b62b73cd62bda875fc73d6").unwrap();
    assert_eq!(
        hex::encode(hsalsa20(&first, &array(&prefix))),
        "dc908dda0b9344a953629b733820778880f3ceb421bb61b91cbd4c3e66256ce4"
    );
}

#[test]
fn every_length_is_the_reference_in_place() {
    let (key, nonce) = ([0x5a; 32], [0xa5; 8]);
    let stream = reference(&key, &nonce, 0, 1100);
    let text: Vec<u8> = (0..1100).map(|i: u32| i.to_le_bytes()[0]).collect();
    for backend in Backend::available() {
        for len in 0..=text.len() {
            let mut place = text[..len].to_vec();
            Salsa20::with_backend(backend, &key, &nonce).apply(&mut place);
            assert_eq!(place, xor(&text[..len], &stream), "{len} bytes, {backend}");
        }
    }
}

#[test]
fn the_block_number_carries_into_its_upper_half_between_lanes() {
    let (key, nonce) = ([1; 32], [2; 8]);
    for backend in Backend::available() {
        for before in 0..20 {
            let block = (1 << 32) - before;
            let mut text = vec![0; 24 * BLOCK_LEN];
            starting_at(backend, &key, &nonce, block).apply(&mut text);
            let expected = reference(&key, &nonce, block * BLOCK_LEN as u64, text.len());
            assert_eq!(text, expected, "block {block}, {backend}");
        }
    }
}

proptest! {
    /// Whatever the pieces a message comes in, their alignment and where in the stream they lie.
    #[test]
    fn pieces_anywhere_are_the_reference(
        key: [u8; 32],
        nonce: [u8; 8],
        block in 0u64..1 << 40,
        pieces in vec(0usize..2500, 0..6),
        gap in 0usize..70,
    ) {
        let len = pieces.iter().sum();
        let expected = reference(&key, &nonce, block * BLOCK_LEN as u64, len);
        for backend in Backend::available() {
            let mut memory = vec![0; gap + len];
            let mut stream = starting_at(backend, &key, &nonce, block);
            let mut rest = &mut memory[gap..];
            for piece in &pieces {
                let (now, later) = rest.split_at_mut(*piece);
                stream.apply(now);
                rest = later;
            }
            prop_assert_eq!(&memory[gap..], &expected, "{}", backend);
        }
    }
}

/// `len` bytes of the reference's keystream from byte `offset`.
fn reference(key: &[u8; 32], nonce: &[u8; 8], offset: u64, len: usize) -> Vec<u8> {
    let mut stream = salsa20::Salsa20::new(key.into(), nonce.into());
    stream.seek(offset);
    let mut bytes = vec![0; len];
    stream.apply_keystream(&mut bytes);
    bytes
}

/// A stream that starts with a block other than the first.
fn starting_at(backend: Backend, key: &[u8; 32], nonce: &[u8; 8], block: u64) -> Salsa20 {
    let mut stream = Salsa20::with_backend(backend, key, nonce);
    [stream.state[8], stream.state[9]] = block_number::halves(block);
    stream
}

fn xor(text: &[u8], key: &[u8]) -> Vec<u8> {
    text.iter().zip(key).map(|(text, key)| text ^ key).collect()
}

fn array<const N: usize>(bytes: &[u8]) -> [u8; N] {
    bytes.try_into().unwrap()
}
