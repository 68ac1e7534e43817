//! The annotations of the ConfigMap `kube-system/weave-net`, in which the routers of a cluster agree on
//! who reclaims what (spec kube.md, section 6). Those of Weave Net 2.x read and write them beside us.
//!
//! | annotation | value |
//! |---|---|
//! | `kube-peers.weave.works/peers` | `{"Peers":[{"PeerName":"aa:…","NodeName":"…"},…]}` |
//! | `kube-peers.weave.works/aa_bb_cc_dd_ee_ff` | the peer that reclaims this one: a lock |
//! | `kube-peers.weave.works/seed` | ours alone: `{"10.32.0.0/12":["aa:…"]}`, who the range was first divided among |

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

pub(crate) const PREFIX: &str = "kube-peers.weave.works/";
const PEERS: &str = "peers";
const SEED: &str = "seed";

/// All annotations; those of others stay as they are.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(crate) struct Annotations(pub(crate) BTreeMap<String, String>);

/// A peer and the node it is on.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub(crate) struct Listed {
    #[serde(rename = "PeerName", default)]
    pub(crate) peer: String,
    #[serde(rename = "NodeName", default)]
    pub(crate) node: String,
}

/// As Go writes and reads it; an empty list may be null.
#[derive(Default, Serialize, Deserialize)]
struct PeerList {
    #[serde(rename = "Peers", default)]
    peers: Option<Vec<Listed>>,
}

/// An annotation that cannot be read.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error(
    "annotation {key} of ConfigMap kube-system/weave-net is not what routers write there: {reason}; \
     remove the annotation, and routers write it again"
)]
pub(crate) struct Unreadable {
    key: String,
    reason: String,
}

fn key(name: &str) -> String {
    let legal = |c: char| c.is_ascii_alphanumeric() || "-_./".contains(c);
    // Weave Net replaces bytes.
    let clean = |c: char| if legal(c) { c.to_string() } else { "_".repeat(c.len_utf8()) };
    PREFIX.chars().map(String::from).chain(name.chars().map(clean)).collect()
}

impl Annotations {
    fn read<T: Default + serde::de::DeserializeOwned>(&self, name: &str) -> Result<T, Unreadable> {
        let key = key(name);
        let Some(text) = self.0.get(&key) else { return Ok(T::default()) };
        serde_json::from_str(text).map_err(|error| Unreadable { key, reason: error.to_string() })
    }

    fn write(&mut self, name: &str, value: &impl Serialize) {
        // Maps and lists of texts always are JSON.
        if let Ok(text) = serde_json::to_string(value) {
            self.0.insert(key(name), text);
        }
    }

    /// The peers of the cluster.
    pub(crate) fn peers(&self) -> Result<Vec<Listed>, Unreadable> {
        Ok(self.read::<PeerList>(PEERS)?.peers.unwrap_or_default())
    }

    pub(crate) fn set_peers(&mut self, peers: Vec<Listed>) {
        self.write(PEERS, &PeerList { peers: Some(peers) });
    }

    /// Who reclaims a peer.
    pub(crate) fn lock_of(&self, peer: &str) -> Option<&str> {
        self.0.get(&key(peer)).map(String::as_str)
    }

    pub(crate) fn lock(&mut self, peer: &str, by: &str) {
        self.0.insert(key(peer), by.to_owned());
    }

    pub(crate) fn unlock(&mut self, peer: &str) {
        self.0.remove(&key(peer));
    }

    /// Removes the locks that a peer holds.
    pub(crate) fn unlock_all_of(&mut self, holder: &str) {
        self.0.retain(|key, value| !key.starts_with(PREFIX) || value != holder);
    }

    /// All locks: the peer in the form it has in a key, and who holds it.
    pub(crate) fn locks(&self) -> impl Iterator<Item = (&str, &str)> {
        let ours = self
            .0
            .iter()
            .filter_map(|(key, value)| key.strip_prefix(PREFIX).map(|name| (name, value.as_str())));
        ours.filter(|(name, _)| *name != PEERS && *name != SEED)
    }

    /// Whether a key of [`Self::locks`] is that of this peer.
    pub(crate) fn is_key_of(name: &str, peer: &str) -> bool {
        key(peer).strip_prefix(PREFIX) == Some(name)
    }

    /// The peers that a range was first divided among, if that is decided here.
    pub(crate) fn seeds(&self, range: &str) -> Result<Option<Vec<String>>, Unreadable> {
        let mut seeds: BTreeMap<String, Vec<String>> = self.read(SEED)?;
        Ok(seeds.remove(range).filter(|names| !names.is_empty()))
    }

