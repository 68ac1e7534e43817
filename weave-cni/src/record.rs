//! Notes of what was attached, for GC: only what a network made may be collected for it, and of
//! the addresses that the router gave out it does not know whose network they are of. Nor does it know of
//! which interface they are, when a container has several.
//!
//! One file for each attachment, `<folder>/<network>/<container>@<interface>`, with the name of
//! the end on the host in it, and a line for each address. Without them everything works but GC, and
//! containers that are on several networks.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use weave_host::Cidr;

use crate::note;

/// The notes of one network.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Records(PathBuf);

/// One note.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug, Default)]
pub(crate) struct Record {
    pub(crate) container: String,
    pub(crate) interface: String,
    /// The name of the end on the host; empty if it is not known, or there is none.
    pub(crate) host_end: String,
    /// None while ADD is not done.
    pub(crate) addresses: Vec<Cidr>,
}

impl Record {
    /// Of an attachment of which nothing is known yet.
    pub(crate) fn new(container: &str, interface: &str) -> Self {
        let (container, interface) = (container.to_owned(), interface.to_owned());
        Self { container, interface, ..Self::default() }
    }
}

impl Records {
    /// Of this network, whose name is one (see [`is_name`](crate::environment::is_name)).
    pub(crate) fn of(folder: &Path, network: &str) -> Self {
        Self(folder.join(network))
    }

    /// Notes an attachment, or more about it.
    pub(crate) fn keep(&self, record: &Record) {
        let file = self.file(&record.container, &record.interface);
        let mut text = record.host_end.clone();
        for cidr in &record.addresses {
            text += &format!("\n{cidr}");
        }
        let written = fs::create_dir_all(&self.0).and_then(|()| fs::write(&file, text));
        if let Err(error) = written {
            note(format_args!("cannot write {}: {error}", file.display()));
        }
    }

    /// The note of one attachment.
    pub(crate) fn get(&self, container: &str, interface: &str) -> Option<Record> {
        let text = fs::read_to_string(self.file(container, interface)).ok()?;
        let mut lines = text.lines().map(str::trim);
        let host_end = lines.next().unwrap_or_default().to_owned();
        let addresses = lines.filter_map(|line| line.parse().ok()).collect();
        Some(Record { host_end, addresses, ..Record::new(container, interface) })
    }

    /// Forgets an attachment.
    pub(crate) fn forget(&self, container: &str, interface: &str) {
        let file = self.file(container, interface);
        match fs::remove_file(&file) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                note(format_args!("cannot remove {}: {error}", file.display()));
            }
            _ => {}
        }
    }

    /// All of them, in order.
    pub(crate) fn all(&self) -> Vec<Record> {
        self.matching(|_, _| true)
    }

    /// The other attachments of the same container, to whatever network.
    pub(crate) fn others(&self, record: &Record) -> Vec<Record> {
        let networks = self.0.parent().and_then(|folder| fs::read_dir(folder).ok());
        let networks = networks.into_iter().flatten().flatten().map(|entry| Self(entry.path()));
        let of_network = |records: Self| {
            records.matching(|container, interface| {
                container == record.container && (interface != record.interface || records != *self)
            })
        };
        networks.flat_map(of_network).collect()
    }

    fn matching(&self, wanted: impl Fn(&str, &str) -> bool) -> Vec<Record> {
        let Ok(entries) = fs::read_dir(&self.0) else { return Vec::new() };
        let mut records: Vec<_> = entries
            .flatten()
            .filter_map(|entry| {
                let name = entry.file_name().into_string().ok()?;
                let (container, interface) = name.split_once('@')?;
                if wanted(container, interface) { self.get(container, interface) } else { None }
            })
            .collect();
        records.sort();
        records
    }

    fn file(&self, container: &str, interface: &str) -> PathBuf {
        self.0.join(format!("{container}@{interface}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn notes_come_and_go() {
        let folder = tempfile::tempdir().unwrap();
        let records = Records(folder.path().join("net"));
        assert_eq!(records.all(), []);
        let record = |container: &str, interface: &str| Record {
            host_end: "vethwepl1".to_owned(),
            addresses: ["10.32.0.1/12", "fd00::1/64"].map(|text| text.parse().unwrap()).into(),
            ..Record::new(container, interface)
        };
        records.keep(&record("b", "eth0"));
        records.keep(&record("a", "net@1"));
        records.keep(&record("b", "eth0"));
        assert_eq!(records.all(), [record("a", "net@1"), record("b", "eth0")]);
        records.forget("b", "eth0");
        records.forget("b", "eth0");
        assert_eq!((records.get("b", "eth0"), records.all().len()), (None, 1));
    }
    #[test]
    fn a_container_has_several_attachments() {
        let folder = tempfile::tempdir().unwrap();
        let (one, two) = (Records::of(folder.path(), "one"), Records::of(folder.path(), "two"));
        let eth0 = Record::new("a", "eth0");
        assert_eq!(one.others(&eth0), []);
        let net1 = Record::new("a", "net1");
        one.keep(&eth0);
        one.keep(&net1);
        one.keep(&Record::new("b", "eth0"));
        // The note of an earlier version has no addresses.
        two.keep(&Record { host_end: "vethwepl1".to_owned(), ..Record::new("a", "eth0") });
        let mut others = one.others(&eth0);
        others.sort();
        let elsewhere = two.get("a", "eth0").unwrap();
        assert_eq!(others, [elsewhere, net1]);
    }
}
