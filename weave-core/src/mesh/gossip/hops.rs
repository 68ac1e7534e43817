//! Unicasts that are relayed only so often.
//!
//! A unicast of Weave Net has no hop count. While the tables of three routers differ, each may
//! think that the next one is nearer to the destination, and a unicast circles. Between peers that
//! announce the feature [`FEATURE`] it carries how often it may still be relayed:
//!
//! ```text
//!   tag 66:
//!   | relays: 1 | what a message of tag 5 has |
//! ```
//!
//! Each router lowers the number to what its own table says is needed, with [`DETOUR`] to spare.

/// Key and value in the handshake's feature map of those who understand the tag.
pub(crate) const FEATURE: (&str, &str) = ("Unicast", "hops");
/// Behind those of the topology digests and of notices.
pub(crate) const TAG: u8 = 66;

/// Relays beyond those that the own table says are needed: a link broke that the sender did not
/// know of yet, and the next router does.
const DETOUR: u8 = 8;

/// The number of relays, and the rest. `None` for an empty message.
pub(crate) fn decode(payload: &[u8]) -> Option<(u8, &[u8])> {
    payload.split_first().map(|(relays, unicast)| (*relays, unicast))
}

/// The payload of a unicast that may be relayed so often.
pub(crate) fn encode(relays: u8, unicast: &[u8]) -> Vec<u8> {
    [&[relays], unicast].concat()
}

/// How often others may relay what is sent to a peer at this distance, if so many relays are left
/// of what it came with.
pub(crate) fn allowance(distance: usize, left: Option<u8>) -> u8 {
    let needed = u8::try_from(distance.saturating_sub(1)).unwrap_or(u8::MAX);
    let allowed = needed.saturating_add(DETOUR);
    left.map_or(allowed, |left| allowed.min(left))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_payload_is_a_number_and_a_unicast() {
        assert_eq!(decode(&encode(7, b"abc")), Some((7, &b"abc"[..])));
        assert_eq!(decode(&encode(0, b"")), Some((0, &b""[..])));
        assert_eq!(decode(b""), None);
    }

    #[test]
    fn no_router_allows_more_than_its_own_table_needs() {
        assert_eq!(allowance(1, None), DETOUR);
        assert_eq!(allowance(5, None), 4 + DETOUR);
        assert_eq!(allowance(5, Some(255)), 4 + DETOUR, "whatever a member claims");
        assert_eq!(allowance(5, Some(2)), 2);
        assert_eq!(allowance(100_000, None), 255);
    }
}
