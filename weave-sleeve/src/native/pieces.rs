//! A super-frame on its way into datagrams.

use std::num::NonZeroU16;

use super::Form;
use weave_port::offload::Parts;

/// One segment with the headers of the whole.
#[derive(Clone, Copy, Debug)]
pub(crate) struct OutgoingPiece<'f> {
    pub(crate) form: Form,
    headers: &'f [u8],
    segment: &'f [u8],
}

/// The pieces of a super-frame, in order. None if it is not one that pieces can be made of: without
/// a payload, or with headers longer than any sensible ones.
pub(crate) fn pieces(parts: Parts<'_>) -> Option<impl Iterator<Item = OutgoingPiece<'_>>> {
    let Parts { headers, payload, size } = parts;
    let size = NonZeroU16::new(size)?;
    let header_len = u8::try_from(headers.len()).ok()?;
    // The last segment starts before that.
    u16::try_from(payload.len().checked_sub(1)?).ok()?;
    let pieces = payload.chunks(size.get().into()).zip(0_u16..).map(move |(segment, index)| {
        let form = Form::Piece { headers: header_len, size, offset: index * size.get() };
        OutgoingPiece { form, headers, segment }
    });
    Some(pieces)
}

impl OutgoingPiece<'_> {
    /// Length of headers and segment.
    pub(crate) const fn len(&self) -> usize {
        self.headers.len() + self.segment.len()
    }

    /// Writes both to a place of that length.
    pub(crate) fn write(&self, place: &mut [u8]) {
        let (headers, segment) = place.split_at_mut(self.headers.len());
        headers.copy_from_slice(self.headers);
        segment.copy_from_slice(self.segment);
    }
}
