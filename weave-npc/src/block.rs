//! Blocks of addresses, and what is left of them when others are cut out.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use weave_core::Cidr;

/// The family of an address.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Family {
    /// IPv4.
    V4,
    /// IPv6.
    V6,
}

impl Family {
    /// Both.
    pub const ALL: [Self; 2] = [Self::V4, Self::V6];

    /// Returns the family of an address.
    pub const fn of(address: IpAddr) -> Self {
        match address {
            IpAddr::V4(_) => Self::V4,
            IpAddr::V6(_) => Self::V6,
        }
    }

    const fn bits(self) -> u8 {
        match self {
            Self::V4 => 32,
            Self::V6 => 128,
        }
    }

    fn address(self, number: u128) -> IpAddr {
        match self {
            #[expect(clippy::cast_possible_truncation, reason = "made from an IPv4 address")]
            Self::V4 => Ipv4Addr::from(number as u32).into(),
            Self::V6 => Ipv6Addr::from(number).into(),
        }
    }
}

fn number(address: IpAddr) -> u128 {
    match address {
        IpAddr::V4(address) => u32::from(address).into(),
        IpAddr::V6(address) => address.into(),
    }
}

/// Reads a block as the API server does: bits behind the prefix are ignored, and so are zeros in
/// front of a decimal number (Go's `ParseCIDRSloppy`).
pub(crate) fn parse_block(text: &str) -> Option<Cidr> {
    let (address, prefix) = text.split_once('/')?;
    let address = parse_address(address)?;
    Cidr::network(&format!("{address}/{prefix}")).ok()
}

/// Returns the first and the last address of a block.
fn bounds(block: Cidr) -> (u128, u128) {
    let (first, family) = (number(block.masked().address()), Family::of(block.address()));
    let shift = 128 - u32::from(family.bits() - block.prefix());
    (first, first | u128::MAX.checked_shr(shift).unwrap_or(0))
}

/// Reads an address as the API server does: zeros in front of a decimal number are ignored.
pub(crate) fn parse_address(text: &str) -> Option<IpAddr> {
    text.parse().ok().or_else(|| {
        let part = |part: &str| match part.trim_start_matches('0') {
            "" if !part.is_empty() => "0".to_owned(),
            trimmed => trimmed.to_owned(),
        };
        let parts: Vec<_> = text.split('.').map(part).collect();
        parts.join(".").parse().ok().map(IpAddr::V4)
    })
}

/// Addresses from the first to the last, both included, of one family.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct AddressRange {
    /// The first.
    pub first: IpAddr,
    /// The last.
    pub last: IpAddr,
}

/// Returns the addresses of one family that are in one of these blocks but in none of its
/// exceptions: ascending ranges that neither overlap nor touch.
pub fn ranges<'a>(
    family: Family,
    blocks: impl IntoIterator<Item = (Cidr, &'a [Cidr])>,
) -> Vec<AddressRange> {
    let mut left = Vec::new();
    for (block, exceptions) in blocks {
        if Family::of(block.address()) == family {
            cut(block, exceptions, &mut left);
        }
    }
    join(&mut left);
    let range =
        |(first, last)| AddressRange { first: family.address(first), last: family.address(last) };
    left.into_iter().map(range).collect()
}

/// Appends what is left of a block without its exceptions.
fn cut(block: Cidr, exceptions: &[Cidr], left: &mut Vec<(u128, u128)>) {
    let same_family =
        exceptions.iter().filter(|cut| cut.address().is_ipv4() == block.address().is_ipv4());
    let mut holes: Vec<_> = same_family.map(|hole| bounds(*hole)).collect();
    join(&mut holes);
    let (first, last) = bounds(block);
    let mut from = Some(first);
    for (start, end) in holes {
        let Some(next) = from.filter(|next| *next <= last) else { return };
        if end < next || start > last {
            continue;
        }
        if start > next {
            left.push((next, start - 1));
        }
        from = end.checked_add(1);
    }
    if let Some(next) = from.filter(|next| *next <= last) {
        left.push((next, last));
    }
}

/// Orders ranges, and joins those that overlap or touch.
fn join(ranges: &mut Vec<(u128, u128)>) {
    ranges.sort_unstable();
    ranges.dedup_by(|later, earlier| {
        let touches = later.0 <= earlier.1.saturating_add(1);
        if touches {
            earlier.1 = earlier.1.max(later.1);
        }
        touches
    });
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn block(text: &str) -> Cidr {
        parse_block(text).unwrap()
    }

    #[test]
    fn texts_of_blocks() {
        for (text, shown) in [
            ("10.0.0.0/8", "10.0.0.0/8"),
            ("10.1.2.3/8", "10.0.0.0/8"),
            ("010.000.0.1/32", "10.0.0.1/32"),
            ("0.0.0.0/0", "0.0.0.0/0"),
            ("fd00::1/64", "fd00::/64"),
            ("::/0", "::/0"),
        ] {
            assert_eq!(block(text).to_string(), shown);
        }
        for text in ["", "10.0.0.0", "10.0.0.0/33", "::/129", "a/8", "10.0.0/8", "1.2.3.4/+8", "/"]
        {
            assert_eq!(parse_block(text), None, "{text}");
        }
    }

    #[test]
    fn exceptions_leave_ranges() {
        let all = [block("10.0.0.0/24"), block("fd00::/64"), block("10.0.255.0/24")];
        let found = ranges(Family::V4, [(block("10.0.0.0/16"), &all[..])]);
        let expected = [("10.0.1.0", "10.0.254.255")].map(|(first, last)| AddressRange {
            first: first.parse().unwrap(),
            last: last.parse().unwrap(),
        });
        assert_eq!(found, expected);
        assert_eq!(ranges(Family::V6, [(block("::/0"), &[block("::/0")][..])]), []);
        assert_eq!(ranges(Family::V6, [(block("::/0"), &[][..])]).len(), 1);
        assert_eq!(ranges(Family::V4, [(block("::/0"), &[][..])]), []);
    }

    fn any_block() -> impl Strategy<Value = Cidr> {
        // Few addresses, so that blocks meet.
        (0_u32..16, 28_u8..=32).prop_map(|(low, length)| {
            Cidr::new(Ipv4Addr::from(0xFFFF_FFF0 | low).into(), length).unwrap().masked()
        })
    }

    proptest! {
        #[test]
        fn ranges_hold_what_the_blocks_do(
            blocks in prop::collection::vec((any_block(), prop::collection::vec(any_block(), 0..4)), 0..4)
        ) {
            let found = ranges(Family::V4, blocks.iter().map(|(block, cut)| (*block, &cut[..])));
            for low in 0..16 {
                let address = IpAddr::V4(Ipv4Addr::from(0xFFFF_FFF0 | low));
                let expected = blocks.iter().any(|(block, cut)| {
                    block.contains(address) && !cut.iter().any(|cut| cut.contains(address))
                });
                let held = found.iter().any(|range| (range.first..=range.last).contains(&address));
                prop_assert_eq!(held, expected, "{}", address);
            }
            for pair in found.windows(2) {
                prop_assert!(number(pair[0].last) + 1 < number(pair[1].first));
            }
        }
    }
}
