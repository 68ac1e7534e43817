//! Splitting of super-frames, which the datapath does not accept from user space.

use weave_core::switch::Frame;
use weave_port::offload::Segments;

/// Reasons why a frame cannot be split.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum SplitError {
    /// The frame is too long and may not be split, or its segments are too long.
    TooLong,
    /// The headers of the frame contradict its description.
    Malformed,
}

/// Splits a frame, which may be a super-frame or lack its checksum, into frames as they are on a
/// wire, of at most `longest` bytes, and passes each to `each`.
pub(super) fn split(
    frame: Frame<'_>,
    longest: usize,
    buffer: &mut Vec<u8>,
    mut each: impl FnMut(&[u8]),
) -> Result<(), SplitError> {
    let segments = Segments::new(frame).map_err(|_| SplitError::Malformed)?.limited_to(longest);
    if segments.longest() > longest {
        return Err(SplitError::TooLong);
    }
    for index in 0..segments.count() {
        buffer.resize(segments.frame_len(index), 0);
        segments.write(index, buffer);
        each(buffer);
    }
    Ok(())
}
