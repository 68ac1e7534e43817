//! Streams that no sender makes.

use std::collections::BTreeMap;

use super::*;

const PEER_DEFINITION_LEN: usize = 0x63;

fn kind<T: std::fmt::Debug>(result: Result<T, Error>) -> ErrorKind {
    result.unwrap_err().kind
}

fn message(body: &[u8]) -> Vec<u8> {
    let mut message = Vec::new();
    primitives::put_bytes(body, &mut message);
    message
}

/// A message that defines type `id` as a struct with the fields `(name, type)`.
fn struct_definition(id: i64, fields: &[(&str, i64)]) -> Vec<u8> {
    let mut body = Vec::new();
    primitives::put_int(-id, &mut body);
    body.extend_from_slice(&[3, 1, 0, 1]);
    primitives::put_uint(fields.len() as u64, &mut body);
    for (name, field) in fields {
        body.push(1);
        primitives::put_bytes(name.as_bytes(), &mut body);
        body.push(1);
        primitives::put_int(*field, &mut body);
        body.push(0);
    }
    body.extend_from_slice(&[0, 0]);
    message(&body)
}

fn topology() -> Vec<u8> {
    let connection = |name: &'static [u8], address: &'static str| ConnectionSummary {
        name,
        address: address.into(),
        outbound: true,
        established: true,
    };
    encode_topology(&vec![(
        PeerSummary {
            name: &[1, 2, 3, 4, 5, 6],
            nick_name: "host1".into(),
            uid: u64::MAX,
            version: 300,
            short_id: 4095,
            has_short_id: true,
        },
        vec![connection(&[6; 6], "192.0.2.1:6783"), connection(&[7; 6], "192.0.2.2:6783")],
    )])
}

#[test]
fn cut_anywhere() {
    let stream = topology();
    for length in 1..stream.len() {
        let error = decode_topology(&stream[..length]).expect_err("cut off");
        assert!(error.offset <= length, "{error}");
        let between_messages = matches!(error.kind, ErrorKind::EndOfStream);
        assert!(between_messages || matches!(error.kind, ErrorKind::Truncated { .. }), "{error}");
    }
    // Between a definition and its value the end is as bad as in a message.
    let definition = &stream[..PEER_DEFINITION_LEN];
    let mut decoder = Decoder::new(definition);
    let error = decoder.next_value::<PeerSummary>().unwrap_err();
    assert_eq!((error.kind, error.offset), (ErrorKind::EndOfStream, PEER_DEFINITION_LEN));
}

#[test]
fn every_changed_byte() {
    let stream = topology();
    for place in 0..stream.len() {
        let original = stream[place];
        for value in [
            0,
            1,
            0x7f,
            0x80,
            0xf7,
            0xf8,
            0xff,
            original ^ 1,
            original ^ 2,
            original.wrapping_add(1),
        ] {
            let mut changed = stream.clone();
            changed[place] = value;
            // Many are accepted: names, numbers. None panics.
            if let Err(error) = decode_topology(&changed) {
                assert!(error.offset <= stream.len());
                assert!(error.to_string().starts_with("gob, byte "));
            }
        }
    }
}

#[test]
fn errors_say_what_and_where() {
    let mut stream = topology();
    let uid = stream.windows(3).position(|bytes| bytes == [1, 0xf8, 0xff]).unwrap() + 1;
    stream[uid] = 0xf7;
    let error = decode_topology(&stream).unwrap_err();
    let expected =
        format!("gob, byte {uid}: an integer starts with 0xf7, so it has more than 64 bits");
    assert_eq!(error.to_string(), expected);

    let mismatch = struct_definition(65, &[("NameByte", 6), ("UID", 3)]);
    let stream = [mismatch, message(&[0xff, 0x82, 2, 5, 0])].concat();
    let error = decode_topology(&stream).unwrap_err();
    assert_eq!(
        error.to_string(),
        format!("gob, byte {}: expected bytes, got a string in field NameByte", stream.len() - 3)
    );
}

#[test]
fn a_message_longer_than_any_frame() {
    for (length, expected) in [
        ("fd a00000", ErrorKind::Truncated { what: "a message", needed: 10 << 20, left: 0 }),
        ("fd a00001", ErrorKind::MessageTooLong((10 << 20) + 1)),
        ("f8 ffffffffffffffff", ErrorKind::MessageTooLong(u64::MAX)),
    ] {
        let stream = hex::decode(length.replace(' ', "")).unwrap();
        assert_eq!(kind(Decoder::new(&stream).value::<u64>()), expected);
    }
}

