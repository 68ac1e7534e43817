use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;
use serde_json::Value;

use super::*;

fn name(number: u64) -> PeerName {
    PeerName::from_u64(number).unwrap()
}

/// Undirected links between peers 1..=size; with the flag, both ends see it established.
fn mesh(size: u64, links: &[(u64, u64, bool)]) -> Arc<Graph> {
    let mut lists: BTreeMap<u64, BTreeMap<u64, bool>> =
        (1..=size).map(|peer| (peer, BTreeMap::new())).collect();
    for &(a, b, established) in links {
        lists.get_mut(&a).unwrap().insert(b, established);
        lists.get_mut(&b).unwrap().insert(a, established);
    }
    Arc::new(Graph::new(lists.into_iter().map(|(from, list)| {
        (name(from), list.into_iter().map(|(to, established)| (name(to), established)))
    })))
}

#[test]
fn tables_equal_the_golden_ones() {
    let vectors: Value =
        serde_json::from_str(include_str!("../../../../tests/vectors/topology.json")).unwrap();
    let text = |value: &Value| value.as_str().unwrap().parse::<PeerName>().unwrap();
    let cases = vectors["routes"].as_array().unwrap();
    assert_eq!(cases.len(), 12);
    for case in cases {
        let mut lists: BTreeMap<PeerName, Vec<(PeerName, bool)>> =
            case["peers"].as_array().unwrap().iter().map(|peer| (text(peer), vec![])).collect();
        for edge in case["edges"].as_array().unwrap() {
            let list = lists.get_mut(&name(edge["from"].as_u64().unwrap())).unwrap();
            let to = name(edge["to"].as_u64().unwrap());
            list.push((to, edge["established"].as_bool().unwrap()));
        }
        let graph = Arc::new(Graph::new(lists));
        for view in case["views"].as_array().unwrap() {
            let routes = Routes::new(graph.clone(), text(&view["peer"]));
            let hops = |key: &str| -> BTreeMap<PeerName, PeerName> {
                let table = view[key].as_object().unwrap();
                table.iter().map(|(to, hop)| (to.parse().unwrap(), text(hop))).collect()
            };
            assert_eq!(routes.unicast_table().collect::<BTreeMap<_, _>>(), hops("unicast"));
            assert_eq!(routes.unicast_all_table().collect::<BTreeMap<_, _>>(), hops("unicast_all"));
            for (to, hop) in hops("unicast") {
                assert_eq!(routes.unicast(to), (hop != PeerName::UNKNOWN).then_some(hop));
            }

            let sets = |key: &str| view[key].as_object().unwrap().clone();
            for (source, set) in sets("broadcast") {
                let set: Vec<PeerName> = set.as_array().unwrap().iter().map(text).collect();
                assert_eq!(routes.broadcast(source.parse().unwrap()), set, "{}", case["name"]);
            }
            for (source, set) in sets("broadcast_all") {
                let set: Vec<PeerName> = set.as_array().unwrap().iter().map(text).collect();
                assert_eq!(routes.broadcast_all(source.parse().unwrap()), set, "{}", case["name"]);
            }
        }
    }
}

#[test]
fn unknown_peers_have_no_routes() {
    let routes = Routes::alone(name(1));
    assert_eq!(routes.unicast(name(2)), None);
    assert_eq!(routes.unicast(name(1)), None);
    assert_eq!(routes.broadcast(name(2)), []);
    assert_eq!(routes.broadcast_all(name(1)), []);
    assert_eq!(routes.random_neighbours(None, &mut Random::new([0; 32])), []);

    let missing = Routes::new(Arc::new(Graph::new([(name(1), [(name(2), true)])])), name(2));
    assert_eq!(missing.unicast(name(1)), None);
    assert_eq!(missing.broadcast(name(1)), []);
}

#[test]
fn routes_are_equal_until_a_link_changes() {
    let routes = |ours: bool, theirs: bool| {
        let lists = [(name(1), [(name(2), ours)]), (name(2), [(name(1), theirs)])];
        Routes::new(Arc::new(Graph::new(lists)), name(1))
    };
    assert_eq!(routes(false, false), routes(true, false), "one end is not enough");
    assert_eq!(routes(true, false).unicast(name(2)), None);
    assert_ne!(routes(true, false), routes(true, true));
    assert_eq!(routes(true, true).unicast(name(2)), Some(name(2)));
}

