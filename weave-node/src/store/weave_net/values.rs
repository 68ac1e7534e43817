//! What the file says (spec ipam.md, section 14).
//!
//! Bucket `top`; all values but the version are gob.
//!
//! ```text
//!   version          | 1 | 0 |
//!   peername         uint
//!   directPeers      list of strings
//!   ring             Ring
//!   ownedAddresses   map of strings to ownedData
//!   flag:<name>      string
//! ```

use std::collections::BTreeMap;

use weave_bolt::{Bucket, Database, EncodeError, Value, encode};
use weave_core::mesh::PeerName;
use weave_core::wire::gob::{AtMost, Decode, Decoder, Encode, Encoder};
use weave_ipam::Ring;
use weave_ipam::legacy::{decode_owned, encode_owned};
use weave_ipam::message::{Holding, decode_ring};
use weave_ipam::ring::RawRing;

const TOP: &[u8] = b"top";
const VERSION: &[u8] = b"version";
const PEER_NAME: &[u8] = b"peername";
const DIRECT_PEERS: &[u8] = b"directPeers";
const RING: &[u8] = b"ring";
const OWNED: &[u8] = b"ownedAddresses";
const FLAG: &[u8] = b"flag:";

/// Major and minor. Another major one is another file.
const CURRENT_VERSION: [u8; 2] = [1, 0];
/// Targets a user gave. The mesh has no more peers.
const MAX_TARGETS: usize = 4096;

/// The flags there are: weave-kube sets one before it shares in the list of peers to reclaim.
pub(crate) const FLAGS: [&str; 1] = ["peer-reclaim"];

/// What a router of Weave Net stores.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub(crate) struct LegacyState {
    /// The number of the transaction that stored it last: another one stored something else.
    pub(crate) transaction: u64,
    pub(crate) peer_name: Option<PeerName>,
    pub(crate) direct_peers: Option<Vec<String>>,
    pub(crate) ring: Option<RawRing>,
    pub(crate) holdings: BTreeMap<String, Holding>,
    /// Notes of the programs around the router: `peer-reclaim`.
    pub(crate) flags: BTreeMap<String, String>,
}

/// What is wrong with a value, and with which.
type Fault = String;

impl LegacyState {
    /// Reads the file. One that was made and not written to yet says nothing.
    pub(crate) fn decode(file: &[u8]) -> Result<Self, Fault> {
        let Database { transaction, root } =
            Database::decode(file).map_err(|error| error.to_string())?;
        let state = Self { transaction, ..Self::default() };
        let Some(top) = root.bucket(TOP) else {
            let is_new = root.is_empty();
            return if is_new { Ok(state) } else { Err("it is of another program".to_owned()) };
        };
        match top.bytes(VERSION) {
            None | Some([1, ..]) => {}
            Some(other) => return Err(format!("its version is {other:?}, and 1 is known")),
        }
        let ring = top.bytes(RING).map(decode_ring).transpose().map_err(fault("ring"))?;
        if let Some(ring) = &ring {
            Ring::try_from(ring.clone()).map_err(fault("ring"))?;
        }
        let holdings = top.bytes(OWNED).map(decode_owned).transpose();
        let holdings = holdings.map_err(fault("ownedAddresses"))?.unwrap_or_default();
        let targets = value::<AtMost<MAX_TARGETS, Vec<String>>>(top, DIRECT_PEERS, "directPeers")?;
        let mut flags = BTreeMap::new();
        for (key, _) in top.iter() {
            if let Some(name) = key.strip_prefix(FLAG) {
                let text = value::<String>(top, key, "a flag")?.unwrap_or_default();
                flags.insert(String::from_utf8_lossy(name).into_owned(), text);
            }
        }
        let peer_name = value::<PeerName>(top, PEER_NAME, "peername")?;
        let direct_peers = targets.map(|targets| targets.0);
        Ok(Self { peer_name, direct_peers, ring, holdings, flags, ..state })
    }

    /// Returns the bytes of a file that Weave Net reads.
    pub(crate) fn encode(&self) -> Result<Vec<u8>, EncodeError> {
        let mut values = BTreeMap::from([
            (VERSION.to_vec(), CURRENT_VERSION.to_vec()),
            (OWNED.to_vec(), encode_owned(&self.holdings)),
        ]);
        if let Some(name) = self.peer_name {
            values.insert(PEER_NAME.to_vec(), gob(&name));
        }
        if let Some(targets) = &self.direct_peers {
            values.insert(DIRECT_PEERS.to_vec(), gob(targets.as_slice()));
        }
        if let Some(ring) = &self.ring {
            values.insert(RING.to_vec(), gob(ring));
        }
        for (name, text) in &self.flags {
            values.insert([FLAG, name.as_bytes()].concat(), gob(text));
        }
        let (mut root, mut top) = (Bucket::default(), Bucket::default());
        values.iter().for_each(|(key, value)| top.insert(key, Value::Bytes(value)));
        root.insert(TOP, Value::Bucket(top));
        encode(&root, self.transaction)
    }
}

fn fault<E: ToString>(what: &'static str) -> impl Fn(E) -> Fault {
    move |error| format!("{what}: {}", error.to_string())
}

fn value<'de, T: Decode<'de>>(
    top: &Bucket<'de>,
    key: &[u8],
    what: &'static str,
) -> Result<Option<T>, Fault> {
    let Some(bytes) = top.bytes(key) else { return Ok(None) };
    Decoder::new(bytes).value().map(Some).map_err(fault(what))
}

fn gob(value: &(impl Encode + ?Sized)) -> Vec<u8> {
    let mut encoder = Encoder::new();
    encoder.value(value);
    encoder.finish()
}
