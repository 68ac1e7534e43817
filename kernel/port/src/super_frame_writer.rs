//! Writing to a device: frames are coalesced to super-frames, unless the kernel turns out not to
//! accept them.

use std::io;
use std::sync::Arc;

use weave_core::switch::{Frame, SegmentationKind};

use crate::PortCounters;
use crate::offload::{Coalescer, Segments, SuperFrameKinds};

/// Coalesces the frames of a batch. Each thread has its own.
#[derive(Debug)]
pub(crate) struct SuperFrameWriter {
    coalescer: Coalescer<()>,
    counters: Arc<PortCounters>,
    /// Buffer for a frame cut from a refused super-frame.
    segment: Vec<u8>,
}

impl SuperFrameWriter {
    pub(crate) fn new(counters: Arc<PortCounters>) -> Self {
        let coalescer = Coalescer::new(SuperFrameKinds { tcp: true, udp: true });
        Self { coalescer, counters, segment: Vec::new() }
    }

    /// Accepts a frame and passes to `write` what cannot wait. The callback counts the frames
    /// written; failures are counted here.
    pub(crate) fn inject(
        &mut self,
        frame: Frame<'_>,
        write: &mut impl FnMut(Frame<'_>) -> io::Result<()>,
    ) {
        let Self { coalescer, counters, segment } = self;
        let mut refused = None;
        let mut each = |(), frame: Frame<'_>| {
            refused = refused.or(write_or_segment(frame, counters, segment, write));
        };
        coalescer.push((), frame, &mut each);
        self.disable(refused);
    }

    /// Passes all remaining frames to `write`.
    pub(crate) fn flush(&mut self, write: &mut impl FnMut(Frame<'_>) -> io::Result<()>) {
        let Self { coalescer, counters, segment } = self;
        let mut refused = None;
        coalescer.flush(&mut |(), frame| {
            refused = refused.or(write_or_segment(frame, counters, segment, write));
        });
        self.disable(refused);
    }

    fn disable(&mut self, refused: Option<SegmentationKind>) {
        if let Some(kind) = refused {
            tracing::info!(?kind, "the kernel refuses such super-frames: writing frame by frame");
            self.coalescer.disable(kind);
        }
    }
}

/// Writes a frame. If the kernel refuses a super-frame, its segments are written instead and its
/// kind is returned. (Some kernels know no UDP super-frames, and one refused those whose last
/// segment was shorter.)
fn write_or_segment(
    frame: Frame<'_>,
    counters: &PortCounters,
    segment: &mut Vec<u8>,
    write: &mut impl FnMut(Frame<'_>) -> io::Result<()>,
) -> Option<SegmentationKind> {
    let error = match write(frame) {
        Ok(()) => return None,
        Err(error) => error,
    };
    let segmentation = frame.segmentation.filter(|_| error.raw_os_error() == Some(libc::EINVAL));
    let (Some(segmentation), Ok(segments)) = (segmentation, Segments::new(frame)) else {
        counters.inject_errors.add(1);
        return None;
    };
    for index in 0..segments.count() {
        segment.resize(segments.frame_len(index), 0);
        segments.write(index, segment);
        if write(Frame::plain(segment)).is_err() {
            counters.inject_errors.add(1);
        }
    }
    Some(segmentation.kind)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::offload::sample::super_frame;

    /// A kernel that accepts all super-frames or none.
    struct Kernel {
        modern: bool,
        written: Vec<(usize, bool)>,
        refused: usize,
    }

    impl Kernel {
        fn write(&mut self, frame: Frame<'_>) -> io::Result<()> {
            let joined = frame.segmentation.is_some();
            if joined && !self.modern {
                self.refused += 1;
                return Err(io::Error::from_raw_os_error(libc::EINVAL));
            }
            self.written.push((frame.bytes.len(), joined));
            Ok(())
        }
    }

    fn inject(kernel: &mut Kernel, super_frames: &mut SuperFrameWriter, times: usize) {
        let whole = super_frame(3000, 1000);
        let segments = Segments::new(whole.frame()).unwrap();
        for _ in 0..times {
            for index in 0..segments.count() {
                let mut frame = vec![0; segments.frame_len(index)];
                segments.write(index, &mut frame);
                super_frames.inject(Frame::plain(&frame), &mut |frame| kernel.write(frame));
            }
            super_frames.flush(&mut |frame| kernel.write(frame));
        }
    }

    #[test]
    fn a_batch_is_one_super_frame() {
        let mut kernel = Kernel { modern: true, written: Vec::new(), refused: 0 };
        inject(&mut kernel, &mut SuperFrameWriter::new(Arc::default()), 2);
        let length = super_frame(3000, 1000).bytes.len();
        assert_eq!(kernel.written, [(length, true); 2]);
    }

    #[test]
    fn refused_super_frames_are_segmented_and_not_retried() {
        let mut kernel = Kernel { modern: false, written: Vec::new(), refused: 0 };
        inject(&mut kernel, &mut SuperFrameWriter::new(Arc::default()), 2);
        let length = super_frame(3000, 1000).bytes.len() - 2000;
        assert_eq!(kernel.written, [(length, false); 6]);
        assert_eq!(kernel.refused, 1);
    }

    #[test]
    fn super_frames_overtake_nothing() {
        let mut kernel = Kernel { modern: true, written: Vec::new(), refused: 0 };
        let mut super_frames = SuperFrameWriter::new(Arc::default());
        let whole = super_frame(3000, 1000);
        let first = super_frame(700, 1000);
        let plain = Segments::new(first.frame()).unwrap();
        let mut frame = vec![0; plain.frame_len(0)];
        plain.write(0, &mut frame);
        super_frames.inject(Frame::plain(&frame), &mut |frame| kernel.write(frame));
        super_frames.inject(whole.frame(), &mut |frame| kernel.write(frame));
        assert_eq!(kernel.written, [(frame.len(), false), (whole.bytes.len(), true)]);
    }
}