#[test]
fn gossip_goes_to_twice_the_logarithm_of_neighbours() {
    let star: Vec<_> = (2..=40).map(|leaf| (1, leaf, true)).collect();
    let routes = Routes::new(mesh(40, &star), name(1));
    let mut random = Random::new([3; 32]);
    let mut drawn_ever = BTreeSet::new();
    for _ in 0..200 {
        let drawn = routes.random_neighbours(Some(name(7)), &mut random);
        // log2(40) = 5.32
        assert_eq!(drawn.len(), 10);
        let different: BTreeSet<PeerName> = drawn.iter().copied().collect();
        assert_eq!(different.len(), 10);
        drawn_ever.extend(different);
    }
    assert!(!drawn_ever.contains(&name(7)));
    assert_eq!(drawn_ever.len(), 38);
}

#[test]
fn gossip_prefers_the_way_to_many() {
    // 2 leads to 16 more peers, the 20 others to none.
    let links: Vec<_> = (2..=22)
        .map(|leaf| (1, leaf, true))
        .chain((23..=38).map(|behind| (2, behind, true)))
        .collect();
    let routes = Routes::new(mesh(38, &links), name(1));
    let mut random = Random::new([4; 32]);
    let first = (0..1000)
        .filter(|_| routes.random_neighbours(None, &mut random).first() == Some(&name(2)))
        .count();
    // 17 tickets of 37
    assert!((400..520).contains(&first), "{first}");
}

/// A connected graph: a random tree, and some more links.
fn connected() -> impl Strategy<Value = (u64, Vec<(u64, u64, bool)>)> {
    (2u64..40).prop_flat_map(|size| {
        let tree: Vec<_> = (2..=size).map(|child| (1..child, Just(child), Just(true))).collect();
        let more = proptest::collection::vec((1..=size, 1..=size, any::<bool>()), 0..60);
        (Just(size), tree, more).prop_map(|(size, tree, more)| {
            let links = more.into_iter().filter(|(a, b, _)| a != b);
            // The tree last: its links are established whatever came before.
            (size, links.chain(tree).collect())
        })
    })
}

proptest! {
    #[test]
    fn a_broadcast_reaches_everyone_once((size, links) in connected()) {
        let graph = mesh(size, &links);
        let tables: BTreeMap<PeerName, Routes> =
            (1..=size).map(|own| (name(own), Routes::new(graph.clone(), name(own)))).collect();
        for source in tables.keys() {
            for all in [false, true] {
                let mut received = BTreeMap::from([(*source, 1)]);
                let mut queue = vec![*source];
                while let Some(at) = queue.pop() {
                    let routes = &tables[&at];
                    let set =
                        if all { routes.broadcast_all(*source) } else { routes.broadcast(*source) };
                    for hop in set {
                        *received.entry(*hop).or_insert(0) += 1;
                        prop_assert_eq!(received[hop], 1, "{} receives twice", hop);
                        if !all {
                            let parent = tables[hop].broadcast_parent(*source);
                            prop_assert_eq!(parent, Some(at));
                        }
                        queue.push(*hop);
                    }
                }
                prop_assert_eq!(received.len() as u64, size);
            }
        }
    }

    #[test]
    fn next_hops_lead_there_on_a_shortest_path((size, links) in connected()) {
        let graph = mesh(size, &links);
        let routes: BTreeMap<PeerName, Routes> =
            (1..=size).map(|own| (name(own), Routes::new(graph.clone(), name(own)))).collect();
        let steps = |from: PeerName, to: PeerName| {
            let mut at = from;
            let mut steps = 0;
            while at != to {
                at = routes[&at].unicast(to)?;
                steps += 1;
                if steps > size {
                    return None;
                }
            }
            Some(steps)
        };
        for from in routes.keys() {
            for to in routes.keys() {
                let length = steps(*from, *to);
                prop_assert!(length.is_some(), "{} does not reach {}", from, to);
                // No neighbour is more than one step nearer.
                for next in routes[from].unicast_table().filter(|(to, hop)| to == hop) {
                    prop_assert!(length <= steps(next.0, *to).map(|rest| rest + 1));
                }
            }
        }
    }
}
