//! The kernel of the machine: Debian's general one, unpacked beside the build results.
//!
//! It is not installed. Installing would run the hooks of the boot loader and of the initial file
//! system on a machine that may be a container, for a kernel that is never booted there; and a
//! package that is only unpacked needs no root and goes away with `cargo clean`. The smaller kernel
//! for clouds has no 9p.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail, ensure};

use super::folder;
use crate::tools::{find, output, run};

/// Depends on the newest kernel that this release of Debian has.
const PACKAGE: &str = "linux-image-amd64";

/// A kernel and its modules, in the layout of the package.
pub struct Kernel {
    folder: PathBuf,
    version: String,
}

impl Kernel {
    /// The kernel that was fetched before, or else the one that apt knows.
    pub fn fetched() -> Result<Self> {
        let folder = folder().join("kernel");
        if !folder.is_dir() {
            fetch(&folder).context("no kernel for the machine")?;
        }
        Self::unpacked(&folder)
    }

    fn unpacked(folder: &Path) -> Result<Self> {
        let modules = folder.join("lib/modules");
        let mut versions = std::fs::read_dir(&modules)
            .with_context(|| format!("reading {}", modules.display()))?
            .flatten()
            .filter_map(|entry| entry.file_name().into_string().ok());
        let version =
            versions.next().with_context(|| format!("no kernel in {}", modules.display()))?;
        Ok(Self { folder: folder.to_owned(), version })
    }

    /// The file to boot.
    pub fn image(&self) -> PathBuf {
        self.folder.join(format!("boot/vmlinuz-{}", self.version))
    }

    /// What `/lib/modules` is inside.
    pub fn modules(&self) -> PathBuf {
        self.folder.join("lib/modules")
    }

    /// The files of these modules and of what they need, in the order in which they have to be
    /// loaded.
    pub fn files_of(&self, names: &[&str]) -> Result<Vec<PathBuf>> {
        let mut files = Vec::new();
        for name in names {
            let mut command = Command::new(find("modprobe").context("no modprobe")?);
            command.arg("--dirname").arg(&self.folder).args(["--set-version", &self.version]);
            let list = output(command.args(["--show-depends", name]))?;
            // What is built into the kernel is listed as "builtin".
            for file in list.lines().filter_map(|line| line.strip_prefix("insmod ")) {
                let file = PathBuf::from(file.trim());
                if !files.contains(&file) {
                    files.push(file);
                }
            }
        }
        Ok(files)
    }
}

/// Downloads the package and unpacks it. An interrupted run leaves nothing that looks like a
/// kernel.
fn fetch(folder: &Path) -> Result<()> {
    ensure!(
        find("apt-get").is_some() && find("dpkg-deb").is_some(),
        "it comes as Debian package {PACKAGE}, and this machine has no apt"
    );
    let beside = folder.with_extension(std::process::id().to_string());
    let unpacked = beside.join("unpacked");
    std::fs::create_dir_all(&unpacked)?;
    let fetched = unpack(&beside, &unpacked).and_then(|()| {
        match std::fs::rename(&unpacked, folder) {
            // Another run was faster.
            Err(_) if folder.is_dir() => Ok(()),
            renamed => Ok(renamed?),
        }
    });
    std::fs::remove_dir_all(&beside)?;
    fetched
}

fn unpack(download: &Path, unpacked: &Path) -> Result<()> {
    // The lists of a machine that was just set up are empty or old.
    run(Command::new("apt-get").args(["update", "-qq"]))?;
    let depends = output(Command::new("apt-cache").args(["depends", "--important", PACKAGE]))?;
    let package = newest(&depends).with_context(|| format!("{PACKAGE} depends on nothing"))?;
    println!("fetching {package}");
    let mut command = Command::new("apt-get");
    // As the user who asks: apt's own user has no access to the folder.
    command.args(["download", "-qq", "-o", "APT::Sandbox::User=root", package]);
    run(command.current_dir(download))?;
    let Some(archive) = std::fs::read_dir(download)?
        .flatten()
        .map(|entry| entry.path())
        .find(|path| path.extension().is_some_and(|extension| extension == "deb"))
    else {
        bail!("apt-get download {package} left no package");
    };
    run(Command::new("dpkg-deb").arg("--extract").args([&archive, unpacked]))?;
    let kernel = Kernel::unpacked(unpacked)?;
    let depmod = find("depmod").context("no depmod")?;
    run(Command::new(depmod).arg("--basedir").arg(unpacked).arg(kernel.version))
}

/// The kernel's own package, in what `apt-cache depends` lists.
fn newest(depends: &str) -> Option<&str> {
    depends.lines().find_map(|line| line.trim().strip_prefix("Depends: "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_package_of_the_kernel_is_what_the_general_one_depends_on() {
        let depends = "linux-image-amd64\n  Depends: linux-image-6.1.0-56-amd64\n";
        assert_eq!(newest(depends), Some("linux-image-6.1.0-56-amd64"));
        assert_eq!(newest("linux-image-amd64\n"), None);
    }
}
