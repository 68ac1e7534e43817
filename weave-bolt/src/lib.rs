//! Files of the embedded database bolt (boltdb and its successor bbolt), in which Weave Net 2.x
//! keeps its state: read from bytes, and written anew. There is no I/O here.
//!
//! ```text
//!   page      0      1      2 …
//!           ┌──────┬──────┬──────────┬──────────┬────────┬───────────────┬──
//!           │ meta │ meta │ freelist │  branch  │  leaf  │ leaf, overflow│ …
//!           └──┬───┴──────┴──────────┴──┬────┬──┴────────┴───────────────┴──
//!              └── newest valid one ──▶ root, by which all the others are found
//!
//!   page:  | id u64 | flags u16 | count u16 | overflow u32 | elements … | keys and values … |
//!   meta:  | magic u32 | version u32 | page size u32 | flags u32 | root u64 | sequence u64
//!          | freelist u64 | high water u64 | transaction u64 | checksum u64 |
//! ```
//!
//! Numbers are in the byte order of the machine that wrote them; all that Weave Net ran on are
//! little-endian but one (s390x), whose files are refused. A transaction writes pages that nobody
//! uses and then one of the two meta pages, in turn: a file that is cut off between has the other
//! one. So bytes that were read while somebody else was writing are in order if
//! [`newest_transaction`] is the same before and after.
//!
//! [`Database::decode`] walks the whole file at once and lends what it finds. Each page is used
//! once at most, so that no file takes longer than it is long; all counts are bounded by
//! [`MAX_FILE`], [`MAX_ENTRIES`], [`MAX_DEPTH`] and [`MAX_NESTING`]. [`encode`] makes a new file
//! that bolt and bbolt open and write to.
//!
//! # Example
//!
//! ```
//! use weave_bolt::{Bucket, Database, Value, encode};
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let mut top = Bucket::default();
//! top.insert(b"version", Value::Bytes(&[1, 0]));
//! let mut root = Bucket::default();
//! root.insert(b"top", Value::Bucket(top));
//! let file = encode(&root, 1)?;
//!
//! let database = Database::decode(&file)?;
//! let top = database.root.bucket(b"top").ok_or("no bucket")?;
//! assert_eq!(top.bytes(b"version"), Some(&[1, 0][..]));
//! # Ok(())
//! # }
//! ```
#![forbid(unsafe_code)]

mod bucket;
mod error;
mod meta;
mod page;
mod read;
mod write;

pub use bucket::{Bucket, Value};
pub use error::{EncodeError, Error, Fault};
pub use read::{Database, newest_transaction};
pub use write::encode;

/// The largest file that is read. Those of Weave Net have some hundred kilobytes; a ring of as many
/// entries as it can have takes 2 MB, and bolt needs some times as much while it writes.
pub const MAX_FILE: usize = 64 << 20;
/// Keys in one file, in all its buckets. Weave Net has six and its flags.
pub const MAX_ENTRIES: usize = 1 << 16;
/// Pages from the root of a bucket to a leaf. With two keys a page, which is the fewest, so many
/// pages do not fit into [`MAX_FILE`].
pub const MAX_DEPTH: usize = 20;
/// Buckets in buckets.
pub const MAX_NESTING: usize = 8;
