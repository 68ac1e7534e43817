//! Lies about who is there and how they are connected.

use weave_core::mesh::PeerName;

use super::Tongue;
use crate::records::{LinkRecord, Record};

/// A lie about an honest peer has a version up to this. The owner outlives a lie by a higher
/// version, and there is none above the highest: see docs/security.md, what is inherited from the
/// protocol. What is left above is more than the changes of a story.
const MAX_FORGED_VERSION: u64 = u64::MAX - (1 << 32);

/// The peer that each neighbour is told to be somewhere else.
pub(super) const GOES_ROUND: u64 = 0x0bad_2000_0000;

impl Tongue {
    /// Changes one field of one record.
    pub(super) fn mutate_records(&mut self, records: &mut Vec<Record>) {
        if records.is_empty() {
            return;
        }
        let at = self.below(records.len());
        if !self.mood.forges() && self.is_honest(&records[at].name) {
            return;
        }
        match self.below(4) {
            0 => {
                let copy = records[at].clone();
                records.push(copy);
            }
            1 => drop(records.remove(at)),
            _ => self.mutate_record(&mut records[at]),
        }
        // What it became may be about an honest peer as well.
        for record in records {
            if self.is_honest(&record.name) {
                record.version = record.version.min(MAX_FORGED_VERSION);
            }
        }
    }

    /// Changes one field, and mostly makes it look newer.
    pub(super) fn mutate_record(&mut self, record: &mut Record) {
        match self.below(10) {
            0 => self.rename(&mut record.name),
            1 => record.nickname = format!("liar\u{7}{}", self.below(9)),
            2 => record.uid = self.random.number(),
            3 => record.short_id = u16::try_from(self.below(5000)).unwrap_or(0),
            4 => record.has_short_id = !record.has_short_id,
            5 => record.links.clear(),
            6 => drop(record.links.pop()),
            7 => {
                let link = self.any_link();
                record.links.push(link);
            }
            8 => {
                let at = self.below(record.links.len());
                let changed = self.any_link();
                if let Some(link) = record.links.get_mut(at) {
                    match self.below(4) {
                        0 => link.name = changed.name,
                        1 => link.address = changed.address,
                        2 => link.outbound = !link.outbound,
                        _ => link.established = !link.established,
                    }
                }
            }
            _ => {}
        }
        record.version = match self.below(4) {
            0 => record.version,
            1 => record.version.saturating_add(1 << 40),
            _ => record.version.saturating_add(1 + self.random.below(1000)),
        };
        if self.one_in(50) && !self.is_honest(&record.name) {
            record.version = u64::MAX - self.random.below(2);
        }
    }

    fn rename(&mut self, name: &mut Vec<u8>) {
        let forges = self.mood.forges();
        let other = if forges { self.anybody() } else { self.invented() };
        *name = other.to_bytes().to_vec();
        if self.one_in(30) {
            name.pop();
        }
    }

    pub(super) fn any_link(&mut self) -> LinkRecord {
        let address = match self.below(4) {
            0 => String::new(),
            1 => format!("10.0.0.{}:6783", self.below(20)),
            2 => format!("192.0.2.{}:{}", self.below(256), self.below(65536)),
            _ => "a text, no address".to_owned(),
        };
        let (outbound, established) = (self.one_in(2), !self.one_in(4));
        LinkRecord { name: self.anybody().to_bytes().to_vec(), address, outbound, established }
    }

