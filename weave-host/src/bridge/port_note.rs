//! What is noted on the host's end of a container's interface.
//!
//! ```text
//!   alias of vethwepl…:   weave                     attached by hand, or by an earlier version
//!                         weave 3f2a9c41            a container's `eth0`
//!                         weave 3f2a9c41@net1       another interface of it
//! ```
//!
//! The note is an attribute of the kernel's device: it comes with the interface and goes with it,
//! and no container can write it. A path, a process id or the number of a namespace can be given to
//! another container while a runtime still remembers it; the note cannot. So this, and nothing
//! else, decides whose interface it is.

use weave_rtnl::Link;

use crate::error::HostError;
use crate::names::BRIDGE_NAME;

/// `IFALIASZ` of the kernel, less the zero at the end.
const LONGEST: usize = 255;

/// The alias of a port.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct PortNote<'a> {
    /// The bridge it belongs on.
    pub(crate) bridge: &'a str,
    /// Who holds the addresses of the interface, if that is known.
    pub(crate) holder: Option<&'a str>,
}

impl<'a> PortNote<'a> {
    /// Reads the note on a port. One without a note is the original's, which knows one bridge.
    pub(crate) fn of(port: &'a Link) -> Self {
        let text = port.alias.as_deref().unwrap_or(BRIDGE_NAME);
        match text.split_once(' ') {
            Some((bridge, holder)) => Self { bridge, holder: Some(holder) },
            None => Self { bridge: text, holder: None },
        }
    }

    /// Returns the text to write.
    pub(crate) fn text_for(bridge: &str, holder: Option<&str>) -> Result<String, HostError> {
        let note = PortNote { bridge, holder };
        note.text().ok_or_else(|| HostError::NoNote { what: format!("{note:?}") })
    }

    /// Returns the text to write; none if the kernel would not take it.
    fn text(&self) -> Option<String> {
        let text = match self.holder {
            Some(holder) => format!("{} {holder}", self.bridge),
            None => self.bridge.to_owned(),
        };
        let readable = !self.bridge.contains(' ') && self.holder != Some("");
        (readable && text.len() <= LONGEST).then_some(text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::links::link_named;

    #[test]
    fn notes_are_written_and_read() {
        let longest = "c".repeat(LONGEST - "weave ".len());
        for holder in [None, Some("3f2a9c41@net1"), Some(longest.as_str())] {
            let note = PortNote { bridge: "weave", holder };
            let port = Link { alias: note.text(), ..link_named("vethwepl1") };
            assert!(port.alias.is_some(), "{holder:?}");
            assert_eq!(PortNote::of(&port), note);
        }
        let original = link_named("vethwepl1");
        assert_eq!(PortNote::of(&original), PortNote { bridge: "weave", holder: None });
        assert_eq!(PortNote { bridge: "weave", holder: Some("") }.text(), None);
        let longer = longest + "c";
        assert_eq!(PortNote { bridge: "weave", holder: Some(&longer) }.text(), None);
    }
}
