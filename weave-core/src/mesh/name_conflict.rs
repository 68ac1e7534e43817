//! Two routers with one name: what an operator has to know to tell them apart.

use std::fmt;
use std::net::SocketAddr;

use super::{PeerName, Uid};

/// Two routers use one name; one of them is refused here. Cloned machines do that.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct NameConflict {
    /// The name both have.
    pub name: PeerName,
    /// The one that was here first and still answers.
    pub kept: Claimant,
    /// The one that came later.
    pub refused: Claimant,
}

/// One of the two.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Claimant {
    /// What people call it.
    pub nickname: String,
    /// Its incarnation.
    pub uid: Uid,
    /// Where it was seen; none for this router itself.
    pub address: Option<SocketAddr>,
}

impl fmt::Display for NameConflict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { name, kept, refused } = self;
        write!(
            f,
            "name collision: two routers say they are {name}: {kept} keeps the name, {refused} is \
             refused; give one of the two machines another peer name (--name)"
        )
    }
}

impl fmt::Display for Claimant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Nicknames were made printable where they came in.
        write!(f, "{} (UID {}, ", self.nickname, self.uid.0)?;
        match self.address {
            Some(address) => write!(f, "at {address})"),
            None => f.write_str("this router)"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_line_names_both() {
        let conflict = NameConflict {
            name: PeerName::from_bytes([2, 0, 0, 0, 0, 1]),
            kept: Claimant { nickname: "a".to_owned(), uid: Uid(1), address: None },
            refused: Claimant {
                nickname: "b".to_owned(),
                uid: Uid(2),
                address: Some(([10, 0, 0, 2], 6783).into()),
            },
        };
        assert_eq!(
            conflict.to_string(),
            "name collision: two routers say they are 02:00:00:00:00:01: a (UID 1, this router) keeps \
             the name, b (UID 2, at 10.0.0.2:6783) is refused; give one of the two machines \
             another peer name (--name)"
        );
    }
}
