//! Notes of what was attached, for GC: only what a network made may be collected for it, and of
//! the addresses that the router gave out it does not know whose network they are of.
//!
//! One file for each attachment, `<folder>/<network>/<container>@<interface>`, with a line for each
//! address. Whose interface one is, they do not say: that is noted on the interface itself.
//!
//! A network's name never starts with a dot, so the folder `.owed` beside them is free for what is
//! still to be given back: the router was away when the container was deleted.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use weave_host::Cidr;

use crate::error::CniError;
use crate::note;

/// What is still to be given back.
const OWED: &str = ".owed";
/// Start of the name of a file that is not complete.
const UNFINISHED: &str = ".new-";

/// The notes of one network.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Records(PathBuf);

/// One note.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug, Default)]
pub(crate) struct Record {
    pub(crate) container: String,
    pub(crate) interface: String,
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

    /// Of what is still to be given back, whatever network it was of.
    pub(crate) fn owed(folder: &Path) -> Self {
        Self(folder.join(OWED))
    }

    /// Notes an attachment, or more about it.
    ///
    /// # Errors
    /// If the disk is full, or cannot be written to: what was noted before is still noted.
    pub(crate) fn keep(&self, record: &Record) -> Result<(), CniError> {
        let file = self.file(&record.container, &record.interface);
        let lines: Vec<_> = record.addresses.iter().map(Cidr::to_string).collect();
        self.write(&file, &lines.join("\n")).map_err(|error| {
            let details = format!(
                "cannot write {}: {error}; without a note of the attachment nothing could be collected \
                 once the runtime has forgotten it",
                file.display()
            );
            CniError::new(CniError::IO, "the attachment cannot be noted", details)
        })
    }

    /// Writes a file, which appears whole, or not at all.
    fn write(&self, file: &Path, text: &str) -> io::Result<()> {
        fs::create_dir_all(&self.0)?;
        let name = file.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        // Two calls for one attachment write the same.
        let new = self.0.join(format!("{UNFINISHED}{name}"));
        let written = fs::write(&new, text).and_then(|()| fs::rename(&new, file));
        if written.is_err() {
            // The first error says more than one from here.
            let _ = fs::remove_file(&new);
        }
        written
    }

    /// Returns the note of one attachment.
    pub(crate) fn get(&self, container: &str, interface: &str) -> Option<Record> {
        let text = fs::read_to_string(self.file(container, interface)).ok()?;
        // Earlier versions had the name of a device in the first line.
        let addresses = text.lines().filter_map(|line| line.trim().parse().ok()).collect();
        Some(Record { addresses, ..Record::new(container, interface) })
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

    /// Returns all of them, in order.
    pub(crate) fn all(&self) -> Vec<Record> {
        self.matching(|_, _| true)
    }

    /// Returns the other attachments of the same container, to whatever network.
    pub(crate) fn others(&self, record: &Record) -> Vec<Record> {
        let networks = self.0.parent().and_then(|folder| fs::read_dir(folder).ok());
        let networks = networks.into_iter().flatten().flatten();
        let networks = networks.filter(|entry| entry.file_name() != OWED);
        let of_network = |records: Self| {
            records.matching(|container, interface| {
                container == record.container && (interface != record.interface || records != *self)
            })
        };
        networks.map(|entry| Self(entry.path())).flat_map(of_network).collect()
    }

    fn matching(&self, wanted: impl Fn(&str, &str) -> bool) -> Vec<Record> {
        let Ok(entries) = fs::read_dir(&self.0) else { return Vec::new() };
        let mut records: Vec<_> = entries
            .flatten()
            .filter_map(|entry| {
                let name = entry.file_name().into_string().ok()?;
                let (container, interface) = name.split_once('@')?;
                let whole = !name.starts_with(UNFINISHED);
                if whole && wanted(container, interface) {
                    self.get(container, interface)
                } else {
                    None
                }
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
            addresses: ["10.32.0.1/12", "fd00::1/64"].map(|text| text.parse().unwrap()).into(),
            ..Record::new(container, interface)
        };
        records.keep(&record("b", "eth0")).unwrap();
        records.keep(&record("a", "net@1")).unwrap();
        records.keep(&record("b", "eth0")).unwrap();
        assert_eq!(records.all(), [record("a", "net@1"), record("b", "eth0")]);
        records.forget("b", "eth0");
        records.forget("b", "eth0");
        assert_eq!((records.get("b", "eth0"), records.all().len()), (None, 1));
        // As an earlier version wrote it.
        fs::write(folder.path().join("net/c@eth0"), "vethwepl1\n10.32.0.1/12\nfd00::1/64").unwrap();
        assert_eq!(records.get("c", "eth0"), Some(record("c", "eth0")));
    }

    #[test]
    fn a_container_has_several_attachments() {
        let folder = tempfile::tempdir().unwrap();
        let (one, two) = (Records::of(folder.path(), "one"), Records::of(folder.path(), "two"));
        let eth0 = Record::new("a", "eth0");
        assert_eq!(one.others(&eth0), []);
        let net1 = Record::new("a", "net1");
        for record in [&eth0, &net1, &Record::new("b", "eth0")] {
            one.keep(record).unwrap();
        }
        two.keep(&eth0).unwrap();
        Records::owed(folder.path()).keep(&Record::new("a", "net2")).unwrap();
        let mut others = one.others(&eth0);
        others.sort();
        assert_eq!(others, [eth0, net1]);
    }

    #[test]
    fn what_cannot_be_noted_is_told_and_leaves_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let records = Records::of(folder.path(), "net");
        let record = Record::new("a", "eth0");
        records.keep(&record).unwrap();
        // A folder of that name is in the way of the new file, as for root a full disk would be.
        fs::create_dir(folder.path().join("net/.new-a@eth0")).unwrap();
        let more = Record { addresses: vec!["10.32.0.1/12".parse().unwrap()], ..record.clone() };
        let error = records.keep(&more).unwrap_err();
        assert_eq!(error.code, CniError::IO);
        assert!(error.details.contains("a@eth0: Is a directory"), "{}", error.details);
        assert_eq!(records.all(), [record]);
    }
}
