//! The layout of pages (bolt: `page.go`, `bucket.go`).
//!
//! ```text
//!   header:          | id u64 | flags u16 | count u16 | overflow u32 |
//!   branch element:  | pos u32 | key size u32 | page u64 |
//!   leaf element:    | flags u32 | pos u32 | key size u32 | value size u32 |
//!   bucket:          | root u64 | sequence u64 |  and, if root is 0, a leaf page inline
//! ```
//!
//! `pos` counts from the start of its element; a value lies behind its key.

use crate::error::Fault;

pub(crate) const HEADER_LEN: usize = 16;
pub(crate) const ELEMENT_LEN: usize = 16;
pub(crate) const BUCKET_LEN: usize = 16;

pub(crate) const BRANCH: u16 = 0x01;
pub(crate) const LEAF: u16 = 0x02;
pub(crate) const META: u16 = 0x04;
pub(crate) const FREELIST: u16 = 0x10;

/// Of a leaf element whose value is a bucket.
pub(crate) const IS_BUCKET: u32 = 0x01;

/// Reads a little-endian number; `None` beyond the end.
pub(crate) fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
    bytes.get(at..)?.first_chunk().map(|bytes| u16::from_le_bytes(*bytes))
}

/// Reads a little-endian number; `None` beyond the end.
pub(crate) fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    bytes.get(at..)?.first_chunk().map(|bytes| u32::from_le_bytes(*bytes))
}

/// Reads a little-endian number; `None` beyond the end.
pub(crate) fn u64_at(bytes: &[u8], at: usize) -> Option<u64> {
    bytes.get(at..)?.first_chunk().map(|bytes| u64::from_le_bytes(*bytes))
}

/// The start of each page.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Header {
    pub(crate) id: u64,
    pub(crate) flags: u16,
    pub(crate) count: u16,
    /// How many pages more belong to this one.
    pub(crate) overflow: u32,
}

impl Header {
    pub(crate) fn parse(page: &[u8]) -> Option<Self> {
        Some(Self {
            id: u64_at(page, 0)?,
            flags: u16_at(page, 8)?,
            count: u16_at(page, 10)?,
            overflow: u32_at(page, 12)?,
        })
    }

    pub(crate) fn emit(self, to: &mut Vec<u8>) {
        to.extend(self.id.to_le_bytes());
        to.extend(self.flags.to_le_bytes());
        to.extend(self.count.to_le_bytes());
        to.extend(self.overflow.to_le_bytes());
    }
}

/// An element of a leaf.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct LeafElement<'a> {
    pub(crate) is_bucket: bool,
    pub(crate) key: &'a [u8],
    pub(crate) value: &'a [u8],
}

/// The elements of a page.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Elements<'a> {
    page: &'a [u8],
    count: u16,
}

impl<'a> Elements<'a> {
    /// Of a page that is a branch or a leaf.
    pub(crate) fn of(page: &'a [u8], header: Header) -> Result<Self, Fault> {
        let count = header.count;
        if HEADER_LEN + usize::from(count) * ELEMENT_LEN > page.len() {
            return Err(Fault::Count { count });
        }
        Ok(Self { page, count })
    }

    pub(crate) fn leaf(self) -> impl Iterator<Item = (u16, Result<LeafElement<'a>, Fault>)> {
        (0..self.count).map(move |element| (element, self.leaf_element(element)))
    }

    /// The pages that a branch leads to. Its keys are not needed to walk through all of it.
    pub(crate) fn branch(self) -> impl Iterator<Item = Result<u64, Fault>> {
        (0..self.count).map(move |element| {
            u64_at(self.page, Self::offset(element) + 8).ok_or(Fault::Bounds { element })
        })
    }

    fn leaf_element(self, element: u16) -> Result<LeafElement<'a>, Fault> {
        let outside = Fault::Bounds { element };
        let offset = Self::offset(element);
        let field = |at| u32_at(self.page, offset + at).ok_or(outside);
        let size = |at| field(at).map(|size| usize::try_from(size).unwrap_or(usize::MAX));
        let flags = field(0)?;
        if flags & !IS_BUCKET != 0 {
            return Err(Fault::ElementFlags { element, flags });
        }
        let (pos, key_size, value_size) = (size(4)?, size(8)?, size(12)?);
        // Key and value lie behind the elements.
        let data = offset.checked_add(pos).filter(|data| *data >= Self::offset(self.count));
        let rest = data.and_then(|data| self.page.get(data..)).ok_or(outside)?;
        let (key, rest) = rest.split_at_checked(key_size).ok_or(outside)?;
        let value = rest.get(..value_size).ok_or(outside)?;
        Ok(LeafElement { is_bucket: flags == IS_BUCKET, key, value })
    }

    fn offset(element: u16) -> usize {
        HEADER_LEN + usize::from(element) * ELEMENT_LEN
    }
}
