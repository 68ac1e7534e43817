//! Keys, message 1 and rules of Weave Net 2.x.
#![allow(clippy::unwrap_used, reason = "in a test a panic is the answer")]

use serde_json::Value;
use weave_core::mesh::SessionKey;
use weave_fastdp::ipsec::{Announcement, AnnouncementError, derive};
use weave_xfrm::{AeadKey, Spi};

fn vectors() -> Value {
    serde_json::from_str(include_str!("../../tests/vectors/ipsec.json")).unwrap()
}

fn bytes<const N: usize>(value: &Value) -> [u8; N] {
    hex::decode(value.as_str().unwrap()).unwrap().try_into().unwrap()
}

#[test]
fn keys() {
    let vectors = vectors();
    let cases = vectors["key_derivation"].as_array().unwrap();
    for case in cases {
        let receiver = case["receiving_peer"].as_str().unwrap().parse().unwrap();
        let session = SessionKey(bytes(&case["session_key"]));
        let key = derive(&session, &bytes(&case["nonce"]), receiver);
        assert!(key == AeadKey::new(bytes(&case["aead_key_and_salt"])), "{}", case["name"]);
    }
    assert_eq!(cases.len(), 4);
}

#[test]
fn announcements() {
    let vectors = vectors();
    let cases = vectors["init_sa_remote"].as_array().unwrap();
    for case in cases {
        let spi = case["spi"].as_str().unwrap().strip_prefix("0x").unwrap();
        let spi = Spi::new(u32::from_str_radix(spi, 16).unwrap()).unwrap();
        let announcement = Announcement { nonce: bytes(&case["nonce"]), spi };
        let payload: [u8; 64] = bytes(&case["payload"]);
        assert_eq!(announcement.encode(), payload, "{}", case["name"]);
        assert_eq!(Announcement::decode(&payload), Ok(announcement), "{}", case["name"]);
    }
    assert_eq!(cases.len(), 3);
}

#[test]
fn malformed_announcements() {
    let vectors = vectors();
    for case in vectors["init_sa_remote_rejected"].as_array().unwrap() {
        let length = usize::try_from(case["length"].as_u64().unwrap()).unwrap();
        let mut payload = vec![0xff; length];
        match case["accepted_spi"].as_str() {
            Some(spi) => {
                let spi = spi.parse().unwrap();
                payload[32..36].copy_from_slice(&u32::to_be_bytes(spi));
                assert_eq!(Announcement::decode(&payload).unwrap().spi.get(), spi);
                payload[32..36].fill(0);
                let error = Announcement::decode(&payload).unwrap_err();
                assert_eq!(error, AnnouncementError::NoSpi);
            }
            None => {
                let error = Announcement::decode(&payload).unwrap_err();
                assert_eq!(error, AnnouncementError::Length { length });
            }
        }
    }
}
