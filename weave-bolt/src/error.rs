//! Why a file is refused.

/// Why bytes are no file of bolt, or none in order.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// It is larger than anything that is read.
    #[error("it has {length} bytes, and no more than {} are read", crate::MAX_FILE)]
    TooLarge {
        /// Its length.
        length: usize,
    },
    /// Neither of the first two pages is a meta page of bolt: it is the file of another program.
    #[error("it is no bolt file")]
    Foreign,
    /// It was written by a machine of the other byte order.
    #[error("it is a bolt file of a big-endian machine")]
    ByteOrder,
    /// It is of another version of the format.
    #[error("it is a bolt file of version {0}, and 2 is known")]
    Version(u32),
    /// Both meta pages are damaged; the fault is that of the first one.
    #[error("bolt file, meta pages: {0}")]
    Meta(Fault),
    /// A page is not in order.
    #[error("bolt file, page {page}: {fault}")]
    Page {
        /// Its number.
        page: u64,
        /// What is wrong with it.
        fault: Fault,
    },
}

/// What is wrong with a page.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Fault {
    /// Its checksum is another.
    #[error("the checksum does not match")]
    Checksum,
    /// It tells of pages of a size that is none.
    #[error("{0} is no size of a page")]
    PageSize(u32),
    /// The file ends before the pages that it is to have.
    #[error("the file is to have {wanted} bytes and has {length}")]
    Truncated {
        /// How long it should be.
        wanted: u64,
        /// How long it is.
        length: usize,
    },
    /// It lies beyond the last page.
    #[error("it is beyond the last page, {last}")]
    BeyondLast {
        /// The last one.
        last: u64,
    },
    /// It has been reached already, by another way or in a circle.
    #[error("two places lead to it")]
    UsedTwice,
    /// It says that it is another page.
    #[error("it has the number {0}")]
    Number(u64),
    /// It is neither a branch nor a leaf.
    #[error("it is neither branch nor leaf (flags {0:#06x})")]
    Kind(u16),
    /// Its list of elements does not fit into it.
    #[error("{count} elements do not fit into it")]
    Count {
        /// How many it is to have.
        count: u16,
    },
    /// A branch leads nowhere.
    #[error("it is a branch without elements")]
    EmptyBranch,
    /// A key or value lies outside of the page.
    #[error("element {element}: key and value are not within the page")]
    Bounds {
        /// Which.
        element: u16,
    },
    /// A key does not come after the one before.
    #[error("element {element}: its key is not in order")]
    Order {
        /// Which.
        element: u16,
    },
    /// An element is of an unknown kind.
    #[error("element {element}: unknown flags {flags:#x}")]
    ElementFlags {
        /// Which.
        element: u16,
        /// Its flags.
        flags: u32,
    },
    /// A bucket has no room for its own header.
    #[error("element {element}: its bucket is cut off")]
    BucketHeader {
        /// Which.
        element: u16,
    },
    /// There are too many pages from the root.
    #[error("it is more than {} pages below the root of its bucket", crate::MAX_DEPTH)]
    Depth,
    /// There are too many buckets in buckets.
    #[error("its buckets are more than {} deep", crate::MAX_NESTING)]
    Nesting,
    /// There are too many keys.
    #[error("the file has more than {} keys", crate::MAX_ENTRIES)]
    Entries,
}

/// Why a file cannot be made.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum EncodeError {
    /// A bucket has more keys than fit into one page of it.
    #[error("{0} keys are too many for a bucket")]
    Keys(usize),
    /// A key has no byte, or more than bolt takes.
    #[error("a key of {0} bytes")]
    Key(usize),
    /// The file would be larger than [`crate::MAX_FILE`].
    #[error("the file would be too large")]
    TooLarge,
    /// There are too many buckets in buckets.
    #[error("buckets are more than {} deep", crate::MAX_NESTING)]
    Nesting,
}
