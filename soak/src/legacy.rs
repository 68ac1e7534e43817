//! An honest router as Weave Net 2.x sees it, and is seen: without the features that are new
//! between our own routers.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use weave_core::mesh::{ConnectionId, Features, PeerName, Unicast};
use weave_core::sim::{HostId, Net, Tap};

use crate::framing::{Framing, Piece};

/// Takes the new features out of both directions.
#[derive(Clone)]
pub struct Legacy {
    own: PeerName,
    state: Arc<Mutex<State>>,
}

#[derive(Default)]
struct State {
    connections: BTreeMap<ConnectionId, [Framing; 2]>,
    /// Unicasts that go back to where they came from.
    echoes: Vec<(ConnectionId, Bytes)>,
}

const FEATURES: [&str; 3] = ["Gossip", "Notice", "Unicast"];

const UNICAST: u8 = 5;
const OUTGOING: usize = 0;
const INCOMING: usize = 1;

impl Legacy {
    /// For the router of this name.
    pub fn new(own: PeerName) -> Self {
        Self { own, state: Arc::default() }
    }

    /// Passes on unicasts to where they came from, if that is where they go. The original does, a
    /// tenth of a second after they came, and our routers ask it so whether it is still there.
    pub fn echo(&self, net: &mut Net, host: HostId) {
        let echoes = std::mem::take(&mut self.lock().echoes);
        for (id, bytes) in echoes {
            net.inject(host, id, bytes);
        }
    }

    fn pass(&self, id: ConnectionId, direction: usize, bytes: &[u8]) -> Vec<Bytes> {
        let mut state = self.lock();
        let State { connections, echoes } = &mut *state;
        let pieces = connections.entry(id).or_default()[direction].push(bytes);
        let pass = |piece| {
            let bytes = without_new_features(piece).encode();
            if direction == INCOMING && self.goes_back(&bytes) {
                echoes.push((id, bytes.clone()));
            }
            bytes
        };
        pieces.into_iter().map(pass).collect()
    }

    fn goes_back(&self, frame: &[u8]) -> bool {
        let payload = frame.get(4..).and_then(|message| message.split_first());
        let Some((&UNICAST, payload)) = payload else { return false };
        let unicast = Unicast::decode(payload);
        unicast.is_ok_and(|unicast| {
            unicast.source == unicast.destination && unicast.destination != self.own
        })
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn without_new_features(piece: Piece) -> Piece {
    let Piece::Features(message) = &piece else { return piece };
    let Ok(mut features) = Features::decode(message) else { return piece };
    FEATURES.iter().for_each(|key| drop(features.further.remove(*key)));
    Piece::Features(features.encode())
}

impl Tap for Legacy {
    fn restarted(&mut self) {
        *self.lock() = State::default();
    }

    fn outgoing(&mut self, id: ConnectionId, bytes: Bytes) -> Vec<Bytes> {
        self.pass(id, OUTGOING, &bytes)
    }

    fn incoming(&mut self, id: ConnectionId, bytes: Bytes) -> Bytes {
        self.pass(id, INCOMING, &bytes).concat().into()
    }
}
