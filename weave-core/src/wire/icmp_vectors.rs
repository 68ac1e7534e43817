//! The golden vectors for classification, ICMP answers and fragmentation.

use serde_json::Value;

use super::*;

fn vectors(section: &str) -> Vec<Value> {
    let text = include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/vectors/icmp.json"));
    let mut vectors: Value = serde_json::from_str(text).unwrap();
    match vectors[section].take() {
        Value::Array(rows) => rows,
        other => panic!("{section} is {other}"),
    }
}

fn number(row: &Value, key: &str) -> usize {
    usize::try_from(row[key].as_u64().unwrap()).unwrap()
}

fn bytes(row: &Value, key: &str) -> Vec<u8> {
    hex::decode(row[key].as_str().unwrap()).unwrap()
}

/// A frame of which the vector has only the beginning.
fn frame(row: &Value, key: &str, length: &str) -> Vec<u8> {
    let mut frame = bytes(row, key);
    frame.resize(number(row, length), 0);
    frame
}

#[test]
fn classification() {
    let rows = vectors("classification");
    assert_eq!(rows.len(), 16);
    for row in rows {
        let name = row["name"].as_str().unwrap();
        let frame = frame(&row, "frame", "length");
        let classified = Classified::of(&frame);
        let (layers, df) = match classified {
            Classified::Short => (0, false),
            Classified::Special | Classified::Other => (1, false),
            Classified::Ipv4 { offset, packet } => {
                assert_eq!(offset, if name == "vlan" { 18 } else { 14 }, "{name}");
                assert!(std::ptr::eq(packet.header(), &frame[offset..][..20]), "{name}");
                (2, packet.dont_fragment())
            }
            Classified::Ipv6 { .. } => panic!("{name} is no valid IPv6 packet"),
        };
        let expected = match name {
            // The original goes on to the inner header and forgets the outer one.
            "ipip" => (2, true),
            // The original stops at the tag.
            "vlan" => (2, true),
            _ => (number(&row, "decoded_layers"), row["df"].as_bool().unwrap()),
        };
        assert_eq!((layers, df), expected, "{name}");
        assert_eq!(classified.dont_fragment(), df, "{name}");
        assert_eq!(matches!(classified, Classified::Special), row["special"], "{name}");
    }
}

#[test]
fn outer_header_of_a_tunnel_counts() {
    let rows = vectors("classification");
    let row = rows.iter().find(|row| row["name"] == "ipip").unwrap();
    let frame = frame(row, "frame", "length");
    let Classified::Ipv4 { packet, .. } = Classified::of(&frame) else { panic!("{row}") };
    assert_eq!((packet.total_length(), packet.protocol()), (80, 4));
}

#[test]
fn fragmentation_needed() {
    let rows = vectors("frag_needed");
    assert_eq!(rows.len(), 5);
    let mut answer = vec![1, 2, 3];
    for row in rows {
        let frame = frame(&row, "frame_first_96", "frame_length");
        too_big(&frame, number(&row, "mtu"), &mut answer).unwrap();
        assert_eq!(hex::encode(&answer), row["icmp_frame"], "{}", row["name"]);
    }
}

#[test]
fn fragmentation() {
    let rows = vectors("fragmentation");
    assert_eq!(rows.len(), 9);
    for row in rows {
        let frame = bytes(&row, "frame");
        let expected = row["fragments"].as_array().unwrap();
        let pieces: Vec<Piece> = fragment(&frame, number(&row, "mtu")).unwrap().collect();
        assert_eq!(pieces.len(), expected.len(), "{}", row["name"]);
        let mut original = Vec::new();
        for (piece, expected) in pieces.iter().zip(expected) {
            let mut buffer = [0xee; 2000];
            let length = piece.write(&mut buffer).unwrap();
            let written = &buffer[..length];
            assert_eq!(length, number(expected, "length"));
            assert_eq!(hex::encode(piece.header()), expected["headers"]);
            if expected["hex"].is_string() {
                assert_eq!(hex::encode(written), expected["hex"]);
            }
            original.extend_from_slice(piece.payload());
        }
        // Stands for the hashes of the long pieces: payload and headers are all there is.
        let Classified::Ipv4 { packet, .. } = Classified::of(&frame) else { panic!("{row}") };
        assert_eq!(original, packet.payload());
    }
}
