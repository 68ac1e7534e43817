//! A handshake with whatever the peer sends, in whatever pieces.
#![no_main]

use std::collections::BTreeMap;

use libfuzzer_sys::fuzz_target;
use weave_core::mesh::{
    Features, Handshake, HandshakeError, HandshakeParams, HeaderError, Password, PeerName,
    Progress, Uid,
};

/// What came of it, and the messages that followed.
type Outcome = (String, Vec<Vec<u8>>);

fn run(outbound: bool, password: bool, chunks: &[&[u8]]) -> Outcome {
    let mut handshake = Handshake::new(HandshakeParams {
        outbound,
        password: Password::new("secret").filter(|_| password),
        secret: [7; 32].into(),
        features: Features {
            name: PeerName::from_u64(1).unwrap(),
            nickname: "fuzz".into(),
            uid: Uid(1),
            connection_id: 1,
            short_id: None,
            trusted: false,
            overlays: None,
            further: BTreeMap::new(),
        },
    });
    let mut session = None;
    let mut messages = Vec::new();
    for chunk in chunks {
        match &mut session {
            None => match handshake.handle_bytes(chunk) {
                Ok(Progress::Pending) => {
                    let _ = handshake.poll_transmit();
                }
                Ok(Progress::Done(established)) => session = Some(established),
                // How much of it had come depends on the cut.
                Err(HandshakeError::Header(HeaderError::NotWeave(_))) => return Outcome::default(),
                Err(error) => return (error.to_string(), messages),
            },
            Some(established) => established.session.handle_bytes(chunk),
        }
        if let Some(established) = &mut session {
            loop {
                match established.session.poll_message() {
                    Ok(Some(message)) => messages.push(message.to_vec()),
                    Ok(None) => break,
                    Err(error) => return (error.to_string(), messages),
                }
            }
        }
    }
    (format!("{:?}", session.map(|established| established.remote)), messages)
}

fuzz_target!(|input: &[u8]| {
    let Some((&[flags, size], stream)) = input.split_first_chunk() else { return };
    let (outbound, password) = (flags & 1 != 0, flags & 2 != 0);
    let pieces: Vec<&[u8]> = stream.chunks(usize::from(size).max(1)).collect();
    // How the bytes are cut must not matter.
    assert_eq!(run(outbound, password, &pieces), run(outbound, password, &[stream]));
});
