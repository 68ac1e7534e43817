use super::*;
use crate::encode;
use crate::page::{ELEMENT_LEN, HEADER_LEN};

const PAGE: usize = 4096;
/// Of the file [`small`]: the leaf of the bucket in the root, which is the page behind it.
const TOP: usize = 3 * PAGE;

fn vector(name: &str) -> Vec<u8> {
    let path = format!("{}/../tests/vectors/state-bolt/{name}", env!("CARGO_MANIFEST_DIR"));
    std::fs::read(&path).unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// Two keys in a bucket.
fn small() -> Vec<u8> {
    let (mut root, mut top) = (Bucket::default(), Bucket::default());
    top.insert(b"a", Value::Bytes(b"1"));
    top.insert(b"b", Value::Bytes(b"2"));
    root.insert(b"top", Value::Bucket(top));
    encode(&root, 7).unwrap()
}

fn put(file: &mut [u8], at: usize, bytes: &[u8]) {
    file[at..at + bytes.len()].copy_from_slice(bytes);
}

fn fault_of(file: &[u8]) -> (u64, Fault) {
    match Database::decode(file) {
        Err(Error::Page { page, fault }) => (page, fault),
        other => panic!("{other:?}"),
    }
}

#[test]
fn branches_overflow_and_buckets_in_buckets_of_bolt_are_read() {
    let file = vector("pages.db");
    let Database { transaction, root } = Database::decode(&file).unwrap();
    // The second transaction made the buckets, with the keys 0 to 199 in `many`; the third took
    // away those that are even, and added `last`.
    assert_eq!(transaction, 3);
    assert_eq!(newest_transaction(&file[..2 * PAGE]), Ok(3));
    let names: Vec<_> = root.iter().map(|(name, _)| name).collect();
    assert_eq!(names, [&b"big"[..], b"empty", b"many", b"outer"]);
    assert_eq!(root.bucket(b"big").unwrap().bytes(b"value").unwrap(), b"0123456789".repeat(1000));
    assert!(root.bucket(b"empty").unwrap().is_empty());
    let many = root.bucket(b"many").unwrap();
    assert_eq!(many.iter().len(), 101);
    for number in 0..200u8 {
        let value = many.bytes(format!("key-{number:04}").as_bytes());
        assert_eq!(value, (number % 2 == 1).then_some(&[number; 40][..]), "{number}");
    }
    assert_eq!(many.bytes(b"last"), Some(&[][..]));
    let outer = root.bucket(b"outer").unwrap();
    assert_eq!(outer.bytes(b"a"), Some(&b"1"[..]));
    let innermost = outer.bucket(b"inner").and_then(|inner| inner.bucket(b"innermost"));
    assert_eq!(innermost.unwrap().bytes(b"b"), Some(&b"2"[..]));
    assert_eq!(outer.bytes(b"inner"), None, "a bucket is no value");
}

#[test]
fn state_files_of_the_original_are_read() {
    for (name, has_flag) in
        [("router-1data.db", true), ("router-2data.db", true), ("router-3data.db", false)]
    {
        let file = vector(name);
        let database = Database::decode(&file).unwrap();
        let top = database.root.bucket(b"top").unwrap();
        assert_eq!(top.bytes(b"version"), Some(&[1, 0][..]), "{name}");
        assert!(top.bytes(b"ring").is_some() && top.bytes(b"ownedAddresses").is_some());
        assert_eq!(top.bytes(b"flag:peer-reclaim").is_some(), has_flag, "{name}");
    }
}

#[test]
fn the_newer_meta_page_that_is_in_order_counts() {
    let mut file = vector("pages.db");
    // Transaction 3 is on the second one; as if that had been cut off while it was written.
    put(&mut file, PAGE + HEADER_LEN + 48, &[9]);
    let before = Database::decode(&file).unwrap();
    assert_eq!(before.transaction, 2);
    assert_eq!(before.root.bucket(b"many").unwrap().iter().len(), 200, "as it was before");
    // The first one damaged as well.
    put(&mut file, HEADER_LEN + 48, &[9]);
    assert_eq!(Database::decode(&file), Err(Error::Meta(Fault::Checksum)));

    let mut file = vector("pages.db");
    put(&mut file, 0, &[0xFF; 80]);
    assert_eq!(Database::decode(&file).unwrap().transaction, 3, "wherever the second one is");
}

#[test]
fn what_is_no_file_of_bolt_is_called_so() {
    for foreign in [&b""[..], b"SQLite format 3\0", &[0; 2 * PAGE], &[0xFF; 2 * PAGE]] {
        assert_eq!(Database::decode(foreign), Err(Error::Foreign));
        assert_eq!(newest_transaction(foreign), Err(Error::Foreign));
    }
    let mut file = small();
    for start in [0, PAGE] {
        put(&mut file, start + HEADER_LEN, &0xED0C_DAEDu32.to_be_bytes());
    }
    assert_eq!(Database::decode(&file), Err(Error::ByteOrder));
    let mut file = small();
    for start in [0, PAGE] {
        put(&mut file, start + HEADER_LEN + 4, &[3]);
    }
    assert_eq!(Database::decode(&file), Err(Error::Version(3)));
    let length = MAX_FILE + 1;
    assert_eq!(Database::decode(&vec![0; length]), Err(Error::TooLarge { length }));
}

#[test]
fn a_file_that_ends_early_is_refused_wherever_it_ends() {
    for file in [small(), vector("pages.db")] {
        let pages = Meta::newest(&file).unwrap().high_water;
        let wanted = pages * PAGE as u64;
        for length in (0..usize::try_from(wanted).unwrap()).step_by(509) {
            assert!(Database::decode(&file[..length]).is_err(), "{length} bytes");
        }
        let length = usize::try_from(wanted).unwrap() - 1;
        let truncated = Fault::Truncated { wanted, length };
        assert_eq!(Database::decode(&file[..length]), Err(Error::Meta(truncated)));
    }
}

#[test]
fn each_lie_is_named_with_its_page() {
    let lie = |at: usize, bytes: &[u8]| {
        let mut file = small();
        put(&mut file, at, bytes);
        fault_of(&file)
    };
    let first = TOP + HEADER_LEN;
    let second = first + ELEMENT_LEN;
    assert_eq!(lie(TOP, &[9]), (3, Fault::Number(9)));
    assert_eq!(lie(TOP + 8, &[0x10]), (3, Fault::Kind(0x10)));
    assert_eq!(lie(TOP + 8, &[0x03]), (3, Fault::Kind(0x03)), "branch and leaf at once");
    assert_eq!(lie(TOP + 10, &[0xFF, 0xFF]), (3, Fault::Count { count: 0xFFFF }));
    assert_eq!(lie(TOP + 12, &[1]), (3, Fault::UsedTwice), "overflow into the root");
    assert_eq!(lie(TOP + 12, &[0xFF; 4]), (3, Fault::BeyondLast { last: 4 }));
    assert_eq!(lie(first, &[2]), (3, Fault::ElementFlags { element: 0, flags: 2 }));
    assert_eq!(lie(first, &[1]), (3, Fault::BucketHeader { element: 0 }));
    assert_eq!(lie(second, &[1]), (3, Fault::BucketHeader { element: 1 }));
    for (field, value) in [(4, [0xFF; 4]), (4, [0; 4]), (8, [0xFF; 4]), (12, [0xFF; 4])] {
        assert_eq!(lie(first + field, &value), (3, Fault::Bounds { element: 0 }), "{field}");
    }
    // The keys are "a1b2", one byte each with its value.
    assert_eq!(lie(second + ELEMENT_LEN + 2, b"a"), (3, Fault::Order { element: 1 }));
    let element = 0;
    let root_of_bucket = 4 * PAGE + HEADER_LEN + ELEMENT_LEN + 3;
    assert_eq!(lie(root_of_bucket, &[4]), (4, Fault::UsedTwice), "a circle");
    assert_eq!(lie(root_of_bucket, &[0]), (4, Fault::BucketHeader { element }), "nothing inline");
    assert_eq!(lie(root_of_bucket, &[1]), (1, Fault::UsedTwice), "a meta page");
    assert_eq!(lie(root_of_bucket, &[5]), (5, Fault::BeyondLast { last: 4 }));
    assert_eq!(lie(root_of_bucket, &[0xFF; 8]), (u64::MAX, Fault::BeyondLast { last: 4 }));
    let value_size = 4 * PAGE + HEADER_LEN + 12;
    assert_eq!(lie(value_size, &[15]), (4, Fault::BucketHeader { element }));
}

#[test]
fn branches_in_a_circle_or_a_long_row_end() {
    // Branches 3, 4, 5, … each lead to the next one.
    let file = |pages: u64| {
        let meta =
            Meta { page_size: 4096, root: 3, freelist: 2, high_water: pages, transaction: 1 };
        let mut file = vec![0; usize::try_from(pages).unwrap() * PAGE];
        let mut page = Vec::new();
        Header { id: 1, flags: crate::page::META, count: 0, overflow: 0 }.emit(&mut page);
        meta.emit(&mut page);
        put(&mut file, PAGE, &page);
        for id in 3..pages {
            let mut page = Vec::new();
            Header { id, flags: BRANCH, count: 1, overflow: 0 }.emit(&mut page);
            page.extend([0; 8]);
            page.extend((id + 1).to_le_bytes());
            put(&mut file, usize::try_from(id).unwrap() * PAGE, &page);
        }
        file
    };
    assert_eq!(fault_of(&file(100)), (3 + MAX_DEPTH as u64, Fault::Depth));
    assert_eq!(fault_of(&file(10)), (10, Fault::BeyondLast { last: 9 }));
    let mut circle = file(6);
    put(&mut circle, 5 * PAGE + HEADER_LEN + 8, &[3]);
    assert_eq!(fault_of(&circle), (3, Fault::UsedTwice));
    let mut empty = file(6);
    put(&mut empty, 5 * PAGE + 10, &[0]);
    assert_eq!(fault_of(&empty), (5, Fault::EmptyBranch));
}

#[test]
fn buckets_in_buckets_end() {
    // Each bucket inline in the one before; the innermost first.
    let mut page = Vec::new();
    Header { id: 0, flags: LEAF, count: 0, overflow: 0 }.emit(&mut page);
    for _ in 0..=MAX_NESTING {
        let mut outer = Vec::new();
        Header { id: 0, flags: LEAF, count: 1, overflow: 0 }.emit(&mut outer);
        let value = BUCKET_LEN + page.len();
        for number in [1, ELEMENT_LEN, 1, value] {
            outer.extend(u32::try_from(number).unwrap().to_le_bytes());
        }
        outer.push(b'k');
        outer.extend([0; BUCKET_LEN]);
        outer.append(&mut page);
        page = outer;
    }
    let mut file = small();
    put(&mut file, 4 * PAGE, &page);
    put(&mut file, 4 * PAGE, &[4]);
    assert_eq!(fault_of(&file), (4, Fault::Nesting));
}

#[test]
fn a_file_of_keys_that_share_their_bytes_has_no_more_than_the_limit() {
    let keys: Vec<[u8; 3]> =
        (0..0xF000u32).map(|key| [0, 1, 2].map(|at| key.to_be_bytes()[at + 1])).collect();
    let many = |keys: &'static [[u8; 3]]| {
        let mut bucket = Bucket::default();
        keys.iter().for_each(|key| bucket.insert(key, Value::Bytes(&[])));
        Value::Bucket(bucket)
    };
    let keys: &'static [[u8; 3]] = keys.leak();
    let mut root = Bucket::default();
    root.insert(b"a", many(keys));
    assert!(Database::decode(&encode(&root, 1).unwrap()).is_ok());
    root.insert(b"b", many(keys));
    assert_eq!(fault_of(&encode(&root, 1).unwrap()).1, Fault::Entries);
}
