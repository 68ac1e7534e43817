//! Whatever is sent arrives; whatever arrives does no harm.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;

gob_struct! {
    /// All that a struct can have in it.
    #[derive(Clone, PartialEq, Debug, Default)]
    struct Everything as "everything" {
        flag: bool = "Flag",
        signed: i64 = "Signed",
        unsigned: u64 = "Unsigned",
        short: u16 = "Short",
        text: String = "Text",
        numbers: Vec<i64> = "Numbers",
        inner: Inner = "Inner",
        pointer: Option<Inner> = "Pointer",
        map: BTreeMap<String, u32> = "Map",
        absent: Option<BTreeMap<Inner, Vec<Inner>>> = "Absent",
    }
}

gob_struct! {
    #[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug, Default)]
    struct Inner as "inner" {
        name: String = "Name",
        flags: Vec<bool> = "Flags",
    }
}

gob_struct! {
    /// Another version of it: an older field is missing, a newer one is there, the order is
    /// another.
    #[derive(Clone, PartialEq, Debug, Default)]
    struct SomeOfIt as "everything" {
        newer: u64 = "Newer",
        pointer: Option<Inner> = "Pointer",
        unsigned: u64 = "Unsigned",
        flag: bool = "Flag",
    }
}

fn inner() -> impl Strategy<Value = Inner> {
    (any::<String>(), any::<Vec<bool>>()).prop_map(|(name, flags)| Inner { name, flags })
}

fn everything() -> impl Strategy<Value = Everything> {
    let scalars = (any::<bool>(), any::<i64>(), any::<u64>(), any::<u16>(), any::<String>());
    let inners = prop::collection::vec(inner(), 0..3);
    let absent = prop::option::of(prop::collection::btree_map(inner(), inners, 0..3));
    let composed = (
        any::<Vec<i64>>(),
        inner(),
        prop::option::of(inner()),
        prop::collection::btree_map(any::<String>(), any::<u32>(), 0..4),
        absent,
    );
    (scalars, composed).prop_map(|(scalars, composed)| {
        let (flag, signed, unsigned, short, text) = scalars;
        let (numbers, inner, pointer, map, absent) = composed;
        #[rustfmt::skip]
        let all = Everything {
            flag, signed, unsigned, short, text, numbers, inner, pointer, map, absent,
        };
        all
    })
}

proptest! {
    #[test]
    fn values_arrive(values in prop::collection::vec(everything(), 0..4)) {
        let mut encoder = Encoder::new();
        for value in &values {
            encoder.value(value);
            encoder.value(&value.unsigned);
            encoder.value(&value.numbers);
        }
        let stream = encoder.finish();
        let mut decoder = Decoder::new(&stream);
        for value in &values {
            prop_assert_eq!(&decoder.value::<Everything>().unwrap(), value);
            prop_assert_eq!(decoder.value::<u64>().unwrap(), value.unsigned);
            prop_assert_eq!(&decoder.value::<Vec<i64>>().unwrap(), &value.numbers);
        }
        prop_assert_eq!(decoder.next_value::<Everything>(), Ok(None));
    }

    #[test]
    fn another_version_takes_what_it_knows(value in everything()) {
        let stream = encode(&value);
        let some: SomeOfIt = Decoder::new(&stream).value().unwrap();
        prop_assert_eq!(&some.pointer, &value.pointer);
        prop_assert_eq!((some.unsigned, some.flag, some.newer), (value.unsigned, value.flag, 0));

        let stream = encode(&SomeOfIt { newer: 7, ..some });
        let back: Everything = Decoder::new(&stream).value().unwrap();
        let expected = Everything {
            pointer: value.pointer,
            unsigned: value.unsigned,
            flag: value.flag,
            ..Everything::default()
        };
        prop_assert_eq!(back, expected);
    }

    #[test]
    fn what_is_cut_off_is_refused(value in everything(), cut in any::<prop::sample::Index>()) {
        let stream = encode(&value);
        let length = cut.index(stream.len());
        prop_assert!(Decoder::new(&stream[..length]).value::<Everything>().is_err());
    }

    #[test]
    fn changed_bytes_do_no_harm(
        value in everything(),
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..5),
    ) {
        let mut stream = encode(&value);
        let length = stream.len();
        for (place, byte) in changes {
            stream[place.index(length)] = byte;
        }
        // Either may be an error.
        let all = Decoder::new(&stream).value::<Everything>();
        let some = Decoder::new(&stream).value::<SomeOfIt>();
        for error in [all.err(), some.err()].into_iter().flatten() {
            prop_assert!(error.offset <= length);
        }
    }

    #[test]
    fn any_bytes_do_no_harm(stream: Vec<u8>) {
        let mut decoder = Decoder::new(&stream);
        while let Ok(Some(_)) = decoder.next_value::<Everything>() {}
        prop_assert!(decoder.offset() <= stream.len());
    }

    #[test]
    fn integers_are_as_short_as_possible(number: u64, shift in 0..64) {
        let number = number >> shift;
        let mut bytes = Vec::new();
        primitives::put_uint(number, &mut bytes);
        let significant = usize::try_from(64 - number.leading_zeros()).unwrap().div_ceil(8);
        prop_assert_eq!(bytes.len(), if number < 128 { 1 } else { 1 + significant });
        let stream = encode(&number);
        prop_assert_eq!(Decoder::new(&stream).value(), Ok(number));
        let signed = number.cast_signed();
        let stream = encode(&signed);
        prop_assert_eq!(Decoder::new(&stream).value(), Ok(signed));
    }
}
