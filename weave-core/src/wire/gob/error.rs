//! Why a gob stream could not be decoded.

use crate::wire::UnexpectedEnd;

/// What is wrong with a stream, and where.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error("gob, byte {offset}: {kind}")]
pub struct Error {
    /// Offset in the input of the decoder.
    pub offset: usize,
    /// What is wrong there.
    pub kind: ErrorKind,
}

/// What is wrong with a stream.
///
/// The sender is at fault: the bytes are malformed, or (from [`ErrorKind::TypeMismatch`] on) it
/// sent a well-formed value other than the one that belongs there.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ErrorKind {
    /// The stream ended between messages where a value was due.
    #[error("the stream ends where a value is due")]
    EndOfStream,
    /// The stream or a message ended inside of something.
    #[error("{what} needs {needed} bytes, but {left} are left")]
    Truncated {
        /// What was being read.
        what: &'static str,
        /// Its length.
        needed: usize,
        /// How many bytes there were.
        left: usize,
    },
    /// The first byte of an integer announces more than eight bytes.
    #[error("an integer starts with {0:#04x}, so it has more than 64 bits")]
    IntegerTooLong(u8),
    /// A message is longer than any sender makes them.
    #[error("a message of {0} bytes is too long")]
    MessageTooLong(u64),
    /// A length or count is larger than what is left of the message can hold.
    #[error("{what} has length {length}, but {left} bytes of the message are left")]
    LengthBeyondMessage {
        /// What has the length.
        what: &'static str,
        /// The length.
        length: u64,
        /// What is left of the message.
        left: usize,
    },
    /// The message of a value that is no struct must go on with a zero byte.
    #[error("a value that is no struct starts with field distance {0} instead of 0")]
    NonzeroSingleton(u64),
    /// Ids below 64 belong to built-in types, and each of the others can be defined once.
    #[error("type {0} is reserved or defined twice")]
    Redefined(i64),
    /// A definition does not have the form of one.
    #[error("{0} in a type definition")]
    BadDefinition(&'static str),
    /// A value or field has a type that the stream never defined.
    #[error("type {0} is not defined")]
    Undefined(i64),
    /// A struct value has a field that its definition lacks.
    #[error("a field number is beyond the definition of the struct")]
    FieldNumber,
    /// An array does not have the length of its definition.
    #[error("an array of {found} elements is defined to have {defined}")]
    ArrayLength {
        /// How many were sent.
        found: u64,
        /// How many there must be.
        defined: u64,
    },
    /// More definitions, fields or levels of nesting than any sender needs.
    #[error("more than {limit} {what}")]
    LimitExceeded {
        /// What there is too much of.
        what: &'static str,
        /// How much is allowed.
        limit: usize,
    },
    /// A value or field has another type than the receiver's.
    #[error("expected {expected}, got {found}{field}", field = Quoted(.field))]
    TypeMismatch {
        /// The receiver's type.
        expected: &'static str,
        /// The sender's.
        found: &'static str,
        /// The struct field, if it is one.
        field: Option<&'static str>,
    },
    /// The sender's struct has fields, but none that the receiver knows.
    #[error("a struct has no field in common with {0}")]
    NoCommonField(&'static str),
    /// The sender's struct has two fields of one name.
    #[error("the field {0} occurs twice in a type definition")]
    DuplicateField(&'static str),
    /// A number does not fit the receiver's type.
    #[error("{value} is too large for {what}")]
    OutOfRange {
        /// The receiver's type.
        what: &'static str,
        /// The number.
        value: u64,
    },
    /// A value of the right type that the receiver cannot accept.
    #[error("{0}")]
    Invalid(&'static str),
}

impl From<UnexpectedEnd> for Error {
    fn from(error: UnexpectedEnd) -> Self {
        let UnexpectedEnd { what, offset, needed, left } = error;
        Self { offset, kind: ErrorKind::Truncated { what, needed, left } }
    }
}

struct Quoted<'a>(&'a Option<&'static str>);

impl std::fmt::Display for Quoted<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.0 {
            Some(name) => write!(f, " in field {name}"),
            None => Ok(()),
        }
    }
}
