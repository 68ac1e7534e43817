//! What waits to be gossiped to one neighbour (spec mesh.md, section 9.1).

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::channel::Data;
use crate::mesh::{MAX_PEERS, PeerName};

/// Sources whose broadcasts wait on one channel.
const MAX_SOURCES: usize = 1024;
/// Bytes that wait in all, as the channels count them.
const MAX_BYTES: usize = 8 << 20;

/// Something to gossip. Not encoded before it is sent, and shared among all whom it goes to.
#[derive(Clone)]
pub(crate) enum Pending {
    /// The records of these peers, as they will be at the time of sending.
    Records(Arc<BTreeSet<PeerName>>),
    /// What another channel has to say.
    Data(Arc<dyn Data>),
}

impl Pending {
    /// Makes `waiting` and what is newer one.
    pub(crate) fn merge(waiting: &mut Option<Self>, newer: Self) {
        match (&mut *waiting, newer) {
            (Some(Self::Records(names)), Self::Records(newer)) => {
                if !Arc::ptr_eq(names, &newer) && !newer.is_subset(names) {
                    Arc::make_mut(names).extend(newer.iter().copied());
                }
            }
            (Some(Self::Data(data)), Self::Data(newer)) => {
                if !Arc::ptr_eq(data, &newer) {
                    *data = data.merge(&*newer);
                }
            }
            (_, newer) => *waiting = Some(newer),
        }
    }

    /// Bytes it holds on to.
    pub(crate) fn size(&self) -> usize {
        match self {
            Self::Records(names) => names.len() * size_of::<PeerName>(),
            Self::Data(data) => data.size(),
        }
    }
}

/// What a neighbour is owed: one of a kind, however often it asked, and as things are when it is
/// sent.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(crate) enum Reply {
    /// That this end is there, and whether it uses the connection.
    InUse,
    /// The digest of all that is known.
    Digest,
    /// The inventory of all that is known, to be answered with what is lacking here.
    Ask,
    /// The same, not to be answered with another inventory.
    Answer,
    /// The own record.
    OwnRecord,
}

/// The buckets of one connection: per channel one for gossip, and one for the broadcasts of
/// each source.
#[derive(Default)]
pub(crate) struct Buckets {
    channels: BTreeMap<Arc<str>, Bucket>,
    /// Peers whose records are offered to a neighbour that understands it.
    offers: Option<Arc<BTreeSet<PeerName>>>,
    replies: BTreeSet<Reply>,
    /// Peers whose records the neighbour is to send.
    wanted: BTreeSet<PeerName>,
    /// The channel that was served last: the next one is served next.
    served: Option<Arc<str>>,
    bytes: usize,
}

#[derive(Default)]
struct Bucket {
    gossip: Option<Pending>,
    broadcasts: BTreeMap<PeerName, Pending>,
}

/// One thing to send: as the broadcast of a source, or as gossip.
pub(crate) struct Parcel {
    pub(crate) channel: Arc<str>,
    pub(crate) broadcast_source: Option<PeerName>,
    pub(crate) content: Pending,
}

impl Parcel {
    /// Whether both are the very same thing to say.
    pub(crate) fn is_same(&self, other: &Self) -> bool {
        let same_content = match (&self.content, &other.content) {
            (Pending::Records(ours), Pending::Records(theirs)) => ours == theirs,
            (Pending::Data(ours), Pending::Data(theirs)) => Arc::ptr_eq(ours, theirs),
            _ => false,
        };
        same_content
            && self.broadcast_source == other.broadcast_source
            && self.channel == other.channel
    }
}

