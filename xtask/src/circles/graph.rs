//! Circles among modules that stand beside each other.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use super::tree::{Name, Tree};

/// Modules of which each leads to each other one.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Circle {
    /// The module they stand in.
    parent: Name,
    members: Vec<String>,
}

impl fmt::Display for Circle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let parent = if self.parent.is_empty() { "crate" } else { &self.parent.join("::") };
        write!(f, "in {parent}: {}", self.members.join(", "))
    }
}

/// All circles of a crate.
pub fn circles(tree: &Tree) -> Vec<Circle> {
    let mut rooms: BTreeMap<Name, Edges> = BTreeMap::new();
    for (from, to) in tree.imports() {
        let common = from.iter().zip(&to).take_while(|(a, b)| a == b).count();
        if let (Some(a), Some(b)) = (from.get(common), to.get(common)) {
            let edges = rooms.entry(from[..common].to_vec()).or_default();
            edges.entry(a.clone()).or_default().insert(b.clone());
        }
    }
    let circles = rooms.iter().flat_map(|(parent, edges)| {
        let groups: BTreeSet<Vec<String>> =
            edges.keys().map(|start| group(edges, start)).filter(|group| group.len() > 1).collect();
        groups.into_iter().map(|members| Circle { parent: parent.clone(), members })
    });
    circles.collect()
}

/// Whom each module names.
type Edges = BTreeMap<String, BTreeSet<String>>;

/// The modules that `start` leads to and that lead back to it, `start` included.
fn group(edges: &Edges, start: &str) -> Vec<String> {
    let ahead = reached(edges, start);
    ahead.iter().filter(|name| reached(edges, name).contains(start)).cloned().collect()
}

fn reached(edges: &Edges, start: &str) -> BTreeSet<String> {
    let mut seen = BTreeSet::new();
    let mut waiting = vec![start];
    while let Some(name) = waiting.pop() {
        if seen.insert(name.to_owned()) {
            waiting.extend(edges.get(name).into_iter().flatten().map(String::as_str));
        }
    }
    seen
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_group_is_what_leads_back() {
        let edges: Edges = [("a", "b"), ("b", "c"), ("c", "b"), ("c", "d")].into_iter().fold(
            Edges::new(),
            |mut edges, (from, to)| {
                edges.entry(from.to_owned()).or_default().insert(to.to_owned());
                edges
            },
        );
        assert_eq!(group(&edges, "a"), ["a"]);
        assert_eq!(group(&edges, "b"), ["b", "c"]);
        assert_eq!(group(&edges, "d"), ["d"]);
    }
}
