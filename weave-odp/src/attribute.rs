//! Attributes: a tree of them to send, and a bounded walk over those received.
//!
//! How deep nests go is fixed by the types that are decoded, never by the input.

use netlink_packet_core::{Emitable, NLA_ALIGNTO, NLA_HEADER_SIZE, Nla, NlaBuffer};

use crate::error::{DecodeError, TooLong};

/// Longest value: the length of an attribute is 16 bits, and counts its header.
const MAX_VALUE: usize = u16::MAX as usize - NLA_HEADER_SIZE;

/// An attribute to be sent.
#[derive(Clone, Debug)]
pub(crate) struct Attribute<'a> {
    kind: u16,
    value: Value<'a>,
}

/// What is in it.
#[derive(Clone, Debug)]
pub(crate) enum Value<'a> {
    Bytes(&'a [u8]),
    /// A number or an address.
    Small {
        length: u8,
        bytes: [u8; 12],
    },
    /// Several numbers.
    Numbers(Vec<u32>),
    /// Ends with a NUL.
    Text(&'a str),
    Nest(Vec<Attribute<'a>>),
}

impl<'a> Attribute<'a> {
    pub(crate) const fn new(kind: u16, value: Value<'a>) -> Self {
        Self { kind, value }
    }

    /// Present, and that is all it says.
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

    /// A fixed number of bytes, at most 12.
    pub(crate) fn small<const N: usize>(kind: u16, value: [u8; N]) -> Self {
        const { assert!(N <= 12) };
        let mut bytes = [0; 12];
        bytes[..N].copy_from_slice(&value);
        #[expect(clippy::cast_possible_truncation, reason = "at most 12")]
        Self::new(kind, Value::Small { length: N as u8, bytes })
    }

    /// # Errors
    /// It, or one inside it, does not fit.
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
/// One of them does not fit; nothing is appended.
pub(crate) fn append(attributes: &[Attribute<'_>], to: &mut Vec<u8>) -> Result<(), TooLong> {
    attributes.iter().try_for_each(Attribute::check)?;
    let start = to.len();
    to.resize(start + attributes.buffer_len(), 0);
    attributes.emit(&mut to[start..]);
    Ok(())
}

/// The attributes in received bytes, in order; after an error there are none.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Attributes<'a> {
    rest: &'a [u8],
    offset: usize,
}

/// An attribute received.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Field<'a> {
    pub(crate) kind: u16,
    pub(crate) value: &'a [u8],
    /// Where the value starts.
    pub(crate) offset: usize,
}

impl<'a> Attributes<'a> {
    /// Those in `bytes`, which start at `offset` of what is being decoded.
    pub(crate) const fn new(bytes: &'a [u8], offset: usize) -> Self {
        Self { rest: bytes, offset }
    }
}

impl<'a> Iterator for Attributes<'a> {
    type Item = Result<Field<'a>, DecodeError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.rest.is_empty() {
            return None;
        }
        let Self { rest, offset } = std::mem::replace(self, Self::new(&[], 0));
        let left = rest.len();
        if left < NLA_HEADER_SIZE {
            let needed = NLA_HEADER_SIZE;
            return Some(Err(DecodeError::Short { what: "an attribute", offset, needed, left }));
        }
        let header = NlaBuffer::new(rest);
        let length = usize::from(header.length());
        let Some(value) = rest.get(NLA_HEADER_SIZE..length) else {
            return Some(Err(DecodeError::Attribute { offset, length, left }));
        };
        let next = length.next_multiple_of(NLA_ALIGNTO).min(left);
        *self = Self::new(&rest[next..], offset + next);
        Some(Ok(Field { kind: header.kind(), value, offset: offset + NLA_HEADER_SIZE }))
    }
}

impl<'a> Field<'a> {
    /// The attributes inside.
    pub(crate) const fn nested(&self) -> Attributes<'a> {
        Attributes::new(self.value, self.offset)
    }

    pub(crate) fn array<const N: usize>(&self, what: &'static str) -> Result<[u8; N], DecodeError> {
        self.value.try_into().map_err(|_| {
            let (offset, length) = (self.offset, self.value.len());
            DecodeError::Length { what, offset, expected: N, length }
        })
    }

    pub(crate) fn u8(&self, what: &'static str) -> Result<u8, DecodeError> {
        self.array(what).map(u8::from_ne_bytes)
    }

    pub(crate) fn u16(&self, what: &'static str) -> Result<u16, DecodeError> {
        self.array(what).map(u16::from_ne_bytes)
    }

    pub(crate) fn u32(&self, what: &'static str) -> Result<u32, DecodeError> {
        self.array(what).map(u32::from_ne_bytes)
    }

    pub(crate) fn u64(&self, what: &'static str) -> Result<u64, DecodeError> {
        self.array(what).map(u64::from_ne_bytes)
    }

    /// The first `N` 64-bit numbers; kernels append to lists of counters.
    pub(crate) fn counters<const N: usize>(
        &self,
        what: &'static str,
    ) -> Result<[u64; N], DecodeError> {
        let mut counters = [0; N];
        let (words, _) = self.value.as_chunks();
        if words.len() < N {
            let (offset, length) = (self.offset, self.value.len());
            return Err(DecodeError::Length { what, offset, expected: 8 * N, length });
        }
        for (counter, word) in counters.iter_mut().zip(words) {
            *counter = u64::from_ne_bytes(*word);
        }
        Ok(counters)
    }

    /// Up to the first NUL.
    pub(crate) fn text(&self, what: &'static str) -> Result<&'a str, DecodeError> {
        let bytes = self.value.split(|&byte| byte == 0).next().unwrap_or_default();
        str::from_utf8(bytes).map_err(|_| DecodeError::Text { what, offset: self.offset })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tree_comes_back() {
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
    fn says_what_is_wrong_and_where() {
        let errors = |bytes: &[u8]| {
            let mut fields = Attributes::new(bytes, 100);
            let error = fields.find_map(Result::err).unwrap().to_string();
            assert!(fields.next().is_none(), "nothing comes after an error");
            error
        };
        let [six, three, two] = [6_u16, 3, 2].map(u16::to_ne_bytes);
        assert_eq!(errors(&[1, 2]), "an attribute at offset 100 needs 4 bytes, but 2 are left");
        assert_eq!(
            errors(&[six, two].concat()),
            "an attribute at offset 100 says it has 6 bytes, of 4"
        );
        assert_eq!(
            errors(&[three, two].concat()),
            "an attribute at offset 100 says it has 3 bytes, of 4"
        );
        let field = Field { kind: 1, value: &[1, 2, 3], offset: 8 };
        assert_eq!(
            field.u32("port number").unwrap_err().to_string(),
            "port number at offset 8 has 3 bytes instead of 4"
        );
        assert_eq!(
            Field { value: &[0xff, 0], ..field }.text("name").unwrap_err().to_string(),
            "name at offset 8 is no text"
        );
    }

    #[test]
    fn what_does_not_fit_is_refused() {
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
