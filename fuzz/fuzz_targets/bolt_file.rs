//! Files of bolt: whatever is read of one can be written, and is read again. Checksums are mended
//! first, or nothing would get past them.
#![no_main]

use libfuzzer_sys::fuzz_target;
use weave_bolt::{Database, EncodeError, encode, newest_transaction};

/// The smallest page: inputs are short.
const PAGE: usize = 512;
const META: std::ops::Range<usize> = 16..72;

fuzz_target!(|input: &[u8]| {
    let mut file = input.to_vec();
    let size = file.get(24..28).and_then(|bytes| Some(u32::from_le_bytes(bytes.try_into().ok()?)));
    let second = size.map_or(PAGE, |size| size as usize);
    for start in [0, second] {
        mend(file.get_mut(start..).unwrap_or_default());
    }
    let Ok(database) = Database::decode(&file) else { return };
    assert_eq!(newest_transaction(&file), Ok(database.transaction));
    let again = match encode(&database.root, database.transaction) {
        Ok(again) => again,
        // Nobody writes such a key, or so many, but they can be read.
        Err(EncodeError::Key(_) | EncodeError::Keys(_) | EncodeError::TooLarge) => return,
        Err(error) => panic!("{error}"),
    };
    assert_eq!(Database::decode(&again).as_ref(), Ok(&database));
});

/// Puts the checksum that belongs there behind the fields of a meta page (FNV-1a).
fn mend(page: &mut [u8]) {
    let Some(fields) = page.get(META) else { return };
    let sum = fields.iter().fold(0xcbf2_9ce4_8422_2325u64, |hash, byte| {
        (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3)
    });
    if let Some(place) = page.get_mut(META.end..META.end + 8) {
        place.copy_from_slice(&sum.to_le_bytes());
    }
}
