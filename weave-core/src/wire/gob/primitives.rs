//! What all else is written with (spec gob.md, section 1): numbers, and bytes with their length.
//!
//! ```text
//!   below 128    | value |
//!   else         | 256 - n | value, n bytes, big-endian |     n = 1 to 8, no leading zeros
//!   signed       unsigned: value << 1, or !value << 1 | 1 if negative
//!   bytes, text  | length, unsigned | bytes |
//! ```

/// An unsigned integer, as short as possible.
pub(super) fn put_uint(number: u64, out: &mut Vec<u8>) {
    if number < 0x80 {
        out.push(number.to_be_bytes()[7]);
        return;
    }
    let bytes = number.to_be_bytes();
    let zeros = number.leading_zeros() as usize / 8;
    let significant = bytes.get(zeros..).unwrap_or_default();
    // The negated count: 0xff for 1 to 0xf8 for 8.
    out.push([0xf8, 0xf9, 0xfa, 0xfb, 0xfc, 0xfd, 0xfe, 0xff][zeros]);
    out.extend_from_slice(significant);
}

/// A signed integer: the sign goes to the lowest bit.
pub(super) fn put_int(number: i64, out: &mut Vec<u8>) {
    let magnitude = if number < 0 { !number } else { number };
    put_uint(magnitude.cast_unsigned() << 1 | u64::from(number < 0), out);
}

/// A length and that many bytes.
pub(super) fn put_bytes(bytes: &[u8], out: &mut Vec<u8>) {
    put_uint(bytes.len() as u64, out);
    out.extend_from_slice(bytes);
}
