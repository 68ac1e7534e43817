//! Tests of the codec with the types of the protocols.

mod catalogue;
mod hostile;
mod properties;
mod skip;
mod vectors;

use serde_json::Value;

use super::*;

gob_struct! {
    /// What the `topology` channel says of a peer.
    #[derive(Clone, PartialEq, Debug, Default)]
    struct PeerSummary<'a> as "peerSummary" {
        name: &'a [u8] = "NameByte",
        nick_name: Text<'a> = "NickName",
        uid: u64 = "UID",
        version: u64 = "Version",
        short_id: u16 = "ShortID",
        has_short_id: bool = "HasShortID",
    }
}

gob_struct! {
    /// What it says of a connection.
    #[derive(Clone, PartialEq, Debug, Default)]
    struct ConnectionSummary<'a> as "connectionSummary" {
        name: &'a [u8] = "NameByte",
        address: Text<'a> = "RemoteTCPAddr",
        outbound: bool = "Outbound",
        established: bool = "Established",
    }
}

type Topology<'a> = Vec<(PeerSummary<'a>, Vec<ConnectionSummary<'a>>)>;

fn decode_topology(stream: &[u8]) -> Result<Topology<'_>, Error> {
    let mut decoder = Decoder::new(stream);
    let mut peers = Vec::new();
    while let Some(peer) = decoder.next_value()? {
        peers.push((peer, decoder.value()?));
    }
    Ok(peers)
}

fn encode_topology(peers: &Topology<'_>) -> Vec<u8> {
    let mut encoder = Encoder::new();
    for (peer, connections) in peers {
        encoder.value(peer);
        encoder.value(connections);
    }
    encoder.finish()
}

fn encode<T: Encode + ?Sized>(value: &T) -> Vec<u8> {
    let mut encoder = Encoder::new();
    encoder.value(value);
    encoder.finish()
}

fn vectors(section: &str) -> Vec<Value> {
    let text = include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/vectors/gob.json"));
    let mut vectors: Value = serde_json::from_str(text).unwrap();
    match vectors[section].take() {
        Value::Array(rows) => rows,
        other => panic!("{section} is {other}"),
    }
}

fn text<'a>(row: &'a Value, key: &str) -> &'a str {
    row[key].as_str().unwrap_or_else(|| panic!("{key} in {row}"))
}

fn bytes(row: &Value, key: &str) -> Vec<u8> {
    hex::decode(text(row, key)).unwrap()
}
