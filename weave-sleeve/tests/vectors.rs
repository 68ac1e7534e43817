//! The datagrams of the original: built, parsed, rejected, and captured from real routers.
#![allow(clippy::unwrap_used, reason = "in a test a panic is the answer")]

use std::collections::BTreeMap;

use serde_json::Value;
use sha2::{Digest, Sha256};
use weave_core::mesh::{PeerName, SessionKey};
use weave_sleeve::cipher::{Channel, Cipher, LegacyBox, OpenError};
use weave_sleeve::datagram::{NAME_LEN, RECORD_HEADER, Record, RecordError, Records, sender};
use weave_sleeve::replay::Windows;

fn vectors(text: &str) -> Value {
    serde_json::from_str(text).unwrap()
}

fn sleeve() -> Value {
    vectors(include_str!("../../tests/vectors/sleeve.json"))
}

fn bytes(value: &Value) -> Vec<u8> {
    hex::decode(value.as_str().unwrap()).unwrap()
}

fn name(value: &Value) -> PeerName {
    PeerName::from_bytes(bytes(value).try_into().unwrap())
}

fn number(value: &Value) -> usize {
    usize::try_from(value.as_u64().unwrap()).unwrap()
}

/// Returns source, destination and frame of each entry.
fn frames(list: &Value) -> Vec<(PeerName, PeerName, Vec<u8>)> {
    let frame = |entry: &Value| match entry.get("frame_is_zeros") {
        Some(_) => vec![0; number(&entry["length"])],
        None => bytes(&entry["frame"]),
    };
    list.as_array()
        .unwrap()
        .iter()
        .map(|entry| (name(&entry["src"]), name(&entry["dst"]), frame(entry)))
        .collect()
}

fn key(value: &Value) -> SessionKey {
    SessionKey(bytes(value).try_into().unwrap())
}

/// The records before an error, and the error.
#[derive(PartialEq, Debug)]
struct Split {
    good: Vec<(PeerName, PeerName, Vec<u8>)>,
    error: Option<RecordError>,
}

fn split(records: &[u8]) -> Split {
    let (mut good, mut error) = (Vec::new(), None);
    for record in Records::new(records) {
        match record {
            Ok(Record { source, destination, frame }) => {
                assert_eq!(error, None, "nothing comes after an error");
                good.push((source, destination, frame.to_vec()));
            }
            Err(problem) => error = Some(problem),
        }
    }
    Split { good, error }
}

/// Builds a datagram with these frames and an empty header.
fn unsealed(cipher: &Cipher, frames: &[(PeerName, PeerName, Vec<u8>)]) -> Vec<u8> {
    let mut datagram = vec![0; cipher.header_len()];
    for (source, destination, frame) in frames {
        let record = Record { source: *source, destination: *destination, frame };
        let end = datagram.len();
        datagram.resize(end + record.buffer_len(), 0);
        assert_eq!(record.emit(&mut datagram[end..]), Some(record.buffer_len()));
    }
    datagram
}

fn assert_is(datagram: &[u8], expected: &Value, context: &str) {
    assert_eq!(datagram.len(), number(&expected["length"]), "{context}");
    if let Some(hex) = expected.get("hex") {
        assert_eq!(datagram, bytes(hex), "{context}");
    } else {
        assert!(datagram.starts_with(&bytes(&expected["first_64"])), "{context}");
        assert!(datagram.ends_with(&bytes(&expected["last_32"])), "{context}");
        assert_eq!(Sha256::digest(datagram)[..], bytes(&expected["sha256"]), "{context}");
    }
}

#[test]
fn packets() {
    for case in sleeve()["packets"].as_array().unwrap() {
        let context = case["name"].as_str().unwrap();
        let frames = frames(&case["frames"]);
        let (sealer, opener) = if case["encrypted"].as_bool().unwrap() {
            let key = key(&case["session_key"]);
            let outbound = case["sender_is_outbound"].as_bool().unwrap();
            (
                Cipher::Legacy(LegacyBox::new(&key, outbound)),
                Cipher::Legacy(LegacyBox::new(&key, !outbound)),
            )
        } else {
            (Cipher::Plain, Cipher::Plain)
        };
        let channel = match case.get("df").and_then(Value::as_bool) {
            Some(false) => Channel::Fragmentable,
            Some(true) | None => Channel::DontFragment,
        };
        let sequence: u64 =
            case.get("seq").map_or(0, |sequence| sequence.as_str().unwrap().parse().unwrap());

        // Sealing can reach small numbers; larger ones are only opened.
        let mut datagram = if sequence < 3 {
            let mut datagram = unsealed(&sealer, &frames);
            for _ in 0..=sequence {
                datagram = unsealed(&sealer, &frames);
                sealer.seal(name(&case["sender"]), channel, &mut datagram).unwrap();
            }
            assert_is(&datagram, &case["packet"], context);
            datagram
        } else {
            bytes(&case["packet"]["hex"])
        };

        assert_eq!(sender(&datagram), Ok(name(&case["sender"])), "{context}");
        let mut windows = Windows::default();
        let mut again = datagram.clone();
        let records = opener.open(&mut windows, &mut datagram).unwrap();
        assert_eq!(split(records), Split { good: frames, error: None }, "{context}");
        if matches!(opener, Cipher::Legacy(_)) {
            assert_eq!(opener.open(&mut windows, &mut again), Err(OpenError::Replayed));
        }
    }
}

