//! Stepping over fields that the receiver does not know.

use super::*;

gob_struct! {
    #[derive(Clone, PartialEq, Debug, Default)]
    struct Known as "known" {
        last: u64 = "Last",
    }
}

/// A struct (id 65) with a field `Odd` of type `id` and then `Last`, a uint.
fn definition(id: i64) -> Vec<u8> {
    let mut body =
        hex::decode("ff81 03 01 02 ff82 00 01 02 01 03 4f6464 01".replace(' ', "")).unwrap();
    primitives::put_int(id, &mut body);
    body.extend_from_slice(
        &hex::decode("00 01 04 4c617374 01 06 00 00 00".replace(' ', "")).unwrap(),
    );
    message(&body)
}

fn message(body: &[u8]) -> Vec<u8> {
    let mut message = Vec::new();
    primitives::put_bytes(body, &mut message);
    message
}

/// A value with `odd` in the unknown field and 7 in the known one.
fn value(odd: &[u8]) -> Vec<u8> {
    message(&[&[0xff, 0x82, 1][..], odd, &[1, 7, 0]].concat())
}

fn decode(id: i64, definitions: &[&str], odd: &str) -> Result<u64, ErrorKind> {
    let unspaced = |text: &str| hex::decode(text.replace(' ', "")).unwrap();
    let mut stream = definition(id);
    for definition in definitions {
        stream.extend_from_slice(&message(&unspaced(definition)));
    }
    stream.extend_from_slice(&value(&unspaced(odd)));
    let mut decoder = Decoder::new(&stream);
    let known = decoder.value::<Known>().map_err(|error| error.kind)?;
    assert_eq!(decoder.next_value::<Known>(), Ok(None));
    Ok(known.last)
}

/// Definitions with the id 66 (ff84), or 67 (ff86) and 68 (ff88).
const SLICE_OF_INT: &str = "ff83 02 01 02 ff84 00 01 04 00 00";
const ARRAY_OF_3_INTS: &str = "ff83 01 01 02 ff84 00 01 04 01 06 00 00";
const MAP_OF_STRING_TO_SLICE: &str = "ff85 04 01 02 ff86 00 01 0c 01 ff84 00 00";
const EMPTY_STRUCT: &str = "ff83 03 01 02 ff84 00 00 00";
const STRUCT_WITH_ITSELF: &str =
    "ff83 03 01 02 ff84 00 01 02 01 04 4e657874 01 ff84 00 01 01 58 01 04 00 00 00";
const SLICE_OF_ITSELF: &str = "ff83 02 01 02 ff84 00 01 ff84 00 00";

#[test]
fn built_in_types() {
    for (id, odd) in [
        (1, "01"),
        (2, "fe 0102"),
        (3, "f8 0102030405060708"),
        (4, "fe f03f"),
        (5, "03 ffffff"),
        (6, "00"),
        (7, "fe f03f 00"),
    ] {
        assert_eq!(decode(id, &[], odd), Ok(7), "type {id}");
    }
}

#[test]
fn composed_types() {
    assert_eq!(decode(66, &[SLICE_OF_INT], "03 01 ff80 02"), Ok(7));
    assert_eq!(decode(66, &[SLICE_OF_INT], "00"), Ok(7));
    assert_eq!(decode(66, &[ARRAY_OF_3_INTS], "03 01 ff80 02"), Ok(7));
    let map = [MAP_OF_STRING_TO_SLICE, SLICE_OF_INT];
    assert_eq!(decode(67, &map, "02 01 61 00 01 62 02 02 04"), Ok(7));
    assert_eq!(decode(66, &[EMPTY_STRUCT], "00"), Ok(7));
    assert_eq!(
        decode(66, &[STRUCT_WITH_ITSELF], "01 01 01 02 00 01 04 00 00"),
        Err(ErrorKind::FieldNumber)
    );
    assert_eq!(decode(66, &[STRUCT_WITH_ITSELF], "01 01 02 02 00 01 04 00 00"), Ok(7));
    for kind in ["05", "06", "07"] {
        let opaque = format!("ff83 {kind} 01 02 ff84 00 00 00");
        assert_eq!(decode(66, &[&opaque], "02 aaaa"), Ok(7), "kind {kind}");
    }
}

