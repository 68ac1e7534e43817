//! The compiled rules against the model, judged by an interpreter of nftables, over random clusters
//! and their histories.
#![expect(clippy::unwrap_used, reason = "what fails here fails its test")]

mod common;

use std::net::IpAddr;

use common::dice::Dice;
use common::nft::Kernel;
use common::world::{NODES, World, packet};
use weave_npc::nft::{self, Options};
use weave_npc::{Cluster, Compiler, Ruleset, compile};

const HISTORIES: u64 = 100;
const STEPS: u64 = 24;
const QUESTIONS: u64 = 8;

/// A node with the table that it has.
struct Node {
    name: &'static str,
    address: IpAddr,
    ruleset: Ruleset,
    kernel: Kernel,
    /// Goes on from the last time; it has a cluster of its own, as there is one for each node.
    compiler: Compiler,
    cluster: Cluster,
}

impl Node {
    fn all() -> [Self; 2] {
        let mut number = 0;
        NODES.map(|name| {
            number += 1;
            let address = format!("10.0.0.{number}").parse().unwrap();
            let (ruleset, mut kernel) = (Ruleset::default(), Kernel::default());
            kernel.run(&nft::table(&ruleset, Options::default()).script().unwrap());
            let (compiler, cluster) = (Compiler::new(name), Cluster::default());
            Self { name, address, ruleset, kernel, compiler, cluster }
        })
    }

    /// Goes on to what the cluster is now, by a batch; the table would be the same if it were made
    /// anew.
    fn update(&mut self, cluster: &Cluster) {
        let ruleset = compile(cluster, self.name);
        let continued = self.compiler.compile(&mut self.cluster);
        assert_eq!(continued, ruleset, "going on led to other rules");
        self.kernel.run(&nft::change(&self.ruleset, &ruleset).script().unwrap());
        self.ruleset = ruleset;
        let mut anew = Kernel::default();
        anew.run(&nft::table(&self.ruleset, Options::default()).script().unwrap());
        assert_eq!(self.kernel, anew, "a batch led to another table");
    }
}

#[test]
fn the_rules_do_what_the_model_says() {
    let mut denied = 0;
    for seed in 0..HISTORIES {
        let mut dice = Dice::new(seed);
        let (mut world, mut cluster) = (World::default(), Cluster::default());
        let mut nodes = Node::all();
        for _ in 0..STEPS {
            // Changes come one by one, and in crowds.
            for _ in 0..1 + dice.below(2) * 3 {
                let change = world.step(&mut dice, &mut cluster);
                for node in &mut nodes {
                    node.cluster.handle_change(change.clone());
                }
            }
            nodes.iter_mut().for_each(|node| node.update(&cluster));
            for _ in 0..QUESTIONS {
                let packet = packet(&mut dice);
                let expected = cluster.passes(&packet);
                // It is judged where it leaves and where it arrives.
                let found = nodes.iter().all(|node| node.kernel.passes(&packet, &[node.address]));
                assert_eq!(found, expected, "seed {seed}: {packet:?}");
                denied += u64::from(!expected);
            }
        }
    }
    assert!(denied > HISTORIES, "{denied}");
}

#[test]
fn nothing_to_do_is_an_empty_batch() {
    let mut dice = Dice::new(7);
    let (mut world, mut cluster) = (World::default(), Cluster::default());
    for _ in 0..40 {
        world.step(&mut dice, &mut cluster);
        let ruleset = compile(&cluster, NODES[0]);
        assert!(nft::change(&ruleset, &ruleset).is_empty());
    }
}
