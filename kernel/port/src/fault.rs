//! A port that loses, repeats, reorders and damages frames, for tests.

use std::io;
use std::os::fd::BorrowedFd;
use std::sync::Arc;

use weave_core::switch::{ChecksumRequest, Frame, Inject, Segmentation};

use crate::{Capture, More, Offloads, Port, PortCounters};

/// The rate of each fault, in frames per thousand, and the seed that decides when they happen.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Faults {
    /// Rate at which frames are lost.
    pub drop: u32,
    /// Rate at which frames arrive twice.
    pub duplicate: u32,
    /// Rate at which frames arrive after their successor.
    pub reorder: u32,
    /// Rate at which one byte of a frame is changed.
    pub corrupt: u32,
    /// Rate at which frames lose their end.
    pub truncate: u32,
    /// The same seed causes the same faults for the same frames.
    pub seed: u64,
}

/// A port that injects faults in both directions.
#[derive(Debug)]
pub struct FaultyPort<P> {
    inner: P,
    faults: Faults,
}

impl<P: Port> FaultyPort<P> {
    /// Wraps a port.
    pub const fn new(inner: P, faults: Faults) -> Self {
        Self { inner, faults }
    }
}

impl<P: Port> Port for FaultyPort<P> {
    fn queues(&self) -> usize {
        self.inner.queues()
    }

    fn capture(&mut self) -> io::Result<Box<dyn Capture>> {
        let inner = self.inner.capture()?;
        Ok(Box::new(FaultyCapture { inner, injector: FaultInjector::new(self.faults) }))
    }

    fn injector(&self) -> io::Result<Box<dyn Inject + Send>> {
        let inner = self.inner.injector()?;
        let faults = Faults { seed: !self.faults.seed, ..self.faults };
        Ok(Box::new(FaultyInjector { inner, injector: FaultInjector::new(faults) }))
    }

    fn offloads(&self) -> Offloads {
        self.inner.offloads()
    }

    fn counters(&self) -> Arc<PortCounters> {
        self.inner.counters()
    }
}

struct FaultyCapture {
    inner: Box<dyn Capture>,
    injector: FaultInjector,
}

impl Capture for FaultyCapture {
    fn readiness(&self) -> BorrowedFd<'_> {
        self.inner.readiness()
    }

    fn capture(&mut self, each: &mut dyn FnMut(Frame<'_>)) -> io::Result<More> {
        let injector = &mut self.injector;
        self.inner.capture(&mut |frame| injector.pass(frame, each))
    }
}

struct FaultyInjector {
    inner: Box<dyn Inject + Send>,
    injector: FaultInjector,
}

impl Inject for FaultyInjector {
    fn inject(&mut self, frame: Frame<'_>) {
        let inner = &mut self.inner;
        self.injector.pass(frame, &mut |frame| inner.inject(frame));
    }

    fn flush(&mut self) {
        self.inner.flush();
    }
}

/// Decides what happens to each frame of one direction.
struct FaultInjector {
    faults: Faults,
    state: u64,
    held: Option<HeldFrame>,
}

/// A copy of a frame that is held back.
struct HeldFrame {
    bytes: Vec<u8>,
    checksum: Option<ChecksumRequest>,
    segmentation: Option<Segmentation>,
}

impl HeldFrame {
    fn frame(&self) -> Frame<'_> {
        Frame { bytes: &self.bytes, checksum: self.checksum, segmentation: self.segmentation }
    }
}

impl FaultInjector {
    const fn new(faults: Faults) -> Self {
        Self { faults, state: faults.seed, held: None }
    }

    fn pass(&mut self, frame: Frame<'_>, each: &mut dyn FnMut(Frame<'_>)) {
        let Faults { drop, duplicate, reorder, corrupt, truncate, .. } = self.faults;
        if self.happens(drop) {
            return;
        }
        let Frame { bytes, checksum, segmentation } = frame;
        let mut frame = HeldFrame { bytes: bytes.to_vec(), checksum, segmentation };
        if self.happens(corrupt)
            && let Some(byte) = {
                let place = self.below(bytes.len());
                frame.bytes.get_mut(place)
            }
        {
            *byte ^= 0x55;
        }
        if self.happens(truncate) {
            frame.bytes.truncate(self.below(bytes.len()));
        }
        if self.held.is_none() && self.happens(reorder) {
            self.held = Some(frame);
            return;
        }
        each(frame.frame());
        if self.happens(duplicate) {
            each(frame.frame());
        }
        if let Some(held) = self.held.take() {
            each(held.frame());
        }
    }

    fn happens(&mut self, of_a_thousand: u32) -> bool {
        self.below(1000) < of_a_thousand as usize
    }

    fn below(&mut self, limit: usize) -> usize {
        // SplitMix64.
        self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.state;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^= z >> 31;
        usize::try_from(z % limit.max(1) as u64).unwrap_or(0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn passed(faults: Faults, count: u32) -> Vec<Vec<u8>> {
        let mut injector = FaultInjector::new(faults);
        let mut passed = Vec::new();
        for number in 0..count {
            let bytes = number.to_be_bytes();
            let frame = Frame::plain(&bytes);
            injector.pass(frame, &mut |frame| passed.push(frame.bytes.to_vec()));
        }
        passed
    }

    #[test]
    fn without_faults_nothing_happens() {
        let all: Vec<_> = (0..100_u32).map(|n| n.to_be_bytes().to_vec()).collect();
        assert_eq!(passed(Faults::default(), 100), all);
    }

    #[test]
    fn faults_follow_rate_and_seed() {
        let faults = Faults { drop: 100, duplicate: 50, seed: 7, ..Faults::default() };
        let once = passed(faults, 10_000);
        assert!((9200..9700).contains(&once.len()), "{}", once.len());
        assert_eq!(once, passed(faults, 10_000));
        assert_ne!(once, passed(Faults { seed: 8, ..faults }, 10_000));
    }

    #[test]
    fn reordering_loses_nothing_but_the_last() {
        let mut reordered = passed(Faults { reorder: 300, ..Faults::default() }, 1000);
        assert!(!reordered.is_sorted());
        reordered.sort();
        assert!(reordered.len() >= 999);
        reordered.dedup();
        assert!(reordered.len() >= 999);
    }

    #[test]
    fn frames_are_damaged() {
        let faults = Faults { corrupt: 1000, truncate: 500, ..Faults::default() };
        let damaged = passed(faults, 100);
        assert!(damaged.iter().any(|frame| frame.len() < 4));
        let intact = |(n, frame): (u32, &Vec<u8>)| frame[..] == n.to_be_bytes();
        assert!(!(0..).zip(&damaged).any(intact));
    }
}
