//! What both kinds of device do with frames on their way in: join them, and do without what the
//! kernel turns out not to take.

use std::io;
use std::sync::Arc;

use weave_core::switch::{Frame, SegmentationKind};

use crate::PortCounters;
use crate::offload::{Coalescer, Joins, Segments};

/// Joins the frames of a batch to super-frames. One for each thread.
#[derive(Debug)]
pub(crate) struct Joiner {
    coalescer: Coalescer<()>,
    counters: Arc<PortCounters>,
    /// A frame that was cut out of a super-frame again.
    segment: Vec<u8>,
}

impl Joiner {
    pub(crate) fn new(counters: Arc<PortCounters>) -> Self {
        let coalescer = Coalescer::new(Joins { tcp: true, udp: true });
        Self { coalescer, counters, segment: Vec::new() }
    }

    /// Takes a frame; gives to `write` what cannot wait. Who writes counts what is written, and
    /// this side what is not.
    pub(crate) fn inject(
        &mut self,
        frame: Frame<'_>,
        write: &mut impl FnMut(Frame<'_>) -> io::Result<()>,
    ) {
        let Self { coalescer, counters, segment } = self;
        let mut refused = None;
        let mut each = |(), frame: Frame<'_>| {
            refused = refused.or(write_or_cut(frame, counters, segment, write));
        };
        coalescer.push((), frame, &mut each);
        self.do_without(refused);
    }

    /// Gives to `write` all that is left.
    pub(crate) fn flush(&mut self, write: &mut impl FnMut(Frame<'_>) -> io::Result<()>) {
        let Self { coalescer, counters, segment } = self;
        let mut refused = None;
        coalescer.flush(&mut |(), frame| {
            refused = refused.or(write_or_cut(frame, counters, segment, write));
        });
        self.do_without(refused);
    }

    fn do_without(&mut self, refused: Option<SegmentationKind>) {
        if let Some(kind) = refused {
            tracing::info!(?kind, "the kernel takes no such super-frames: writing frame by frame");
            self.coalescer.do_without(kind);
        }
    }
}

/// Writes a frame. A super-frame that the kernel does not understand is cut, and its kind
/// returned. (There are kernels that know no super-frames of UDP, and one that refused those
/// whose last segment was shorter.)
fn write_or_cut(
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

    /// A kernel that takes no super-frames, or all.
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

    fn inject(kernel: &mut Kernel, joiner: &mut Joiner, times: usize) {
        let whole = super_frame(3000, 1000);
        let segments = Segments::new(whole.frame()).unwrap();
        for _ in 0..times {
            for index in 0..segments.count() {
                let mut frame = vec![0; segments.frame_len(index)];
                segments.write(index, &mut frame);
                joiner.inject(Frame::plain(&frame), &mut |frame| kernel.write(frame));
            }
            joiner.flush(&mut |frame| kernel.write(frame));
        }
    }

    #[test]
    fn a_batch_is_one_super_frame() {
        let mut kernel = Kernel { modern: true, written: Vec::new(), refused: 0 };
        inject(&mut kernel, &mut Joiner::new(Arc::default()), 2);
        let length = super_frame(3000, 1000).bytes.len();
        assert_eq!(kernel.written, [(length, true); 2]);
    }

    #[test]
    fn what_the_kernel_refuses_is_cut_and_not_tried_again() {
        let mut kernel = Kernel { modern: false, written: Vec::new(), refused: 0 };
        inject(&mut kernel, &mut Joiner::new(Arc::default()), 2);
        let length = super_frame(3000, 1000).bytes.len() - 2000;
        assert_eq!(kernel.written, [(length, false); 6]);
        assert_eq!(kernel.refused, 1);
    }

    #[test]
    fn what_has_marks_overtakes_nothing() {
        let mut kernel = Kernel { modern: true, written: Vec::new(), refused: 0 };
        let mut joiner = Joiner::new(Arc::default());
        let whole = super_frame(3000, 1000);
        let first = super_frame(700, 1000);
        let plain = Segments::new(first.frame()).unwrap();
        let mut frame = vec![0; plain.frame_len(0)];
        plain.write(0, &mut frame);
        joiner.inject(Frame::plain(&frame), &mut |frame| kernel.write(frame));
        joiner.inject(whole.frame(), &mut |frame| kernel.write(frame));
        assert_eq!(kernel.written, [(frame.len(), false), (whole.bytes.len(), true)]);
    }
}
