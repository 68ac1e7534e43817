//! Replay protection: each datagram counts once (spec sleeve.md, section 4).
//!
//! The sequence numbers of a channel are divided into windows of 2^20. The window of the highest
//! number seen and the one before it are remembered bit by bit; older numbers are rejected. Only
//! authentic datagrams get here, so that an attacker cannot move the window.

/// Numbers per window.
const WINDOW: u64 = 1 << 20;

const WORDS: usize = (WINDOW / 64) as usize;

type Bits = Box<[u64; WORDS]>;

/// The replay state of both channels of a link, used by the receiving thread.
#[derive(Debug, Default)]
pub struct Windows {
    pub(crate) unfragmented: Window,
    pub(crate) fragmentable: Window,
}

/// The replay state of one channel: 128 KiB once it is used, and as much again once it has moved.
#[derive(Debug, Default)]
pub struct Window {
    current: u64,
    this: Option<Bits>,
    previous: Option<Bits>,
}

impl Window {
    /// Returns whether this number comes for the first time, as far as is known.
    pub fn admit(&mut self, sequence: u64) -> bool {
        let window = sequence / WINDOW;
        let bits = if window == self.current {
            &mut self.this
        } else if window + 1 == self.current {
            &mut self.previous
        } else if window < self.current {
            return false;
        } else {
            if window == self.current + 1 {
                std::mem::swap(&mut self.this, &mut self.previous);
            } else if let Some(bits) = &mut self.previous {
                bits.fill(0);
            }
            if let Some(bits) = &mut self.this {
                bits.fill(0);
            }
            self.current = window;
            &mut self.this
        };
        let bits = bits.get_or_insert_with(empty);
        let (word, bit) = ((sequence % WINDOW / 64) as usize, 1 << (sequence % 64));
        let first = bits[word] & bit == 0;
        bits[word] |= bit;
        first
    }
}

fn empty() -> Bits {
    // Allocated zeroed on the heap, without 128 KiB on the stack.
    vec![0; WORDS].into_boxed_slice().try_into().expect("made with this length")
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    /// The rules as the specification states them.
    #[derive(Default)]
    struct Model {
        current: u64,
        this: BTreeSet<u64>,
        previous: BTreeSet<u64>,
    }

    impl Model {
        fn admit(&mut self, sequence: u64) -> bool {
            let (window, offset) = (sequence >> 20, sequence % WINDOW);
            match i128::from(window) - i128::from(self.current) {
                ..-1 => return false,
                -1 => return self.previous.insert(offset),
                0 => {}
                1 => {
                    self.previous = std::mem::take(&mut self.this);
                    self.current = window;
                }
                2.. => {
                    self.previous.clear();
                    self.this.clear();
                    self.current = window;
                }
            }
            self.this.insert(offset)
        }
    }

    #[test]
    fn sequences_of_the_reference() {
        let vectors: serde_json::Value =
            serde_json::from_str(include_str!("../../tests/vectors/sleeve.json")).unwrap();
        for case in vectors["replay"].as_array().unwrap() {
            let mut windows = Windows::default();
            for step in case["steps"].as_array().unwrap() {
                let window = if step["df"].as_bool().unwrap() {
                    &mut windows.unfragmented
                } else {
                    &mut windows.fragmentable
                };
                let sequence = step["seq"].as_str().unwrap().parse().unwrap();
                let accepted = step["accepted"].as_bool().unwrap();
                assert_eq!(window.admit(sequence), accepted, "{}: {step}", case["name"]);
            }
        }
    }

    proptest! {
        // Each case clears some megabytes.
        #![proptest_config(ProptestConfig::with_cases(32))]

        #[test]
        fn agrees_with_the_rules(
            moves in prop::collection::vec((0_u64..6, 0_u64..8), 1..200),
            high in 0_u64..1 << 42,
        ) {
            let (mut window, mut model) = (Window::default(), Model::default());
            for (step, (ahead, offset)) in moves.into_iter().enumerate() {
                let base = if step % 3 == 0 { high } else { high.saturating_sub(2) };
                let sequence = (base + ahead) * WINDOW + offset;
                prop_assert_eq!(window.admit(sequence), model.admit(sequence), "{}", sequence);
            }
        }
    }
}
