//! Before the router of a node starts: is what it has stored still its own, and who divides the
//! addresses first?
//!
//! A node whose addresses were reclaimed must forget them, or it would give out what others have. A
//! node without a division of the range must not make a second one beside that of the cluster. Both
//! follow from the annotations, the nodes, and what is stored.
//!
//! The division is decided by the first router that writes its name into the annotations: it divides
//! the range, that is, it has all of it, and gives others their parts when they ask. Where peers were
//! listed before that, which Weave Net 2.x divides the range among by vote, the router takes part in
//! that vote, as one of all nodes.

use crate::annotations::{Annotations, Unreadable};
use crate::nodes::Nodes;
use crate::reclaim::{Change, Identity, namesake};

/// What a router knows of itself before it starts.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Past {
    /// Whether it has a division of the range.
    pub(crate) has_ring: bool,
    /// What it remembers of having been listed.
    pub(crate) listed: Listing,
}

/// What is stored of a router's place in the list of peers.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum Listing {
    /// It never was in a list.
    Never,
    /// It was, says the state of Weave Net 2.x, which does not tell in which.
    Once,
    /// It was in the list of the ConfigMap with this uid.
    In(String),
}

/// The ConfigMap when the router starts.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Map<'a> {
    pub(crate) uid: &'a str,
    /// Whether it was made before this router started.
    pub(crate) is_older: bool,
    pub(crate) annotations: &'a Annotations,
}

/// How the router starts.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Start {
    /// Whether what is stored of addresses is to be forgotten.
    pub(crate) forget: bool,
    /// Where the first division of the range comes from.
    pub(crate) division: Division,
}

/// Where the first division of the range comes from.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum Division {
    /// It is stored.
    Stored,
    /// These peers share the range.
    Seed(Vec<String>),
    /// This one has all of it, once that is written down.
    Claim,
    /// So many routers vote.
    Vote(usize),
    /// Others have it, and tell it.
    Observe,
}

/// What keeps a router from starting.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub(crate) enum Obstacle {
    #[error(transparent)]
    Unreadable(#[from] Unreadable),
    #[error(
        "node {other} has the same peer name {peer} as this node, {node}: both machines have the same \
         ids, as copies of one disk do; give this machine an id of its own (remove /etc/machine-id \
         and run systemd-machine-id-setup), or name its peer with --name in EXTRA_ARGS"
    )]
    Namesake { peer: String, node: String, other: String },
    /// Somebody is about to reclaim it, and is waited for.
    #[error("peer {by} is reclaiming the addresses this node had: waiting until that is done")]
    BeingReclaimed { by: String },
}

/// How a router is to start.
pub(crate) fn start(
    map: Map<'_>,
    nodes: &Nodes,
    own: &Identity,
    range: &str,
    past: &Past,
) -> Result<Start, Obstacle> {
    let Map { annotations, .. } = map;
    let peers = annotations.peers()?;
    if let Some(other) = namesake(&peers, nodes, own) {
        let Identity { peer, node } = own.clone();
        return Err(Obstacle::Namesake { peer, node, other });
    }
    let is_listed = |peer: &str| peers.iter().any(|listed| listed.peer == peer);
    if let Some(by) = annotations.lock_of(&own.peer).filter(|by| *by != own.peer && is_listed(by)) {
        return Err(Obstacle::BeingReclaimed { by: by.to_owned() });
    }
    let others: Vec<_> = peers
        .iter()
        .filter(|listed| listed.peer != own.peer && listed.node != own.node)
        .filter(|listed| nodes.contains(&listed.node))
        .collect();
    let was_reclaimed = !is_listed(&own.peer)
        && match &past.listed {
            Listing::Never => false,
            // Another ConfigMap does not know whom the one before had.
            Listing::In(uid) => uid == map.uid,
            Listing::Once => map.is_older && !others.is_empty(),
        };
    if past.has_ring && !was_reclaimed {
        return Ok(Start { forget: false, division: Division::Stored });
    }
    let division = match annotations.seeds(range)? {
        // It had the range, and lost what it knew of it: the others know more.
        Some(seeds) if seeds.contains(&own.peer) && !others.is_empty() => Division::Observe,
        Some(seeds) => Division::Seed(seeds),
        None if others.is_empty() => Division::Claim,
        None => Division::Vote(nodes.len()),
    };
    Ok(Start { forget: was_reclaimed, division })
}

