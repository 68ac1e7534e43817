//! Notes of what was attached, for GC: only what a network made may be collected for it, and of
//! the addresses that the router gave out it does not know whose network they are of.
//!
//! One file for each attachment, `<folder>/<network>/<container>@<interface>`, with the name of
//! the end on the host in it. Without them everything works but GC.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use crate::note;

/// The notes of one network.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Records(PathBuf);

/// One note.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(crate) struct Record {
    pub(crate) container: String,
    pub(crate) interface: String,
    /// The name of the end on the host; empty if it is not known, or there is none.
    pub(crate) host_end: String,
}

impl Records {
    /// Of this network, whose name is one (see [`is_name`](crate::environment::is_name)).
    pub(crate) fn of(folder: &Path, network: &str) -> Self {
        Self(folder.join(network))
    }

    /// Notes an attachment, or more about it.
    pub(crate) fn keep(&self, record: &Record) {
        let file = self.file(&record.container, &record.interface);
        let written = fs::create_dir_all(&self.0).and_then(|()| fs::write(&file, &record.host_end));
        if let Err(error) = written {
            note(format_args!("cannot write {}: {error}", file.display()));
        }
    }

    /// The note of one attachment.
    pub(crate) fn get(&self, container: &str, interface: &str) -> Option<Record> {
        let host_end = fs::read_to_string(self.file(container, interface)).ok()?;
        let host_end = host_end.trim().to_owned();
        Some(Record { container: container.to_owned(), interface: interface.to_owned(), host_end })
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
        let Ok(entries) = fs::read_dir(&self.0) else { return Vec::new() };
        let mut records: Vec<_> = entries
            .flatten()
            .filter_map(|entry| {
                let name = entry.file_name().into_string().ok()?;
                let (container, interface) = name.split_once('@')?;
                self.get(container, interface)
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
            container: container.to_owned(),
            interface: interface.to_owned(),
            host_end: "vethwepl1".to_owned(),
        };
        records.keep(&record("b", "eth0"));
        records.keep(&record("a", "net@1"));
        records.keep(&record("b", "eth0"));
        assert_eq!(records.all(), [record("a", "net@1"), record("b", "eth0")]);
        records.forget("b", "eth0");
        records.forget("b", "eth0");
        assert_eq!((records.get("b", "eth0"), records.all().len()), (None, 1));
    }
}
