//! From the bytes of a file to what it holds.

use crate::bucket::{Bucket, Value};
use crate::error::{Error, Fault};
use crate::meta::Meta;
use crate::page::{BRANCH, BUCKET_LEN, Elements, Header, LEAF, LeafElement, u64_at};
use crate::{MAX_DEPTH, MAX_ENTRIES, MAX_FILE, MAX_NESTING};

/// What a file holds, as its newest transaction left it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Database<'a> {
    /// The number of that transaction. Each one that changes anything has a higher one.
    pub transaction: u64,
    /// The buckets of the file.
    pub root: Bucket<'a>,
}

impl<'a> Database<'a> {
    /// Reads a whole file.
    ///
    /// # Errors
    /// It is no file of bolt, or not in order.
    pub fn decode(file: &'a [u8]) -> Result<Self, Error> {
        let length = file.len();
        if length > MAX_FILE {
            return Err(Error::TooLarge { length });
        }
        let meta = Meta::newest(file)?;
        let wanted = meta.high_water.saturating_mul(meta.page_size.into());
        if wanted > length as u64 {
            return Err(Error::Meta(Fault::Truncated { wanted, length }));
        }
        let page_size = usize::try_from(meta.page_size).unwrap_or(usize::MAX);
        // No more than there are pages in the file.
        let pages = usize::try_from(meta.high_water).unwrap_or(0);
        let mut walk = Walk { file, page_size, used: vec![false; pages], entries: 0 };
        // The meta pages belong to nobody.
        walk.used.iter_mut().take(2).for_each(|used| *used = true);
        let mut root = Bucket::default();
        walk.tree(meta.root, &mut root, 0, 0)?;
        Ok(Self { transaction: meta.transaction, root })
    }
}

/// Returns the number of the newest transaction of a file, of which the first 128 KiB are enough.
///
/// # Errors
/// It is no file of bolt, or its meta pages are damaged.
pub fn newest_transaction(file: &[u8]) -> Result<u64, Error> {
    Meta::newest(file).map(|meta| meta.transaction)
}

struct Walk<'a> {
    file: &'a [u8],
    page_size: usize,
    /// Pages that some place led to.
    used: Vec<bool>,
    entries: usize,
}

impl<'a> Walk<'a> {
    /// Takes the keys of a page and of all below it.
    fn tree(
        &mut self,
        page: u64,
        bucket: &mut Bucket<'a>,
        depth: usize,
        nesting: usize,
    ) -> Result<(), Error> {
        let at = |fault| Error::Page { page, fault };
        if depth >= MAX_DEPTH {
            return Err(at(Fault::Depth));
        }
        let (header, bytes) = self.page(page).map_err(at)?;
        let elements = Elements::of(bytes, header).map_err(at)?;
        match header.flags {
            LEAF => self.leaf(page, elements, bucket, nesting),
            BRANCH if header.count == 0 => Err(at(Fault::EmptyBranch)),
            BRANCH => elements
                .branch()
                .try_for_each(|child| self.tree(child.map_err(at)?, bucket, depth + 1, nesting)),
            flags => Err(at(Fault::Kind(flags))),
        }
    }

    /// A page with its overflow, for the first and only time.
    fn page(&mut self, id: u64) -> Result<(Header, &'a [u8]), Fault> {
        let last = (self.used.len() as u64).saturating_sub(1);
        let beyond = Fault::BeyondLast { last };
        let index = usize::try_from(id).ok().filter(|index| *index < self.used.len());
        let index = index.ok_or(beyond)?;
        let rest = self.file.get(index * self.page_size..).ok_or(beyond)?;
        let header = Header::parse(rest).ok_or(beyond)?;
        if header.id != id {
            return Err(Fault::Number(header.id));
        }
        let pages = usize::try_from(header.overflow).ok().and_then(|more| more.checked_add(1));
        let end = pages.and_then(|pages| index.checked_add(pages)).ok_or(beyond)?;
        for used in self.used.get_mut(index..end).ok_or(beyond)? {
            if std::mem::replace(used, true) {
                return Err(Fault::UsedTwice);
            }
        }
        let bytes = rest.get(..(end - index) * self.page_size).ok_or(beyond)?;
        Ok((header, bytes))
    }

    fn leaf(
        &mut self,
        page: u64,
        elements: Elements<'a>,
        bucket: &mut Bucket<'a>,
        nesting: usize,
    ) -> Result<(), Error> {
        let at = |fault| Error::Page { page, fault };
        for (number, element) in elements.leaf() {
            let LeafElement { is_bucket, key, value } = element.map_err(at)?;
            if bucket.last_key().is_some_and(|last| last >= key) {
                return Err(at(Fault::Order { element: number }));
            }
            self.entries += 1;
            if self.entries > MAX_ENTRIES {
                return Err(at(Fault::Entries));
            }
            let value = if is_bucket {
                let cut = at(Fault::BucketHeader { element: number });
                Value::Bucket(self.bucket(page, value, nesting + 1, cut)?)
            } else {
                Value::Bytes(value)
            };
            bucket.insert(key, value);
        }
        Ok(())
    }

    /// A bucket that stands as a value on `page`: with pages of its own, or small and inline.
    fn bucket(
        &mut self,
        page: u64,
        value: &'a [u8],
        nesting: usize,
        cut: Error,
    ) -> Result<Bucket<'a>, Error> {
        let at = |fault| Error::Page { page, fault };
        if nesting > MAX_NESTING {
            return Err(at(Fault::Nesting));
        }
        let root = u64_at(value, 0).ok_or(cut.clone())?;
        let inline = value.get(BUCKET_LEN..).ok_or(cut.clone())?;
        let mut bucket = Bucket::default();
        if root != 0 {
            self.tree(root, &mut bucket, 0, nesting)?;
            return Ok(bucket);
        }
        let header = Header::parse(inline).ok_or(cut)?;
        if header.flags != LEAF {
            return Err(at(Fault::Kind(header.flags)));
        }
        let elements = Elements::of(inline, header).map_err(at)?;
        self.leaf(page, elements, &mut bucket, nesting)?;
        Ok(bucket)
    }
}

#[cfg(test)]
mod tests;
