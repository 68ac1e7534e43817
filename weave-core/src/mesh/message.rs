//! What routers say to each other after the handshake (spec mesh.md, sections 8 and 9).
//!
//! ```text
//!   | tag | payload |
//!     0     heartbeat, nothing
//!     1..3  control messages of the legacy UDP encapsulation
//!     4     gossip     gob: channel, source, data
//!     5     unicast    gob: channel, source, destination, data
//!     6     broadcast  gob: channel, source, data
//!     7     control message between transports
//! ```

use super::PeerName;
use crate::wire::gob::{self, Decoder, Encoder, Text};

/// The name of no channel is longer. A channel that nobody here knows costs memory.
pub const MAX_CHANNEL_NAME_LEN: usize = 256;

const HEARTBEAT: u8 = 0;
const GOSSIP: u8 = 4;
const UNICAST: u8 = 5;
const BROADCAST: u8 = 6;
const CONTROL: u8 = 7;

/// A message by its tag. Gossip payloads are left as they are: one to be passed on is not looked
/// into further than needed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum Message<'a> {
    /// The sender is alive.
    Heartbeat,
    /// From and to peers that cannot choose among transports: tags 1 to 3.
    LegacyControl(LegacyControl, &'a [u8]),
    /// For a channel, and its answer goes to neighbours: see [`Gossip`].
    Gossip(&'a [u8]),
    /// For a channel of one peer: see [`Unicast`].
    Unicast(&'a [u8]),
    /// For a channel of every peer: see [`Gossip`].
    Broadcast(&'a [u8]),
    /// For the transports: index of the transport, its own message number, data.
    Control(&'a [u8]),
    /// From a peer that knows more than this router: to be ignored.
    Unknown {
        /// The tag.
        tag: u8,
        /// What follows it.
        payload: &'a [u8],
    },
}

/// The tags that the legacy UDP encapsulation has for itself.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum LegacyControl {
    /// Frames get through.
    ConnectionEstablished = 1,
    /// The test of fragmentation got through.
    FragmentationReceived = 2,
    /// A frame of the size in the data got through.
    PathMtuVerified = 3,
}

impl LegacyControl {
    /// The control message with this number.
    pub const fn from_number(number: u8) -> Option<Self> {
        match number {
            1 => Some(Self::ConnectionEstablished),
            2 => Some(Self::FragmentationReceived),
            3 => Some(Self::PathMtuVerified),
            _ => None,
        }
    }

    /// The number, which is also the tag.
    pub const fn number(self) -> u8 {
        self as u8
    }
}

impl<'a> Message<'a> {
    /// Looks at the tag; `None` for an empty message, which is to be ignored.
    pub fn decode(message: &'a [u8]) -> Option<Self> {
        let (&tag, payload) = message.split_first()?;
        Some(match tag {
            HEARTBEAT => Self::Heartbeat,
            GOSSIP => Self::Gossip(payload),
            UNICAST => Self::Unicast(payload),
            BROADCAST => Self::Broadcast(payload),
            CONTROL => Self::Control(payload),
            _ => match LegacyControl::from_number(tag) {
                Some(message) => Self::LegacyControl(message, payload),
                None => Self::Unknown { tag, payload },
            },
        })
    }

    /// The tag and what follows it.
    pub const fn parts(&self) -> (u8, &'a [u8]) {
        match *self {
            Self::Heartbeat => (HEARTBEAT, &[]),
            Self::LegacyControl(message, data) => (message.number(), data),
            Self::Gossip(payload) => (GOSSIP, payload),
            Self::Unicast(payload) => (UNICAST, payload),
            Self::Broadcast(payload) => (BROADCAST, payload),
            Self::Control(payload) => (CONTROL, payload),
            Self::Unknown { tag, payload } => (tag, payload),
        }
    }
}

/// Why a gossip payload makes no sense.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum GossipMessageError {
    /// The bytes are not the values that belong there.
    #[error("gossip message: {0}")]
    Malformed(#[from] gob::Error),
    /// The name of the channel is no text.
    #[error("gossip message: channel \"{}\" is not UTF-8", .0.escape_ascii())]
    ChannelNotText(Vec<u8>),
    /// The name of the channel is longer than any is.
    #[error(
        "gossip message: a channel name of {0} bytes, where at most {MAX_CHANNEL_NAME_LEN} are allowed"
    )]
    ChannelNameTooLong(usize),
}

impl GossipMessageError {
    /// Whether the neighbour may have gossip or a broadcast like this from another one. Each router
    /// encodes what it passes on, but the original passes on channels of any name.
    pub(super) const fn is_relayed(&self) -> bool {
        match self {
            Self::Malformed(_) => false,
            Self::ChannelNotText(_) | Self::ChannelNameTooLong(_) => true,
        }
    }
}

/// The payload of [`Message::Gossip`] and [`Message::Broadcast`].
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Gossip<'a> {
    /// Who is to understand the data.
    pub channel: &'a str,
    /// For gossip the neighbour it comes from, for broadcasts the peer that made it.
    pub source: PeerName,
    /// What it says.
    pub data: &'a [u8],
}

impl<'a> Gossip<'a> {
    /// Reads a payload.
    ///
    /// # Errors
    /// When it is malformed: close the connection.
    pub fn decode(payload: &'a [u8]) -> Result<Self, GossipMessageError> {
        let mut decoder = Decoder::new(payload);
        let channel = channel(&mut decoder)?;
        let source = decoder.value()?;
        let data = decoder.value()?;
        Ok(Self { channel, source, data })
    }

    /// The payload.
    pub fn encode(&self) -> Vec<u8> {
        let Self { channel, source, data } = self;
        let mut encoder = encoder_for(channel, data);
        encoder.value(&Text::from(*channel));
        encoder.value(source);
        encoder.value(data);
        encoder.finish()
    }
}

