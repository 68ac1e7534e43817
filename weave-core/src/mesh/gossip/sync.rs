//! How two of our own routers compare what they know of the topology, without sending it.
//!
//! The original sends each changed record to about twice as many neighbours as its number has
//! digits in binary, who do the same, so that it reaches every peer of a full mesh of 100 some 13
//! times; and the records of all peers every 30 s, and again to each new neighbour. Between peers
//! that announce the feature [`FEATURE`] an offer takes the place of a record, and a digest or
//! an inventory that of all records:
//!
//! ```text
//!   tag 64:
//!   | 0 | digest of the inventory: 32 bytes |      "this is what I know"
//!   | 1 | inventory |                              "I know this: send what I lack, and ask me"
//!   | 2 | inventory |                              "send what I lack"
//!   | 3 | inventory of some peers |                "I can send these"
//!   | 4 | name: 6 |   ...                          "send these"
//!
//!   inventory, ascending by name, of every peer whose record is known:
//!   | name: 6 | uid: 8 | version: 8 | 1 if it has a short id, else 0: 1 | contents: 16 |   ...
//! ```
//!
//! The contents are the end of the SHA-256 of the record as it is encoded, so that also copies
//! differ that somebody made under one version.
//!
//! A digest that differs from one's own is answered with 1; 1 is answered with the records the
//! other side lacks (as ordinary gossip), and with 2 if it has some that are newer; 2 is
//! answered with the records the other side lacks. So an exchange ends by itself. An offer is
//! answered with 4 if it has something new that was not asked of another neighbour just before,
//! and 4 with the records.

use std::collections::{BTreeMap, BTreeSet};

use sha2::{Digest, Sha256};

use crate::mesh::{Contents, Edition, MAX_PEERS, PeerName, RecordId, Uid};

/// Key and value in the handshake's feature map of those who understand the tag.
pub(crate) const FEATURE: (&str, &str) = ("Gossip", "contents");
/// Far from the tags of the original, which ignores those it does not know.
pub(crate) const TAG: u8 = 64;

const ENTRY_LEN: usize = 39;
const DIGEST: u8 = 0;
const ASK: u8 = 1;
const ANSWER: u8 = 2;
const OFFER: u8 = 3;
const WANT: u8 = 4;
const NAME_LEN: usize = 6;

/// The records a router has.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(crate) struct Inventory(pub(crate) BTreeMap<PeerName, RecordId>);

/// What one side lacks of the other's records.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(crate) struct Difference {
    /// Newer or only here.
    pub(crate) to_send: BTreeSet<PeerName>,
    /// Whether there are some newer or only there.
    pub(crate) to_fetch: bool,
}

impl Inventory {
    pub(crate) fn digest(&self) -> [u8; 32] {
        let mut hash = Sha256::new();
        for (name, id) in &self.0 {
            hash.update(entry(*name, *id));
        }
        hash.finalize().into()
    }

    pub(crate) fn compare(&self, theirs: &Self) -> Difference {
        let newer = |(name, id): &(&PeerName, &RecordId), than: &Self| {
            than.0.get(name).is_none_or(|other| *id > other)
        };
        Difference {
            to_send: self.0.iter().filter(|e| newer(e, theirs)).map(|(name, _)| *name).collect(),
            to_fetch: theirs.0.iter().any(|e| newer(&e, self)),
        }
    }
}

/// A message of tag [`TAG`].
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum SyncMessage {
    Digest([u8; 32]),
    Ask(Inventory),
    Answer(Inventory),
    Offer(Inventory),
    Want(BTreeSet<PeerName>),
}

/// A message of tag [`TAG`] that makes no sense.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub(crate) enum SyncError {
    #[error("topology digest of {0} bytes instead of 33")]
    DigestLength(usize),
    #[error("topology inventory of {0} bytes, which is no number of whole entries")]
    InventoryLength(usize),
    #[error("{0} bytes of wanted topology records, which is no number of whole names")]
    NamesLength(usize),
    #[error("topology inventory of {0} peers, where at most {MAX_PEERS} can be")]
    TooMany(usize),
    #[error("topology inventory: {0} is out of order")]
    Order(PeerName),
    #[error("topology inventory: {0} has flag {1}, which is neither 0 nor 1")]
    Flag(PeerName, u8),
}

