//! Sleeve datagrams in the legacy format. The first byte chooses: in clear, as they arrive on an
//! encrypted link, or encrypted here with the right key, so that the contents get through. The same
//! bytes are also opened as a batch of datagrams, whose length the first byte chooses as well.
#![no_main]

use libfuzzer_sys::fuzz_target;
use weave_core::mesh::SessionKey;
use weave_sleeve::cipher::{Channel, Cipher, LegacyBox, OpenError};
use weave_sleeve::datagram::{Records, sender};
use weave_sleeve::replay::Windows;

fuzz_target!(|input: &[u8]| {
    let Some((how, input)) = input.split_first() else { return };
    let mut datagram = input.to_vec();
    let each_len = usize::from(how / 3) + 1;
    let legacy = |outbound| Cipher::Legacy(LegacyBox::new(&SessionKey([0xa0; 32]), outbound));
    let mut windows = Windows::default();
    match how % 3 {
        0 => {
            batch(&Cipher::Plain, input, each_len);
            check(&Cipher::Plain, &mut windows, &mut datagram);
        }
        1 => {
            batch(&legacy(false), input, each_len);
            check(&legacy(false), &mut windows, &mut datagram);
        }
        _ => {
            let sealer = legacy(true);
            let mut sealed = vec![0; sealer.header_len()];
            sealed.extend(input);
            let channel = if how & 4 == 0 { Channel::DontFragment } else { Channel::Fragmentable };
            let own = sender(&[2; 6]).expect("six bytes are a name");
            sealer.seal(own, channel, &mut sealed).expect("the first number is free");
            let mut again = sealed.clone();
            let opener = legacy(false);
            let inside = opener.open(&mut windows, &mut sealed).expect("sealed with this key");
            assert_eq!(inside, input);
            assert_eq!(opener.open(&mut windows, &mut again), Err(OpenError::Replayed));
            records(input);
        }
    }
});

fn check(cipher: &Cipher, windows: &mut Windows, datagram: &mut [u8]) {
    let named = sender(datagram).is_ok();
    if let Ok(bytes) = cipher.open(windows, datagram) {
        assert!(named);
        records(bytes);
    }
}

/// Opens a batch: each datagram is reported once.
fn batch(cipher: &Cipher, input: &[u8], each_len: usize) {
    let mut count = 0;
    cipher.open_batch(&mut Windows::default(), &mut input.to_vec(), each_len, |opened| {
        count += 1;
        if let Ok(bytes) = opened {
            records(bytes);
        }
    });
    assert_eq!(count, input.len().div_ceil(each_len));
}

/// Reads records: written again they give the same bytes, up to the error.
fn records(bytes: &[u8]) {
    let mut again = Vec::new();
    let mut failed = false;
    for record in Records::new(bytes) {
        assert!(!failed, "nothing comes after an error");
        let Ok(record) = record else {
            failed = true;
            continue;
        };
        let end = again.len();
        again.resize(end + record.buffer_len(), 0);
        assert_eq!(record.emit(&mut again[end..]), Some(record.buffer_len()));
    }
    assert!(bytes.starts_with(&again));
    assert_eq!(failed, again.len() < bytes.len());
}
