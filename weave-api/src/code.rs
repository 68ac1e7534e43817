//! Why a request failed, for programs: the texts are for people, and those of Weave Net for its
//! scripts.

/// The header of an answer in which the code is.
pub const ERROR_HEADER: &str = "weave-error";

macro_rules! codes {
    ($($(#[$doc:meta])+ $name:ident = $text:literal,)+) => {
        /// Why a request failed. What a router says that this version does not know has no code.
        #[derive(Clone, Copy, PartialEq, Eq, Debug)]
        #[non_exhaustive]
        pub enum ErrorCode {
            $($(#[$doc])+ $name,)+
        }

        impl ErrorCode {
            /// All codes.
            pub const ALL: &[Self] = &[$(Self::$name),+];

            /// Returns what is in the header.
            pub const fn as_str(self) -> &'static str {
                match self {
                    $(Self::$name => $text,)+
                }
            }
        }
    };
}

codes! {
    /// The request makes no sense.
    BadRequest = "bad-request",
    /// The router runs without the part that is asked for.
    NoSuchPart = "no-such-part",
    /// What is asked for is not in the range that addresses are allocated from.
    OutOfRange = "out-of-range",
    /// Somebody else has the address.
    InUse = "in-use",
    /// The address is another peer's to give.
    OwnedByPeer = "owned-by-peer",
    /// The holder has no address, or not that one.
    NotHeld = "not-held",
    /// The peer is in reach, so that nobody can take over its addresses.
    PeerInReach = "peer-in-reach",
    /// There is no conflict with this peer.
    NoConflict = "no-conflict",
    /// Some targets are no addresses.
    BadTarget = "bad-target",
    /// The router does not answer, or did not do all of it; the text says why.
    Unavailable = "unavailable",
    /// The router is stopping.
    Stopping = "stopping",
    /// Too many requests wait.
    Crowded = "crowded",
    /// The router cannot store its state.
    NotStored = "not-stored",
    /// The host does not do it.
    HostFailed = "host-failed",
}

impl ErrorCode {
    /// Returns the code of this text.
    pub fn of(text: &str) -> Option<Self> {
        Self::ALL.iter().copied().find(|code| code.as_str() == text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_code_has_a_text_of_its_own() {
        for &code in ErrorCode::ALL {
            assert_eq!(ErrorCode::of(code.as_str()), Some(code));
        }
        assert_eq!(ErrorCode::of("other"), None);
    }
}
