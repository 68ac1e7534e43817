//! What each side tells about itself in its first message: a gob map from string to string
//! (spec mesh.md, section 5).
//!
//! ```text
//!   PeerNameFlavour  mac                        required, must be that
//!   Name             7a:9f:eb:b6:0c:6e          required
//!   NickName         host1                      required, may be empty
//!   UID              11007299042936461291       required
//!   ConnID           2945346239018432112        required
//!   ShortID          2113                       up to 4095
//!   Trusted          false
//!   Overlays         fastdp sleeve              in order of preference
//!   anything else                               kept; legacy peers ignore it
//! ```
//!
//! This is where a new ability is announced: a key that legacy peers do not know.

use std::collections::BTreeMap;

use super::peer::clean_nickname;
use super::{ConnectionUid, PeerName, ShortId, Uid};
use crate::wire::gob::{self, AtMost, Decoder, Encoder};

/// More entries than any router sends.
pub const MAX_ENTRIES: usize = 64;
/// More text than any router sends, keys and values together, in bytes.
pub const MAX_TEXT_LEN: usize = 16 << 10;

const FLAVOUR: &str = "PeerNameFlavour";
const NAME: &str = "Name";
const NICKNAME: &str = "NickName";
const UID: &str = "UID";
const CONNECTION_ID: &str = "ConnID";
const SHORT_ID: &str = "ShortID";
const TRUSTED: &str = "Trusted";
const OVERLAYS: &str = "Overlays";

/// The one kind of peer names that is in use.
const MAC_FLAVOUR: &str = "mac";

/// What one side of a connection tells about itself.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Features {
    /// Its name.
    pub name: PeerName,
    /// What people call it.
    pub nickname: String,
    /// Its incarnation.
    pub uid: Uid,
    /// Its random number for this connection.
    pub connection_id: u64,
    /// Its short id; very old peers have none.
    pub short_id: Option<ShortId>,
    /// Whether it trusts the network on which it sees the other side.
    pub trusted: bool,
    /// The transports it has, in order of preference. `None`: it does not know about choosing
    /// and uses the legacy UDP encapsulation alone.
    pub overlays: Option<Vec<String>>,
    /// All entries other than those above.
    pub further: BTreeMap<String, String>,
}

