//! What a holder is to those who run it.

use std::fmt;

/// What a holder is to those who run it, such as `default/web-0` for a pod. It is for people: nothing
/// depends on it.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Label(String);

impl Label {
    /// The longest one: the name of a namespace of Kubernetes, a slash and the name of a pod
    /// (RFC 1123, sections 2.1 and 6.1.3.5).
    pub const MAX_LEN: usize = 63 + 1 + 253;

    /// Returns the label with this text; `None` if it is empty or too long, or has characters that
    /// names do not have.
    pub fn new(text: &str) -> Option<Self> {
        let fits = (1..=Self::MAX_LEN).contains(&text.len());
        let legal = |c: char| c.is_ascii_alphanumeric() || "-_./:@".contains(c);
        (fits && text.chars().all(legal)).then(|| Self(text.to_owned()))
    }

    /// Returns the text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Label {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_label_can_be_printed_anywhere() {
        assert_eq!(Label::new("default/web-0").unwrap().to_string(), "default/web-0");
        let long = "x".repeat(Label::MAX_LEN + 1);
        for text in ["", "two words", "line\nbreak", "\x1b[31m", "caf\u{e9}", "a\"b", &long] {
            assert_eq!(Label::new(text), None, "{text:?}");
        }
        assert!(Label::new(&long[1..]).is_some());
    }
}
