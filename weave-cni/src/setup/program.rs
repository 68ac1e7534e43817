//! The plugin itself, under the names by which a runtime calls it.

use std::fs;
use std::io;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};

use super::NAMES;

/// Before the version in the name of the program.
const PROGRAM: &str = "weave-plugin-";

/// Installs the program under a name with its version, and the names of the plugins as links to it.
/// At each moment a runtime finds a whole one.
///
/// # Errors
/// The system refuses.
pub fn install(plugin: &Path, bin: &Path) -> io::Result<()> {
    fs::create_dir_all(bin)?;
    let name = &format!("{PROGRAM}{}", env!("CARGO_PKG_VERSION"));
    let (target, draft) = (bin.join(name), bin.join(format!("{name}.tmp")));
    let content = fs::read(plugin)?;
    if !fs::read(&target).is_ok_and(|old| old == content) {
        fs::write(&draft, content)?;
        fs::set_permissions(&draft, fs::Permissions::from_mode(0o755))?;
        fs::rename(&draft, &target)?;
    }
    for link in NAMES {
        let draft = bin.join(format!("{link}.tmp"));
        match fs::remove_file(&draft) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => symlink(name, &draft)?,
        }
        // Also in place of a file, as early versions of the original had them.
        fs::rename(&draft, bin.join(link))?;
    }
    Ok(())
}

/// Returns whether a runtime finds the whole of what [`install`] puts there.
pub fn is_installed(bin: &Path) -> bool {
    NAMES.iter().all(|name| bin.join(name).is_file())
}

/// Removes what was installed, by whatever version of this program or of the original.
///
/// # Errors
/// The system refuses.
pub fn remove(bin: &Path) -> io::Result<Vec<PathBuf>> {
    let mut files = NAMES.map(|name| bin.join(name)).to_vec();
    files.extend(NAMES.map(|name| bin.join(format!("{name}.tmp"))));
    match fs::read_dir(bin) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(error),
        Ok(entries) => {
            for entry in entries {
                let name = entry?.file_name();
                if name.to_str().is_some_and(|name| name.starts_with(PROGRAM)) {
                    files.push(bin.join(name));
                }
            }
        }
    }
    super::remove_files(files)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_plugin_is_replaced_while_it_is_called() {
        let folder = tempfile::tempdir().unwrap();
        let (plugin, bin) = (folder.path().join("plugin"), folder.path().join("bin"));
        for content in ["one", "one", "two"] {
            fs::write(&plugin, content).unwrap();
            install(&plugin, &bin).unwrap();
            for name in NAMES {
                assert_eq!(fs::read_to_string(bin.join(name)).unwrap(), content);
                assert!(fs::symlink_metadata(bin.join(name)).unwrap().is_symlink());
            }
        }
        assert_eq!(fs::read_dir(&bin).unwrap().count(), 3, "no draft is left");
    }

    #[test]
    fn what_was_installed_is_removed_and_nothing_else() {
        let folder = tempfile::tempdir().unwrap();
        let (plugin, bin) = (folder.path().join("plugin"), folder.path().join("bin"));
        assert!(remove(&bin).unwrap().is_empty(), "there is no folder");
        fs::write(&plugin, "one").unwrap();
        install(&plugin, &bin).unwrap();
        assert!(is_installed(&bin));
        for name in ["portmap", "weave-plugin-2.8.1"] {
            fs::write(bin.join(name), "").unwrap();
        }
        assert_eq!(remove(&bin).unwrap().len(), 4, "both names and two versions");
        assert!(!is_installed(&bin));
        assert!(bin.join("portmap").exists());
        // The package of the stock plugins does this when it is upgraded.
        install(&plugin, &bin).unwrap();
        fs::remove_file(bin.join(concat!("weave-plugin-", env!("CARGO_PKG_VERSION")))).unwrap();
        assert!(!is_installed(&bin), "a link to nothing is no plugin");
    }
}
