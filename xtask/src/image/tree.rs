//! The files of an image, and the layer made from them: sorted, all of root, all of one time, so
//! that nothing of the machine it is made on is in it.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use tar::{Builder, EntryType, Header};

/// Paths without a `/` at the start, and what is there.
#[derive(Clone, Default, Debug)]
pub struct Tree(BTreeMap<PathBuf, Entry>);

#[derive(Clone, PartialEq, Eq, Debug)]
enum Entry {
    Folder,
    File { mode: u32, content: Vec<u8> },
    Link(PathBuf),
}

impl Tree {
    /// Adds a folder and those that it is in.
    pub fn folder(&mut self, path: impl AsRef<Path>) {
        for part in path.as_ref().ancestors().filter(|part| !part.as_os_str().is_empty()) {
            self.0.entry(part.to_owned()).or_insert(Entry::Folder);
        }
    }

    /// Adds a file that is read.
    pub fn file(&mut self, path: impl AsRef<Path>, content: Vec<u8>) {
        self.put(path.as_ref(), Entry::File { mode: 0o644, content });
    }

    /// Adds a file that is run.
    pub fn program(&mut self, path: impl AsRef<Path>, content: Vec<u8>) {
        self.put(path.as_ref(), Entry::File { mode: 0o755, content });
    }

    /// Adds a symbolic link.
    pub fn link(&mut self, path: impl AsRef<Path>, target: impl AsRef<Path>) {
        self.put(path.as_ref(), Entry::Link(target.as_ref().to_owned()));
    }

    /// Whether there is something.
    pub fn has(&self, path: &Path) -> bool {
        self.0.contains_key(path)
    }

    fn put(&mut self, path: &Path, entry: Entry) {
        if let Some(parent) = path.parent() {
            self.folder(parent);
        }
        self.0.insert(path.to_owned(), entry);
    }

    /// Returns the layer; `time` is that of all its files, in seconds since 1970.
    pub fn layer(&self, time: u64) -> Result<Vec<u8>> {
        let mut layer = Builder::new(Vec::new());
        for (path, entry) in &self.0 {
            let (kind, mode, content) = match entry {
                // Anybody may leave something there.
                Entry::Folder if path == Path::new("tmp") => (EntryType::Directory, 0o1777, None),
                Entry::Folder => (EntryType::Directory, 0o755, None),
                Entry::File { mode, content } => (EntryType::Regular, *mode, Some(content)),
                Entry::Link(_) => (EntryType::Symlink, 0o777, None),
            };
            let mut header = header(kind, mode, time);
            let added = match (entry, content) {
                (Entry::Link(target), _) => layer.append_link(&mut header, path, target),
                (_, Some(content)) => {
                    header.set_size(content.len() as u64);
                    layer.append_data(&mut header, path, content.as_slice())
                }
                (_, None) => layer.append_data(&mut header, path, io::empty()),
            };
            added.with_context(|| format!("packing {}", path.display()))?;
        }
        Ok(layer.into_inner()?)
    }

    /// Writes all files into a folder.
    pub fn unpack(&self, folder: &Path) -> Result<()> {
        for (path, entry) in &self.0 {
            let path = folder.join(path);
            match entry {
                Entry::Folder => fs::create_dir_all(&path),
                Entry::Link(target) => symlink(target, &path),
                Entry::File { mode, content } => fs::write(&path, content)
                    .and_then(|()| fs::set_permissions(&path, fs::Permissions::from_mode(*mode))),
            }
            .with_context(|| format!("writing {}", path.display()))?;
        }
        Ok(())
    }
}

/// Of a file of root.
pub fn header(kind: EntryType, mode: u32, time: u64) -> Header {
    let mut header = Header::new_gnu();
    header.set_entry_type(kind);
    header.set_mode(mode);
    header.set_mtime(time);
    header.set_uid(0);
    header.set_gid(0);
    header.set_size(0);
    header
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_order_in_which_files_came_is_not_in_the_layer() {
        let mut one = Tree::default();
        one.program("usr/bin/weave", b"weave".to_vec());
        one.link("bin", "usr/bin");
        one.folder("tmp");
        let mut other = Tree::default();
        other.folder("tmp");
        other.link("bin", "usr/bin");
        other.folder("usr");
        other.program("usr/bin/weave", b"weave".to_vec());
        let layer = one.layer(1_000).unwrap();
        assert_eq!(layer, other.layer(1_000).unwrap());
        assert_ne!(layer, one.layer(1_001).unwrap());

        let mut archive = tar::Archive::new(layer.as_slice());
        let read: Vec<_> = archive
            .entries()
            .unwrap()
            .map(|entry| {
                let entry = entry.unwrap();
                let header = entry.header();
                assert_eq!((header.uid().unwrap(), header.gid().unwrap()), (0, 0));
                assert_eq!(header.mtime().unwrap(), 1_000);
                (entry.path().unwrap().display().to_string(), header.mode().unwrap())
            })
            .collect();
        let expected = [
            ("bin", 0o777),
            ("tmp", 0o1777),
            ("usr", 0o755),
            ("usr/bin", 0o755),
            ("usr/bin/weave", 0o755),
        ];
        assert_eq!(read, expected.map(|(path, mode)| (path.to_owned(), mode)));
    }
}
