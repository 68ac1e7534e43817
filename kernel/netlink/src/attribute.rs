//! A bounded walk over the attributes of a message.
//!
//! The depth of nesting is fixed by the types that are decoded, never by the input.

use netlink_packet_core::{NLA_ALIGNTO, NLA_HEADER_SIZE, NlaBuffer};

use crate::error::DecodeError;

/// An iterator over the attributes in received bytes, in order. It ends after the first error.
#[derive(Clone, Copy, Debug)]
pub struct Attributes<'a> {
    rest: &'a [u8],
    offset: usize,
}

/// A received attribute.
#[derive(Clone, Copy, Debug)]
pub struct Field<'a> {
    /// Type of the attribute.
    pub kind: u16,
    /// Payload, without header and padding.
    pub value: &'a [u8],
    /// Offset of the payload in the bytes that are being decoded.
    pub offset: usize,
}

impl<'a> Attributes<'a> {
    /// Iterates over `bytes`, which start at `offset` of the message that is being decoded.
    pub const fn new(bytes: &'a [u8], offset: usize) -> Self {
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
    /// Returns the attributes nested in this one.
    pub const fn nested(&self) -> Attributes<'a> {
        Attributes::new(self.value, self.offset)
    }

    /// Returns the value as an array. `what` names the value in errors, here and below.
    ///
    /// # Errors
    /// Fails if the value has another length.
    pub fn array<const N: usize>(&self, what: &'static str) -> Result<[u8; N], DecodeError> {
        self.value.try_into().map_err(|_| {
            let (offset, length) = (self.offset, self.value.len());
            DecodeError::Length { what, offset, expected: N, length }
        })
    }

    /// Reads a byte.
    ///
    /// # Errors
    /// Fails if the value has another length.
    pub fn u8(&self, what: &'static str) -> Result<u8, DecodeError> {
        self.array(what).map(u8::from_ne_bytes)
    }

    /// Reads a 16-bit number in the byte order of the host.
    ///
    /// # Errors
    /// Fails if the value has another length.
    pub fn u16(&self, what: &'static str) -> Result<u16, DecodeError> {
        self.array(what).map(u16::from_ne_bytes)
    }

    /// Reads a 32-bit number in the byte order of the host.
    ///
    /// # Errors
    /// Fails if the value has another length.
    pub fn u32(&self, what: &'static str) -> Result<u32, DecodeError> {
        self.array(what).map(u32::from_ne_bytes)
    }

    /// Reads a 64-bit number in the byte order of the host.
    ///
    /// # Errors
    /// Fails if the value has another length.
    pub fn u64(&self, what: &'static str) -> Result<u64, DecodeError> {
        self.array(what).map(u64::from_ne_bytes)
    }

    /// Reads the first `N` 64-bit counters. Newer kernels append counters to such lists, so the
    /// rest is ignored.
    ///
    /// # Errors
    /// Fails if there are fewer than `N`.
    pub fn counters<const N: usize>(&self, what: &'static str) -> Result<[u64; N], DecodeError> {
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

    /// Reads text up to the first NUL.
    ///
    /// # Errors
    /// Fails if the text is not UTF-8.
    pub fn text(&self, what: &'static str) -> Result<&'a str, DecodeError> {
        let bytes = self.value.split(|&byte| byte == 0).next().unwrap_or_default();
        str::from_utf8(bytes).map_err(|_| DecodeError::Text { what, offset: self.offset })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn attributes_and_nested_attributes_are_read() {
        let [five, eight, nine] = [5_u16, 8, 9].map(u16::to_ne_bytes);
        let [one, two, three] = [1_u16, 2, 3].map(u16::to_ne_bytes);
        let bytes =
            [&five[..], &one, &[7, 0, 0, 0], &nine, &two, &five, &three, &[b'a', 0, 0, 0], &eight];
        let mut bytes = bytes.concat();
        bytes.extend_from_slice(&[three, [1, 2], [3, 4]].concat());
        let fields: Vec<_> = Attributes::new(&bytes, 16).map(Result::unwrap).collect();
        let [number, nest, list] = fields[..] else { panic!("{fields:?}") };
        assert_eq!((number.kind, number.u8("number").unwrap(), number.offset), (1, 7, 20));
        let inner: Vec<_> = nest.nested().map(Result::unwrap).collect();
        assert_eq!((inner[0].kind, inner[0].text("name").unwrap(), inner[0].offset), (3, "a", 32));
        assert_eq!((list.kind, list.value), (3, &[1, 2, 3, 4][..]));
    }

    #[test]
    fn errors_name_the_value_and_its_offset() {
        let errors = |bytes: &[u8]| {
            let mut fields = Attributes::new(bytes, 100);
            let error = fields.find_map(Result::err).unwrap().to_string();
            assert!(fields.next().is_none(), "the iterator ends after an error");
            error
        };
        let [six, three, two] = [6_u16, 3, 2].map(u16::to_ne_bytes);
        assert_eq!(errors(&[1, 2]), "an attribute at offset 100 needs 4 bytes, but 2 are left");
        assert_eq!(
            errors(&[six, two].concat()),
            "an attribute at offset 100 claims 6 bytes, but 4 are left"
        );
        assert_eq!(
            errors(&[three, two].concat()),
            "an attribute at offset 100 claims 3 bytes, but 4 are left"
        );
        let field = Field { kind: 1, value: &[1, 2, 3], offset: 8 };
        assert_eq!(
            field.u32("port number").unwrap_err().to_string(),
            "port number at offset 8 has 3 bytes instead of 4"
        );
        assert_eq!(
            Field { value: &[0xff, 0], ..field }.text("name").unwrap_err().to_string(),
            "name at offset 8 is not UTF-8"
        );
    }
}