#[test]
fn interfaces() {
    assert_eq!(decode(8, &[], "00"), Ok(7), "nil");
    // int 5, in its message with the leading zero byte.
    assert_eq!(decode(8, &[], "03 696e74 04 02 000a"), Ok(7));
    // With a definition on the way, which is then known: slice 66.
    let slice = format!("01 73 {SLICE_OF_INT} 03 ff84 04 00 02 02 04");
    assert_eq!(decode(8, &[], &slice), Ok(7));
    assert_eq!(decode(8, &[SLICE_OF_INT], &slice), Err(ErrorKind::Redefined(66)));
    // Zero defines nothing: the length of the value follows.
    assert_eq!(decode(8, &[], "01 73 00 02 aaaa"), Ok(7));
    // i64::MIN has no positive counterpart.
    let minimum = "01 73 f8 ffffffffffffffff 00";
    assert_eq!(decode(8, &[], minimum), Err(ErrorKind::Redefined(i64::MIN)));
}

#[test]
fn refused() {
    assert_eq!(decode(66, &[], "00"), Err(ErrorKind::Undefined(66)));
    assert_eq!(decode(9, &[], "00"), Err(ErrorKind::Undefined(9)));
    assert_eq!(decode(-3, &[], "00"), Err(ErrorKind::Undefined(-3)));
    let length = |what, length, left| Err(ErrorKind::LengthBeyondMessage { what, length, left });
    assert_eq!(decode(66, &[SLICE_OF_INT], "7f"), length("a slice", 127, 3));
    assert_eq!(decode(5, &[], "7f"), length("a byte string", 127, 3));
    assert_eq!(decode(67, &[MAP_OF_STRING_TO_SLICE, SLICE_OF_INT], "02"), length("a map", 2, 3));
    let array = decode(66, &[ARRAY_OF_3_INTS], "02 0000");
    assert_eq!(array, Err(ErrorKind::ArrayLength { found: 2, defined: 3 }));
}

#[test]
fn elements_are_never_empty() {
    // A slice of empty structs at the end of its message, where a struct may do without its
    // last byte.
    let mut stream = definition(67);
    for definition in ["ff85 02 01 02 ff86 00 01 ff84 00 00", EMPTY_STRUCT] {
        stream.extend_from_slice(&message(&hex::decode(definition.replace(' ', "")).unwrap()));
    }
    let with_elements = |bytes: &[u8]| {
        let body = [&[0xff, 0x82, 1][..], bytes].concat();
        let stream = [&stream[..], &message(&body)].concat();
        Decoder::new(&stream).value::<Known>().map_err(|error| error.kind)
    };
    assert_eq!(with_elements(&[2, 0, 0]), Ok(Known::default()));
    let length = ErrorKind::LengthBeyondMessage { what: "a slice", length: 2, left: 1 };
    assert_eq!(with_elements(&[2, 0]), Err(length));

    // The first element, a struct with a number in it, takes what the count left for both.
    let mut stream = definition(67);
    for definition in ["ff85 02 01 02 ff86 00 01 ff84 00 00", STRUCT_WITH_ITSELF] {
        stream.extend_from_slice(&message(&hex::decode(definition.replace(' ', "")).unwrap()));
    }
    stream.extend_from_slice(&message(&[0xff, 0x82, 1, 2, 2, 8, 0]));
    let error = Decoder::new(&stream).value::<Known>().unwrap_err().kind;
    assert_eq!(error, ErrorKind::Truncated { what: "an element", needed: 1, left: 0 });
}

#[test]
fn nesting_is_limited_by_the_data_alone() {
    let nested = |depth: usize| format!("{} 00", "01 ".repeat(depth));
    assert_eq!(decode(66, &[SLICE_OF_ITSELF], &nested(31)), Ok(7));
    let error = ErrorKind::LimitExceeded { what: "levels of nesting", limit: 32 };
    assert_eq!(decode(66, &[SLICE_OF_ITSELF], &nested(32)), Err(error));
    assert_eq!(decode(66, &[SLICE_OF_ITSELF], &nested(100_000)), Err(error));
    let structs = |depth: usize| format!("{} {}", "01 ".repeat(depth), "00 ".repeat(depth + 1));
    assert_eq!(decode(66, &[STRUCT_WITH_ITSELF], &structs(31)), Ok(7));
    assert_eq!(decode(66, &[STRUCT_WITH_ITSELF], &structs(32)), Err(error));
}