impl SyncMessage {
    pub(crate) fn encode(&self) -> Vec<u8> {
        let (kind, inventory) = match self {
            Self::Digest(digest) => return [&[DIGEST], &digest[..]].concat(),
            Self::Ask(inventory) => (ASK, inventory),
            Self::Answer(inventory) => (ANSWER, inventory),
            Self::Offer(inventory) => (OFFER, inventory),
            Self::Want(names) => {
                let mut bytes = Vec::with_capacity(1 + names.len() * NAME_LEN);
                bytes.push(WANT);
                names.iter().for_each(|name| bytes.extend_from_slice(&name.to_bytes()));
                return bytes;
            }
        };
        let mut bytes = Vec::with_capacity(1 + inventory.0.len() * ENTRY_LEN);
        bytes.push(kind);
        for (name, id) in &inventory.0 {
            bytes.extend_from_slice(&entry(*name, *id));
        }
        bytes
    }

    /// `None` for kinds that later routers may come to use.
    pub(crate) fn decode(payload: &[u8]) -> Result<Option<Self>, SyncError> {
        let Some((kind, rest)) = payload.split_first() else { return Ok(None) };
        Ok(match *kind {
            DIGEST => {
                let digest = rest.try_into().map_err(|_| SyncError::DigestLength(payload.len()))?;
                Some(Self::Digest(digest))
            }
            ASK => Some(Self::Ask(decode_inventory(rest)?)),
            ANSWER => Some(Self::Answer(decode_inventory(rest)?)),
            OFFER => Some(Self::Offer(decode_inventory(rest)?)),
            WANT => Some(Self::Want(decode_names(rest)?)),
            _ => None,
        })
    }
}

/// Whether a payload asks for a comparison with all that is known here.
pub(crate) fn compares(payload: &[u8]) -> bool {
    matches!(payload, [ASK | ANSWER, ..])
}

fn entry(name: PeerName, RecordId { edition, contents }: RecordId) -> [u8; ENTRY_LEN] {
    let mut bytes = [0; ENTRY_LEN];
    bytes[..6].copy_from_slice(&name.to_bytes());
    bytes[6..14].copy_from_slice(&edition.uid.0.to_be_bytes());
    bytes[14..22].copy_from_slice(&edition.version.to_be_bytes());
    bytes[22] = u8::from(edition.has_short_id);
    bytes[23..].copy_from_slice(&contents.0);
    bytes
}

fn decode_names(bytes: &[u8]) -> Result<BTreeSet<PeerName>, SyncError> {
    let (names, rest) = bytes.as_chunks::<NAME_LEN>();
    if !rest.is_empty() {
        return Err(SyncError::NamesLength(bytes.len()));
    }
    if names.len() > MAX_PEERS {
        return Err(SyncError::TooMany(names.len()));
    }
    let names: Vec<PeerName> = names.iter().map(|name| PeerName::from_bytes(*name)).collect();
    match names.windows(2).find(|pair| pair[0] >= pair[1]) {
        Some(pair) => Err(SyncError::Order(pair[1])),
        None => Ok(names.into_iter().collect()),
    }
}