/// The payload of [`Message::Unicast`].
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Unicast<'a> {
    /// Who is to understand the data.
    pub channel: &'a str,
    /// Who says it.
    pub source: PeerName,
    /// To whom. If that is another peer, the payload is passed on as it is.
    pub destination: PeerName,
    /// What it says.
    pub data: &'a [u8],
}

impl<'a> Unicast<'a> {
    /// Reads a payload.
    ///
    /// # Errors
    /// When it is malformed, for which the neighbour is not to blame: the original relays unicasts
    /// without reading the data.
    pub fn decode(payload: &'a [u8]) -> Result<Self, GossipMessageError> {
        let mut decoder = Decoder::new(payload);
        let channel = channel(&mut decoder)?;
        let source = decoder.value()?;
        let destination = decoder.value()?;
        let data = decoder.value()?;
        Ok(Self { channel, source, destination, data })
    }

    /// The payload.
    pub fn encode(&self) -> Vec<u8> {
        let Self { channel, source, destination, data } = self;
        let mut encoder = encoder_for(channel, data);
        encoder.value(&Text::from(*channel));
        encoder.value(source);
        encoder.value(destination);
        encoder.value(data);
        encoder.finish()
    }
}

fn encoder_for(channel: &str, data: &[u8]) -> Encoder {
    // What gob adds at most: two names of up to 7 bytes, and for each of four values the lengths
    // of the message and of what is in it, up to 5 bytes each, and 3 bytes of type.
    const OVERHEAD: usize = 2 * 7 + 4 * (5 + 5 + 3);
    Encoder::appending_to(Vec::with_capacity(channel.len() + data.len() + OVERHEAD))
}

fn channel<'a>(decoder: &mut Decoder<'a>) -> Result<&'a str, GossipMessageError> {
    let name: Text<'a> = decoder.value()?;
    if name.0.len() > MAX_CHANNEL_NAME_LEN {
        return Err(GossipMessageError::ChannelNameTooLong(name.0.len()));
    }
    name.as_str().ok_or_else(|| GossipMessageError::ChannelNotText(name.0.to_vec()))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::Value;

    use super::*;

    #[test]
    fn golden_messages_decode_and_encode_alike() {
        let vectors: Value =
            serde_json::from_str(include_str!("../../../tests/vectors/gob.json")).unwrap();
        let cases = vectors["gossip"].as_array().unwrap();
        assert!(!cases.is_empty());
        for case in cases {
            let payload = hex::decode(case["hex"].as_str().unwrap()).unwrap();
            let values = case["values"].as_array().unwrap();
            let number = |value: &Value| {
                let text = value["value"].as_str().unwrap();
                PeerName::from_u64(text.parse().unwrap()).unwrap()
            };
            let data = hex::decode(values.last().unwrap()["value"].as_str().unwrap()).unwrap();
            let channel = values[0]["value"].as_str().unwrap();
            let source = number(&values[1]);
            if values.len() == 4 {
                let destination = number(&values[2]);
                let expected = Unicast { channel, source, destination, data: &data };
                assert_eq!(Unicast::decode(&payload), Ok(expected));
                assert_eq!(expected.encode(), payload);
            } else {
                let expected = Gossip { channel, source, data: &data };
                assert_eq!(Gossip::decode(&payload), Ok(expected));
                assert_eq!(expected.encode(), payload);
            }
        }
    }

    #[test]
    fn tags_are_told_apart() {
        assert_eq!(Message::decode(&[]), None);
        assert_eq!(Message::decode(&[0, 9]), Some(Message::Heartbeat));
        let control = LegacyControl::PathMtuVerified;
        assert_eq!(Message::decode(&[3, 5, 6]), Some(Message::LegacyControl(control, &[5, 6])));
        assert_eq!(Message::decode(&[7, 1]), Some(Message::Control(&[1])));
        let unknown = Message::Unknown { tag: 8, payload: &[1] };
        assert_eq!(Message::decode(&[8, 1]), Some(unknown));
        for tag in 1..=u8::MAX {
            let message = [tag, 1, 2];
            assert_eq!(Message::decode(&message).unwrap().parts(), (tag, &message[1..]));
        }
    }

    #[test]
    fn channel_names_are_short_texts() {
        let source = PeerName::default();
        let channel = "x".repeat(MAX_CHANNEL_NAME_LEN + 1);
        let payload = Gossip { channel: &channel, source, data: &[] }.encode();
        let error = GossipMessageError::ChannelNameTooLong(MAX_CHANNEL_NAME_LEN + 1);
        assert_eq!(Gossip::decode(&payload), Err(error));
        let mut encoder = Encoder::new();
        encoder.value(&Text(&[0xff]));
        let error = GossipMessageError::ChannelNotText(vec![0xff]);
        assert_eq!(Gossip::decode(&encoder.finish()), Err(error));
    }

    proptest! {
        #[test]
        fn encoded_payloads_decode(
            channel in ".{0,40}",
            source in 0u64..1 << 48,
            destination in 0u64..1 << 48,
            data: Vec<u8>,
        ) {
            let (channel, data) = (channel.as_str(), data.as_slice());
            let name = |number| PeerName::from_u64(number).unwrap();
            let (source, destination) = (name(source), name(destination));
            let gossip = Gossip { channel, source, data };
            let payload = gossip.encode();
            prop_assert_eq!(Gossip::decode(&payload), Ok(gossip));
            let unicast = Unicast { channel, source, destination, data };
            let payload = unicast.encode();
            prop_assert_eq!(Unicast::decode(&payload), Ok(unicast));
        }
    }
}
