//! How the allocator is set up (spec ipam.md, section 5).

use weave_core::mesh::PeerName;
use weave_ipam::allocator::Origin;
use weave_ipam::{Subnet, SubnetError};

/// What the address allocator is told at its start.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Settings {
    /// All addresses that peers share out among each other.
    pub range: Subnet,
    /// Where addresses come from if no subnet is named.
    pub default_subnet: Subnet,
    /// Who makes the first division of the range.
    pub origin: Origin,
}

impl Settings {
    /// Returns the settings for a range: addresses are from all of it, and the peers that know each
    /// other agree on its first division.
    pub fn new(range: Subnet) -> Self {
        Self { range, default_subnet: range, origin: Origin::Consensus { peers: None } }
    }

    /// Reads the range for all peers, like `10.32.0.0/12`.
    ///
    /// # Errors
    /// The text is no subnet, or containers cannot have all of its addresses.
    pub fn range(text: &str) -> Result<Subnet, String> {
        let subnet = |text: &str| text.parse().map_err(|error: SubnetError| error.to_string());
        let range: Subnet = subnet(text)?;
        for (nobodys, what) in NO_HOSTS {
            if subnet(nobodys)?.range().overlaps(range.range()) {
                return Err(format!(
                    "{range} has addresses that no container can have: those of {nobodys} are for \
                     {what}"
                ));
            }
        }
        Ok(range)
    }
}

/// Networks in which no container can be (RFC 6890, section 2.2.2, and RFC 5771).
const NO_HOSTS: [(&str, &str); 3] = [
    ("0.0.0.0/8", "this network"),
    ("127.0.0.0/8", "each host itself"),
    ("224.0.0.0/4", "groups of hosts"),
];

/// Reads a text like `consensus=3`, `seed=NAME,NAME` or `observer`.
///
/// # Errors
/// The text is none of these.
pub fn origin(text: &str) -> Result<Origin, String> {
    let (mode, parameter) = match text.split_once('=') {
        Some((mode, parameter)) => (mode, Some(parameter)),
        None => (text, None),
    };
    match (mode, parameter) {
        ("" | "consensus", None) => Ok(Origin::Consensus { peers: None }),
        ("consensus", Some(count)) => {
            let peers: usize =
                count.parse().map_err(|_| format!("{count:?} is no number of peers"))?;
            Ok(Origin::Consensus { peers: (peers > 0).then_some(peers) })
        }
        ("seed", Some(names)) => {
            let names = names.split(',').filter(|name| !name.is_empty());
            let names = names.map(|name| name.parse().map_err(|error| format!("{error}")));
            names.collect::<Result<Vec<PeerName>, _>>().map(Origin::Seed)
        }
        ("seed", None) => Err("seed needs the names of all peers: seed=NAME,NAME,...".to_owned()),
        ("observer", None) => Ok(Origin::Observer),
        ("observer", Some(_)) => Err("observer takes nothing behind it".to_owned()),
        _ => Err(format!("{mode:?} is none of consensus, seed and observer")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ways_to_begin() {
        let name = |number| PeerName::from_u64(number).unwrap();
        for (text, expected) in [
            ("consensus", Origin::Consensus { peers: None }),
            ("consensus=3", Origin::Consensus { peers: Some(3) }),
            ("consensus=0", Origin::Consensus { peers: None }),
            ("seed=", Origin::Seed(Vec::new())),
            ("seed=::1,::2", Origin::Seed(vec![name(1), name(2)])),
            ("observer", Origin::Observer),
        ] {
            assert_eq!(origin(text), Ok(expected));
        }
        for text in ["seed", "seed=x", "observer=1", "consensus=x", "consensus=-1", "else"] {
            assert!(origin(text).is_err(), "{text}");
        }
    }
}