/// Features that no connection can be made with.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum FeaturesError {
    /// The message is not a map of strings.
    #[error("features: {0}")]
    Malformed(#[from] gob::Error),
    /// Keys and values are longer than any router sends.
    #[error("features have {0} bytes of text, where at most {MAX_TEXT_LEN} are allowed")]
    TooMuchText(usize),
    /// A required entry is not there.
    #[error("feature {0} is missing")]
    Missing(&'static str),
    /// The peer counts peers by something else than MAC addresses.
    #[error("the peer uses peer names of flavour {0:?}, this router of flavour {MAC_FLAVOUR:?}")]
    Flavour(String),
    /// The name is the one that stands for "unknown".
    #[error("feature {NAME}: no peer has the name {}", PeerName::UNKNOWN)]
    UnknownName,
    /// A value is not what it must be.
    #[error("feature {key} is {value:?}, which is not {expected}")]
    Value {
        /// The key.
        key: &'static str,
        /// The value, or its beginning.
        value: String,
        /// What it must be.
        expected: &'static str,
    },
}

impl Features {
    /// Reads the first message of a peer.
    ///
    /// # Errors
    /// When it is no such map, or says what no connection can be made with.
    pub fn decode(message: &[u8]) -> Result<Self, FeaturesError> {
        let AtMost::<MAX_ENTRIES, BTreeMap<String, String>>(map) = Decoder::new(message).value()?;
        Self::parse(map)
    }

    /// The first message to a peer.
    pub fn encode(&self) -> Vec<u8> {
        let mut encoder = Encoder::new();
        encoder.value(&self.to_map());
        encoder.finish()
    }

    /// Makes sense of a map.
    ///
    /// # Errors
    /// When it says what no connection can be made with.
    pub fn parse(mut map: BTreeMap<String, String>) -> Result<Self, FeaturesError> {
        let text_len = map.iter().map(|(key, value)| key.len() + value.len()).sum();
        if text_len > MAX_TEXT_LEN {
            return Err(FeaturesError::TooMuchText(text_len));
        }
        let mut required = |key| map.remove(key).ok_or(FeaturesError::Missing(key));
        let flavour = required(FLAVOUR)?;
        let name = required(NAME)?;
        let nickname = clean_nickname(&required(NICKNAME)?);
        let uid = required(UID)?;
        let connection_id = required(CONNECTION_ID)?;

        if flavour != MAC_FLAVOUR {
            return Err(FeaturesError::Flavour(beginning(flavour)));
        }
        let name: PeerName =
            name.parse().map_err(|_| wrong_value(NAME, name, "a name like 7a:9f:eb:b6:0c:6e"))?;
        if name == PeerName::UNKNOWN {
            return Err(FeaturesError::UnknownName);
        }
        let short_id = map.remove(SHORT_ID).map(short_id).transpose()?;
        let trusted = map.remove(TRUSTED).map(boolean).transpose()?.unwrap_or(false);
        let uid = Uid(number(UID, uid)?);
        let connection_id = number(CONNECTION_ID, connection_id)?;
        let overlays = map
            .remove(OVERLAYS)
            .map(|names| names.split_ascii_whitespace().map(str::to_owned).collect());
        Ok(Self { name, nickname, uid, connection_id, short_id, trusted, overlays, further: map })
    }

    /// The map, as it is sent.
    pub fn to_map(&self) -> BTreeMap<String, String> {
        let mut map = self.further.clone();
        let mut insert = |key: &str, value: String| map.insert(key.to_owned(), value);
        insert(FLAVOUR, MAC_FLAVOUR.to_owned());
        insert(NAME, self.name.to_string());
        insert(NICKNAME, self.nickname.clone());
        insert(UID, self.uid.0.to_string());
        insert(CONNECTION_ID, self.connection_id.to_string());
        insert(TRUSTED, self.trusted.to_string());
        if let Some(short_id) = self.short_id {
            insert(SHORT_ID, short_id.get().to_string());
        }
        if let Some(overlays) = &self.overlays {
            insert(OVERLAYS, overlays.join(" "));
        }
        map
    }

    /// What both ends call the connection between the senders of these two.
    pub const fn connection_uid(&self, other: &Self) -> ConnectionUid {
        ConnectionUid(self.connection_id ^ other.connection_id)
    }
}

/// Decimal digits and nothing else.
fn number(key: &'static str, value: String) -> Result<u64, FeaturesError> {
    parse_digits(&value).ok_or_else(|| wrong_value(key, value, "a 64-bit number"))
}

fn short_id(value: String) -> Result<ShortId, FeaturesError> {
    let number = parse_digits(&value).and_then(|number| u16::try_from(number).ok());
    let id = number.and_then(ShortId::new);
    id.ok_or_else(|| wrong_value(SHORT_ID, value, "a number up to 4095"))
}

fn parse_digits(value: &str) -> Option<u64> {
    // `parse` alone would also take a sign.
    value.parse().ok().filter(|_| value.bytes().all(|byte| byte.is_ascii_digit()))
}

/// The forms that Go's `strconv.ParseBool` takes.
fn boolean(value: String) -> Result<bool, FeaturesError> {
    match value.as_str() {
        "1" | "t" | "T" | "TRUE" | "true" | "True" => Ok(true),
        "0" | "f" | "F" | "FALSE" | "false" | "False" => Ok(false),
        _ => Err(wrong_value(TRUSTED, value, "true or false")),
    }
}

fn wrong_value(key: &'static str, value: String, expected: &'static str) -> FeaturesError {
    FeaturesError::Value { key, value: beginning(value), expected }
}

/// What an error shows of a text: it ends up in the log, and anybody can send it.
fn beginning(mut text: String) -> String {
    text.truncate(text.floor_char_boundary(64));
    text
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::Value;

    use super::*;

    fn text_map(value: &Value) -> BTreeMap<String, String> {
        let entries = value.as_object().unwrap();
        entries.iter().map(|(key, value)| (key.clone(), value.as_str().unwrap().into())).collect()
    }

    fn complete() -> BTreeMap<String, String> {
        Features {
            name: PeerName::from_u64(1).unwrap(),
            nickname: "host1".into(),
            uid: Uid(7),
            connection_id: 8,
            short_id: ShortId::new(9),
            trusted: true,
            overlays: Some(vec!["fastdp".into(), "sleeve".into()]),
            further: BTreeMap::new(),
        }
        .to_map()
    }

    #[test]
    fn maps_are_understood_like_the_golden_ones() {
        let vectors: Value =
            serde_json::from_str(include_str!("../../../tests/vectors/handshake.json")).unwrap();
        let cases = vectors["features"].as_array().unwrap();
        assert_eq!(cases.len(), 39);
        for case in cases {
            let name = case["name"].as_str().unwrap();
            let features = Features::parse(text_map(&case["features"]));
            assert_eq!(features.is_ok(), case["ok"].as_bool().unwrap(), "{name}: {features:?}");
            let Ok(features) = features else { continue };

            let result = &case["result"];
            let own = Features { connection_id: 2945346239018432112, ..features.clone() };
            assert_eq!(features.connection_uid(&own).0.to_string(), result["connection_uid"]);
            assert_eq!(features.name.to_string(), result["name"]);
            assert_eq!(features.nickname, result["nickname"].as_str().unwrap());
            assert_eq!(features.uid.0.to_string(), result["uid"]);
            assert_eq!(features.short_id.is_some(), result["has_short_id"].as_bool().unwrap());
            let short_id = features.short_id.map_or(0, ShortId::get);
            assert_eq!(u64::from(short_id), result["short_id"].as_u64().unwrap(), "{name}");
            assert_eq!(features.trusted, result["trusted_by_remote"].as_bool().unwrap(), "{name}");
        }
    }

    #[test]
    fn golden_messages_decode() {
        let vectors: Value =
            serde_json::from_str(include_str!("../../../tests/vectors/gob.json")).unwrap();
        let mut complete = 0;
        for case in vectors["features"].as_array().unwrap() {
            let message = hex::decode(case["hex"].as_str().unwrap()).unwrap();
            let expected = Features::parse(text_map(&case["map"]));
            complete += usize::from(expected.is_ok());
            assert_eq!(Features::decode(&message), expected, "{}", case["name"]);
        }
        assert!(complete > 0);
    }

    #[test]
    fn errors_say_what_is_wrong() {
        let with = |key: &str, value: &str| {
            let mut map = complete();
            map.insert(key.into(), value.into());
            Features::parse(map).unwrap_err().to_string()
        };
        assert_eq!(
            with("ShortID", "4096"),
            "feature ShortID is \"4096\", which is not a number up to 4095"
        );
        assert_eq!(
            with("Trusted", "yes"),
            "feature Trusted is \"yes\", which is not true or false"
        );
        assert_eq!(
            with("Name", "::"),
            "feature Name is \"::\", which is not a name like 7a:9f:eb:b6:0c:6e"
        );
        let long = with("Name", &"\u{e9}\n".repeat(1000));
        assert!(long.len() < 200 && !long.contains('\n'), "{long}");
        assert_eq!(with("Name", "0::0"), "feature Name: no peer has the name 00:00:00:00:00:00");
        let mut map = complete();
        map.remove("UID");
        assert_eq!(Features::parse(map), Err(FeaturesError::Missing("UID")));
    }

    #[test]
    fn more_than_any_router_sends_is_refused() {
        let mut map = complete();
        map.insert("Long".into(), "x".repeat(MAX_TEXT_LEN));
        let error = Features::parse(map).unwrap_err();
        assert!(matches!(error, FeaturesError::TooMuchText(len) if len > MAX_TEXT_LEN));

        let mut map = complete();
        map.extend((map.len()..=MAX_ENTRIES).map(|n| (format!("Key{n}"), String::new())));
        let mut encoder = Encoder::new();
        encoder.value(&map);
        let error = Features::decode(&encoder.finish()).unwrap_err();
        assert!(matches!(error, FeaturesError::Malformed(_)), "{error}");
    }

    fn some_features() -> impl Strategy<Value = Features> {
        let overlays = proptest::option::of(proptest::collection::vec("[a-z]{1,8}", 0..4));
        let further = proptest::collection::btree_map("[A-Z][a-z]{0,3}[0-9]", ".{0,20}", 0..5);
        let ids = (1u64..1 << 48, any::<u64>(), any::<u64>(), proptest::option::of(0u16..4096));
        (ids, "\\PC{0,30}", any::<bool>(), overlays, further).prop_map(
            |((name, uid, connection_id, short_id), nickname, trusted, overlays, further)| {
                Features {
                    name: PeerName::from_u64(name).unwrap(),
                    nickname,
                    uid: Uid(uid),
                    connection_id,
                    short_id: short_id.and_then(ShortId::new),
                    trusted,
                    overlays,
                    further,
                }
            },
        )
    }

    proptest! {
        #[test]
        fn encoded_features_decode(features in some_features()) {
            prop_assert_eq!(Features::decode(&features.encode()), Ok(features));
        }
    }
}