    pub(crate) fn set_seeds(&mut self, range: &str, names: Vec<String>) -> Result<(), Unreadable> {
        let mut seeds: BTreeMap<String, Vec<String>> = self.read(SEED)?;
        seeds.insert(range.to_owned(), names);
        self.write(SEED, &seeds);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn listed(peer: &str, node: &str) -> Listed {
        Listed { peer: peer.to_owned(), node: node.to_owned() }
    }

    #[test]
    fn keys_as_weave_net_writes_them() {
        for (name, expected) in [
            ("peers", "kube-peers.weave.works/peers"),
            ("7a:9f:eb:b6:0c:6e", "kube-peers.weave.works/7a_9f_eb_b6_0c_6e"),
            ("a-b_c.d/e F", "kube-peers.weave.works/a-b_c.d/e_F"),
            ("ä", "kube-peers.weave.works/__"),
        ] {
            assert_eq!(key(name), expected);
        }
    }

    #[test]
    fn the_list_as_weave_net_writes_it() {
        let mut annotations = Annotations::default();
        assert_eq!(annotations.peers(), Ok(Vec::new()));
        annotations.set_peers(vec![listed("7a:9f:eb:b6:0c:6e", "node-1")]);
        let text = &annotations.0["kube-peers.weave.works/peers"];
        assert_eq!(text, r#"{"Peers":[{"PeerName":"7a:9f:eb:b6:0c:6e","NodeName":"node-1"}]}"#);
        assert_eq!(annotations.peers(), Ok(vec![listed("7a:9f:eb:b6:0c:6e", "node-1")]));
        for (text, expected) in [
            (r#"{"Peers":null}"#, Vec::new()),
            ("{}", Vec::new()),
            (r#"{"Peers":[{"PeerName":"a","Else":1}]}"#, vec![listed("a", "")]),
        ] {
            annotations.0.insert(key(PEERS), text.to_owned());
            assert_eq!(annotations.peers(), Ok(expected), "{text}");
        }
        for text in ["", "7", "nonsense", r#"{"Peers":{}}"#] {
            annotations.0.insert(key(PEERS), text.to_owned());
            let error = annotations.peers().unwrap_err().to_string();
            assert!(error.contains("weave.works/peers of ConfigMap"), "{error}");
        }
    }

    #[test]
    fn locks_are_the_other_keys_of_ours() {
        let mut annotations = Annotations::default();
        annotations.0.insert("other".to_owned(), "b".to_owned());
        annotations.set_peers(vec![listed("a", "n")]);
        annotations.set_seeds("10.32.0.0/12", vec!["b".to_owned()]).unwrap();
        annotations.lock("0:1", "b");
        annotations.lock("0:2", "c");
        assert_eq!(annotations.locks().collect::<Vec<_>>(), [("0_1", "b"), ("0_2", "c")]);
        assert_eq!(annotations.lock_of("0:1"), Some("b"));
        assert!(Annotations::is_key_of("0_1", "0:1") && !Annotations::is_key_of("0_1", "0:2"));
        annotations.unlock_all_of("b");
        assert_eq!(annotations.locks().collect::<Vec<_>>(), [("0_2", "c")]);
        annotations.unlock("0:2");
        assert_eq!(annotations.locks().count(), 0);
        assert_eq!(annotations.0["other"], "b");
        assert_eq!(annotations.seeds("10.32.0.0/12"), Ok(Some(vec!["b".to_owned()])));
    }

    #[test]
    fn seeds_are_told_for_each_range() {
        let mut annotations = Annotations::default();
        assert_eq!(annotations.seeds("10.32.0.0/12"), Ok(None));
        annotations.set_seeds("10.32.0.0/12", vec!["a".to_owned()]).unwrap();
        annotations.set_seeds("10.0.0.0/16", vec!["b".to_owned()]).unwrap();
        assert_eq!(annotations.seeds("10.32.0.0/12"), Ok(Some(vec!["a".to_owned()])));
        assert_eq!(annotations.seeds("10.0.0.0/16"), Ok(Some(vec!["b".to_owned()])));
        assert_eq!(annotations.seeds("10.0.0.0/8"), Ok(None));
        annotations.0.insert(key(SEED), "x".to_owned());
        assert!(annotations.seeds("10.0.0.0/8").is_err());
        assert!(annotations.set_seeds("10.0.0.0/8", Vec::new()).is_err());
    }
}
