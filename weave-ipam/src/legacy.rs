//! Who has which addresses, as Weave Net 2.x stores it: the value `ownedAddresses` of its state
//! file (spec ipam.md, section 14).
//!
//! Addresses that are overlooked here are given out twice. So what cannot be understood is an
//! error, and holders whose names are no text keep their addresses under one that is.

use std::collections::BTreeMap;

use weave_core::wire::gob::{self, AtMost, Decoder, Text};

use crate::Cidr;
use crate::message::{Holding, RawCidr, RawHolding, encode_behind};

/// Holders in a file: each has an address, and no range has more that can be used.
const MAX_HOLDERS: usize = 1 << 20;

type Owned<K> = AtMost<MAX_HOLDERS, BTreeMap<K, RawHolding>>;

/// Why the holders of a file cannot be read.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum OwnedError {
    /// The value is something else.
    #[error(transparent)]
    Malformed(#[from] gob::Error),
    /// An address has a prefix that there is not.
    #[error("{holder} has an address with a prefix of {prefix} bits")]
    Prefix {
        /// Who has it.
        holder: String,
        /// The prefix.
        prefix: i64,
    },
}

/// Reads all holders.
///
/// # Errors
/// If it is something else, or makes no sense.
pub fn decode_owned(bytes: &[u8]) -> Result<BTreeMap<String, Holding>, OwnedError> {
    let owned: Owned<Text<'_>> = Decoder::new(bytes).value()?;
    let mut holdings = BTreeMap::<String, Holding>::new();
    for (holder, raw) in owned.0 {
        for cidr in &raw.cidrs.0 {
            let cidr = read(holder, cidr)?;
            let holder = match holder {
                // As the original files it that has no name.
                Text(b"") => cidr.address().to_string(),
                Text(_) => holder.to_lossy().into_owned(),
            };
            let holding = holdings.entry(holder).or_default();
            holding.is_container |= raw.is_container;
            holding.cidrs.push(cidr);
        }
    }
    Ok(holdings)
}

/// Returns the bytes that Weave Net 2.x reads.
pub fn encode_owned(holdings: &BTreeMap<String, Holding>) -> Vec<u8> {
    let raw = |(holder, holding): (&String, &Holding)| (holder.clone(), RawHolding::from(holding));
    let owned: Owned<String> = AtMost(holdings.iter().map(raw).collect());
    encode_behind(Vec::new(), &owned)
}

fn read(holder: Text<'_>, &RawCidr { address, prefix }: &RawCidr) -> Result<Cidr, OwnedError> {
    let cidr = u8::try_from(prefix).ok().and_then(|prefix| Cidr::new(address.into(), prefix));
    cidr.ok_or_else(|| OwnedError::Prefix { holder: holder.to_lossy().into_owned(), prefix })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn holding(cidrs: &[&str], is_container: bool) -> Holding {
        let cidrs = cidrs.iter().map(|cidr| cidr.parse().unwrap()).collect();
        Holding { is_container, cidrs, label: None }
    }

    #[test]
    fn what_is_written_is_read() {
        let holdings = BTreeMap::from([
            ("a".to_owned(), holding(&["10.32.0.1/12", "10.40.0.7/24"], true)),
            ("weave:expose".to_owned(), holding(&["10.32.0.2/12"], false)),
        ]);
        assert_eq!(decode_owned(&encode_owned(&holdings)), Ok(holdings));
        assert_eq!(decode_owned(&encode_owned(&BTreeMap::new())), Ok(BTreeMap::new()));
    }

    #[test]
    fn no_address_is_lost_with_a_name_that_is_no_text() {
        let raw = |host: u32| RawHolding {
            is_container: host == 3,
            cidrs: AtMost(vec![RawCidr { address: 0x0A20_0000 + host, prefix: 12 }]),
            label: String::new(),
        };
        // Both names become the same text.
        let names = [&b"\xFE"[..], b"\xFF", b""].map(Text);
        let owned: Owned<Text<'_>> = AtMost(names.into_iter().zip((2..).map(raw)).collect());
        let holdings = decode_owned(&encode_behind(Vec::new(), &owned)).unwrap();
        let expected = BTreeMap::from([
            ("10.32.0.4".to_owned(), holding(&["10.32.0.4/12"], false)),
            ("\u{FFFD}".to_owned(), holding(&["10.32.0.2/12", "10.32.0.3/12"], true)),
        ]);
        assert_eq!(holdings, expected);
    }

    #[test]
    fn an_address_that_is_none_is_an_error() {
        let cidrs = AtMost(vec![RawCidr { address: 1, prefix: 33 }]);
        let raw = RawHolding { cidrs, ..RawHolding::default() };
        let owned: Owned<Text<'_>> = AtMost([(Text(b"x"), raw)].into());
        let error = decode_owned(&encode_behind(Vec::new(), &owned)).unwrap_err();
        assert_eq!(error.to_string(), "x has an address with a prefix of 33 bits");
        // A stream of one bool.
        assert!(matches!(decode_owned(&[3, 2, 0, 1]), Err(OwnedError::Malformed(_))));
    }
}
