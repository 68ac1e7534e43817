//! The first file system of the machine: an archive of busybox, the modules that reach this
//! machine's files, the script that mounts them, and the command to run.
//!
//! ```text
//!  newc, one entry:  "070701" | 13 numbers of 8 hexadecimal digits | name, 0 | to 4 | content | to 4
//!  numbers: inode mode uid gid links mtime size device(2) of-device(2) name-length check
//! ```
//!
//! Source of truth: `Documentation/driver-api/early-userspace/buffer-format.rst` of the kernel.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, ensure};

use super::kernel::Kernel;
use super::shared_folder;
use crate::tools::find;

/// What has to be loaded before this machine's files can be read and anything can be told.
const MODULES: [&str; 5] = ["virtio_pci", "9p", "9pnet_virtio", "overlay", "virtio_console"];

const FOLDERS: [&str; 9] =
    ["bin", "dev", "proc", "sys", "modules", "lower", "memory", "root", "shared"];

/// Mounts everything and hands over to `/run/vm`.
const INIT: &str = include_str!("init.sh");

/// Process 1 of the mounted system.
const FIRST: &str = include_str!("first.sh");

/// The whole archive for this kernel and command.
pub fn initrd(kernel: &Kernel, command: &[String]) -> Result<Vec<u8>> {
    let mut archive = Archive::default();
    for folder in FOLDERS {
        archive.folder(folder);
    }
    let busybox = read(&find("busybox").context("no busybox")?)?;
    // Debian has a package of either kind, and they exclude each other.
    ensure!(
        is_static(&busybox),
        "busybox needs libraries here: install the package busybox-static"
    );
    archive.program("bin/busybox", &busybox);
    for (number, file) in kernel.files_of(&MODULES)?.iter().enumerate() {
        archive.program(&format!("modules/{number:02}.ko"), &module(file)?);
    }
    archive.program("init", INIT.as_bytes());
    archive.program("first", FIRST.as_bytes());
    archive.program("command", &script(command)?);
    archive.program("places", &places(kernel));
    Ok(archive.finish())
}

/// Whether a program does without a dynamic linker, whose path would be in it.
fn is_static(program: &[u8]) -> bool {
    let linker = b"/lib64/ld-linux";
    !program.windows(linker.len()).any(|window| window == linker)
}

/// Changes to the caller's folder and becomes the command, with the caller's environment.
fn script(command: &[String]) -> Result<Vec<u8>> {
    let mut text = b"#!/bin/sh\ncd ".to_vec();
    quote(&mut text, std::env::current_dir()?.as_os_str());
    text.extend_from_slice(b" || exit 125\nexec env -i");
    for (name, value) in std::env::vars_os() {
        text.push(b' ');
        quote(&mut text, &[name.as_os_str(), value.as_os_str()].join(OsStr::new("=")));
    }
    for word in command {
        text.push(b' ');
        quote(&mut text, OsStr::new(word));
    }
    text.push(b'\n');
    Ok(text)
}

/// Variables of the scripts: paths of this machine.
fn places(kernel: &Kernel) -> Vec<u8> {
    let mut text = Vec::new();
    for (name, path) in [("modules", kernel.modules()), ("shared", shared_folder())] {
        text.extend_from_slice(format!("{name}=").as_bytes());
        quote(&mut text, path.as_os_str());
        text.push(b'\n');
    }
    text
}

/// One word for a shell, whatever it contains.
fn quote(text: &mut Vec<u8>, word: &OsStr) {
    text.push(b'\'');
    for byte in word.as_bytes() {
        match byte {
            b'\'' => text.extend_from_slice(br"'\''"),
            byte => text.push(*byte),
        }
    }
    text.push(b'\'');
}

/// A module as the kernel wants it: newer releases of Debian compress them.
fn module(file: &Path) -> Result<Vec<u8>> {
    if file.extension().is_none_or(|extension| extension != "xz") {
        return read(file);
    }
    let output = Command::new("xz").args(["--decompress", "--stdout"]).arg(file).output()?;
    ensure!(output.status.success(), "xz cannot read {}", file.display());
    Ok(output.stdout)
}

fn read(path: &Path) -> Result<Vec<u8>> {
    std::fs::read(path).with_context(|| format!("reading {}", path.display()))
}

/// An archive under construction.
#[derive(Default)]
struct Archive {
    bytes: Vec<u8>,
    entries: u32,
}

impl Archive {
    fn folder(&mut self, name: &str) {
        self.entry(name, 0o040_755, &[]);
    }

    fn program(&mut self, name: &str, content: &[u8]) {
        self.entry(name, 0o100_755, content);
    }

    fn entry(&mut self, name: &str, mode: u32, content: &[u8]) {
        self.entries += 1;
        let (size, name_length) = (content.len(), name.len() + 1);
        let numbers = [self.entries as usize, mode as usize, 0, 0, 1, 0, size, 0, 0, 0, 0];
        self.bytes.extend_from_slice(b"070701");
        for number in numbers.into_iter().chain([name_length, 0]) {
            self.bytes.extend_from_slice(format!("{number:08x}").as_bytes());
        }
        self.bytes.extend_from_slice(name.as_bytes());
        self.bytes.push(0);
        self.align();
        self.bytes.extend_from_slice(content);
        self.align();
    }

    fn finish(mut self) -> Vec<u8> {
        self.entry("TRAILER!!!", 0, &[]);
        self.bytes
    }

    fn align(&mut self) {
        self.bytes.resize(self.bytes.len().next_multiple_of(4), 0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_entry_has_the_layout_the_kernel_documents() {
        let mut archive = Archive::default();
        archive.program("abc", b"hello");
        let text = String::from_utf8(archive.bytes).unwrap();
        let header = "070701\
            00000001000081ed0000000000000000000000010000000000000005\
            00000000000000000000000000000000\
            0000000400000000";
        assert_eq!(text, format!("{header}abc\0\0\0hello\0\0\0"));
        assert_eq!(header.len(), 110);
    }

    #[test]
    fn a_program_that_needs_a_linker_is_known() {
        assert!(!is_static(&read(Path::new("/bin/sh")).unwrap()));
        assert!(is_static(b"\x7fELF"));
    }

    #[test]
    fn a_quoted_word_is_one_word_for_a_shell() {
        let word = "it's $HOME \"and\" \\ \n`more`";
        let mut text = b"printf %s ".to_vec();
        quote(&mut text, OsStr::new(word));
        let output = Command::new("sh").arg("-c").arg(OsStr::from_bytes(&text)).output().unwrap();
        assert_eq!(String::from_utf8(output.stdout).unwrap(), word);
    }
}
