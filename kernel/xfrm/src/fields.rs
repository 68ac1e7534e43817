//! Reading and writing the structures that precede attributes or are values of attributes.

use std::net::Ipv4Addr;

use weave_netlink::DecodeError;

/// Length of an address: `xfrm_address_t` has room for IPv6, and an IPv4 address comes first.
const ADDRESS_LEN: usize = 16;

/// A buffer to which structures are written field by field.
pub(crate) trait Put {
    fn put(&mut self, bytes: &[u8]);
    fn zeros(&mut self, count: usize);

    fn u16(&mut self, number: u16) {
        self.put(&number.to_ne_bytes());
    }

    fn u32(&mut self, number: u32) {
        self.put(&number.to_ne_bytes());
    }

    fn u64(&mut self, number: u64) {
        self.put(&number.to_ne_bytes());
    }

    fn address(&mut self, address: Ipv4Addr) {
        self.put(&address.octets());
        self.zeros(ADDRESS_LEN - 4);
    }

    /// Writes the header of an attribute. The length of its value is a multiple of 4 and at most
    /// `u16::MAX - 4`.
    fn attribute(&mut self, kind: u16, length: u16) {
        self.u16(length + 4);
        self.u16(kind);
    }
}

impl Put for Vec<u8> {
    fn put(&mut self, bytes: &[u8]) {
        self.extend_from_slice(bytes);
    }

    fn zeros(&mut self, count: usize) {
        self.resize(self.len() + count, 0);
    }
}

/// A structure that is read field by field.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Fields<'a> {
    rest: &'a [u8],
}

impl<'a> Fields<'a> {
    /// Splits a structure of `length` bytes off `bytes`, which start at `offset` of a message.
    pub(crate) fn split(
        what: &'static str,
        bytes: &'a [u8],
        offset: usize,
        length: usize,
    ) -> Result<(Self, &'a [u8]), DecodeError> {
        let (fields, rest) = bytes.split_at_checked(length).ok_or(DecodeError::Short {
            what,
            offset,
            needed: length,
            left: bytes.len(),
        })?;
        Ok((Self { rest: fields }, rest))
    }

    /// Takes the next field. A field beyond the end of the structure, whose length is known, would
    /// be a mistake in this crate that the tests find; it reads as zero.
    fn take<const N: usize>(&mut self) -> [u8; N] {
        debug_assert!(self.rest.len() >= N, "a field beyond the end of its structure");
        let Some((field, rest)) = self.rest.split_first_chunk() else { return [0; N] };
        self.rest = rest;
        *field
    }

    pub(crate) fn u8(&mut self) -> u8 {
        let [byte] = self.take();
        byte
    }

    pub(crate) fn u32(&mut self) -> u32 {
        u32::from_ne_bytes(self.take())
    }

    pub(crate) fn u64(&mut self) -> u64 {
        u64::from_ne_bytes(self.take())
    }

    pub(crate) fn u32_be(&mut self) -> u32 {
        u32::from_be_bytes(self.take())
    }

    pub(crate) fn u16(&mut self) -> u16 {
        u16::from_ne_bytes(self.take())
    }

    pub(crate) fn address(&mut self) -> Ipv4Addr {
        let [a, b, c, d, ..] = self.take::<ADDRESS_LEN>();
        Ipv4Addr::new(a, b, c, d)
    }

    pub(crate) fn skip(&mut self, count: usize) {
        debug_assert!(self.rest.len() >= count, "a field beyond the end of its structure");
        self.rest = self.rest.get(count..).unwrap_or_default();
    }
}
