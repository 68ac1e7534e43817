//! Who takes over the addresses of nodes that are gone (spec kube.md, section 6).
//!
//! What is to be done next follows from three things alone: the annotations as they were just read, the
//! nodes, and who we are. So it makes no difference whether this router, or another one, of ours or
//! Weave Net 2.x, ended halfway: whoever looks next goes on.
//!
//! ```text
//!  no lock of X ──▶ write "X: ours" ──▶ ask once more for X's node ──▶ take X over ──▶ one write: X is off
//!       ▲               │ conflict: look again        │ it is back                     the list, and
//!       └───────────────┴── remove the lock ◀─────────┘                                its locks go
//! ```
//!
//! The lock is written before anything is taken, and its node looks for that lock before it starts: so
//! a node that comes back either is seen, or sees that it lost what it had.

use crate::annotations::{Annotations, Listed, Unreadable};
use crate::nodes::Nodes;

/// Who a router is in its cluster.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Identity {
    /// The name of the peer, as annotations have it.
    pub(crate) peer: String,
    /// The name of its node.
    pub(crate) node: String,
}

/// What is to be done next.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum Step {
    /// Nothing, until the nodes or annotations are others.
    Nothing,
    /// A change of the annotations, if they still are what this follows from.
    Write(Change),
    /// We have the lock of this peer: take it over and [finish](Change::Finish), unless its node
    /// is back.
    TakeOver(Listed),
}

/// A change of the annotations.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum Change {
    /// This router is a peer of the cluster.
    Join,
    /// This router reclaims the peer.
    Lock(String),
    /// Nobody reclaims it any more.
    Unlock(String),
    /// The peer was reclaimed: it is off the list, its locks are gone, and so is the one for it.
    Finish(String),
}

impl Change {
    /// Makes it.
    pub(crate) fn apply(
        &self,
        annotations: &mut Annotations,
        own: &Identity,
    ) -> Result<(), Unreadable> {
        match self {
            Self::Join => {
                let mut peers = annotations.peers()?;
                match peers.iter_mut().find(|listed| listed.peer == own.peer) {
                    Some(listed) => listed.node.clone_from(&own.node),
                    None => {
                        peers.push(Listed { peer: own.peer.clone(), node: own.node.clone() });
                    }
                }
                annotations.set_peers(peers);
            }
            Self::Lock(peer) => annotations.lock(peer, &own.peer),
            Self::Unlock(peer) => annotations.unlock(peer),
            Self::Finish(peer) => {
                let mut peers = annotations.peers()?;
                peers.retain(|listed| listed.peer != *peer);
                annotations.set_peers(peers);
                annotations.unlock_all_of(peer);
                annotations.unlock(peer);
            }
        }
        Ok(())
    }
}

/// Whether two routers have one name: another node is listed with the name of this peer, and is
/// there. Returns that node.
pub(crate) fn namesake(peers: &[Listed], nodes: &Nodes, own: &Identity) -> Option<String> {
    let same = peers.iter().find(|listed| listed.peer == own.peer && listed.node != own.node)?;
    nodes.contains(&same.node).then(|| same.node.clone())
}

/// What is next, as things are.
pub(crate) fn next_step(
    annotations: &Annotations,
    nodes: &Nodes,
    own: &Identity,
) -> Result<Step, Unreadable> {
    let peers = annotations.peers()?;
    if !peers.iter().any(|listed| listed.peer == own.peer) {
        return Ok(Step::Write(Change::Join));
    }
    // Who has but a part of the nodes would take from those that are there.
    if !nodes.are_all(&own.node) {
        return Ok(Step::Nothing);
    }
    let is_listed = |peer: &str| peers.iter().any(|listed| listed.peer == peer);
    for (key, holder) in annotations.locks() {
        let of = peers.iter().find(|listed| Annotations::is_key_of(key, &listed.peer));
        let is_left = match of {
            // It came back, and we did not get to it.
            Some(listed) => holder == own.peer && !is_gone(listed, nodes, own),
            // Who reclaimed it ended before the end.
            None => holder == own.peer || !is_listed(holder),
        };
        if is_left {
            return Ok(Step::Write(Change::Unlock(key.to_owned())));
        }
    }
    let gone = || peers.iter().filter(|listed| is_gone(listed, nodes, own));
    let locked = |listed: &&Listed| annotations.lock_of(&listed.peer) == Some(own.peer.as_str());
    if let Some(listed) = gone().find(locked) {
        return Ok(Step::TakeOver(listed.clone()));
    }
    let free = |listed: &&Listed| !annotations.lock_of(&listed.peer).is_some_and(is_listed);
    Ok(match gone().find(free) {
        Some(listed) => Step::Write(Change::Lock(listed.peer.clone())),
        None => Step::Nothing,
    })
}

