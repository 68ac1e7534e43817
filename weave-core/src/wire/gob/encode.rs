//! From typed values to a stream.

use super::announce::Announced;
use super::primitives::{put_bytes, put_int, put_uint};
use super::shape::{Gob, Shape};

/// A type that can be encoded.
pub trait Encode: Gob {
    /// Appends the value.
    fn encode(&self, out: &mut Vec<u8>);

    /// Whether the value is left out when it is a field of a struct: zero, false, empty. Maps
    /// and structs never are.
    fn is_zero(&self) -> bool {
        false
    }
}

/// What can be the field of a struct: all that can be encoded, and `Option` of the types whose
/// absence means something.
pub trait EncodeField {
    /// Appends the field, unless it is to be left out.
    fn encode_field(&self, number: usize, fields: &mut FieldWriter<'_>);
}

impl<T: Encode> EncodeField for T {
    fn encode_field(&self, number: usize, fields: &mut FieldWriter<'_>) {
        if !self.is_zero() {
            fields.field(number, self);
        }
    }
}

/// Makes a gob stream.
#[derive(Debug, Default)]
pub struct Encoder {
    out: Vec<u8>,
    /// The body of the message in the making, whose length is not known yet.
    body: Vec<u8>,
    types: Announced,
}

impl Encoder {
    /// An encoder at the start of a stream.
    pub const fn new() -> Self {
        Self::appending_to(Vec::new())
    }

    /// An encoder whose stream begins after the bytes that are in `out`.
    pub const fn appending_to(out: Vec<u8>) -> Self {
        Self { out, body: Vec::new(), types: Announced::new() }
    }

    /// Appends a value, and before it the definitions that the stream lacks.
    pub fn value<T: Encode + ?Sized>(&mut self, value: &T) {
        let id = self.types.announce(T::SHAPE, &mut self.out);
        self.body.clear();
        put_int(id, &mut self.body);
        if !matches!(T::SHAPE, Shape::Struct { .. }) {
            self.body.push(0);
        }
        value.encode(&mut self.body);
        put_bytes(&self.body, &mut self.out);
    }

    /// Appends the definitions of a type ahead of its first value, but for those that the stream
    /// has.
    pub fn announce<T: Encode + ?Sized>(&mut self) {
        self.types.announce(T::SHAPE, &mut self.out);
    }

    /// The stream so far.
    pub fn finish(self) -> Vec<u8> {
        self.out
    }
}

/// Writes the body of a struct.
#[derive(Debug)]
pub struct FieldWriter<'a> {
    out: &'a mut Vec<u8>,
    /// One more than the number of the last field.
    next: usize,
}

impl<'a> FieldWriter<'a> {
    /// At the start of a struct.
    pub const fn new(out: &'a mut Vec<u8>) -> Self {
        Self { out, next: 0 }
    }

    /// Appends a field. Numbers must rise.
    pub fn field<T: Encode>(&mut self, number: usize, value: &T) {
        debug_assert!(number >= self.next, "fields are sent in order");
        put_uint((number - self.next) as u64 + 1, self.out);
        self.next = number + 1;
        value.encode(self.out);
    }

    /// Ends the struct.
    pub fn end(self) {
        self.out.push(0);
    }
}
