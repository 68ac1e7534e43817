//! Splits a super-frame into the segments that datagrams carry.

use std::num::NonZeroU16;

use weave_port::offload::Parts;

use super::Form;

/// One segment with the headers of the whole.
#[derive(Clone, Copy, Debug)]
pub(crate) struct OutgoingSegment<'f> {
    pub(crate) form: Form,
    headers: &'f [u8],
    payload: &'f [u8],
}

/// Returns the segments of a super-frame in order, or `None` if it has no payload or headers of an
/// absurd length.
pub(crate) fn segments(parts: Parts<'_>) -> Option<impl Iterator<Item = OutgoingSegment<'_>>> {
    let Parts { headers, payload, size } = parts;
    let size = NonZeroU16::new(size)?;
    let header_len = u8::try_from(headers.len()).ok()?;
    // The last segment starts before the end.
    u16::try_from(payload.len().checked_sub(1)?).ok()?;
    let segments = payload.chunks(size.get().into()).zip(0_u16..).map(move |(payload, index)| {
        let form = Form::Segment { headers: header_len, size, offset: index * size.get() };
        OutgoingSegment { form, headers, payload }
    });
    Some(segments)
}

impl OutgoingSegment<'_> {
    /// Returns the length of headers and segment.
    pub(crate) const fn len(&self) -> usize {
        self.headers.len() + self.payload.len()
    }

    /// Writes both to a place of that length.
    pub(crate) fn write(&self, place: &mut [u8]) {
        let (headers, payload) = place.split_at_mut(self.headers.len());
        headers.copy_from_slice(self.headers);
        payload.copy_from_slice(self.payload);
    }
}
