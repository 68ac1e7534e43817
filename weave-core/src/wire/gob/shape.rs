//! What a caller expects to receive or is going to send.

/// A Rust type that has a form in gob.
pub trait Gob {
    /// Its form.
    const SHAPE: &'static Shape;
}

/// The form of a type, known at compile time. The order of struct fields is the one in which
/// they are sent.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Shape {
    /// Go's `bool`.
    Bool,
    /// Any signed integer.
    Int,
    /// Any unsigned integer.
    Uint,
    /// `[]byte`.
    Bytes,
    /// `string`.
    Text,
    /// A slice of this.
    Slice(&'static Shape),
    /// A map from the first to the second.
    Map(&'static Shape, &'static Shape),
    /// A struct.
    Struct {
        /// The name in definitions. It carries no meaning for a receiver.
        name: &'static str,
        /// The exported fields.
        fields: &'static [Field],
    },
}

/// A field of a struct.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Field {
    /// The name, by which sender and receiver are matched.
    pub name: &'static str,
    /// The type.
    pub shape: &'static Shape,
}

/// A type whose absence in a struct field means something: maps (nil) and structs (nil pointer).
/// As a field, `Option` of such a type tells "absent" from "present and empty".
pub trait Nillable: Gob {}

impl Shape {
    /// For error messages.
    pub(super) const fn describe(&self) -> &'static str {
        match self {
            Self::Bool => "a bool",
            Self::Int => "an int",
            Self::Uint => "a uint",
            Self::Bytes => "bytes",
            Self::Text => "a string",
            Self::Slice(_) => "a slice",
            Self::Map(..) => "a map",
            Self::Struct { .. } => "a struct",
        }
    }

    /// The types that this one is made of, in order.
    pub(super) fn for_each_part(&self, each: &mut impl FnMut(&'static Self)) {
        match *self {
            Self::Slice(element) => each(element),
            Self::Map(key, element) => {
                each(key);
                each(element);
            }
            Self::Struct { fields, .. } => fields.iter().for_each(|field| each(field.shape)),
            Self::Bool | Self::Int | Self::Uint | Self::Bytes | Self::Text => {}
        }
    }
}
