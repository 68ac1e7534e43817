//! The Rust types for Go's types.

use std::collections::BTreeMap;

use super::decode::{Decode, DecodeField, ValueReader};
use super::definitions::MAX_PREALLOCATION;
use super::encode::{Encode, EncodeField, FieldWriter};
use super::error::{Error, ErrorKind};
use super::plan::Plan;
use super::primitives::{put_bytes, put_int, put_uint};
use super::shape::{Gob, Nillable, Shape};
use super::text::Text;

impl Gob for bool {
    const SHAPE: &'static Shape = &Shape::Bool;
}

impl Decode<'_> for bool {
    fn decode(reader: &mut ValueReader<'_, '_>, _: &Plan) -> Result<Self, Error> {
        Ok(reader.uint()? != 0)
    }
}

impl Encode for bool {
    fn encode(&self, out: &mut Vec<u8>) {
        put_uint(u64::from(*self), out);
    }

    fn is_zero(&self) -> bool {
        !self
    }
}

macro_rules! uint {
    ($($type:ident: $what:literal),*) => {$(
        impl Gob for $type {
            const SHAPE: &'static Shape = &Shape::Uint;
        }

        impl Decode<'_> for $type {
            fn decode(reader: &mut ValueReader<'_, '_>, _: &Plan) -> Result<Self, Error> {
                let offset = reader.offset();
                let value = reader.uint()?;
                Self::try_from(value)
                    .map_err(|_| Error { offset, kind: ErrorKind::OutOfRange { what: $what, value } })
            }
        }

        impl Encode for $type {
            fn encode(&self, out: &mut Vec<u8>) {
                put_uint(u64::from(*self), out);
            }

            fn is_zero(&self) -> bool {
                *self == 0
            }
        }
    )*};
}

uint!(u16: "16 bits", u32: "32 bits", u64: "64 bits");

impl Gob for i64 {
    const SHAPE: &'static Shape = &Shape::Int;
}

impl Decode<'_> for i64 {
    fn decode(reader: &mut ValueReader<'_, '_>, _: &Plan) -> Result<Self, Error> {
        reader.int()
    }
}

impl Encode for i64 {
    fn encode(&self, out: &mut Vec<u8>) {
        put_int(*self, out);
    }

    fn is_zero(&self) -> bool {
        *self == 0
    }
}

impl Gob for &[u8] {
    const SHAPE: &'static Shape = &Shape::Bytes;
}

impl<'de> Decode<'de> for &'de [u8] {
    fn decode(reader: &mut ValueReader<'_, 'de>, _: &Plan) -> Result<Self, Error> {
        reader.bytes()
    }
}

impl Encode for &[u8] {
    fn encode(&self, out: &mut Vec<u8>) {
        put_bytes(self, out);
    }

    fn is_zero(&self) -> bool {
        self.is_empty()
    }
}

impl Gob for Text<'_> {
    const SHAPE: &'static Shape = &Shape::Text;
}

impl<'de> Decode<'de> for Text<'de> {
    fn decode(reader: &mut ValueReader<'_, 'de>, _: &Plan) -> Result<Self, Error> {
        Ok(Self(reader.bytes()?))
    }
}

impl Encode for Text<'_> {
    fn encode(&self, out: &mut Vec<u8>) {
        put_bytes(self.0, out);
    }

    fn is_zero(&self) -> bool {
        self.0.is_empty()
    }
}

/// Replacement characters stand for what is not UTF-8; [`Text`] keeps it.
impl Gob for String {
    const SHAPE: &'static Shape = &Shape::Text;
}

impl Decode<'_> for String {
    fn decode(reader: &mut ValueReader<'_, '_>, _: &Plan) -> Result<Self, Error> {
        Ok(Text(reader.bytes()?).to_lossy().into_owned())
    }
}

impl Encode for String {
    fn encode(&self, out: &mut Vec<u8>) {
        put_bytes(self.as_bytes(), out);
    }

    fn is_zero(&self) -> bool {
        self.is_empty()
    }
}

impl<T: Gob> Gob for [T] {
    const SHAPE: &'static Shape = &Shape::Slice(T::SHAPE);
}

impl<T: Encode> Encode for [T] {
    fn encode(&self, out: &mut Vec<u8>) {
        put_uint(self.len() as u64, out);
        for element in self {
            element.encode(out);
        }
    }

    fn is_zero(&self) -> bool {
        self.is_empty()
    }
}

impl<T: Gob> Gob for Vec<T> {
    const SHAPE: &'static Shape = <[T]>::SHAPE;
}

impl<'de, T: Decode<'de>> Decode<'de> for Vec<T> {
    fn decode(reader: &mut ValueReader<'_, 'de>, plan: &Plan) -> Result<Self, Error> {
        let count = reader.count(1, "a slice")?;
        elements(count, reader, plan)
    }
}

