//! The two meta pages (bolt: `db.go`, `type meta`).

use crate::error::{Error, Fault};
use crate::page::{HEADER_LEN, Header, META, u32_at, u64_at};

const MAGIC: u32 = 0xED0C_DAED;
const VERSION: u32 = 2;
/// Without its checksum.
const SUMMED_LEN: usize = 56;
/// Sizes of pages: that of the machine's memory, which is 4 to 64 KiB, unless bbolt was told
/// otherwise.
const PAGE_SIZES: std::ops::RangeInclusive<u32> = 512..=65536;

/// Where to find the rest, as one transaction left it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Meta {
    pub(crate) page_size: u32,
    /// The page that the root bucket starts with.
    pub(crate) root: u64,
    pub(crate) freelist: u64,
    /// One more than the last page.
    pub(crate) high_water: u64,
    pub(crate) transaction: u64,
}

impl Meta {
    /// The newer one of those that are in order. The second one lies at the size of a page, which
    /// the first one may be too damaged to tell.
    pub(crate) fn newest(file: &[u8]) -> Result<Self, Error> {
        let first = Self::parse(file);
        let sizes = (PAGE_SIZES.start().ilog2()..=PAGE_SIZES.end().ilog2()).map(|bits| 1 << bits);
        let second = sizes.filter_map(|size: u32| {
            let meta = Self::parse(file.get(usize::try_from(size).ok()?..)?).ok()?;
            (meta.page_size == size).then_some(meta)
        });
        let found = first.iter().copied().chain(second);
        match (found.max_by_key(|meta| meta.transaction), first) {
            (Some(meta), _) => Ok(meta),
            (None, Err(error)) => Err(error),
            (None, Ok(_)) => unreachable!("the first one is among those found"),
        }
    }

    fn parse(page: &[u8]) -> Result<Self, Error> {
        let header = Header::parse(page).filter(|header| header.flags & META != 0);
        let meta = header.and_then(|_| page.get(HEADER_LEN..)).ok_or(Error::Foreign)?;
        match u32_at(meta, 0) {
            Some(MAGIC) => {}
            Some(magic) if magic.swap_bytes() == MAGIC => return Err(Error::ByteOrder),
            _ => return Err(Error::Foreign),
        }
        let cut = Error::Meta(Fault::Truncated { wanted: 2 * 512, length: page.len() });
        let (u32, u64) =
            (|at| u32_at(meta, at).ok_or(cut.clone()), |at| u64_at(meta, at).ok_or(cut.clone()));
        let version = u32(4)?;
        if version != VERSION {
            return Err(Error::Version(version));
        }
        let summed = meta.get(..SUMMED_LEN).ok_or(cut.clone())?;
        if u64(SUMMED_LEN)? != fnv1a(summed) {
            return Err(Error::Meta(Fault::Checksum));
        }
        let page_size = u32(8)?;
        if !page_size.is_power_of_two() || !PAGE_SIZES.contains(&page_size) {
            return Err(Error::Meta(Fault::PageSize(page_size)));
        }
        Ok(Self {
            page_size,
            root: u64(16)?,
            freelist: u64(32)?,
            high_water: u64(40)?,
            transaction: u64(48)?,
        })
    }

    /// Appends what follows the header of its page.
    pub(crate) fn emit(&self, to: &mut Vec<u8>) {
        let start = to.len();
        to.extend(MAGIC.to_le_bytes());
        to.extend(VERSION.to_le_bytes());
        to.extend(self.page_size.to_le_bytes());
        to.extend(0u32.to_le_bytes());
        to.extend(self.root.to_le_bytes());
        to.extend(0u64.to_le_bytes());
        to.extend(self.freelist.to_le_bytes());
        to.extend(self.high_water.to_le_bytes());
        to.extend(self.transaction.to_le_bytes());
        let sum = fnv1a(to.get(start..).unwrap_or_default());
        to.extend(sum.to_le_bytes());
    }
}

/// FNV-1a of 64 bits (draft-eastlake-fnv).
fn fnv1a(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_checksum_is_that_of_the_draft() {
        assert_eq!(fnv1a(b""), 0xcbf2_9ce4_8422_2325);
        assert_eq!(fnv1a(b"a"), 0xaf63_dc4c_8601_ec8c);
        assert_eq!(fnv1a(b"foobar"), 0x8594_4171_f739_67e8);
    }
}