fn decode_inventory(bytes: &[u8]) -> Result<Inventory, SyncError> {
    let (entries, rest) = bytes.as_chunks::<ENTRY_LEN>();
    if !rest.is_empty() {
        return Err(SyncError::InventoryLength(bytes.len()));
    }
    if entries.len() > MAX_PEERS {
        return Err(SyncError::TooMany(entries.len()));
    }
    let mut inventory = BTreeMap::new();
    let mut last = PeerName::UNKNOWN;
    for entry in entries {
        let [n0, n1, n2, n3, n4, n5, rest @ ..] = *entry;
        let [u0, u1, u2, u3, u4, u5, u6, u7, rest @ ..] = rest;
        let [v0, v1, v2, v3, v4, v5, v6, v7, flag, contents @ ..] = rest;
        let name = PeerName::from_bytes([n0, n1, n2, n3, n4, n5]);
        if name <= last {
            return Err(SyncError::Order(name));
        }
        last = name;
        if flag > 1 {
            return Err(SyncError::Flag(name, flag));
        }
        let edition = Edition {
            version: u64::from_be_bytes([v0, v1, v2, v3, v4, v5, v6, v7]),
            uid: Uid(u64::from_be_bytes([u0, u1, u2, u3, u4, u5, u6, u7])),
            has_short_id: flag == 1,
        };
        inventory.insert(name, RecordId { edition, contents: Contents(contents) });
    }
    Ok(Inventory(inventory))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn name(number: u64) -> PeerName {
        PeerName::from_u64(number).unwrap()
    }

    fn edition(version: u64, uid: u64, has_short_id: bool) -> RecordId {
        let edition = Edition { version, uid: Uid(uid), has_short_id };
        RecordId { edition, contents: Contents::default() }
    }

    fn inventory(entries: &[(u64, RecordId)]) -> Inventory {
        Inventory(entries.iter().map(|(number, id)| (name(*number), *id)).collect())
    }

    fn some_inventory() -> impl Strategy<Value = Inventory> {
        let entry = (1..50_u64, (0..5_u64, 0..3_u64, any::<bool>()), 0..3_u8);
        proptest::collection::vec(entry, 0..30).prop_map(|entries| {
            let ids =
                entries.into_iter().map(|(number, (version, uid, has_short_id), contents)| {
                    let id = edition(version, uid, has_short_id);
                    (name(number), RecordId { contents: Contents([contents; 16]), ..id })
                });
            Inventory(ids.collect())
        })
    }

    #[test]
    fn the_difference_is_what_either_side_lacks() {
        let ours = inventory(&[(1, edition(3, 1, false)), (2, edition(1, 1, false))]);
        let theirs = inventory(&[(1, edition(2, 1, false)), (3, edition(1, 1, false))]);
        let difference = ours.compare(&theirs);
        assert_eq!(difference.to_send, BTreeSet::from([name(1), name(2)]));
        assert!(difference.to_fetch);
        assert_eq!(ours.compare(&ours), Difference::default());
    }

    #[test]
    fn copies_of_one_edition_with_other_contents_differ() {
        let copy = |contents: u8| {
            inventory(&[(
                1,
                RecordId { contents: Contents([contents; 16]), ..edition(1, 1, true) },
            )])
        };
        assert_ne!(copy(1).digest(), copy(2).digest());
        assert_eq!(copy(2).compare(&copy(1)).to_send, BTreeSet::from([name(1)]));
        assert!(copy(1).compare(&copy(2)).to_fetch);
    }

    #[test]
    fn nonsense_is_refused() {
        let good =
            SyncMessage::Ask(inventory(&[(1, edition(1, 1, false)), (2, edition(1, 1, true))]))
                .encode();
        assert!(SyncMessage::decode(&good).unwrap().is_some());
        assert_eq!(SyncMessage::decode(&good[..30]), Err(SyncError::InventoryLength(29)));
        let mut twice = good.clone();
        twice[6 + ENTRY_LEN] = 1;
        assert_eq!(SyncMessage::decode(&twice), Err(SyncError::Order(name(1))));
        let mut large = good;
        large[ENTRY_LEN + 23] = 7;
        assert_eq!(SyncMessage::decode(&large), Err(SyncError::Flag(name(2), 7)));
        assert_eq!(SyncMessage::decode(&[0; 5]), Err(SyncError::DigestLength(5)));
        assert_eq!(SyncMessage::decode(&[WANT, 1]), Err(SyncError::NamesLength(1)));
        let twice = [&[WANT][..], &[1; 12]].concat();
        assert!(matches!(SyncMessage::decode(&twice), Err(SyncError::Order(_))));
        let many = 1 + MAX_PEERS;
        let names = (1..=many as u64).flat_map(|number| name(number).to_bytes());
        let names: Vec<u8> = [WANT].into_iter().chain(names).collect();
        assert_eq!(SyncMessage::decode(&names), Err(SyncError::TooMany(many)));
        let entries = [&[OFFER][..], &vec![0; many * ENTRY_LEN]].concat();
        assert_eq!(SyncMessage::decode(&entries), Err(SyncError::TooMany(many)));
        assert_eq!(SyncMessage::decode(&[]), Ok(None));
        assert_eq!(SyncMessage::decode(&[9, 9]), Ok(None));
    }

    proptest! {
        #[test]
        fn messages_round_trip(inventory in some_inventory(), digest: [u8; 32], kind in 0..5) {
            let message = match kind {
                0 => SyncMessage::Digest(digest),
                1 => SyncMessage::Ask(inventory),
                2 => SyncMessage::Answer(inventory),
                3 => SyncMessage::Offer(inventory),
                _ => SyncMessage::Want(inventory.0.into_keys().collect()),
            };
            prop_assert_eq!(SyncMessage::decode(&message.encode()), Ok(Some(message)));
        }

        #[test]
        fn digests_differ_when_inventories_do(a in some_inventory(), b in some_inventory()) {
            prop_assert_eq!(a == b, a.digest() == b.digest());
        }

        #[test]
        fn whatever_comes_is_read_or_refused(bytes: Vec<u8>) {
            if let Ok(Some(message)) = SyncMessage::decode(&bytes) {
                prop_assert_eq!(message.encode(), bytes);
            }
        }
    }
}
