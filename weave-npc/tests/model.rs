//! The model against an evaluator of its own kind, over random clusters and their histories.
#![expect(clippy::unwrap_used, reason = "what fails here fails its test")]

mod common;

use common::dice::Dice;
use common::oracle;
use common::world::{World, packet};
use weave_npc::{Cluster, Direction};

/// Histories that are told, each in four parts with questions after each.
const HISTORIES: u64 = 1_000;
/// With two directions each, 200,000 answers are compared.
const QUESTIONS: u64 = 100;

#[test]
fn the_model_says_what_the_objects_say() {
    let mut denied = 0;
    for seed in 0..HISTORIES {
        let mut dice = Dice::new(seed);
        let (mut world, mut cluster) = (World::default(), Cluster::default());
        for _ in 0..4 {
            for _ in 0..9 {
                world.step(&mut dice, &mut cluster);
            }
            for _ in 0..QUESTIONS / 4 {
                let packet = packet(&mut dice);
                for direction in Direction::ALL {
                    let expected = match direction {
                        Direction::Ingress => "Ingress",
                        Direction::Egress => "Egress",
                    };
                    let expected = oracle::direction_passes(&world, &packet, expected);
                    let verdict = cluster.judge(direction, &packet);
                    assert_eq!(
                        verdict.is_allowed(),
                        expected,
                        "seed {seed}, {direction} of {packet:?}: {verdict:?}"
                    );
                    denied += u64::from(!expected);
                }
            }
        }
    }
    // A world in which everything is allowed would prove nothing.
    assert!(denied > HISTORIES, "{denied}");
}
