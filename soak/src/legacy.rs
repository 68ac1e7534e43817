//! An honest router as Weave Net 2.x sees it, and is seen: without the features that are new
//! between our own routers.

use std::collections::BTreeMap;

use bytes::Bytes;
use weave_core::mesh::{ConnectionId, Features};
use weave_core::sim::Tap;

use crate::framing::{Framing, Piece};

/// Takes the new features out of both directions.
#[derive(Default)]
pub struct Legacy {
    connections: BTreeMap<ConnectionId, [Framing; 2]>,
}

const FEATURES: [&str; 2] = ["Gossip", "Notice"];

impl Legacy {
    fn pass(&mut self, id: ConnectionId, direction: usize, bytes: &[u8]) -> Vec<Bytes> {
        let directions = self.connections.entry(id).or_default();
        let pieces = directions[direction].push(bytes);
        pieces.into_iter().map(|piece| without_new_features(piece).encode()).collect()
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
        self.connections.clear();
    }

    fn outgoing(&mut self, id: ConnectionId, bytes: Bytes) -> Vec<Bytes> {
        self.pass(id, 0, &bytes)
    }

    fn incoming(&mut self, id: ConnectionId, bytes: Bytes) -> Bytes {
        self.pass(id, 1, &bytes).concat().into()
    }
}