#[test]
fn malformed() {
    let vectors = sleeve();
    let sealed = vectors["packets"].as_array().unwrap().iter();
    let key = key(sealed.clone().find_map(|case| case.get("session_key")).unwrap());
    for case in vectors["malformed"].as_array().unwrap() {
        let context = case["name"].as_str().unwrap();
        let mut datagram = bytes(&case["packet_hex"]);
        let cipher = if case["encrypted"].as_bool().unwrap() {
            Cipher::Legacy(LegacyBox::new(&key, false))
        } else {
            Cipher::Plain
        };
        let mut windows = Windows::default();
        let (delivered, error) = match cipher.open(&mut windows, &mut datagram) {
            Err(OpenError::TooShort { .. }) => (vec![], "too-short"),
            Err(OpenError::Forged) => (vec![], "decrypt-failed"),
            Err(other) => panic!("{context}: {other}"),
            Ok(records) => {
                let Split { good, error } = split(records);
                let error = match error {
                    None => "none",
                    Some(RecordError::FrameTooShort { .. }) => "too-short",
                    Some(RecordError::TrailingGarbage { .. }) => "trailing-garbage",
                    Some(other) => panic!("{context}: {other}"),
                };
                (good, error)
            }
        };
        assert_eq!(error, case["error"].as_str().unwrap(), "{context}");
        assert_eq!(delivered, frames(&case["frames_delivered_before_the_error"]), "{context}");
    }
}

#[test]
fn overhead() {
    let vectors = sleeve();
    for (name, cipher) in [
        ("plain", Cipher::Plain),
        ("encrypted", Cipher::Legacy(LegacyBox::new(&SessionKey([0; 32]), true))),
    ] {
        let expected = &vectors["overhead"][name];
        assert_eq!(cipher.header_len(), number(&expected["packet"]), "{name}");
        assert_eq!(RECORD_HEADER, number(&expected["frame"]), "{name}");
        let total = number(&expected["total_including_ip_udp_and_inner_ethernet"]);
        assert_eq!(cipher.overhead(), total, "{name}");
    }
}

/// Returns the UDP payloads from port 6783 in a capture, with fragments reassembled.
fn payloads(pcap: &[u8]) -> Vec<Vec<u8>> {
    let little = |at: usize| u32::from_le_bytes(pcap[at..at + 4].try_into().unwrap()) as usize;
    let link_header = match little(20) {
        1 => 14,
        276 => 20,
        other => panic!("link type {other}"),
    };
    let mut found = Vec::new();
    let mut fragments: BTreeMap<(Vec<u8>, u16), Vec<u8>> = BTreeMap::new();
    let mut at = 24;
    while at < pcap.len() {
        let length = little(at + 8);
        let packet = &pcap[at + 16..at + 16 + length];
        at += 16 + length;
        let protocol = if link_header == 14 { &packet[12..14] } else { &packet[..2] };
        let ip = &packet[link_header..];
        if protocol != [8, 0] || ip[9] != 17 {
            continue;
        }
        let word = |at: usize| u16::from_be_bytes([ip[at], ip[at + 1]]);
        let header = usize::from(ip[0] & 15) * 4;
        let body = &ip[header..usize::from(word(2))];
        let (offset, more) = (usize::from(word(6) & 0x1fff) * 8, word(6) & 0x2000 != 0);
        let datagram = if offset == 0 && !more {
            body.to_vec()
        } else {
            let parts = fragments.entry((ip[12..20].to_vec(), word(4))).or_default();
            assert_eq!(parts.len(), offset, "fragments in order");
            parts.extend(body);
            if more {
                continue;
            }
            parts.clone()
        };
        if datagram[2..4] == 6783_u16.to_be_bytes() {
            found.push(datagram[8..].to_vec());
        }
    }
    found
}

#[test]
fn captured_sessions() {
    for (pcap, json, at_least) in [
        (
            &include_bytes!("../../tests/vectors/session-plain.pcap")[..],
            include_str!("../../tests/vectors/session-plain.json"),
            26,
        ),
        (
            &include_bytes!("../../tests/vectors/session-relay.pcap")[..],
            include_str!("../../tests/vectors/session-relay.json"),
            39,
        ),
    ] {
        let listed = vectors(json);
        let listed: Vec<_> = listed["events"]
            .as_array()
            .unwrap()
            .iter()
            .filter(|event| event["kind"] == "udp")
            .map(|event| (number(&event["length"]), bytes(&event["payload"])))
            .collect();
        assert_eq!(listed.len(), at_least);
        let captured = payloads(pcap);
        let mut remaining = captured.clone();
        for (length, start) in &listed {
            let place = remaining.iter().position(|p| p.len() == *length && p.starts_with(start));
            remaining.remove(place.unwrap_or_else(|| panic!("not captured: {length} bytes")));
        }
        for mut datagram in captured {
            let from = sender(&datagram).unwrap();
            let names = [0xa1, 0xa2, 0xb1, 0xb2, 0xb3];
            assert!(names.map(|n| PeerName::from_u64(n).unwrap()).contains(&from));
            let mut windows = Windows::default();
            let original = datagram.clone();
            let records = Cipher::Plain.open(&mut windows, &mut datagram).unwrap();
            let Split { good: frames, error } = split(records);
            assert_eq!(error, None);
            assert!(!frames.is_empty());
            let mut again = unsealed(&Cipher::Plain, &frames);
            Cipher::Plain.seal(from, Channel::DontFragment, &mut again).unwrap();
            assert_eq!(again, original);
            assert_eq!(again[..NAME_LEN], from.to_bytes());
        }
    }
}
