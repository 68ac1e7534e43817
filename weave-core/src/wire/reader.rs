//! A cursor over received bytes that never indexes.

/// Takes fields from the front of a byte string and knows where it is, for error messages.
#[derive(Clone, Copy, Debug)]
pub struct Reader<'a> {
    rest: &'a [u8],
    /// Offset of the end of `rest` in the input that the first reader was made of.
    end: usize,
}

/// The input ended in the middle of something.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error("{what} at offset {offset} needs {needed} bytes, but {left} are left")]
pub struct UnexpectedEnd {
    /// What was being read.
    pub what: &'static str,
    /// Where it starts in the input.
    pub offset: usize,
    /// Its length.
    pub needed: usize,
    /// How many bytes there were.
    pub left: usize,
}

impl<'a> Reader<'a> {
    /// A reader at the start of `input`.
    pub const fn new(input: &'a [u8]) -> Self {
        Self { rest: input, end: input.len() }
    }

    /// How many bytes have been read, counted from the start of the outermost input.
    pub const fn offset(&self) -> usize {
        self.end - self.rest.len()
    }

    /// What has not been read yet.
    pub const fn rest(&self) -> &'a [u8] {
        self.rest
    }

    /// How many bytes are left.
    pub const fn remaining(&self) -> usize {
        self.rest.len()
    }

    /// Whether everything has been read.
    pub const fn is_empty(&self) -> bool {
        self.rest.is_empty()
    }

    /// Takes `length` bytes, borrowed from the input.
    pub fn bytes(&mut self, length: usize, what: &'static str) -> Result<&'a [u8], UnexpectedEnd> {
        match self.rest.split_at_checked(length) {
            Some((taken, rest)) => {
                self.rest = rest;
                Ok(taken)
            }
            None => Err(self.unexpected_end(length, what)),
        }
    }

    /// Takes `length` bytes as an input of its own, whose offsets go on counting from the start
    /// of this one.
    pub fn sub_reader(&mut self, length: usize, what: &'static str) -> Result<Self, UnexpectedEnd> {
        let start = self.offset();
        let rest = self.bytes(length, what)?;
        Ok(Self { rest, end: start + length })
    }

    /// Takes a fixed number of bytes.
    pub fn array<const N: usize>(&mut self, what: &'static str) -> Result<[u8; N], UnexpectedEnd> {
        match self.rest.split_first_chunk() {
            Some((taken, rest)) => {
                self.rest = rest;
                Ok(*taken)
            }
            None => Err(self.unexpected_end(N, what)),
        }
    }

    /// Takes one byte.
    pub fn u8(&mut self, what: &'static str) -> Result<u8, UnexpectedEnd> {
        self.array(what).map(u8::from_be_bytes)
    }

    /// Takes a big-endian 16-bit number.
    pub fn u16(&mut self, what: &'static str) -> Result<u16, UnexpectedEnd> {
        self.array(what).map(u16::from_be_bytes)
    }

    /// Takes a big-endian 32-bit number.
    pub fn u32(&mut self, what: &'static str) -> Result<u32, UnexpectedEnd> {
        self.array(what).map(u32::from_be_bytes)
    }

    /// Takes a big-endian 64-bit number.
    pub fn u64(&mut self, what: &'static str) -> Result<u64, UnexpectedEnd> {
        self.array(what).map(u64::from_be_bytes)
    }

    fn unexpected_end(&self, needed: usize, what: &'static str) -> UnexpectedEnd {
        UnexpectedEnd { what, offset: self.offset(), needed, left: self.rest.len() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_in_order_and_says_where_it_ended() {
        let mut reader = Reader::new(&[1, 0, 2, 0, 0, 0, 3, 9, 9, 9, 4]);
        assert_eq!(reader.u8("a"), Ok(1));
        assert_eq!(reader.u16("b"), Ok(2));
        assert_eq!(reader.u32("c"), Ok(3));
        assert_eq!(reader.bytes(2, "d"), Ok(&[9, 9][..]));
        assert_eq!(reader.rest(), [9, 4]);
        let error = reader.u64("counter").unwrap_err();
        assert_eq!(error, UnexpectedEnd { what: "counter", offset: 9, needed: 8, left: 2 });
        assert_eq!(error.to_string(), "counter at offset 9 needs 8 bytes, but 2 are left");
        assert_eq!(reader.remaining(), 2, "a failed read takes nothing");
        assert!(reader.bytes(usize::MAX, "e").is_err());
    }

    #[test]
    fn a_sub_reader_counts_from_the_outer_start() {
        let mut outer = Reader::new(&[0, 1, 2, 3, 4]);
        outer.u8("first").unwrap();
        let mut inner = outer.sub_reader(2, "inner").unwrap();
        assert_eq!(inner.offset(), 1);
        assert_eq!(inner.u16("pair"), Ok(0x0102));
        assert!(inner.is_empty());
        assert_eq!(inner.u8("more").unwrap_err().offset, 3);
        assert_eq!(outer.offset(), 3);
        assert!(outer.sub_reader(3, "inner").is_err());
    }
}
