//! What our own routers tell each other about the connection itself.
//!
//! The original has nothing of the kind: it closes a connection it does not want without a word,
//! and its heartbeats are not answered. Between peers that announce the feature [`FEATURE`]:
//!
//! ```text
//!   tag 65:
//!   | 0 |                    "are you there?"
//!   | 1 | in use: 1 |        "I am", and whether this connection is the one to you that I use, 1, or
//!                            another one may be, 0; may be missing
//!   | 2 | why: 1 | text |    "I am about to close this connection"
//!
//!   why: 1 another router has your name, 2 there are as many connections as are allowed;
//!   whatever else comes is told by its text, which is UTF-8
//! ```

use std::fmt;

use super::peer::clean_text;

/// Key and value in the handshake's feature map of those who understand the tag.
pub(super) const FEATURE: (&str, &str) = ("Notice", "1");

/// Bytes of the text that are kept: two nicknames, names and addresses, and some words.
const MAX_TEXT_LEN: usize = 1024;

const PROBE: u8 = 0;
const ANSWER: u8 = 1;
const REFUSAL: u8 = 2;

/// A message of tag [`Self::TAG`].
#[derive(Clone, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum Notice {
    /// To be answered, by which the sender sees that this connection works.
    Probe,
    /// The answer.
    Answer {
        /// Whether this is the connection that its sender uses; `None` if it does not say.
        in_use: Option<bool>,
    },
    /// The sender does not want this connection.
    Refusal(Refusal),
}

/// Why a peer does not want a connection.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Refusal {
    /// For the program.
    pub cause: RefusalCause,
    /// For people: one line, at most about a kilobyte.
    pub text: String,
}

/// What kind of reason a [`Refusal`] has.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum RefusalCause {
    /// Another router has the same name.
    NameTaken,
    /// There are as many connections as are allowed.
    Limit,
    /// A number that later routers may come to use.
    Other(u8),
}

impl Notice {
    /// Not far from that of the topology digests, and like it far from those of the original,
    /// which ignores tags it does not know.
    pub const TAG: u8 = 65;

    /// The payload.
    pub fn encode(&self) -> Vec<u8> {
        match self {
            Self::Probe => vec![PROBE],
            Self::Answer { in_use: None } => vec![ANSWER],
            Self::Answer { in_use: Some(in_use) } => vec![ANSWER, u8::from(*in_use)],
            Self::Refusal(Refusal { cause, text }) => {
                [&[REFUSAL, cause.number()], text.as_bytes()].concat()
            }
        }
    }

    /// Reads a payload. `None` for what later routers may come to say, which is to be ignored; a
    /// text is made fit to be shown.
    pub fn decode(payload: &[u8]) -> Option<Self> {
        match payload {
            [PROBE, ..] => Some(Self::Probe),
            [ANSWER, in_use @ (0 | 1), ..] => Some(Self::Answer { in_use: Some(*in_use == 1) }),
            [ANSWER, ..] => Some(Self::Answer { in_use: None }),
            [REFUSAL, cause, text @ ..] => {
                let text = text.get(..MAX_TEXT_LEN).unwrap_or(text);
                let text = clean_text(&String::from_utf8_lossy(text), MAX_TEXT_LEN);
                Some(Self::Refusal(Refusal { cause: RefusalCause::from_number(*cause), text }))
            }
            _ => None,
        }
    }
}

impl RefusalCause {
    const fn number(self) -> u8 {
        match self {
            Self::NameTaken => 1,
            Self::Limit => 2,
            Self::Other(number) => number,
        }
    }

    const fn from_number(number: u8) -> Self {
        match number {
            1 => Self::NameTaken,
            2 => Self::Limit,
            number => Self::Other(number),
        }
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_refusal_cannot_forge_lines_nor_fill_the_log() {
        let text = "no\nINFO: all is well\u{1b}[2J".to_owned() + &"x".repeat(5000);
        let cause = RefusalCause::NameTaken;
        let payload = Notice::Refusal(Refusal { cause, text }).encode();
        let Some(Notice::Refusal(refusal)) = Notice::decode(&payload) else { panic!("a refusal") };
        assert_eq!(refusal.cause, RefusalCause::NameTaken);
        assert!(refusal.text.starts_with("no\u{fffd}INFO"), "{}", refusal.text);
        assert!(refusal.text.len() <= MAX_TEXT_LEN);
    }

    #[test]
    fn what_later_routers_may_say_is_ignored() {
        assert_eq!(Notice::decode(&[]), None);
        assert_eq!(Notice::decode(&[3, 1]), None);
        assert_eq!(Notice::decode(&[2]), None);
    }

    proptest! {
        #[test]
        fn notices_round_trip(kind in 0..3, cause: u8, text in "[a-zäöü ]{0,100}") {
            let notice = match kind {
                0 => Notice::Probe,
                1 => Notice::Answer { in_use: [None, Some(false), Some(true)][usize::from(cause % 3)] },
                _ => Notice::Refusal(Refusal { cause: RefusalCause::from_number(cause), text }),
            };
            prop_assert_eq!(Notice::decode(&notice.encode()), Some(notice));
        }

        #[test]
        fn whatever_comes_is_read_once_and_for_all(bytes: Vec<u8>) {
            if let Some(notice) = Notice::decode(&bytes) {
                prop_assert_eq!(Notice::decode(&notice.encode()), Some(notice));
            }
        }
    }
}
