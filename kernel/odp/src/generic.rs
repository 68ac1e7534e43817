//! Messages of generic netlink.

use weave_netlink::DecodeError;

/// Length of a generic netlink header, `genlmsghdr`.
pub(crate) const GENERIC_HEADER: usize = 4;

/// A message of a family.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Generic<'a> {
    /// Command of the message.
    pub command: u8,
    /// Bytes behind the generic header.
    pub payload: &'a [u8],
}

impl<'a> Generic<'a> {
    /// Decodes the bytes behind a netlink header.
    ///
    /// # Errors
    /// Fails if there are too few bytes for a generic header.
    pub fn decode(payload: &'a [u8]) -> Result<Self, DecodeError> {
        let left = payload.len();
        let (header, payload) =
            payload.split_first_chunk::<GENERIC_HEADER>().ok_or(DecodeError::Short {
                what: "a generic netlink header",
                offset: 0,
                needed: GENERIC_HEADER,
                left,
            })?;
        Ok(Self { command: header[0], payload })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_and_its_payload() {
        let generic = Generic::decode(&[3, 1, 0, 0, 0xaa]);
        assert_eq!(generic, Ok(Generic { command: 3, payload: &[0xaa] }));
        let error = Generic::decode(&[3, 1]).unwrap_err().to_string();
        assert_eq!(error, "a generic netlink header at offset 0 needs 4 bytes, but 2 are left");
    }
}
