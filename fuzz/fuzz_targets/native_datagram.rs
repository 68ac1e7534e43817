//! Sealed datagrams between our own routers. The first byte says how: as anybody can make them,
//! or sealed here with the right key, some epochs later, changed on the way and in the end as
//! they were.
#![no_main]

use libfuzzer_sys::fuzz_target;
use weave_core::mesh::{PeerName, SessionKey};
use weave_core::time::Instant;
use weave_sleeve::cipher::native::{
    EPOCH_AGE, HEADER_LEN, OpenError, Opener, SEALED, Sealer, Suite, TAG_LEN,
};

/// Epochs after the first one that the receiver has keys for.
const AHEAD: u8 = 15;

fuzz_target!(|input: &[u8]| {
    let Some((how, input)) = input.split_first() else { return };
    let suite = if how & 1 == 0 { Suite::Aes128Gcm } else { Suite::ChaCha20Poly1305 };
    let key = SessionKey([0xa0; 32]);
    let mut opener = Opener::new(&key, false, suite);
    let sealer = Sealer::new(&key, true, suite, Instant::ORIGIN);
    if how & 2 == 0 {
        // Another key: the fuzzer sees the datagrams that are sealed below.
        anybodys(&mut Opener::new(&SessionKey([0xa1; 32]), false, suite), input);
    } else if let Some(([epochs, place, bits], text)) = input.split_first_chunk() {
        let datagram = seal(&sealer, *epochs, text);
        let mut changed = datagram.clone();
        changed[usize::from(*place) % datagram.len()] ^= bits;
        if changed != datagram {
            anybodys(&mut opener, &changed);
        }
        let opened = opener.open(&mut datagram.clone()).map(<[u8]>::to_vec);
        if *epochs <= AHEAD {
            assert_eq!(opened.as_deref(), Ok(text));
            assert_eq!(opener.open(&mut datagram.clone()), Err(OpenError::Replayed));
        } else {
            assert!(matches!(opened, Err(OpenError::Epoch { .. })));
        }
    }
});

/// What was not sealed with the key does not open, for the reason that it has.
fn anybodys(opener: &mut Opener, datagram: &[u8]) {
    let error = opener.open(&mut datagram.to_vec()).expect_err("nobody else has the key");
    match error {
        OpenError::TooShort { length } => {
            assert!(length == datagram.len() && length < HEADER_LEN + TAG_LEN);
        }
        OpenError::Forged => assert!(datagram[1] <= AHEAD),
        OpenError::Epoch { epoch, current } => {
            assert!(epoch == datagram[1] && epoch > AHEAD && current == 0);
        }
        _ => panic!("nothing came before, and not much was forged: {error}"),
    }
}

/// Seals this text in the epoch of this number.
fn seal(sealer: &Sealer, epoch: u8, text: &[u8]) -> Vec<u8> {
    let mut datagram = Vec::new();
    for epoch in 0..=epoch {
        datagram = [&[0; HEADER_LEN], text, &[0; TAG_LEN]].concat();
        let now = Instant::ORIGIN + EPOCH_AGE * epoch.into();
        sealer.seal(now, PeerName::from_bytes([2; 6]), &mut datagram);
        assert_eq!(datagram[..2], [SEALED, epoch]);
    }
    datagram
}
