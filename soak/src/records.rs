//! The payload of the channel `topology`, any field of which can be a lie.
//!
//! A second description of the bytes beside that of the product, which makes only records that
//! are true.

use weave_core::gob_struct;
use weave_core::wire::gob::{Decoder, Encoder, Text};

gob_struct! {
    #[derive(Clone, PartialEq, Debug, Default)]
    struct PeerSummary<'a> as "peerSummary" {
        name: &'a [u8] = "NameByte",
        nickname: Text<'a> = "NickName",
        uid: u64 = "UID",
        version: u64 = "Version",
        short_id: u16 = "ShortID",
        has_short_id: bool = "HasShortID",
    }
}

gob_struct! {
    #[derive(Clone, PartialEq, Debug, Default)]
    struct ConnectionSummary<'a> as "connectionSummary" {
        name: &'a [u8] = "NameByte",
        address: Text<'a> = "RemoteTCPAddr",
        outbound: bool = "Outbound",
        established: bool = "Established",
    }
}

/// What is said of one peer.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Record {
    /// Six bytes, if it is true.
    pub name: Vec<u8>,
    /// What people call it.
    pub nickname: String,
    /// Its incarnation.
    pub uid: u64,
    /// How often it changed.
    pub version: u64,
    /// Below 4096, if it is true.
    pub short_id: u16,
    /// Whether the short id counts.
    pub has_short_id: bool,
    /// Its connections.
    pub links: Vec<LinkRecord>,
}

/// What is said of one connection.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct LinkRecord {
    /// The other end.
    pub name: Vec<u8>,
    /// Its address.
    pub address: String,
    /// Whether the peer dialled.
    pub outbound: bool,
    /// Whether frames get through.
    pub established: bool,
}

/// Reads as many records as make sense.
pub fn decode(payload: &[u8]) -> Vec<Record> {
    let mut records = Vec::new();
    let mut decoder = Decoder::new(payload);
    while let Ok(Some(summary)) = decoder.next_value::<PeerSummary<'_>>() {
        let mut links = Vec::new();
        let read = decoder.next_elements(|link: ConnectionSummary<'_>| {
            links.push(LinkRecord {
                name: link.name.to_vec(),
                address: link.address.to_lossy().into_owned(),
                outbound: link.outbound,
                established: link.established,
            });
            Ok::<(), weave_core::wire::gob::Error>(())
        });
        if !matches!(read, Ok(true)) {
            break;
        }
        records.push(Record {
            name: summary.name.to_vec(),
            nickname: summary.nickname.to_lossy().into_owned(),
            uid: summary.uid,
            version: summary.version,
            short_id: summary.short_id,
            has_short_id: summary.has_short_id,
            links,
        });
    }
    records
}

/// The payload.
pub fn encode(records: &[Record]) -> Vec<u8> {
    let mut encoder = Encoder::new();
    for record in records {
        encoder.value(&PeerSummary {
            name: &record.name,
            nickname: Text::from(record.nickname.as_str()),
            uid: record.uid,
            version: record.version,
            short_id: record.short_id,
            has_short_id: record.has_short_id,
        });
        let links = record.links.iter().map(|link| ConnectionSummary {
            name: &link.name,
            address: Text::from(link.address.as_str()),
            outbound: link.outbound,
            established: link.established,
        });
        encoder.value(&links.collect::<Vec<_>>());
    }
    encoder.finish()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_encoded_decodes() {
        let link = LinkRecord {
            name: vec![1; 6],
            address: "10.0.0.1:6783".into(),
            outbound: true,
            established: false,
        };
        let record = Record {
            name: vec![2; 6],
            nickname: "n".into(),
            uid: 3,
            version: 4,
            short_id: 5,
            has_short_id: true,
            links: vec![link],
        };
        let records = [record.clone(), Record { links: vec![], ..record }];
        assert_eq!(decode(&encode(&records)), records);
    }
}
