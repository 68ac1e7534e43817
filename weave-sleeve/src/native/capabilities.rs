//! The features that a router announces in the handshake, so that both sides of a link choose the
//! same format and cipher.
//!
//! ```text
//!   SleeveNative    1                             versions of the format that it knows
//!   SleeveCiphers   aes128gcm chacha20poly1305    in order of preference; the dialler's counts
//! ```

use std::collections::BTreeMap;

use crate::cipher::native::Suite;

const NATIVE: &str = "SleeveNative";
const CIPHERS: &str = "SleeveCiphers";
const VERSION: &str = "1";

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
    Plain,
    /// The native format, sealed.
    Sealed(Suite),
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
                (NATIVE.to_owned(), VERSION.to_owned()),
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
        if !remote.get(NATIVE).is_some_and(|versions| knows(versions)) {
            return Negotiated::Legacy;
        }
        if !sealed {
            return Negotiated::Plain;
        }
        let own = Suite::announcement(ciphers);
        let theirs = remote.get(CIPHERS).map_or("", String::as_str);
        let agreed =
            if outbound { Suite::negotiate(&own, theirs) } else { Suite::negotiate(theirs, &own) };
        agreed.map_or(Negotiated::Legacy, Negotiated::Sealed)
    }
}

/// Returns whether the version is known. A later router may announce several.
fn knows(versions: &str) -> bool {
    versions.split_ascii_whitespace().take(MAX_VERSIONS).any(|version| version == VERSION)
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
                    assert_eq!(here == Negotiated::Plain, !legacy && !sealed);
                }
            }
        }
        let preferred = all[5].negotiate(&all[4].features(), true, true);
        assert_eq!(preferred, Negotiated::Sealed(chacha), "the dialler's order counts");
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
        assert_eq!(announced("2"), Negotiated::Legacy);
        assert_eq!(announced("1 2"), Negotiated::Plain);
        assert_eq!(announced(&("2 ".repeat(16) + "1")), Negotiated::Legacy);
    }
}