/// Whether a peer is not there any more: its node is gone, or is ours and has another peer now.
fn is_gone(listed: &Listed, nodes: &Nodes, own: &Identity) -> bool {
    let was_ours = listed.node == own.node;
    listed.peer != own.peer && (was_ours || !nodes.contains(&listed.node))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::nodes::tests::object;

    fn identity(number: u32) -> Identity {
        Identity { peer: peer(number), node: format!("node-{number}") }
    }

    fn peer(number: u32) -> String {
        format!("00:00:00:00:00:{number:02x}")
    }

    fn nodes(numbers: &[u32]) -> Nodes {
        Nodes::all(numbers.iter().map(|number| object(&format!("node-{number}"), &[])))
    }

    fn listed(numbers: &[u32]) -> Annotations {
        let mut annotations = Annotations::default();
        let listed = |number: &u32| {
            let Identity { peer, node } = identity(*number);
            Listed { peer, node }
        };
        annotations.set_peers(numbers.iter().map(listed).collect());
        annotations
    }

    /// Does all there is to do, as one router alone; returns whom it took over.
    fn run(annotations: &mut Annotations, nodes: &Nodes, own: &Identity) -> Vec<String> {
        let mut taken = Vec::new();
        for _ in 0..100 {
            match next_step(annotations, nodes, own).unwrap() {
                Step::Nothing => return taken,
                Step::Write(change) => change.apply(annotations, own).unwrap(),
                Step::TakeOver(listed) => {
                    taken.push(listed.peer.clone());
                    Change::Finish(listed.peer).apply(annotations, own).unwrap();
                }
            }
        }
        panic!("it goes on for ever: {annotations:?}");
    }

    #[test]
    fn a_router_joins_the_list_and_reclaims_what_is_gone() {
        let mut annotations = listed(&[2, 3, 4]);
        let taken = run(&mut annotations, &nodes(&[1, 3]), &identity(1));
        assert_eq!(taken, [peer(2), peer(4)]);
        assert_eq!(annotations, listed(&[3, 1]));
    }

    #[test]
    fn nothing_is_taken_by_a_part_of_the_nodes() {
        let annotations = listed(&[1, 2]);
        for part in [Nodes::default(), nodes(&[3]), nodes(&[])] {
            assert_eq!(next_step(&annotations, &part, &identity(1)), Ok(Step::Nothing));
        }
        let step = next_step(&annotations, &nodes(&[1]), &identity(1));
        assert_eq!(step, Ok(Step::Write(Change::Lock(peer(2)))));
    }

    #[test]
    fn a_lock_of_a_listed_peer_is_respected() {
        let mut annotations = listed(&[1, 2, 3]);
        annotations.lock(&peer(3), &peer(2));
        assert_eq!(next_step(&annotations, &nodes(&[1, 2]), &identity(1)), Ok(Step::Nothing));
        let step = next_step(&annotations, &nodes(&[1, 2]), &identity(2));
        let gone = Listed { peer: peer(3), node: "node-3".to_owned() };
        assert_eq!(step, Ok(Step::TakeOver(gone)));
    }

    #[test]
    fn a_lock_of_a_peer_that_is_gone_for_good_is_taken_over() {
        let mut annotations = listed(&[1, 3]);
        annotations.lock(&peer(3), &peer(9));
        let step = next_step(&annotations, &nodes(&[1]), &identity(1));
        assert_eq!(step, Ok(Step::Write(Change::Lock(peer(3)))));
        // It is still listed, but its node is gone too: it goes first, and its locks with it.
        let mut annotations = listed(&[1, 2, 3]);
        annotations.lock(&peer(3), &peer(2));
        assert_eq!(run(&mut annotations, &nodes(&[1]), &identity(1)), [peer(2), peer(3)]);
        assert_eq!(annotations, listed(&[1]));
    }

    #[test]
    fn a_node_that_came_back_keeps_what_it_has() {
        let mut annotations = listed(&[1, 2]);
        annotations.lock(&peer(2), &peer(1));
        let taken = run(&mut annotations, &nodes(&[1, 2]), &identity(1));
        assert_eq!((taken, annotations), (vec![], listed(&[1, 2])));
    }

    #[test]
    fn our_former_name_is_reclaimed() {
        let mut annotations = listed(&[1]);
        let own = Identity { peer: peer(9), node: "node-1".to_owned() };
        assert_eq!(run(&mut annotations, &nodes(&[1]), &own), [peer(1)]);
        let expected = vec![Listed { peer: peer(9), node: "node-1".to_owned() }];
        assert_eq!(annotations.peers(), Ok(expected));
    }

    #[test]
    fn leftovers_of_locks_go() {
        let mut annotations = listed(&[1, 2]);
        annotations.lock(&peer(8), &peer(1));
        annotations.lock(&peer(9), &peer(7));
        annotations.lock(&peer(6), &peer(2));
        assert_eq!(run(&mut annotations, &nodes(&[1, 2]), &identity(1)), Vec::<String>::new());
        let mut expected = listed(&[1, 2]);
        // Its holder may be at it.
        expected.lock(&peer(6), &peer(2));
        assert_eq!(annotations, expected);
    }

    #[test]
    fn a_finish_keeps_what_others_wrote() {
        let mut annotations = listed(&[1, 2, 3]);
        annotations.0.insert("else".to_owned(), peer(2));
        annotations.set_seeds("10.32.0.0/12", vec![peer(2)]).unwrap();
        annotations.lock(&peer(2), &peer(1));
        annotations.lock(&peer(3), &peer(2));
        Change::Finish(peer(2)).apply(&mut annotations, &identity(1)).unwrap();
        assert_eq!(annotations.0["else"], peer(2));
        assert_eq!(annotations.seeds("10.32.0.0/12"), Ok(Some(vec![peer(2)])));
        assert_eq!(annotations.locks().count(), 0);
        assert_eq!(annotations.peers().unwrap().len(), 2);
    }

    #[test]
    fn namesakes_are_on_two_nodes_that_are_there() {
        let peers = listed(&[1]).peers().unwrap();
        let twin = Identity { peer: peer(1), node: "node-2".to_owned() };
        assert_eq!(namesake(&peers, &nodes(&[1, 2]), &twin), Some("node-1".to_owned()));
        // The node was given another name.
        assert_eq!(namesake(&peers, &nodes(&[2]), &twin), None);
        assert_eq!(namesake(&peers, &nodes(&[1, 2]), &identity(1)), None);
    }

    /// What Weave Net 2.x does with the annotations, in its own order, a write at a time.
    mod old {
        use super::*;

        type Write = Box<dyn Fn(&mut Annotations)>;

        /// Everything one old router writes to reclaim a peer, from the lock on.
        pub(super) fn reclaim(peer: &str, by: &str) -> Vec<Write> {
            let (peer, by) = (peer.to_owned(), by.to_owned());
            let (lock, locks, list, end) = (peer.clone(), peer.clone(), peer.clone(), peer);
            vec![
                Box::new(move |annotations| annotations.lock(&lock, &by)),
                Box::new(move |annotations| annotations.0.retain(|_, value| *value != locks)),
                Box::new(move |annotations| {
                    let mut peers = annotations.peers().unwrap();
                    peers.retain(|listed| listed.peer != list);
                    annotations.set_peers(peers);
                }),
                Box::new(move |annotations| annotations.unlock(&end)),
            ]
        }
    }

    #[test]
    fn an_old_router_that_ends_anywhere_is_followed_up() {
        for done in 0..=4 {
            let mut annotations = listed(&[1, 2, 3]);
            for write in old::reclaim(&peer(3), &peer(2)).iter().take(done) {
                write(&mut annotations);
            }
            // As long as it is there, nobody disturbs it.
            let before = annotations.clone();
            let taken = run(&mut annotations, &nodes(&[1, 2]), &identity(1));
            match done {
                0 => assert_eq!(taken, [peer(3)]),
                _ => assert_eq!((taken, &annotations), (vec![], &before), "{done}"),
            }
            // Its node goes, too.
            let taken = run(&mut annotations, &nodes(&[1]), &identity(1));
            let expected = if (1..=2).contains(&done) { 2 } else { 1 };
            assert_eq!(taken.len(), expected, "{done}: {taken:?}");
            assert_eq!(annotations, listed(&[1]), "{done}");
        }
    }

    #[test]
    fn of_two_routers_one_gets_each_peer() {
        // Both read, then both write in either order; the second write is a conflict.
        for first in [1, 2] {
            let mut annotations = listed(&[1, 2, 3]);
            let (winner, loser) = (identity(first), identity(3 - first));
            let there = nodes(&[1, 2]);
            let (one, other) = (
                next_step(&annotations, &there, &winner).unwrap(),
                next_step(&annotations, &there, &loser).unwrap(),
            );
            assert_eq!(one, other);
            let Step::Write(change) = one else { panic!("{one:?}") };
            change.apply(&mut annotations, &winner).unwrap();
            assert_eq!(next_step(&annotations, &there, &loser), Ok(Step::Nothing));
            assert_eq!(run(&mut annotations, &there, &winner), [peer(3)]);
            assert_eq!(annotations, listed(&[1, 2]));
        }
    }
}