impl<T: Encode> Encode for Vec<T> {
    fn encode(&self, out: &mut Vec<u8>) {
        self.as_slice().encode(out);
    }

    fn is_zero(&self) -> bool {
        self.is_empty()
    }
}

fn elements<'de, T: Decode<'de>>(
    count: usize,
    reader: &mut ValueReader<'_, 'de>,
    plan: &Plan,
) -> Result<Vec<T>, Error> {
    let mut elements = Vec::with_capacity(count.min(MAX_PREALLOCATION));
    for _ in 0..count {
        reader.expect_element()?;
        elements.push(T::decode(reader, plan.element())?);
    }
    Ok(elements)
}

impl<K: Gob, V: Gob> Gob for BTreeMap<K, V> {
    const SHAPE: &'static Shape = &Shape::Map(K::SHAPE, V::SHAPE);
}

impl<K: Gob, V: Gob> Nillable for BTreeMap<K, V> {}

impl<'de, K: Decode<'de> + Ord, V: Decode<'de>> Decode<'de> for BTreeMap<K, V> {
    fn decode(reader: &mut ValueReader<'_, 'de>, plan: &Plan) -> Result<Self, Error> {
        let count = reader.count(2, "a map")?;
        entries(count, reader, plan)
    }
}

impl<K: Encode, V: Encode> Encode for BTreeMap<K, V> {
    fn encode(&self, out: &mut Vec<u8>) {
        put_uint(self.len() as u64, out);
        for (key, value) in self {
            key.encode(out);
            value.encode(out);
        }
    }
}

/// Of two equal keys the later one counts.
fn entries<'de, K: Decode<'de> + Ord, V: Decode<'de>>(
    count: usize,
    reader: &mut ValueReader<'_, 'de>,
    plan: &Plan,
) -> Result<BTreeMap<K, V>, Error> {
    let (key_plan, value_plan) = plan.entry();
    let mut entries = BTreeMap::new();
    for _ in 0..count {
        let key = K::decode(reader, key_plan)?;
        // Makes sure of the key as well: if it is missing, so is this.
        reader.expect_element()?;
        entries.insert(key, V::decode(reader, value_plan)?);
    }
    Ok(entries)
}

/// A slice or map that is refused, before anything is allocated, if it has more than `N`
/// elements.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct AtMost<const N: usize, T>(pub T);

impl<const N: usize, T: Gob> Gob for AtMost<N, T> {
    const SHAPE: &'static Shape = T::SHAPE;
}

impl<const N: usize, T: Nillable> Nillable for AtMost<N, T> {}

impl<const N: usize, T: Encode> Encode for AtMost<N, T> {
    fn encode(&self, out: &mut Vec<u8>) {
        self.0.encode(out);
    }

    fn is_zero(&self) -> bool {
        self.0.is_zero()
    }
}

impl<'de, const N: usize, T: Decode<'de>> Decode<'de> for AtMost<N, Vec<T>> {
    fn decode(reader: &mut ValueReader<'_, 'de>, plan: &Plan) -> Result<Self, Error> {
        let count = limited_count::<N>(1, "elements of a slice", reader)?;
        elements(count, reader, plan).map(Self)
    }
}

impl<'de, const N: usize, K, V> Decode<'de> for AtMost<N, BTreeMap<K, V>>
where
    K: Decode<'de> + Ord,
    V: Decode<'de>,
{
    fn decode(reader: &mut ValueReader<'_, 'de>, plan: &Plan) -> Result<Self, Error> {
        let count = limited_count::<N>(2, "entries of a map", reader)?;
        entries(count, reader, plan).map(Self)
    }
}

fn limited_count<const N: usize>(
    size: usize,
    what: &'static str,
    reader: &mut ValueReader<'_, '_>,
) -> Result<usize, Error> {
    let count = reader.count(size, what)?;
    if count > N {
        return Err(reader.error(ErrorKind::LimitExceeded { what, limit: N }));
    }
    Ok(count)
}

impl<'de, T: Decode<'de>> DecodeField<'de> for T {
    const SHAPE: &'static Shape = <T as Gob>::SHAPE;

    fn decode_field(reader: &mut ValueReader<'_, 'de>, plan: &Plan) -> Result<Self, Error> {
        T::decode(reader, plan)
    }
}

impl<'de, T: Decode<'de> + Nillable> DecodeField<'de> for Option<T> {
    const SHAPE: &'static Shape = <T as Gob>::SHAPE;

    fn decode_field(reader: &mut ValueReader<'_, 'de>, plan: &Plan) -> Result<Self, Error> {
        T::decode(reader, plan).map(Some)
    }
}

impl<T: Encode + Nillable> EncodeField for Option<T> {
    fn encode_field(&self, number: usize, fields: &mut FieldWriter<'_>) {
        if let Some(value) = self {
            fields.field(number, value);
        }
    }
}
