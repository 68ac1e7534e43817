//! A payload of the `topology` channel: what decodes is the same after encoding it again.
#![no_main]

use libfuzzer_sys::fuzz_target;
use weave_core::wire::gob::{Decoder, Encoder, Error, Text, gob_struct};

gob_struct! {
    #[derive(PartialEq, Debug, Default)]
    struct Peer<'a> as "peerSummary" {
        name: &'a [u8] = "NameByte",
        nick_name: Text<'a> = "NickName",
        uid: u64 = "UID",
        version: u64 = "Version",
        short_id: u16 = "ShortID",
        has_short_id: bool = "HasShortID",
    }
}

gob_struct! {
    #[derive(PartialEq, Debug, Default)]
    struct Connection<'a> as "connectionSummary" {
        name: &'a [u8] = "NameByte",
        address: Text<'a> = "RemoteTCPAddr",
        outbound: bool = "Outbound",
        established: bool = "Established",
    }
}

fn decode(stream: &[u8]) -> Result<Vec<(Peer<'_>, Vec<Connection<'_>>)>, Error> {
    let mut decoder = Decoder::new(stream);
    let mut peers = Vec::new();
    while let Some(peer) = decoder.next_value()? {
        peers.push((peer, decoder.value()?));
    }
    Ok(peers)
}

fuzz_target!(|stream: &[u8]| {
    match decode(stream) {
        Ok(peers) => {
            let mut encoder = Encoder::new();
            for (peer, connections) in &peers {
                encoder.value(peer);
                encoder.value(connections);
            }
            assert_eq!(decode(&encoder.finish()), Ok(peers));
        }
        Err(error) => assert!(error.offset <= stream.len(), "{error}"),
    }
});
