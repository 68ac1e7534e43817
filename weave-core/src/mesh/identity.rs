//! What a peer is called (spec mesh.md, section 1).

use std::fmt;
use std::str::FromStr;

use subtle::ConstantTimeEq;
use zeroize::Zeroize;

use crate::wire::gob::{self, Decode, Encode, ErrorKind, Gob, Plan, Shape, ValueReader};

/// The 48-bit name of a peer, written as a MAC address. Ordered numerically. Never zero on a
/// live peer: zero means "unknown".
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct PeerName(u64);

impl PeerName {
    /// "No peer": the next hop to oneself in reports.
    pub const UNKNOWN: Self = Self(0);

    /// The name with this number; `None` if it needs more than 48 bits.
    pub const fn from_u64(number: u64) -> Option<Self> {
        if number >> 48 == 0 { Some(Self(number)) } else { None }
    }

    /// The name as a number below 2^48.
    pub const fn to_u64(self) -> u64 {
        self.0
    }

    /// The name from its six bytes on the wire, big-endian.
    pub const fn from_bytes(bytes: [u8; 6]) -> Self {
        let [a, b, c, d, e, f] = bytes;
        Self(u64::from_be_bytes([0, 0, a, b, c, d, e, f]))
    }

    /// The six bytes of the name on the wire, big-endian.
    pub const fn to_bytes(self) -> [u8; 6] {
        let [_, _, a, b, c, d, e, f] = self.0.to_be_bytes();
        [a, b, c, d, e, f]
    }
}

/// As the 48-bit number.
impl Gob for PeerName {
    const SHAPE: &'static Shape = &Shape::Uint;
}

impl Decode<'_> for PeerName {
    fn decode(reader: &mut ValueReader<'_, '_>, plan: &Plan) -> Result<Self, gob::Error> {
        let offset = reader.offset();
        let value = u64::decode(reader, plan)?;
        let kind = ErrorKind::OutOfRange { what: "a peer name", value };
        Self::from_u64(value).ok_or(gob::Error { offset, kind })
    }
}

impl Encode for PeerName {
    fn encode(&self, out: &mut Vec<u8>) {
        self.to_u64().encode(out);
    }

    fn is_zero(&self) -> bool {
        *self == Self::UNKNOWN
    }
}

impl fmt::Display for PeerName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [a, b, c, d, e, g] = self.to_bytes();
        write!(f, "{a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{g:02x}")
    }
}

impl fmt::Debug for PeerName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// A text that is not a peer name.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("{0:?} is not a peer name: six hexadecimal groups joined by ':', like 7a:9f:eb:b6:0c:6e")]
pub struct PeerNameError(String);

impl FromStr for PeerName {
    type Err = PeerNameError;

    /// Groups of one or two hex digits: six of them, or one `::` that stands for the missing
    /// zero groups among one to four others.
    fn from_str(text: &str) -> Result<Self, PeerNameError> {
        let error = || PeerNameError(text.to_owned());
        let groups = |part: &str| -> Result<Vec<u8>, PeerNameError> {
            if part.is_empty() {
                return Ok(Vec::new());
            }
            part.split(':')
                .map(|group| {
                    let digits = group.bytes().all(|b| b.is_ascii_hexdigit());
                    if !digits || !(1..=2).contains(&group.len()) {
                        return Err(error());
                    }
                    u8::from_str_radix(group, 16).map_err(|_| error())
                })
                .collect()
        };
        let mut bytes = [0; 6];
        match text.split_once("::") {
            Some((before, after)) => {
                let (before, after) = (groups(before)?, groups(after)?);
                let given = before.len() + after.len();
                if !(1..=4).contains(&given) {
                    return Err(error());
                }
                bytes[..before.len()].copy_from_slice(&before);
                bytes[6 - after.len()..].copy_from_slice(&after);
            }
            None => bytes = groups(text)?.try_into().map_err(|_| error())?,
        }
        Ok(Self::from_bytes(bytes))
    }
}

/// One incarnation of a peer: random, new at each start. Zero is kept for placeholders.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub struct Uid(pub u64);

/// The 12-bit identifier that stands for a peer in VXLAN tunnel ids.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct ShortId(u16);

impl ShortId {
    /// How many there are.
    pub const COUNT: u16 = 1 << 12;

    /// The identifier with this number; `None` from 4096 up.
    pub const fn new(number: u16) -> Option<Self> {
        if number < Self::COUNT { Some(Self(number)) } else { None }
    }

    /// The number, below 4096.
    pub const fn get(self) -> u16 {
        self.0
    }
}

/// What both ends call one connection: the XOR of their random connection ids.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct ConnectionUid(pub u64);

/// A connection, as this process tells its own apart. Never reused.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct ConnectionId(pub u64);

/// The 32 bytes that both ends derive from X25519 and the password (spec mesh.md, section 4.2).
/// Wiped when dropped, never printed.
#[derive(Clone)]
pub struct SessionKey(pub [u8; 32]);

impl PartialEq for SessionKey {
    /// In constant time.
    fn eq(&self, other: &Self) -> bool {
        self.0.ct_eq(&other.0).into()
    }
}

impl Eq for SessionKey {}

impl Drop for SessionKey {
    fn drop(&mut self) {
        self.0.zeroize();
    }
}

impl fmt::Debug for SessionKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SessionKey(..)")
    }
}
