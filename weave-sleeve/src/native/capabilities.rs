//! The features that a router announces in the handshake, so that both sides of a link choose the
//! same format and cipher.
//!
//! ```text
//!   SleeveNative    1 2                           versions of the format that it knows
//!   SleeveCiphers   aes128gcm chacha20poly1305    in order of preference; the dialler's counts
//! ```

use std::collections::BTreeMap;

use crate::cipher::native::Suite;

const NATIVE: &str = "SleeveNative";
const CIPHERS: &str = "SleeveCiphers";

/// A version of the native format.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(crate) enum Version {
    /// Records do not say how often they were relayed.
    One,
    /// They do.
    Two,
}

impl Version {
    const ALL: [Self; 2] = [Self::One, Self::Two];

    const fn name(self) -> &'static str {
        match self {
            Self::One => "1",
            Self::Two => "2",
        }
    }

    /// Returns the latest version among those that a peer announced. A later router may announce
    /// others, too.
    fn latest(announced: &str) -> Option<Self> {
        let announced = announced.split_ascii_whitespace().take(MAX_VERSIONS);
        announced.filter_map(|name| Self::ALL.into_iter().find(|it| it.name() == name)).max()
    }

    /// Returns the number of relays that a record says.
    pub(crate) const fn relays(self, relays: u8) -> u8 {
        match self {
            Self::One => 0,
            Self::Two => relays,
        }
    }
}

/// Versions that are read from the announcement of a peer.
const MAX_VERSIONS: usize = 16;

/// What a router can do beyond Weave Net 2.x.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Capabilities {
    /// Nothing: it uses the legacy format with every neighbour.
    Legacy,
    /// It knows the native format.
    Native {
        /// Its ciphers in order of preference. Without any, it encrypts in the legacy format.
        ciphers: Vec<Suite>,
    },
}

/// The format that both sides of a link agree on.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Negotiated {
    /// The format of Weave Net 2.x.
    Legacy,
    /// The native format in clear.
    Plain(Version),
    /// The native format, sealed.
    Sealed(Version, Suite),
}

impl Default for Capabilities {
    /// Returns all capabilities, with the ciphers in the order that suits this processor.
    fn default() -> Self {
        Self::Native { ciphers: Suite::preferred().to_vec() }
    }
}

impl Capabilities {
    /// Returns the features that announce these capabilities.
    pub fn features(&self) -> BTreeMap<String, String> {
        match self {
            Self::Legacy => BTreeMap::new(),
            Self::Native { ciphers } => BTreeMap::from([
                (NATIVE.to_owned(), Version::ALL.map(Version::name).join(" ")),
                (CIPHERS.to_owned(), Suite::announcement(ciphers)),
            ]),
        }
    }

    /// Returns what is used with a neighbour that announced `remote`; `outbound` is true on the
    /// side that dialled.
    pub(crate) fn negotiate(
        &self,
        remote: &BTreeMap<String, String>,
        outbound: bool,
        sealed: bool,
    ) -> Negotiated {
        let Self::Native { ciphers } = self else { return Negotiated::Legacy };
        let Some(version) = remote.get(NATIVE).and_then(|versions| Version::latest(versions))
        else {
            return Negotiated::Legacy;
        };
        if !sealed {
            return Negotiated::Plain(version);
        }
        let own = Suite::announcement(ciphers);
        let theirs = remote.get(CIPHERS).map_or("", String::as_str);
        let agreed =
            if outbound { Suite::negotiate(&own, theirs) } else { Suite::negotiate(theirs, &own) };
        agreed.map_or(Negotiated::Legacy, |suite| Negotiated::Sealed(version, suite))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn native(ciphers: &[Suite]) -> Capabilities {
        Capabilities::Native { ciphers: ciphers.to_vec() }
    }

    #[test]
    fn both_sides_reach_the_same_result() {
        let (aes, chacha) = (Suite::Aes128Gcm, Suite::ChaCha20Poly1305);
        let all = [
            Capabilities::Legacy,
            native(&[]),
            native(&[aes]),
            native(&[chacha]),
            native(&[aes, chacha]),
            native(&[chacha, aes]),
        ];
        for dialler in &all {
            for acceptor in &all {
                for sealed in [false, true] {
                    let here = dialler.negotiate(&acceptor.features(), true, sealed);
                    let there = acceptor.negotiate(&dialler.features(), false, sealed);
                    assert_eq!(here, there, "{dialler:?} {acceptor:?} {sealed}");
                    let legacy =
                        *dialler == Capabilities::Legacy || *acceptor == Capabilities::Legacy;
                    assert_eq!(here == Negotiated::Plain(Version::Two), !legacy && !sealed);
                }
            }
        }
        let preferred = all[5].negotiate(&all[4].features(), true, true);
        assert_eq!(
            preferred,
            Negotiated::Sealed(Version::Two, chacha),
            "the dialler's order counts"
        );
        assert_eq!(all[2].negotiate(&all[3].features(), true, true), Negotiated::Legacy);
    }

    #[test]
    fn weave_net_and_later_versions_get_a_format_they_know() {
        let own = Capabilities::default();
        let announced = |versions: &str| {
            own.negotiate(&[(NATIVE.to_owned(), versions.to_owned())].into(), true, false)
        };
        assert_eq!(own.negotiate(&BTreeMap::new(), true, false), Negotiated::Legacy);
        assert_eq!(announced(""), Negotiated::Legacy);
        assert_eq!(announced("3"), Negotiated::Legacy);
        assert_eq!(announced("1"), Negotiated::Plain(Version::One));
        for versions in ["2", "1 2", "2 1", "1 2 3"] {
            assert_eq!(announced(versions), Negotiated::Plain(Version::Two), "{versions}");
        }
        assert_eq!(announced(&("3 ".repeat(16) + "1")), Negotiated::Legacy);
    }

    #[test]
    fn routers_that_know_version_1_alone_get_that() {
        let own = Capabilities::default();
        let mut theirs = own.features();
        theirs.insert(NATIVE.to_owned(), "1".to_owned());
        let Negotiated::Sealed(version, _) = own.negotiate(&theirs, false, true) else {
            panic!("both know version 1")
        };
        assert_eq!(version, Version::One);
        assert_eq!(own.features()[NATIVE], "1 2", "they look for 1 in the list");
    }
}