#[test]
fn a_message_of_length_zero_ends_the_stream_for_good() {
    let stream = [&[0][..], &encode(&5_u64)].concat();
    let mut decoder = Decoder::new(&stream);
    assert_eq!(decoder.next_value::<u64>(), Ok(None));
    assert_eq!(decoder.next_value::<u64>(), Ok(None));
    assert_eq!(kind(decoder.value::<u64>()), ErrorKind::EndOfStream);
}

#[test]
fn definitions_that_are_none() {
    let defining = |hex: &str| {
        let body = hex::decode(hex.replace(' ', "")).unwrap();
        kind(Decoder::new(&message(&body)).value::<u64>())
    };
    // Reserved, built-in, the negation of nothing.
    assert_eq!(defining("7d 02 01 02 7e 00 01 04 00 00"), ErrorKind::Redefined(63));
    assert_eq!(defining("05 02 01 02 06 00 01 04 00 00"), ErrorKind::Redefined(3));
    assert_eq!(defining("f8 ffffffffffffffff"), ErrorKind::Redefined(i64::MIN));
    for (hex, reason) in [
        ("ff81 00", "no kind"),
        ("ff81", "no kind"),
        ("ff81 02 01 02 ff82 00 01 04 00 01 01 02 ff82 00 00 00", "more than one kind"),
        ("ff81 08 00 00", "an unknown kind"),
        ("ff81 02 01 02 ff82 00 03 04 00 00", "an unknown field"),
        ("ff81 03 01 02 ff82 00 02 04 00 00", "an unknown field"),
        ("ff81 02 01 03 02 00 00 00", "an unknown field"),
        ("ff81 01 03 01 00 00", "a negative length"),
        ("ff81 02 01 02 ff82 00 01 04 00 00 00", "further bytes"),
    ] {
        assert_eq!(defining(hex), ErrorKind::BadDefinition(reason), "{hex}");
    }
    // Distances that add up to more than 64 bits.
    let overflow = defining("ff81 f8 ffffffffffffffff 00");
    assert_eq!(overflow, ErrorKind::BadDefinition("an unknown kind"));
}

#[test]
fn a_definition_may_do_without_its_last_bytes() {
    let body = hex::decode("ff81 02 01 02 ff82 00 01 04".replace(' ', "")).unwrap();
    let stream = [message(&body), message(&[0xff, 0x82, 0, 1, 8])].concat();
    assert_eq!(Decoder::new(&stream).value::<Vec<i64>>(), Ok(vec![4]));
}

#[test]
fn limits_on_definitions() {
    let value = encode(&5_u64);
    let defined = |count: i64| -> Vec<u8> {
        (0..count).flat_map(|index| struct_definition(65 + index, &[("X", 3)])).collect()
    };
    let within = [defined(1000), value.clone()].concat();
    assert_eq!(Decoder::new(&within).value(), Ok(5_u64));
    let beyond = [defined(1001), value].concat();
    let limit = |what| ErrorKind::LimitExceeded { what, limit: 1000 };
    assert_eq!(kind(Decoder::new(&beyond).value::<u64>()), limit("type definitions"));

    let fields = |count: usize| {
        let names: Vec<String> = (1..count).map(|index| format!("X{index}")).collect();
        let mut fields: Vec<(&str, i64)> = names.iter().map(|name| (&name[..], 3)).collect();
        fields.push(("UID", 3));
        let value = [&[0xff, 0x82][..], &number(count), &[7, 0]].concat();
        [struct_definition(65, &fields), message(&value)].concat()
    };
    assert_eq!(Decoder::new(&fields(1000)).value::<PeerSummary>().unwrap().uid, 7);
    let error = kind(Decoder::new(&fields(1001)).value::<PeerSummary>());
    assert_eq!(error, limit("fields in a struct"));
}

fn number(number: usize) -> Vec<u8> {
    let mut bytes = Vec::new();
    primitives::put_uint(number as u64, &mut bytes);
    bytes
}

