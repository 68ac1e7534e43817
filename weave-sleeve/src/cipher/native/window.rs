//! The counters seen of an epoch (RFC 6479): a ring of blocks of 64 bits, of which the block ahead
//! is cleared when a counter reaches it.

/// Memory of one epoch: 8 KiB, or 65 ms at a million datagrams a second.
const BLOCKS: u32 = 1024;

/// The counters seen of one epoch.
#[derive(Debug)]
pub(super) struct Window {
    /// The block of the highest counter.
    top: u32,
    blocks: Box<[u64; BLOCKS as usize]>,
}

impl Default for Window {
    fn default() -> Self {
        Self { top: 0, blocks: Box::new([0; BLOCKS as usize]) }
    }
}

impl Window {
    /// Returns whether this counter came before, or is too old to tell.
    pub(super) fn knows(&self, counter: u32) -> bool {
        let block = counter / 64;
        if block > self.top {
            false
        } else if self.top - block >= BLOCKS {
            true
        } else {
            self.blocks[place(block)] & bit(counter) != 0
        }
    }

    /// Marks a counter as seen. It must not be [known](Self::knows) already.
    pub(super) fn mark(&mut self, counter: u32) {
        let block = counter / 64;
        if block > self.top {
            let passed = (block - self.top).min(BLOCKS);
            for emptied in block + 1 - passed..=block {
                self.blocks[place(emptied)] = 0;
            }
            self.top = block;
        }
        self.blocks[place(block)] |= bit(counter);
    }

    /// Forgets all counters.
    pub(super) fn clear(&mut self) {
        self.top = 0;
        self.blocks.fill(0);
    }
}

const fn place(block: u32) -> usize {
    (block % BLOCKS) as usize
}

const fn bit(counter: u32) -> u64 {
    1 << (counter % 64)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    /// All counters seen; the rule decides what is too old.
    #[derive(Default)]
    struct Model(BTreeSet<u32>);

    impl Model {
        fn admit(&mut self, counter: u32) -> bool {
            let top = self.0.last().map_or(0, |top| top / 64);
            counter / 64 + BLOCKS > top && self.0.insert(counter)
        }
    }

    fn admit(window: &mut Window, counter: u32) -> bool {
        let first = !window.knows(counter);
        if first {
            window.mark(counter);
        }
        first
    }

    #[test]
    fn the_ends_of_the_range_count_once() {
        let mut window = Window::default();
        for counter in [0, u32::MAX] {
            assert!(admit(&mut window, counter));
            assert!(!admit(&mut window, counter));
        }
        assert!(!admit(&mut window, 1), "too old");
        window.clear();
        assert!(admit(&mut window, 1));
    }

    proptest! {
        #[test]
        fn agrees_with_a_set(
            moves in prop::collection::vec((0_u32..4, 0_u32..BLOCKS + 3, 0_u32..3), 1..400),
            start in 0_u32..1 << 23,
        ) {
            let (mut window, mut model) = (Window::default(), Model::default());
            let mut base = start;
            for (step, back, offset) in moves {
                // Forward by a block, by some, or past the whole window; then back from there.
                base += [0, 64, 700, 64 * BLOCKS][step as usize];
                let counter = base.saturating_sub(back * 64) + offset;
                prop_assert_eq!(admit(&mut window, counter), model.admit(counter), "{}", counter);
            }
        }
    }
}
