//! Encoding of trees of attributes.

use netlink_packet_core::{Emitable, NLA_HEADER_SIZE, Nla};
use weave_netlink::TooLong;

/// Length of the longest value: the length of an attribute has 16 bits and includes the header.
const MAX_VALUE: usize = u16::MAX as usize - NLA_HEADER_SIZE;

/// An attribute to be sent.
#[derive(Clone, Debug)]
pub(crate) struct Attribute<'a> {
    kind: u16,
    value: Value<'a>,
}

/// The value of an attribute.
#[derive(Clone, Debug)]
pub(crate) enum Value<'a> {
    Bytes(&'a [u8]),
    /// A number or an address.
    Small {
        length: u8,
        bytes: [u8; 12],
    },
    /// A list of numbers.
    Numbers(Vec<u32>),
    /// Text, which is terminated by a NUL.
    Text(&'a str),
    Nest(Vec<Attribute<'a>>),
}

impl<'a> Attribute<'a> {
    pub(crate) const fn new(kind: u16, value: Value<'a>) -> Self {
        Self { kind, value }
    }

    /// Creates a flag, an attribute without a value.
    pub(crate) const fn empty(kind: u16) -> Self {
        Self::new(kind, Value::Bytes(&[]))
    }

    pub(crate) fn u16(kind: u16, number: u16) -> Self {
        Self::small(kind, number.to_ne_bytes())
    }

    pub(crate) fn u32(kind: u16, number: u32) -> Self {
        Self::small(kind, number.to_ne_bytes())
    }

    pub(crate) const fn text(kind: u16, text: &'a str) -> Self {
        Self::new(kind, Value::Text(text))
    }

    pub(crate) const fn nest(kind: u16, inner: Vec<Self>) -> Self {
        Self::new(kind, Value::Nest(inner))
    }

    /// Creates an attribute with a fixed number of bytes, at most 12.
    pub(crate) fn small<const N: usize>(kind: u16, value: [u8; N]) -> Self {
        const { assert!(N <= 12) };
        let mut bytes = [0; 12];
        bytes[..N].copy_from_slice(&value);
        #[expect(clippy::cast_possible_truncation, reason = "at most 12")]
        Self::new(kind, Value::Small { length: N as u8, bytes })
    }

    /// Checks the lengths of the attribute and of those nested in it.
    ///
    /// # Errors
    /// Fails if one of them is too long.
    fn check(&self) -> Result<(), TooLong> {
        if let Value::Nest(inner) = &self.value {
            inner.iter().try_for_each(Self::check)?;
        }
        match self.value_len() {
            length if length > MAX_VALUE => Err(TooLong { length }),
            _ => Ok(()),
        }
    }
}

impl Nla for Attribute<'_> {
    fn value_len(&self) -> usize {
        match &self.value {
            Value::Bytes(bytes) => bytes.len(),
            Value::Small { length, .. } => (*length).into(),
            Value::Numbers(numbers) => 4 * numbers.len(),
            Value::Text(text) => text.len() + 1,
            Value::Nest(inner) => inner.as_slice().buffer_len(),
        }
    }

    fn kind(&self) -> u16 {
        self.kind
    }

    fn emit_value(&self, buffer: &mut [u8]) {
        match &self.value {
            Value::Bytes(bytes) => buffer.copy_from_slice(bytes),
            Value::Small { length, bytes } => {
                buffer.copy_from_slice(&bytes[..usize::from(*length)]);
            }
            Value::Numbers(numbers) => {
                for (place, number) in buffer.chunks_exact_mut(4).zip(numbers) {
                    place.copy_from_slice(&number.to_ne_bytes());
                }
            }
            Value::Text(text) => {
                buffer.fill(0);
                buffer[..text.len()].copy_from_slice(text.as_bytes());
            }
            Value::Nest(inner) => inner.as_slice().emit(buffer),
        }
    }
}

/// Appends attributes to a message.
///
/// # Errors
/// Fails if one of them is too long; then nothing is appended.
pub(crate) fn append(attributes: &[Attribute<'_>], to: &mut Vec<u8>) -> Result<(), TooLong> {
    attributes.iter().try_for_each(Attribute::check)?;
    let start = to.len();
    to.resize(start + attributes.buffer_len(), 0);
    attributes.emit(&mut to[start..]);
    Ok(())
}

#[cfg(test)]
mod tests {
    use weave_netlink::Attributes;

    use super::*;

    #[test]
    fn a_tree_is_decoded_again() {
        let tree = [
            Attribute::text(3, "vxlan-6784"),
            Attribute::nest(4, vec![Attribute::u16(1, 6784), Attribute::empty(5)]),
            Attribute::new(6, Value::Bytes(&[1, 2, 3])),
        ];
        let mut bytes = Vec::new();
        append(&tree, &mut bytes).unwrap();
        let fields: Vec<_> = Attributes::new(&bytes, 0).map(Result::unwrap).collect();
        let [name, options, rest] = fields[..] else { panic!("{fields:?}") };
        assert_eq!((name.kind, name.text("name").unwrap()), (3, "vxlan-6784"));
        let inner: Vec<_> = options.nested().map(Result::unwrap).collect();
        assert_eq!((inner[0].kind, inner[0].u16("port").unwrap()), (1, 6784));
        assert_eq!((inner[1].kind, inner[1].value), (5, &[][..]));
        assert_eq!(inner[0].offset, options.offset + 4);
        assert_eq!((rest.kind, rest.value), (6, &[1, 2, 3][..]));
    }

    #[test]
    fn long_values_are_refused() {
        let packet = vec![0; MAX_VALUE + 1];
        let mut bytes = vec![7];
        let attribute = |bytes| Attribute::nest(1, vec![Attribute::new(2, Value::Bytes(bytes))]);
        assert_eq!(
            append(&[attribute(&packet)], &mut bytes),
            Err(TooLong { length: MAX_VALUE + 1 })
        );
        assert_eq!(bytes, [7]);
        assert!(append(&[Attribute::new(2, Value::Bytes(&packet[1..]))], &mut bytes).is_ok());
    }
}