impl Buckets {
    /// Adds to what waits. Returns false if there was no room.
    pub(crate) fn push(&mut self, parcel: Parcel) -> bool {
        let Parcel { channel, broadcast_source, content } = parcel;
        if self.bytes.saturating_add(content.size()) > MAX_BYTES && self.bytes > 0 {
            return false;
        }
        let bucket = self.channels.entry(channel).or_default();
        let room = |bucket: &Bucket, source| {
            bucket.broadcasts.len() < MAX_SOURCES || bucket.broadcasts.contains_key(&source)
        };
        let mut slot = match broadcast_source {
            Some(source) if !room(bucket, source) => return false,
            Some(source) => bucket.broadcasts.remove(&source),
            None => bucket.gossip.take(),
        };
        self.bytes -= slot.as_ref().map_or(0, Pending::size);
        Pending::merge(&mut slot, content);
        self.bytes += slot.as_ref().map_or(0, Pending::size);
        match (broadcast_source, slot) {
            (Some(source), Some(slot)) => drop(bucket.broadcasts.insert(source, slot)),
            (_, slot) => bucket.gossip = slot,
        }
        true
    }

    /// Adds to the records that are offered.
    pub(crate) fn offer(&mut self, names: &Arc<BTreeSet<PeerName>>) {
        let mut offers = self.offers.take().map(Pending::Records);
        Pending::merge(&mut offers, Pending::Records(Arc::clone(names)));
        if let Some(Pending::Records(names)) = offers {
            self.offers = Some(names);
        }
    }

    /// Adds to what the neighbour is owed.
    pub(crate) fn owe(&mut self, reply: Reply) {
        self.replies.insert(reply);
    }

    /// Adds to what the neighbour is asked for.
    pub(crate) fn want(&mut self, names: BTreeSet<PeerName>) {
        // An offer that is forgotten here comes again.
        let room = MAX_PEERS.saturating_sub(self.wanted.len());
        self.wanted.extend(names.into_iter().take(room));
    }

    pub(crate) fn pop_reply(&mut self) -> Option<Reply> {
        self.replies.pop_first()
    }

    /// Takes what the neighbour is asked for, if there is anything.
    pub(crate) fn pop_wanted(&mut self) -> Option<BTreeSet<PeerName>> {
        (!self.wanted.is_empty()).then(|| std::mem::take(&mut self.wanted))
    }

    /// Bytes it holds on to.
    pub(crate) fn size(&self) -> usize {
        let offers = self.offers.as_ref().map_or(0, |names| names.len());
        self.bytes + (offers + self.wanted.len()) * size_of::<PeerName>()
    }

    /// Takes what is offered.
    pub(crate) fn pop_offers(&mut self) -> Option<Arc<BTreeSet<PeerName>>> {
        self.offers.take()
    }

    /// Takes what is to be sent next: of each channel in turn gossip first, then any broadcast.
    pub(crate) fn pop(&mut self) -> Option<Parcel> {
        let channel = self.next_channel()?;
        let bucket = self.channels.get_mut(&channel)?;
        let (broadcast_source, content) = match bucket.gossip.take() {
            Some(content) => (None, content),
            None => {
                let (source, content) = bucket.broadcasts.pop_first()?;
                (Some(source), content)
            }
        };
        if bucket.gossip.is_none() && bucket.broadcasts.is_empty() {
            self.channels.remove(&channel);
        }
        self.bytes -= content.size();
        self.served = Some(Arc::clone(&channel));
        Some(Parcel { channel, broadcast_source, content })
    }