/// Lists the router, and writes down that it divides the range if that is how it starts.
pub(crate) fn join(
    annotations: &mut Annotations,
    own: &Identity,
    range: &str,
    division: &Division,
) -> Result<(), Unreadable> {
    Change::Join.apply(annotations, own)?;
    if *division == Division::Claim {
        annotations.set_seeds(range, vec![own.peer.clone()])?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::annotations::Listed;
    use crate::nodes::tests::object;

    const RANGE: &str = "10.32.0.0/12";
    const NEW: Past = Past { has_ring: false, listed: Listing::Never };

    fn identity(name: &str) -> Identity {
        Identity { peer: format!("peer-{name}"), node: format!("node-{name}") }
    }

    fn nodes(names: &[&str]) -> Nodes {
        Nodes::all(names.iter().map(|name| object(&format!("node-{name}"), &[])))
    }

    fn listed(names: &[&str]) -> Annotations {
        let mut annotations = Annotations::default();
        let of = |name: &&str| {
            let Identity { peer, node } = identity(name);
            Listed { peer, node }
        };
        annotations.set_peers(names.iter().map(of).collect());
        annotations
    }

    fn start_of(
        annotations: &Annotations,
        there: &[&str],
        name: &str,
        past: &Past,
    ) -> Result<Start, Obstacle> {
        let map = Map { uid: "u1", is_older: true, annotations };
        start(map, &nodes(there), &identity(name), RANGE, past)
    }

    fn division(annotations: &Annotations, there: &[&str], name: &str, past: &Past) -> Division {
        start_of(annotations, there, name, past).unwrap().division
    }

    fn ring(listed: Listing) -> Past {
        Past { has_ring: true, listed }
    }

    #[test]
    fn the_first_one_divides_and_the_others_follow() {
        let mut annotations = Annotations::default();
        let there = ["a", "b", "c"];
        assert_eq!(division(&annotations, &there, "a", &NEW), Division::Claim);
        // All of them see that, and one of them writes first.
        join(&mut annotations, &identity("b"), RANGE, &Division::Claim).unwrap();
        let seed = Division::Seed(vec!["peer-b".to_owned()]);
        assert_eq!(division(&annotations, &there, "a", &NEW), seed);
        join(&mut annotations, &identity("a"), RANGE, &seed).unwrap();
        assert_eq!(division(&annotations, &there, "c", &NEW), seed);
        assert_eq!(annotations.peers().unwrap().len(), 2);
    }

    #[test]
    fn one_that_divided_and_ended_before_it_stored_that_asks_the_others() {
        let mut annotations = Annotations::default();
        join(&mut annotations, &identity("a"), RANGE, &Division::Claim).unwrap();
        let own = Division::Seed(vec!["peer-a".to_owned()]);
        assert_eq!(division(&annotations, &["a", "b"], "a", &NEW), own);
        join(&mut annotations, &identity("b"), RANGE, &own).unwrap();
        assert_eq!(division(&annotations, &["a", "b"], "a", &NEW), Division::Observe);
        // Unless they are gone.
        assert_eq!(division(&annotations, &["a"], "a", &NEW), own);
    }

    #[test]
    fn where_old_routers_vote_all_nodes_count() {
        let annotations = listed(&["old"]);
        assert_eq!(division(&annotations, &["old", "a", "b"], "a", &NEW), Division::Vote(3));
        // They are gone, and what they decided with them.
        assert_eq!(division(&annotations, &["a", "b"], "a", &NEW), Division::Claim);
    }

    #[test]
    fn another_range_is_divided_anew() {
        let mut annotations = Annotations::default();
        annotations.set_seeds("10.0.0.0/16", vec!["peer-x".to_owned()]).unwrap();
        assert_eq!(division(&annotations, &["a"], "a", &NEW), Division::Claim);
    }

    #[test]
    fn what_is_stored_is_kept_by_who_is_listed() {
        for listing in [Listing::Never, Listing::Once, Listing::In("u1".to_owned())] {
            let start = start_of(&listed(&["a", "b"]), &["a", "b"], "a", &ring(listing)).unwrap();
            assert_eq!(start, Start { forget: false, division: Division::Stored });
        }
    }

    #[test]
    fn who_was_reclaimed_forgets() {
        let annotations = listed(&["b"]);
        for listing in [Listing::Once, Listing::In("u1".to_owned())] {
            let start = start_of(&annotations, &["a", "b"], "a", &ring(listing)).unwrap();
            assert_eq!(start, Start { forget: true, division: Division::Vote(2) });
        }
        let start = start_of(&annotations, &["a", "b"], "a", &ring(Listing::Never)).unwrap();
        assert!(!start.forget);
    }

    #[test]
    fn nobody_forgets_for_want_of_a_list() {
        // The ConfigMap was removed and made anew, by us or by another.
        let annotations = listed(&["b"]);
        let past = ring(Listing::In("u0".to_owned()));
        assert!(!start_of(&annotations, &["a", "b"], "a", &past).unwrap().forget);
        let once = ring(Listing::Once);
        assert!(!start_of(&Annotations::default(), &["a", "b"], "a", &once).unwrap().forget);
        let map = Map { uid: "u1", is_older: false, annotations: &annotations };
        let start = start(map, &nodes(&["a", "b"]), &identity("a"), RANGE, &once).unwrap();
        assert!(!start.forget);
    }

    #[test]
    fn a_lock_on_us_is_waited_for() {
        let mut annotations = listed(&["a", "b"]);
        annotations.lock("peer-a", "peer-b");
        let obstacle = start_of(&annotations, &["a", "b"], "a", &NEW).unwrap_err();
        assert_eq!(obstacle, Obstacle::BeingReclaimed { by: "peer-b".to_owned() });
        annotations.lock("peer-a", "peer-gone");
        assert!(start_of(&annotations, &["a", "b"], "a", &NEW).is_ok());
    }

    #[test]
    fn namesakes_are_told_apart_by_their_nodes() {
        let annotations = listed(&["a"]);
        let twin = Identity { peer: "peer-a".to_owned(), node: "node-b".to_owned() };
        let map = Map { uid: "u1", is_older: true, annotations: &annotations };
        let error = start(map, &nodes(&["a", "b"]), &twin, RANGE, &NEW).unwrap_err().to_string();
        assert!(
            error.starts_with("node node-a has the same peer name peer-a as this node, node-b")
        );
        let renamed = start(map, &nodes(&["b"]), &twin, RANGE, &ring(Listing::Once)).unwrap();
        assert_eq!(renamed.division, Division::Stored);
    }
}
