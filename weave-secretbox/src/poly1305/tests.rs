//! Each form against the published vectors and against the crate `poly1305`.

use super::*;
use ::poly1305::universal_hash::KeyInit;
use proptest::collection::vec;
use proptest::prelude::*;

type Form = fn(&[u8; 32], &[u8]) -> [u8; 16];

/// All that work here, whatever the length is that they are used for.
fn forms() -> Vec<(&'static str, Form)> {
    let mut forms: Vec<(_, Form)> = vec![("chosen", tag), ("portable", portable::tag)];
    #[cfg(target_arch = "x86_64")]
    if has_ifma() {
        // SAFETY: the processor was asked.
        #[allow(unsafe_code)]
        forms.push(("ifma", |key, text| unsafe { sys::tag(key, text) }));
    }
    forms
}

/// RFC 8439, section 2.5.2 and those of appendix A.3 that are about arithmetic: r, s, text, tag.
const VECTORS: [(&str, &str, &str, &str); 7] = [
    (
        "85d6be7857556d337f4452fe42d506a8",
        "0103808afb0db2fd4abff6af4149f51b",
        "43727970746f6772617068696320466f72756d2052657365617263682047726f7570",
        "a8061dc1305136c6c22b8baf0c0127a9",
    ),
    // A sum of 2^130 - 2 in the first step, and the reduction behind the last one.
    (
        "02000000000000000000000000000000",
        "00000000000000000000000000000000",
        "ffffffffffffffffffffffffffffffff",
        "03000000000000000000000000000000",
    ),
    // A carry out of the addition of s.
    (
        "02000000000000000000000000000000",
        "ffffffffffffffffffffffffffffffff",
        "02000000000000000000000000000000",
        "03000000000000000000000000000000",
    ),
    (
        "01000000000000000000000000000000",
        "00000000000000000000000000000000",
        "fffffffffffffffffffffffffffffffff0ffffffffffffffffffffffffffffff\
         11000000000000000000000000000000",
        "05000000000000000000000000000000",
    ),
    (
        "01000000000000000000000000000000",
        "00000000000000000000000000000000",
        "fffffffffffffffffffffffffffffffffbfefefefefefefefefefefefefefefe\
         01010101010101010101010101010101",
        "00000000000000000000000000000000",
    ),
    // Exactly the prime, and three below it.
    (
        "02000000000000000000000000000000",
        "00000000000000000000000000000000",
        "fdffffffffffffffffffffffffffffff",
        "faffffffffffffffffffffffffffffff",
    ),
    (
        "01000000000000000400000000000000",
        "00000000000000000000000000000000",
        "e33594d7505e43b900000000000000003394d7505e4379cd0100000000000000\
         0000000000000000000000000000000001000000000000000000000000000000",
        "14000000000000005500000000000000",
    ),
];

#[test]
fn tags_as_specified() {
    let bytes = |hex: &str| hex::decode(hex).unwrap();
    for (name, form) in forms() {
        for (r, s, text, tag) in VECTORS {
            let key = [bytes(r), bytes(s)].concat().try_into().unwrap();
            assert_eq!(hex::encode(form(&key, &bytes(text))), tag, "{name}: {text}");
        }
    }
}

#[test]
fn every_length_is_the_reference() {
    let key = [0x5a; 32];
    let text: Vec<u8> = (0..2100_u32).map(|i| (i * 151 / 8).to_le_bytes()[0]).collect();
    // Interpreted, only the lengths of a few steps are affordable.
    let longest = if cfg!(miri) { 150 } else { 2000 };
    for (name, form) in forms() {
        for len in 0..=longest {
            let text = &text[len % 67..][..len];
            assert_eq!(form(&key, text), reference(&key, text), "{name}: {len} bytes");
        }
    }
}

/// Around the prime and with the largest limbs, where a missing carry would show.
#[test]
fn extreme_numbers_are_the_reference() {
    let patterns = [0x00, 0x01, 0x7f, 0x80, 0xfb, 0xfe, 0xff];
    let lengths =
        if cfg!(miri) { vec![16, 64, 127] } else { (0..=160).chain([255, 384]).collect() };
    for (name, form) in forms() {
        for key in patterns {
            let key = [key; 32];
            for (text, low) in patterns.iter().flat_map(|t| patterns.map(|l| (*t, l))) {
                for len in &lengths {
                    let mut text = vec![text; *len];
                    text.iter_mut().step_by(16).for_each(|byte| *byte = low);
                    assert_eq!(
                        form(&key, &text),
                        reference(&key, &text),
                        "{name}: {key:?} {text:?}"
                    );
                }
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(if cfg!(miri) { 4 } else { 512 }))]

    #[test]
    fn every_message_is_the_reference(key: [u8; 32], text in vec(any::<u8>(), 0..2000)) {
        for (name, form) in forms() {
            prop_assert_eq!(form(&key, &text), reference(&key, &text), "{}", name);
        }
    }

    /// Long runs of equal bits in key and text, where sums are largest.
    #[test]
    fn runs_of_bits_are_the_reference(
        key in vec(prop_oneof![Just(0), Just(0xff_u8), any::<u8>()], 32),
        blocks in vec(prop_oneof![3 => Just([0xff_u8; 16]), 1 => Just([0; 16]), 1 => any::<[u8; 16]>()], 0..130),
        cut in 0_usize..16,
    ) {
        let key = key.try_into().unwrap();
        let text = blocks.as_flattened();
        let text = &text[..text.len().saturating_sub(cut)];
        for (name, form) in forms() {
            prop_assert_eq!(form(&key, text), reference(&key, text), "{}", name);
        }
    }
}

fn reference(key: &[u8; 32], text: &[u8]) -> [u8; 16] {
    ::poly1305::Poly1305::new(key.into()).compute_unpadded(text).into()
}