    fn next_channel(&self) -> Option<Arc<str>> {
        use std::ops::Bound::{Excluded, Unbounded};
        let after = self
            .served
            .as_deref()
            .and_then(|served| self.channels.range::<str, _>((Excluded(served), Unbounded)).next());
        after.or_else(|| self.channels.first_key_value()).map(|(name, _)| Arc::clone(name))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::Bytes;
    use std::any::Any;

    struct Words(Vec<&'static str>);

    impl Data for Words {
        fn merge(&self, newer: &dyn Data) -> Arc<dyn Data> {
            let newer: &dyn Any = newer;
            let newer = newer.downcast_ref::<Self>().unwrap();
            Arc::new(Self(self.0.iter().chain(&newer.0).copied().collect()))
        }

        fn encode(&self) -> Vec<Bytes> {
            self.0.iter().map(|word| Bytes::from_static(word.as_bytes())).collect()
        }

        fn size(&self) -> usize {
            self.0.iter().map(|word| word.len()).sum()
        }
    }

    fn name(number: u64) -> PeerName {
        PeerName::from_u64(number).unwrap()
    }

    fn parcel(channel: &str, source: Option<u64>, word: &'static str) -> Parcel {
        Parcel {
            channel: channel.into(),
            broadcast_source: source.map(name),
            content: Pending::Data(Arc::new(Words(vec![word]))),
        }
    }

    fn drain(buckets: &mut Buckets) -> Vec<String> {
        let mut lines = Vec::new();
        while let Some(Parcel { channel, broadcast_source, content }) = buckets.pop() {
            let Pending::Data(data) = content else { panic!("words only") };
            let words = data.encode().iter().map(|w| String::from_utf8_lossy(w).into()).collect();
            let words: Vec<String> = words;
            let source = broadcast_source.map_or(String::new(), |s| format!(" of {}", s.to_u64()));
            lines.push(format!("{channel}{source}: {}", words.join(" ")));
        }
        assert!(buckets.channels.is_empty());
        assert_eq!(buckets.bytes, 0);
        lines
    }

    #[test]
    fn what_waits_is_merged_and_gossip_goes_first() {
        let mut buckets = Buckets::default();
        for parcel in [
            parcel("dns", Some(1), "b1"),
            parcel("dns", None, "g1"),
            parcel("dns", Some(2), "c1"),
            parcel("dns", Some(1), "b2"),
            parcel("dns", None, "g2"),
        ] {
            assert!(buckets.push(parcel));
        }
        assert_eq!(drain(&mut buckets), ["dns: g1 g2", "dns of 1: b1 b2", "dns of 2: c1"]);
    }

    #[test]
    fn channels_take_turns() {
        let mut buckets = Buckets::default();
        for source in 1..4 {
            assert!(buckets.push(parcel("a", Some(source), "x")));
            assert!(buckets.push(parcel("b", Some(source), "y")));
        }
        let order: Vec<_> = drain(&mut buckets).iter().map(|l| l.chars().next().unwrap()).collect();
        assert_eq!(order, ['a', 'b', 'a', 'b', 'a', 'b']);
    }

    #[test]
    fn records_are_a_union() {
        let records = |names: &[u64]| {
            Pending::Records(Arc::new(names.iter().map(|number| name(*number)).collect()))
        };
        let mut waiting = None;
        Pending::merge(&mut waiting, records(&[1, 2]));
        let shared = waiting.clone();
        Pending::merge(&mut waiting, records(&[2, 3]));
        let Some(Pending::Records(names)) = waiting else { panic!("records") };
        assert_eq!(names.iter().map(|n| n.to_u64()).collect::<Vec<_>>(), [1, 2, 3]);
        let Some(Pending::Records(names)) = shared else { panic!("records") };
        assert_eq!(names.len(), 2, "what others share stays as it was");
    }

    #[test]
    fn sources_are_bounded() {
        let mut buckets = Buckets::default();
        for source in 0..MAX_SOURCES as u64 {
            assert!(buckets.push(parcel("a", Some(source + 1), "x")));
        }
        assert!(!buckets.push(parcel("a", Some(1 << 40), "x")));
        assert!(buckets.push(parcel("a", Some(1), "x")), "a known source still has its bucket");
        assert_eq!(drain(&mut buckets).len(), MAX_SOURCES);
    }

    #[test]
    fn bytes_are_bounded() {
        struct Heavy;
        impl Data for Heavy {
            fn merge(&self, _: &dyn Data) -> Arc<dyn Data> {
                Arc::new(Self)
            }
            fn encode(&self) -> Vec<Bytes> {
                Vec::new()
            }
            fn size(&self) -> usize {
                MAX_BYTES / 2 + 1
            }
        }
        let heavy = |channel: &str| Parcel {
            channel: channel.into(),
            broadcast_source: None,
            content: Pending::Data(Arc::new(Heavy)),
        };
        let mut buckets = Buckets::default();
        assert!(buckets.push(heavy("a")));
        assert!(!buckets.push(heavy("b")));
        assert!(buckets.pop().is_some());
        assert!(buckets.push(heavy("b")));
    }
}
