//! Go's `encoding/gob`, the part that Weave Net speaks (spec gob.md).
//!
//! A gob stream describes itself: before the first value of a type comes its definition, and
//! the receiver matches struct fields by name.
//!
//! ```text
//! message:    uint(length of the rest)  int(type id)  body
//! type id < 0: the body defines the type with that id, negated
//! type id > 0: the body is a value of that type
//!   struct:    { uint(distance to the last field number sent)  value }...  00
//!   otherwise: 00  value
//! uint:       one byte below 80, or (FF = 1 ... F8 = 8 bytes) and the bytes, big-endian
//! int:        uint of (i << 1) or, if negative, (!i << 1 | 1)
//! bytes, text: uint(length)  bytes
//! slice, map: uint(count)  elements, or keys and values in turn
//! ```
//!
//! Callers declare what they expect as Rust types. [`gob_struct!`] makes a
//! struct of named fields; borrowed slices and [`Text`] point into the input:
//!
//! ```
//! use weave_core::wire::gob::{Decoder, Encoder, Text, gob_struct};
//!
//! gob_struct! {
//!     /// A neighbour.
//!     #[derive(Clone, PartialEq, Debug, Default)]
//!     pub struct Neighbour<'a> as "neighbour" {
//!         /// Six bytes.
//!         pub name: &'a [u8] = "NameByte",
//!         /// Host and port.
//!         pub address: Text<'a> = "RemoteTCPAddr",
//!     }
//! }
//!
//! let sent = Neighbour { name: &[0, 0, 0, 0, 0, 1], address: "192.0.2.1:6783".into() };
//! let mut encoder = Encoder::new();
//! encoder.value(&sent);
//! let stream = encoder.finish();
//!
//! let mut decoder = Decoder::new(&stream);
//! assert_eq!(decoder.value::<Neighbour>()?, sent);
//! assert_eq!(decoder.next_value::<Neighbour>()?, None);
//! # Ok::<(), weave_core::wire::gob::Error>(())
//! ```
//!
//! What is matched once per stream and type is kept in a [`Plan`], so that decoding a value
//! neither compares names nor allocates. Nothing is ever allocated by a count from the wire.

mod announce;
mod decode;
mod define;
mod definitions;
mod encode;
mod error;
mod plan;
mod primitives;
mod shape;
mod structs;
mod text;
mod values;

pub use decode::{Decode, DecodeField, Decoder, Fields, ValueReader};
pub use encode::{Encode, EncodeField, Encoder, FieldWriter};
pub use error::{Error, ErrorKind};
pub use plan::Plan;
pub use shape::{Field, Gob, Nillable, Shape};
pub use text::Text;
pub use values::AtMost;

#[doc(inline)]
pub use crate::gob_struct;

#[cfg(test)]
mod tests;
