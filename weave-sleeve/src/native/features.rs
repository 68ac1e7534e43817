//! What a router says of itself in the handshake, so that both sides of a link choose the same
//! format and cipher.
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

/// Versions that are looked at in what a peer announces.
const MAX_VERSIONS: usize = 16;

/// What a router can do beyond Weave Net 2.x.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Abilities {
    /// Nothing: it uses the legacy format with everybody.
    Legacy,
    /// It knows the native format.
    Native {
        /// What it seals with, the best first. With none it seals in the legacy format.
        ciphers: Vec<Suite>,
    },
}

/// What both sides of a link come to.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Choice {
    /// The format of Weave Net 2.x.
    Legacy,
    /// That between our own routers, in clear.
    Plain,
    /// The same, sealed.
    Sealed(Suite),
}

impl Default for Abilities {
    /// All there are, in the order that suits this processor.
    fn default() -> Self {
        Self::Native { ciphers: Suite::preferred().to_vec() }
    }
}

impl Abilities {
    /// The features that announce them.
    pub fn features(&self) -> BTreeMap<String, String> {
        match self {
            Self::Legacy => BTreeMap::new(),
            Self::Native { ciphers } => BTreeMap::from([
                (NATIVE.to_owned(), VERSION.to_owned()),
                (CIPHERS.to_owned(), Suite::announcement(ciphers)),
            ]),
        }
    }

    /// What is used with a neighbour that announced `remote`. `outbound` if this side dialled.
    pub(crate) fn agree(
        &self,
        remote: &BTreeMap<String, String>,
        outbound: bool,
        sealed: bool,
    ) -> Choice {
        let Self::Native { ciphers } = self else { return Choice::Legacy };
        if !remote.get(NATIVE).is_some_and(|versions| knows(versions)) {
            return Choice::Legacy;
        }
        if !sealed {
            return Choice::Plain;
        }
        let own = Suite::announcement(ciphers);
        let theirs = remote.get(CIPHERS).map_or("", String::as_str);
        let agreed = if outbound { Suite::agree(&own, theirs) } else { Suite::agree(theirs, &own) };
        agreed.map_or(Choice::Legacy, Choice::Sealed)
    }
}

/// A later router may know several versions.
fn knows(versions: &str) -> bool {
    versions.split_ascii_whitespace().take(MAX_VERSIONS).any(|version| version == VERSION)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn native(ciphers: &[Suite]) -> Abilities {
        Abilities::Native { ciphers: ciphers.to_vec() }
    }

    #[test]
    fn both_sides_come_to_the_same() {
        let (aes, chacha) = (Suite::Aes128Gcm, Suite::ChaCha20Poly1305);
        let all = [
            Abilities::Legacy,
            native(&[]),
            native(&[aes]),
            native(&[chacha]),
            native(&[aes, chacha]),
            native(&[chacha, aes]),
        ];
        for dialler in &all {
            for acceptor in &all {
                for sealed in [false, true] {
                    let here = dialler.agree(&acceptor.features(), true, sealed);
                    let there = acceptor.agree(&dialler.features(), false, sealed);
                    assert_eq!(here, there, "{dialler:?} {acceptor:?} {sealed}");
                    let legacy = *dialler == Abilities::Legacy || *acceptor == Abilities::Legacy;
                    assert_eq!(here == Choice::Plain, !legacy && !sealed);
                }
            }
        }
        let preferred = all[5].agree(&all[4].features(), true, true);
        assert_eq!(preferred, Choice::Sealed(chacha), "the dialler's order counts");
        assert_eq!(all[2].agree(&all[3].features(), true, true), Choice::Legacy);
    }

    #[test]
    fn weave_net_and_later_versions_are_talked_to_in_what_they_know() {
        let own = Abilities::default();
        let announced = |versions: &str| {
            own.agree(&[(NATIVE.to_owned(), versions.to_owned())].into(), true, false)
        };
        assert_eq!(own.agree(&BTreeMap::new(), true, false), Choice::Legacy);
        assert_eq!(announced(""), Choice::Legacy);
        assert_eq!(announced("2"), Choice::Legacy);
        assert_eq!(announced("1 2"), Choice::Plain);
        assert_eq!(announced(&("2 ".repeat(16) + "1")), Choice::Legacy);
    }
}
