//! Data of an embedder's own, which all nodes share: each tells one value, and all learn of it.
//!
//! ```text
//!  a message:  | name: 6 | version: 8 | length: 2 | value: length |  again and again
//! ```
//!
//! A value with a higher version takes the place of the one before. Versions are the clock of their
//! peer, so that they grow over restarts, too. A peer that others cannot reach any more is
//! forgotten.

use std::collections::BTreeMap;
use std::marker::PhantomData;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::sync::watch;
use weave_core::driver::{Handle, Stopped};
use weave_core::mesh::PeerName;
use weave_core::mesh::gossip::{Channel, Data, GossipError, Outbox};
use weave_core::time::Instant;

/// The longest value, as JSON, in bytes.
pub const MAX_VALUE: usize = 4096;
/// Peers whose values are kept: more than any mesh has that is not flooded.
pub const MAX_PEERS: usize = 4096;
/// Bytes of one message, about; far below what peers accept.
const MAX_MESSAGE: usize = 64 * 1024;
const HEAD: usize = 6 + 8 + 2;

/// Why a value is not told.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum GossipFailure {
    /// Something else of this node uses the channel.
    #[error("the channel {0:?} is in use")]
    InUse(String),
    /// The name is empty or too long.
    #[error("{0:?} is no name for a channel: 1 to 64 characters")]
    Name(String),
    /// The value cannot be written as JSON.
    #[error("the value cannot be told: {0}")]
    Value(String),
    /// The value is too long.
    #[error("the value has {0} bytes as JSON, more than {MAX_VALUE}")]
    TooLong(usize),
    /// The node has been shut down.
    #[error("the node has been shut down")]
    Stopped,
}

impl From<Stopped> for GossipFailure {
    fn from(_: Stopped) -> Self {
        Self::Stopped
    }
}

/// A value of each node, of type `T`, known to all nodes that have a channel of this name. Clones
/// are of the same channel.
///
/// Nothing is signed: a member of the mesh can make up values of others, as it can make up
/// everything else.
pub struct Gossip<T> {
    shared: Arc<Shared>,
    handle: Handle,
    kind: PhantomData<fn() -> T>,
}

struct Shared {
    name: String,
    own: PeerName,
    values: Mutex<BTreeMap<PeerName, Versioned>>,
    changes: watch::Sender<u64>,
}

#[derive(Clone, PartialEq, Eq, Debug)]
struct Versioned {
    version: u64,
    value: Bytes,
}

impl<T> Clone for Gossip<T> {
    fn clone(&self) -> Self {
        Self { shared: Arc::clone(&self.shared), handle: self.handle.clone(), kind: PhantomData }
    }
}

impl<T> std::fmt::Debug for Gossip<T> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Gossip").field("name", &self.shared.name).finish_non_exhaustive()
    }
}

impl<T: Serialize + DeserializeOwned + Send> Gossip<T> {
    /// Joins the conversation of this name.
    pub(crate) async fn join(
        handle: Handle,
        own: PeerName,
        name: &str,
    ) -> Result<Self, GossipFailure> {
        if name.is_empty() || name.len() > 64 {
            return Err(GossipFailure::Name(name.to_owned()));
        }
        let shared = Arc::new(Shared {
            name: name.to_owned(),
            own,
            values: Mutex::default(),
            changes: watch::Sender::new(0),
        });
        let channel = Box::new(ValueChannel(Arc::clone(&shared)));
        let name = name.to_owned();
        handle
            .with(move |router, now| router.update(now, |mesh| mesh.add_channel(&name, channel)))
            .await?;
        Ok(Self { shared, handle, kind: PhantomData })
    }

    /// Tells all nodes the value of this one, in place of the one before.
    ///
    /// # Errors
    /// The value is too long, or the node has been shut down.
    pub async fn publish(&self, value: &T) -> Result<(), GossipFailure> {
        let value =
            serde_json::to_vec(value).map_err(|error| GossipFailure::Value(error.to_string()))?;
        if value.len() > MAX_VALUE {
            return Err(GossipFailure::TooLong(value.len()));
        }
        let shared = Arc::clone(&self.shared);
        let said = shared.publish(value.into());
        self.handle
            .with(move |router, now| {
                router.update(now, |mesh| mesh.broadcast(now, &shared.name, said));
            })
            .await?;
        Ok(())
    }

