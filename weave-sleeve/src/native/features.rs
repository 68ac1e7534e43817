//! What a router says of itself in the handshake, so that both sides of a link choose the same
//! format.
//!
//! ```text
//!   SleeveNative    1        it knows this version of the format
//! ```

use std::collections::BTreeMap;

const NATIVE: &str = "SleeveNative";
const VERSION: &str = "1";

/// What the native side of a router can do.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Abilities {
    /// Whether it is used at all.
    pub native: bool,
}

/// What both sides of a link come to.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Choice {
    /// The format of Weave Net 2.x.
    Legacy,
    /// That between our own routers, in clear.
    Plain,
}

impl Abilities {
    /// The features that announce them.
    pub fn features(&self) -> BTreeMap<String, String> {
        self.native.then(|| (NATIVE.to_owned(), VERSION.to_owned())).into_iter().collect()
    }

    /// What is used with a neighbour that announced `remote`.
    pub fn agree(&self, remote: &BTreeMap<String, String>, sealed: bool) -> Choice {
        let theirs = remote.get(NATIVE).is_some_and(|versions| knows(versions));
        match (self.native && theirs, sealed) {
            (true, false) => Choice::Plain,
            _ => Choice::Legacy,
        }
    }
}

/// A later router will know several versions.
fn knows(versions: &str) -> bool {
    versions.split_ascii_whitespace().any(|version| version == VERSION)
}
