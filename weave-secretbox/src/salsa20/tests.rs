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
    // The last 16 bytes of the input are nonce and number.
    let mut places = Places::default();
    let number = u64::from_le_bytes(array(&input[8..]));
    places.put(0, array(&input[..8]), number, 1);
    let expected = [
        69, 37, 68, 39, 41, 15, 107, 193, 255, 139, 122, 6, 170, 233, 217, 98, 89, 144, 182, 106,
        21, 51, 200, 65, 239, 49, 222, 34, 215, 114, 40, 126, 104, 197, 7, 225, 197, 153, 31, 2,
        102, 78, 76, 176, 84, 245, 246, 184, 177, 160, 133, 130, 6, 72, 149, 119, 192, 195, 132,
        236, 234, 103, 246, 74,
    ];
    for backend in Backend::available() {
        let mut blocks = [[0; BLOCK_LEN]; LANES];
        backend.blocks(&Key::new(&array(&key)), &places, 1, &mut blocks);
        assert_eq!(blocks[0], expected, "{backend}");
    }
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
fn the_block_number_carries_into_its_upper_half_between_lanes() {
    let (key, nonce) = ([1; 32], [2; 8]);
    for backend in Backend::available() {
        for before in 0..20 {
            let number = (1 << 32) - before;
            let mut places = Places::default();
            places.put(0, nonce, number, LANES);
            let mut blocks = [[0; BLOCK_LEN]; LANES];
            backend.blocks(&Key::new(&key), &places, LANES, &mut blocks);
            let expected = reference(&key, &nonce, number * BLOCK_LEN as u64, LANES * BLOCK_LEN);
            assert_eq!(blocks.as_flattened(), expected, "block {number}, {backend}");
        }
    }
}

proptest! {
    /// Whatever block of whatever keystream each lane is asked for.
    #[test]
    fn lanes_are_the_reference(
        key: [u8; 32],
        lanes in vec((any::<[u8; 8]>(), 0u64..1 << 40), 0..=LANES),
    ) {
        let mut places = Places::default();
        for (lane, (nonce, number)) in lanes.iter().enumerate() {
            places.put(lane, *nonce, *number, 1);
        }
        for backend in Backend::available() {
            let mut blocks = [[0; BLOCK_LEN]; LANES];
            backend.blocks(&Key::new(&key), &places, lanes.len(), &mut blocks);
            for ((nonce, number), block) in lanes.iter().zip(&blocks) {
                let expected = reference(&key, nonce, number * BLOCK_LEN as u64, BLOCK_LEN);
                prop_assert_eq!(&block[..], &expected, "{}", backend);
            }
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

fn array<const N: usize>(bytes: &[u8]) -> [u8; N] {
    bytes.try_into().unwrap()
}