    /// Returns the value of a peer, if it told one of this type.
    pub fn get(&self, peer: PeerName) -> Option<T> {
        let values = self.shared.lock();
        serde_json::from_slice(&values.get(&peer)?.value).ok()
    }

    /// Returns the values of all peers, this one included. Those of another type are left out.
    pub fn values(&self) -> BTreeMap<PeerName, T> {
        let values = self.shared.lock();
        let read = |(peer, told): (&PeerName, &Versioned)| {
            Some((*peer, serde_json::from_slice(&told.value).ok()?))
        };
        values.iter().filter_map(read).collect()
    }

    /// Returns what turns when a value changes: wait for [`watch::Receiver::changed`], and then
    /// look at [`Self::values`].
    pub fn changes(&self) -> watch::Receiver<u64> {
        self.shared.changes.subscribe()
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, BTreeMap<PeerName, Versioned>> {
        self.values.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn publish(&self, value: Bytes) -> Arc<dyn Data> {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let clock = u64::try_from(since.as_micros()).unwrap_or(u64::MAX);
        let mut values = self.lock();
        let version = values.get(&self.own).map_or(0, |told| told.version.saturating_add(1));
        let told = Versioned { version: version.max(clock), value };
        values.insert(self.own, told.clone());
        drop(values);
        self.changed();
        Arc::new(Values([(self.own, told)].into()))
    }

    fn changed(&self) {
        self.changes.send_modify(|count| *count = count.wrapping_add(1));
    }

    /// Takes what is newer, and returns it.
    fn merge(&self, payload: &[u8]) -> Result<Option<Arc<dyn Data>>, GossipError> {
        let heard = decode(payload)?;
        let mut news = BTreeMap::new();
        let mut own = None;
        let mut values = self.lock();
        for (peer, told) in heard {
            let is_news = values.get(&peer).is_none_or(|known| told.version > known.version);
            let has_room = values.len() < MAX_PEERS || values.contains_key(&peer);
            if !is_news || !has_room {
                continue;
            }
            if peer == self.own {
                // Said by a former life of this peer, or by a liar: what is said now is newer.
                if let Some(known) = values.get_mut(&peer) {
                    known.version = told.version.saturating_add(1);
                    own = Some(known.clone());
                }
                continue;
            }
            values.insert(peer, told.clone());
            news.insert(peer, told);
        }
        drop(values);
        if !news.is_empty() {
            self.changed();
        }
        news.extend(own.map(|told| (self.own, told)));
        Ok((!news.is_empty()).then(|| Arc::new(Values(news)) as _))
    }
}

fn malformed() -> GossipError {
    GossipError::Content("malformed values".to_owned())
}

fn decode(mut payload: &[u8]) -> Result<Vec<(PeerName, Versioned)>, GossipError> {
    let mut heard = Vec::new();
    while !payload.is_empty() {
        let (head, rest) = payload.split_first_chunk::<HEAD>().ok_or_else(malformed)?;
        let [a, b, c, d, e, f, version @ .., high, low] = *head;
        let length = usize::from(u16::from_be_bytes([high, low]));
        if length > MAX_VALUE {
            return Err(malformed());
        }
        let (value, rest) = rest.split_at_checked(length).ok_or_else(malformed)?;
        let told = Versioned {
            version: u64::from_be_bytes(version),
            value: Bytes::copy_from_slice(value),
        };
        heard.push((PeerName::from_bytes([a, b, c, d, e, f]), told));
        payload = rest;
    }
    Ok(heard)
}

/// Values to tell.
struct Values(BTreeMap<PeerName, Versioned>);

impl Data for Values {
    fn merge(&self, newer: &dyn Data) -> Arc<dyn Data> {
        let mut values = self.0.clone();
        let newer: &dyn std::any::Any = newer;
        for (peer, told) in newer.downcast_ref::<Self>().into_iter().flat_map(|newer| &newer.0) {
            match values.get(peer) {
                Some(known) if known.version >= told.version => {}
                _ => drop(values.insert(*peer, told.clone())),
            }
        }
        Arc::new(Self(values))
    }

    fn encode(&self) -> Vec<Bytes> {
        let mut messages = vec![Vec::new()];
        for (peer, Versioned { version, value }) in &self.0 {
            let Ok(length) = u16::try_from(value.len()) else { continue };
            if messages.last().is_none_or(|last| last.len() > MAX_MESSAGE) {
                messages.push(Vec::new());
            }
            let Some(message) = messages.last_mut() else { continue };
            message.extend_from_slice(&peer.to_bytes());
            message.extend_from_slice(&version.to_be_bytes());
            message.extend_from_slice(&length.to_be_bytes());
            message.extend_from_slice(value);
        }
        messages.into_iter().filter(|message| !message.is_empty()).map(Bytes::from).collect()
    }

    fn size(&self) -> usize {
        self.0.values().map(|told| HEAD + told.value.len()).sum()
    }
}

struct ValueChannel(Arc<Shared>);

impl Channel for ValueChannel {
    fn handle_unicast(
        &mut self,
        _: Instant,
        _: PeerName,
        payload: &[u8],
        _: &mut Outbox,
    ) -> Result<(), GossipError> {
        self.0.merge(payload).map(drop)
    }

    fn handle_broadcast(
        &mut self,
        _: Instant,
        _: PeerName,
        payload: &[u8],
        _: &mut Outbox,
    ) -> Result<Option<Arc<dyn Data>>, GossipError> {
        self.0.merge(payload)
    }

    fn handle_gossip(
        &mut self,
        _: Instant,
        payload: &[u8],
        _: &mut Outbox,
    ) -> Result<Option<Arc<dyn Data>>, GossipError> {
        self.0.merge(payload)
    }

    fn complete_state(&mut self, _: Instant) -> Option<Arc<dyn Data>> {
        let values = self.0.lock().clone();
        (!values.is_empty()).then(|| Arc::new(Values(values)) as _)
    }

    fn peers_removed(&mut self, _: Instant, peers: &[PeerName], _: &mut Outbox) {
        let mut values = self.0.lock();
        let before = values.len();
        values.retain(|peer, _| !peers.contains(peer));
        if values.len() != before {
            drop(values);
            self.0.changed();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shared(number: u64) -> Shared {
        Shared {
            name: "places".to_owned(),
            own: PeerName::from_u64(number).unwrap(),
            values: Mutex::default(),
            changes: watch::Sender::new(0),
        }
    }

    #[test]
    fn values_spread_once_and_the_newest_wins() {
        let (one, two) = (shared(1), shared(2));
        let old = one.publish(Bytes::from_static(b"1")).encode();
        let new = one.publish(Bytes::from_static(b"2")).encode();
        assert!(two.merge(&new[0]).unwrap().is_some());
        assert!(two.merge(&new[0]).unwrap().is_none(), "it is no news any more");
        assert!(two.merge(&old[0]).unwrap().is_none(), "it is older");
        assert_eq!(two.lock()[&one.own].value, Bytes::from_static(b"2"));
    }

    #[test]
    fn what_a_former_life_said_is_overruled() {
        let (before, after, other) = (shared(1), shared(1), shared(2));
        after.publish(Bytes::from_static(b"new"));
        let told = Versioned { version: u64::MAX - 9, value: Bytes::from_static(b"old") };
        before.lock().insert(before.own, told);
        let old = Values(before.lock().clone()).encode();
        other.merge(&old[0]).unwrap();
        let answer = after.merge(&old[0]).unwrap().unwrap().encode();
        assert!(other.merge(&answer[0]).unwrap().is_some());
        assert_eq!(other.lock()[&before.own].value, Bytes::from_static(b"new"));
    }

    #[test]
    fn room_is_bounded_and_nonsense_refused() {
        let listener = shared(1);
        for number in 2..=u64::try_from(MAX_PEERS).unwrap() + 9 {
            let said = shared(number).publish(Bytes::from_static(b"0")).encode();
            listener.merge(&said[0]).unwrap();
        }
        assert_eq!(listener.lock().len(), MAX_PEERS);
        let messages = Values(listener.lock().clone()).encode();
        assert!(messages.iter().all(|message| message.len() <= MAX_MESSAGE + HEAD + MAX_VALUE));
        for cut in 1..HEAD + 1 {
            assert!(listener.merge(&messages[0][..cut]).is_err(), "{cut} bytes");
        }
        assert!(listener.merge(&[0xff; HEAD + 65_535]).is_err());
    }
}
