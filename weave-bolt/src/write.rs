//! A new file.
//!
//! Each bucket is one leaf page with as much overflow as it takes, which bolt splits when it next
//! writes there; the list of free pages is empty.

use crate::bucket::{Bucket, Value};
use crate::error::EncodeError;
use crate::meta::Meta;
use crate::page::{BUCKET_LEN, ELEMENT_LEN, FREELIST, HEADER_LEN, Header, IS_BUCKET, LEAF, META};
use crate::{MAX_FILE, MAX_NESTING};

/// That of most machines. Others take the one that the file says.
const PAGE: u32 = 4096;
const PAGE_SIZE: usize = PAGE as usize;
const FREELIST_PAGE: u64 = 2;
/// The longest key that bolt takes (`bolt.MaxKeySize`).
const MAX_KEY: usize = 32768;
/// The number of elements has 16 bits, all of which mean something else in a list of free pages.
const MAX_KEYS: usize = 0xFFFE;

/// Makes a file with these buckets, as if by a transaction of this number. The first one that a
/// router makes has the number 2.
///
/// # Errors
/// What bolt would not take.
pub fn encode(root: &Bucket<'_>, transaction: u64) -> Result<Vec<u8>, EncodeError> {
    let mut pages = Pages(vec![0; PAGE_SIZE * 2]);
    let freelist = Header { id: FREELIST_PAGE, flags: FREELIST, count: 0, overflow: 0 };
    pages.push(freelist, &[])?;
    let root = pages.bucket(root, 0)?;
    let meta = Meta {
        page_size: PAGE,
        root,
        freelist: FREELIST_PAGE,
        high_water: pages.next(),
        transaction,
    };
    // The older one leads to the same: whichever is damaged later, nothing is lost.
    let metas = [transaction, transaction.saturating_sub(1)];
    for transaction in metas {
        let id = transaction % 2;
        let mut page = Vec::with_capacity(PAGE_SIZE);
        Header { id, flags: META, count: 0, overflow: 0 }.emit(&mut page);
        Meta { transaction, ..meta }.emit(&mut page);
        let start = if id == 0 { 0 } else { PAGE_SIZE };
        let place = pages.0.iter_mut().skip(start);
        place.zip(page).for_each(|(place, byte)| *place = byte);
    }
    Ok(pages.0)
}

struct Pages(Vec<u8>);

impl Pages {
    /// The number of the next page.
    fn next(&self) -> u64 {
        (self.0.len() / PAGE_SIZE) as u64
    }

    /// Writes a bucket, those in it first, and returns its page.
    fn bucket(&mut self, bucket: &Bucket<'_>, nesting: usize) -> Result<u64, EncodeError> {
        if nesting > MAX_NESTING {
            return Err(EncodeError::Nesting);
        }
        let count = bucket.iter().len();
        let count = u16::try_from(count).ok().filter(|count| usize::from(*count) <= MAX_KEYS);
        let count = count.ok_or(EncodeError::Keys(bucket.iter().len()))?;
        let (mut elements, mut data) = (Vec::new(), Vec::new());
        for (index, (key, value)) in bucket.iter().enumerate() {
            if !(1..=MAX_KEY).contains(&key.len()) {
                return Err(EncodeError::Key(key.len()));
            }
            let mut header = Vec::with_capacity(BUCKET_LEN);
            let (flags, value) = match value {
                Value::Bytes(bytes) => (0, *bytes),
                Value::Bucket(inner) => {
                    header.extend(self.bucket(inner, nesting + 1)?.to_le_bytes());
                    header.extend(0u64.to_le_bytes());
                    (IS_BUCKET, header.as_slice())
                }
            };
            // From this element to the end of all, and to the end of what is there already.
            let pos = (usize::from(count) - index) * ELEMENT_LEN + data.len();
            for number in [flags as usize, pos, key.len(), value.len()] {
                let number = u32::try_from(number).map_err(|_| EncodeError::TooLarge)?;
                elements.extend(number.to_le_bytes());
            }
            data.extend_from_slice(key);
            data.extend_from_slice(value);
        }
        elements.append(&mut data);
        let id = self.next();
        self.push(Header { id, flags: LEAF, count, overflow: 0 }, &elements)?;
        Ok(id)
    }

    /// Appends a page, with the overflow that `body` needs.
    fn push(&mut self, header: Header, body: &[u8]) -> Result<(), EncodeError> {
        let pages = (HEADER_LEN + body.len()).div_ceil(PAGE_SIZE);
        if self.0.len() + pages * PAGE_SIZE > MAX_FILE {
            return Err(EncodeError::TooLarge);
        }
        let overflow = u32::try_from(pages - 1).map_err(|_| EncodeError::TooLarge)?;
        let end = self.0.len() + pages * PAGE_SIZE;
        Header { overflow, ..header }.emit(&mut self.0);
        self.0.extend_from_slice(body);
        self.0.resize(end, 0);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Database;
    use proptest::collection::{btree_map, vec};
    use proptest::prelude::*;

    type Owned = std::collections::BTreeMap<Vec<u8>, Vec<u8>>;

    fn bucket(entries: &Owned) -> Bucket<'_> {
        let mut bucket = Bucket::default();
        entries.iter().for_each(|(key, value)| bucket.insert(key, Value::Bytes(value)));
        bucket
    }

    fn entries() -> impl Strategy<Value = Owned> {
        btree_map(vec(any::<u8>(), 1..20), vec(any::<u8>(), 0..5000), 0..20)
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        #[test]
        fn what_is_written_is_read(top in entries(), inner in entries(), transaction in 1u64..9) {
            let mut root = bucket(&top);
            root.insert(b"inner", Value::Bucket(bucket(&inner)));
            let file = encode(&root, transaction).unwrap();
            prop_assert_eq!(Database::decode(&file), Ok(Database { transaction, root }));
        }
    }

    #[test]
    fn what_bolt_does_not_take_is_not_written() {
        let encode_key = |key: &[u8]| {
            let mut bucket = Bucket::default();
            bucket.insert(key, Value::Bytes(&[]));
            encode(&bucket, 1)
        };
        assert_eq!(encode_key(b""), Err(EncodeError::Key(0)));
        assert_eq!(encode_key(&[0; MAX_KEY + 1]), Err(EncodeError::Key(MAX_KEY + 1)));
        assert!(encode_key(&[0; MAX_KEY]).is_ok());

        let value = vec![0; MAX_FILE];
        let mut bucket = Bucket::default();
        bucket.insert(b"a", Value::Bytes(&value));
        assert_eq!(encode(&bucket, 1), Err(EncodeError::TooLarge));

        let deep = (0..=MAX_NESTING).fold(Bucket::default(), |inner, _| {
            let mut outer = Bucket::default();
            outer.insert(b"a", Value::Bucket(inner));
            outer
        });
        assert_eq!(encode(&deep, 1), Err(EncodeError::Nesting));
    }

    #[test]
    fn more_keys_than_a_page_counts_are_refused() {
        let keys: Vec<[u8; 4]> = (0..=0xFFFE_u32).map(u32::to_be_bytes).collect();
        let mut bucket = Bucket::default();
        keys.iter().for_each(|key| bucket.insert(key, Value::Bytes(&[])));
        assert_eq!(encode(&bucket, 1), Err(EncodeError::Keys(MAX_KEYS + 1)));
    }
}