    /// Peers that are not there, in a chain that hangs on this one.
    pub(super) fn invent_peers(&mut self) -> Vec<Record> {
        let count = if self.one_in(8) { 60 } else { 1 + self.below(6) };
        let base = if count > 10 { 0x0bad_1000_0000 } else { 0x0bad_0000_0000 };
        let name = |at: usize| PeerName::from_u64(base + at as u64).unwrap_or_default();
        let link = |to: PeerName, address: String| LinkRecord {
            name: to.to_bytes().to_vec(),
            address,
            outbound: true,
            established: true,
        };
        let version = 1 + self.random.below(1 << 20);
        let mut records = vec![Record {
            links: vec![link(name(0), "192.0.2.1:6783".to_owned())],
            ..self.own_record(version)
        }];
        if let Some(own) = self.records.get(&self.own.to_bytes()[..]).cloned() {
            records[0].links.extend(own.links);
            records[0].version = own.version.saturating_add(version);
        }
        for at in 0..count {
            let before = if at == 0 { self.own } else { name(at - 1) };
            let address = || format!("192.0.2.{}:6783", at % 256);
            records.push(Record {
                name: name(at).to_bytes().to_vec(),
                nickname: format!("invented{at}"),
                uid: 1 + self.random.below(3),
                version,
                short_id: u16::try_from(self.below(4096)).unwrap_or(0),
                has_short_id: true,
                links: vec![link(before, address()), link(name(at + 1), address())],
            });
        }
        records
    }

    fn own_record(&mut self, version: u64) -> Record {
        Record {
            name: self.own.to_bytes().to_vec(),
            nickname: "liar".to_owned(),
            uid: self.random.number(),
            version,
            short_id: u16::try_from(self.below(4096)).unwrap_or(0),
            has_short_id: true,
            links: Vec::new(),
        }
    }

    /// A record of an honest peer, changed.
    pub(super) fn forge_honest(&mut self) -> Option<Vec<Record>> {
        if !self.mood.forges() {
            return None;
        }
        let honest = self.honest.clone();
        let name = *self.pick(&honest)?;
        let mut record = self.records.get(&name.to_bytes()[..])?.clone();
        record.name = name.to_bytes().to_vec();
        self.mutate_record(&mut record);
        record.version = record.version.min(MAX_FORGED_VERSION);
        Some(vec![record])
    }

    /// Records in which that neighbour alone is next to this one, and the target is behind this
    /// one: what the target broadcasts, it would have to pass on to all others.
    pub(super) fn roots(&mut self, neighbour: PeerName) -> Vec<Record> {
        let target = PeerName::from_u64(GOES_ROUND).unwrap_or(self.own);
        let version = 1_000_000 + 10 * self.going_round.1;
        let link = |to: PeerName| LinkRecord {
            name: to.to_bytes().to_vec(),
            address: "192.0.2.9:6783".to_owned(),
            outbound: true,
            established: true,
        };
        let record = |name: PeerName, links| Record {
            name: name.to_bytes().to_vec(),
            nickname: "root".to_owned(),
            uid: 7,
            version,
            short_id: 77,
            has_short_id: true,
            links,
        };
        let mut own = self.records.get(&self.own.to_bytes()[..]).cloned().unwrap_or_default();
        own = Record {
            uid: own.uid,
            version: own.version.max(version) + 1,
            ..record(self.own, vec![link(neighbour), link(target)])
        };
        vec![own, record(target, vec![link(self.own)])]
    }

    /// One version of a record, with other links for each who hears of it: each is told that the
    /// target is behind the next one, so that something can go round.
    pub(super) fn two_truths(&mut self, behind: PeerName) -> Vec<Record> {
        let target = PeerName::from_u64(GOES_ROUND).unwrap_or(self.own);
        let version = 1_000_000 + 10 * self.going_round.1;
        let link = |to: PeerName| LinkRecord {
            name: to.to_bytes().to_vec(),
            address: "192.0.2.9:6783".to_owned(),
            outbound: true,
            established: true,
        };
        let mut records = vec![Record {
            name: target.to_bytes().to_vec(),
            nickname: "here and there".to_owned(),
            uid: 7,
            version,
            short_id: 77,
            has_short_id: true,
            links: vec![link(behind), link(self.own)],
        }];
        if self.mood.forges()
            && let Some(mut record) = self.records.get(&behind.to_bytes()[..]).cloned()
        {
            record.links.push(link(target));
            record.version = record.version.saturating_add(1 + 1000 * self.going_round.1);
            record.version = record.version.min(MAX_FORGED_VERSION);
            records.push(record);
        }
        if self.one_in(4)
            && let Some(mut own) = self.records.get(&self.own.to_bytes()[..]).cloned()
        {
            own.version = own.version.saturating_add(100);
            own.links.push(link(target));
            records.push(own);
        }
        records
    }
}