#[test]
fn counts_beyond_the_message_are_refused_at_once() {
    let claimed = |stream: &[u8], count: &[u8]| {
        // The last byte is the count of an empty value.
        let (_, definitions_and_id) = stream.split_last().unwrap();
        let start = definitions_and_id.len() - 3;
        let (definitions, value) = definitions_and_id.split_at(start - 1);
        [definitions, &message(&[&value[1..], count].concat())].concat()
    };
    let huge = [0xf8, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff];
    let stream = claimed(&encode::<Vec<u64>>(&vec![]), &huge);
    let error = kind(Decoder::new(&stream).value::<Vec<u64>>());
    let beyond = |what| ErrorKind::LengthBeyondMessage { what, length: u64::MAX, left: 0 };
    assert_eq!(error, beyond("a slice"));
    let stream = claimed(&encode(&BTreeMap::<u64, u64>::new()), &huge);
    assert_eq!(kind(Decoder::new(&stream).value::<BTreeMap<u64, u64>>()), beyond("a map"));
    // A map needs two bytes for each entry.
    let stream = claimed(&encode(&BTreeMap::<u64, u64>::new()), &[2, 1, 1, 2]);
    let error = kind(Decoder::new(&stream).value::<BTreeMap<u64, u64>>());
    assert_eq!(error, ErrorKind::LengthBeyondMessage { what: "a map", length: 2, left: 3 });
}

gob_struct! {
    #[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug, Default)]
    struct One as "one" {
        x: u64 = "X",
    }
}

#[test]
fn every_element_has_a_byte() {
    // A struct may lack its last byte at the end of a message, but not all of it.
    let value = |kind_and_parts: &[u8], value: &[u8]| {
        let composed = [&[0xff, 0x83][..], kind_and_parts].concat();
        let value = [&[0xff, 0x84, 0], value].concat();
        [struct_definition(65, &[("X", 3)]), message(&composed), message(&value)].concat()
    };
    let end = ErrorKind::Truncated { what: "an element", needed: 1, left: 0 };

    let slice = |bytes| value(&[2, 1, 0, 1, 0xff, 0x82, 0, 0], bytes);
    assert_eq!(Decoder::new(&slice(&[1, 1, 5])).value(), Ok(vec![One { x: 5 }]));
    assert_eq!(kind(Decoder::new(&slice(&[3, 1, 5, 0])).value::<Vec<One>>()), end);

    let map = |bytes| value(&[4, 1, 0, 1, 6, 1, 0xff, 0x82, 0, 0], bytes);
    let one = BTreeMap::from([(0x80_u64, One { x: 5 })]);
    assert_eq!(Decoder::new(&map(&[1, 0xff, 0x80, 1, 5])).value(), Ok(one));
    assert_eq!(kind(Decoder::new(&map(&[1, 0xff, 0x80])).value::<BTreeMap<u64, One>>()), end);

    let keys = |bytes| value(&[4, 1, 0, 1, 0xff, 0x82, 1, 6, 0, 0], bytes);
    let one = BTreeMap::from([(One { x: 5 }, 7_u64)]);
    assert_eq!(Decoder::new(&keys(&[1, 1, 5, 0, 7])).value(), Ok(one));
    assert_eq!(kind(Decoder::new(&keys(&[2, 1, 5, 0, 7])).value::<BTreeMap<One, u64>>()), end);
}

#[test]
fn undefined_types() {
    for (id, expected) in [
        (64, ErrorKind::Undefined(64)),
        (1 << 40, ErrorKind::Undefined(1 << 40)),
        (
            0,
            ErrorKind::TypeMismatch { expected: "a uint", found: "an undefined type", field: None },
        ),
    ] {
        let mut body = Vec::new();
        primitives::put_int(id, &mut body);
        body.extend_from_slice(&[0, 5]);
        assert_eq!(kind(Decoder::new(&message(&body)).value::<u64>()), expected);
    }
    let field = [struct_definition(65, &[("X", 70)]), message(&[0xff, 0x82, 0])].concat();
    assert_eq!(kind(Decoder::new(&field).value::<One>()), ErrorKind::Undefined(70));
}

#[test]
fn a_caller_can_limit_counts() {
    let three = encode(&[1_u64, 2, 3][..]);
    assert_eq!(Decoder::new(&three).value(), Ok(AtMost::<3, _>(vec![1_u64, 2, 3])));
    let limit = |what| ErrorKind::LimitExceeded { what, limit: 2 };
    let error = kind(Decoder::new(&three).value::<AtMost<2, Vec<u64>>>());
    assert_eq!(error, limit("elements of a slice"));
    let map = BTreeMap::from([(1_u64, 1_u64), (2, 2), (3, 3)]);
    let stream = encode(&map);
    assert_eq!(Decoder::new(&stream).value(), Ok(AtMost::<3, _>(map)));
    let error = kind(Decoder::new(&stream).value::<AtMost<2, BTreeMap<u64, u64>>>());
    assert_eq!(error, limit("entries of a map"));
}

