//! The golden vectors of the router, both ways.

use std::collections::BTreeMap;

use super::*;
use crate::mesh::PeerName;

/// Compares with a row whose `values` alternate between peers and their connections.
fn assert_topology(peers: &Topology<'_>, row: &Value) {
    let values = row["values"].as_array().map(Vec::as_slice).unwrap_or_default();
    assert_eq!(values.len(), 2 * peers.len(), "{row}");
    for (pair, (peer, connections)) in values.chunks(2).zip(peers) {
        let expected = &pair[0];
        assert_eq!(peer.name, bytes(expected, "NameByte"));
        assert_eq!(peer.nick_name.as_str(), expected["NickName"].as_str());
        assert_eq!(peer.uid.to_string(), text(expected, "UID"));
        assert_eq!(peer.version.to_string(), text(expected, "Version"));
        assert_eq!(u64::from(peer.short_id), expected["ShortID"]);
        assert_eq!(peer.has_short_id, expected["HasShortID"]);
        let items = pair[1]["items"].as_array().unwrap();
        assert_eq!(items.len(), connections.len());
        for (item, connection) in items.iter().zip(connections) {
            assert_eq!(connection.name, bytes(item, "NameByte"));
            assert_eq!(connection.address.as_str(), item["RemoteTCPAddr"].as_str());
            assert_eq!(connection.outbound, item["Outbound"]);
            assert_eq!(connection.established, item["Established"]);
        }
    }
}

#[test]
fn topology_vectors_both_ways() {
    for row in vectors("peers") {
        let stream = bytes(&row, "hex");
        let peers = decode_topology(&stream).unwrap_or_else(|error| panic!("{error}: {row}"));
        assert_topology(&peers, &row);
        assert_eq!(hex::encode(encode_topology(&peers)), text(&row, "hex"), "{}", row["name"]);
    }
    for row in vectors("accept") {
        let stream = bytes(&row, "hex");
        let peers = decode_topology(&stream).unwrap_or_else(|error| panic!("{error}: {row}"));
        assert_topology(&peers, &row);
    }
}

#[test]
fn feature_vectors_both_ways() {
    for row in vectors("features") {
        let stream = bytes(&row, "hex");
        let features: BTreeMap<String, String> = Decoder::new(&stream).value().unwrap();
        let expected: BTreeMap<String, String> =
            serde_json::from_value(row["map"].clone()).unwrap();
        assert_eq!(features, expected);
        let again = encode(&features);
        assert_eq!(Decoder::new(&again).value(), Ok(features));
        assert!(again.starts_with(&hex::decode("0eff81040102ff8200010c010c0000").unwrap()));
    }
}

#[test]
fn gossip_vectors_both_ways() {
    for row in vectors("gossip") {
        let stream = bytes(&row, "hex");
        let mut decoder = Decoder::new(&stream);
        let mut encoder = Encoder::new();
        for value in row["values"].as_array().unwrap() {
            match text(value, "kind") {
                "string" => {
                    let channel: Text = decoder.value().unwrap();
                    assert_eq!(channel, text(value, "value").into());
                    encoder.value(&channel);
                }
                "uint" => {
                    let peer: PeerName = decoder.value().unwrap();
                    assert_eq!(peer.to_string(), text(value, "peer"));
                    encoder.value(&peer);
                }
                "bytes" => {
                    let payload: &[u8] = decoder.value().unwrap();
                    assert_eq!(payload, bytes(value, "value"));
                    encoder.value(&payload);
                }
                other => panic!("kind {other}"),
            }
        }
        assert_eq!(decoder.next_value::<u64>(), Ok(None));
        assert_eq!(encoder.finish(), stream, "{}", row["name"]);
    }
}

#[test]
fn primitive_vectors_both_ways() {
    fn assert_both_ways<'de, T>(stream: &'de [u8], value: T)
    where
        T: Decode<'de> + Encode + PartialEq + std::fmt::Debug,
    {
        assert_eq!(encode(&value), stream, "{value:?}");
        assert_eq!(Decoder::new(stream).value(), Ok(value));
    }
    for row in vectors("primitives") {
        let stream = bytes(&row, "hex");
        assert!(stream.ends_with(&bytes(&row, "body_hex")));
        let value = text(&row, "value");
        match text(&row, "type") {
            "uint" => assert_both_ways::<u64>(&stream, value.parse().unwrap()),
            "int" => assert_both_ways::<i64>(&stream, value.parse().unwrap()),
            "bool" => assert_both_ways::<bool>(&stream, value.parse().unwrap()),
            "string" => assert_both_ways::<String>(&stream, value.to_owned()),
            "bytes" => assert_both_ways::<&[u8]>(&stream, &hex::decode(value).unwrap()),
            other => panic!("type {other}"),
        }
    }
}

/// The class of an error, as the vectors call it.
fn class(kind: ErrorKind) -> &'static str {
    match kind {
        ErrorKind::EndOfStream => "eof",
        ErrorKind::Truncated { .. } => "truncated",
        ErrorKind::IntegerTooLong(_) => "bad-varint",
        ErrorKind::MessageTooLong(_) | ErrorKind::LengthBeyondMessage { .. } => "bad-length",
        ErrorKind::NonzeroSingleton(_) => "corrupt",
        ErrorKind::Redefined(_) => "duplicate-type",
        ErrorKind::BadDefinition(_) => "bad-definition",
        ErrorKind::Undefined(_) => "undefined-type",
        ErrorKind::FieldNumber => "bad-field",
        ErrorKind::TypeMismatch { .. } | ErrorKind::NoCommonField(_) => "type-mismatch",
        ErrorKind::OutOfRange { .. } => "overflow",
        other => panic!("{other}"),
    }
}

#[test]
fn malformed_topologies_are_refused() {
    for row in vectors("malformed") {
        let stream = bytes(&row, "hex");
        let error = decode_topology(&stream).map(drop).unwrap_err();
        let expected = match text(&row, "error") {
            // The reference drops the dangling summary without a word.
            "eof-after-summary" => "eof",
            other => other,
        };
        assert_eq!(class(error.kind), expected, "{error}: {row}");
        assert!(error.offset <= stream.len());
    }
}

#[test]
fn malformed_strings_are_refused() {
    for row in vectors("malformed_string") {
        let stream = bytes(&row, "hex");
        let result = Decoder::new(&stream).value::<Text>();
        match text(&row, "error") {
            "accepted" => assert_eq!(result, Ok(text(&row, "decodes_to").into())),
            expected => {
                let error = result.unwrap_err();
                assert_eq!(class(error.kind), expected, "{error}: {row}");
            }
        }
    }
}

#[test]
fn equal_types_are_defined_once() {
    // As two crates that use one type may have its shape at two addresses.
    static HERE: Shape = Shape::Slice(&Shape::Slice(&Shape::Uint));
    static THERE: Shape = Shape::Slice(&Shape::Slice(&Shape::Uint));
    assert!(!std::ptr::eq(&HERE, &THERE));
    let (mut announced, mut out) = (announce::Announced::new(), Vec::new());
    let id = announced.announce(&HERE, &mut out);
    let length = out.len();
    assert_eq!(announced.announce(&THERE, &mut out), id);
    assert_eq!(out.len(), length, "nothing is left to define");
}