#[test]
fn elements_one_by_one() {
    let stream = topology();
    let mut decoder = Decoder::new(&stream);
    decoder.value::<PeerSummary>().unwrap();
    let mut names = Vec::new();
    let more = decoder.next_elements(|connection: ConnectionSummary| {
        names.push(connection.name);
        Ok::<_, Error>(())
    });
    assert_eq!((more, names), (Ok(true), vec![&[6; 6][..], &[7; 6]]));
    let none = decoder.next_elements(|_: ConnectionSummary| Ok::<_, Error>(()));
    assert_eq!((none, decoder.skip_value()), (Ok(false), Ok(false)));

    let mut decoder = Decoder::new(&stream);
    assert_eq!(decoder.skip_value(), Ok(true));
    assert_eq!(decoder.value::<Vec<ConnectionSummary>>().unwrap().len(), 2);

    let mut decoder = Decoder::new(&stream);
    decoder.value::<PeerSummary>().unwrap();
    let mut seen = 0;
    let refused = decoder.next_elements(|_: ConnectionSummary| {
        seen += 1;
        Err(Error { offset: 0, kind: ErrorKind::Invalid("too many connections") })
    });
    assert_eq!(refused.unwrap_err().to_string(), "gob, byte 0: too many connections");
    assert_eq!(seen, 1, "the rest is not looked at");
}

#[test]
fn two_fields_of_one_name() {
    let definition = struct_definition(65, &[("UID", 3), ("UID", 3)]);
    let stream = [definition, message(&[0xff, 0x82, 1, 5, 1, 6, 0])].concat();
    let error = kind(Decoder::new(&stream).value::<PeerSummary>());
    assert_eq!(error, ErrorKind::DuplicateField("UID"));
}

#[test]
fn a_struct_without_fields_is_all_zero() {
    let stream = [struct_definition(65, &[]), message(&[0xff, 0x82, 0])].concat();
    assert_eq!(Decoder::new(&stream).value(), Ok(PeerSummary::default()));
}

#[test]
fn a_struct_at_the_end_of_its_message_may_lack_the_last_byte() {
    let stream = [struct_definition(65, &[("UID", 3)]), message(&[0xff, 0x82, 1, 5])].concat();
    assert_eq!(Decoder::new(&stream).value::<PeerSummary>().unwrap().uid, 5);
}

#[test]
fn bytes_after_a_value_are_ignored() {
    let stream = [struct_definition(65, &[("UID", 3)]), message(&[0xff, 0x82, 1, 5, 0, 9, 9])];
    assert_eq!(Decoder::new(&stream.concat()).value::<PeerSummary>().unwrap().uid, 5);
}

#[test]
fn numbers_that_do_not_fit() {
    let sixteen = encode(&0x1_0000_u64);
    let out_of_range = |what, value| ErrorKind::OutOfRange { what, value };
    assert_eq!(kind(Decoder::new(&sixteen).value::<u16>()), out_of_range("16 bits", 0x1_0000));
    let name = encode(&(1_u64 << 48));
    let error = kind(Decoder::new(&name).value::<crate::mesh::PeerName>());
    assert_eq!(error, out_of_range("a peer name", 1 << 48));
    let address = encode(&(1_u64 << 32));
    assert_eq!(kind(Decoder::new(&address).value::<u32>()), out_of_range("32 bits", 1 << 32));
}

#[test]
fn one_type_expected_in_several_ways() {
    // The plan of the one must not be used for the other.
    let peer = PeerSummary { name: &[1, 2], uid: 7, ..PeerSummary::default() };
    let mut encoder = Encoder::new();
    for _ in 0..4 {
        encoder.value(&peer);
    }
    let stream = encoder.finish();
    let mut decoder = Decoder::new(&stream);
    assert_eq!(decoder.value::<PeerSummary>().unwrap(), peer);
    assert_eq!(decoder.value::<ConnectionSummary>().unwrap().name, [1, 2]);
    assert_eq!(decoder.value::<PeerSummary>().unwrap(), peer);
    let mismatch = kind(decoder.value::<Vec<PeerSummary>>());
    assert!(matches!(mismatch, ErrorKind::TypeMismatch { found: "a struct", .. }), "{mismatch}");
}

#[test]
fn text_that_is_not_utf8() {
    let stream = encode(&Text(b"h\xffst"));
    let text: Text = Decoder::new(&stream).value().unwrap();
    assert_eq!((text.as_str(), text.0), (None, &b"h\xffst"[..]));
    assert_eq!(format!("{text} {text:?}"), "h\u{fffd}st \"h\\xffst\"");
    assert_eq!(Decoder::new(&stream).value::<String>(), Ok("h\u{fffd}st".to_owned()));
}
