//! Keeping the plugin and its list where a runtime finds them while the router runs.
//!
//! ```text
//!  a look ──▶ plugin missing? ──▶ installed again
//!     └─────▶ router answers, and list missing or poorer than it could be? ──▶ published
//! ```
//!
//! Packages of the stock plugins wipe the folder of plugins when they are upgraded. The list comes
//! last, since it makes the node ready, and never goes: a router that is replaced is waited for. A
//! plugin that appears in the folder comes into the list; one that disappears stays in it, since
//! containers that need it should rather be tried again than go without.

use std::io;
use std::path::{Path, PathBuf};

use super::list::LIST;
use super::{Folders, Published, best_list, chained, install, is_installed, publish};

/// The plugin and its list on one host.
#[derive(Debug)]
pub struct Keeper {
    plugin: PathBuf,
    folders: Folders,
    hairpin: bool,
    /// Whether this program's plugin was put there once: an older one may be there.
    installed: bool,
    /// The stock plugins that the list was last published with.
    chained: Option<Vec<&'static str>>,
}

/// What a look has done.
#[derive(PartialEq, Eq, Debug, Default)]
pub struct Kept {
    /// The plugin was missing and is back.
    pub restored: bool,
    /// What became of the list, if there was something to do.
    pub list: Option<Published>,
}

impl Keeper {
    /// Keeps `plugin` in these folders. With `hairpin` a container reaches itself by an address that
    /// is translated on the bridge.
    pub const fn new(plugin: PathBuf, folders: Folders, hairpin: bool) -> Self {
        Self { plugin, folders, hairpin, installed: false, chained: None }
    }

    /// Returns the folders.
    pub const fn folders(&self) -> &Folders {
        &self.folders
    }

    /// Looks at the folders, and puts back what is missing; the list only if the router
    /// `is_ready` to give out addresses. This runs the stock plugins when the list is written.
    ///
    /// # Errors
    /// The system refuses. The next look tries again.
    pub fn look(&mut self, is_ready: bool) -> io::Result<Kept> {
        let mut kept = Kept::default();
        if !self.installed || !is_installed(&self.folders.bin) {
            install(&self.plugin, &self.folders.bin)?;
            kept.restored = std::mem::replace(&mut self.installed, true);
        }
        if is_ready && self.is_due(&self.folders.conf) {
            let found = chained(&self.folders);
            let list = best_list(&self.folders, self.hairpin);
            kept.list = Some(publish(&self.folders.conf, &list)?);
            self.chained = Some(found);
        }
        Ok(kept)
    }

    /// Whether the list is missing, or could have more plugins than it has.
    fn is_due(&self, conf: &Path) -> bool {
        let Some(before) = &self.chained else { return true };
        let is_new = |name: &&str| !before.contains(name);
        !conf.join(LIST).is_file() || chained(&self.folders).iter().any(is_new)
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    struct Place {
        _folder: tempfile::TempDir,
        keeper: Keeper,
    }

    fn place() -> Place {
        let folder = tempfile::tempdir().unwrap();
        let [root, bin, conf] = ["", "bin", "conf"].map(|name| folder.path().join(name));
        fs::create_dir(&bin).unwrap();
        fs::create_dir(&conf).unwrap();
        let plugin = folder.path().join("plugin");
        fs::write(&plugin, "#!/bin/false").unwrap();
        let keeper = Keeper::new(plugin, Folders { root, bin, conf }, true);
        Place { _folder: folder, keeper }
    }

    #[test]
    fn the_list_comes_when_the_router_is_ready_and_stays() {
        let Place { mut keeper, _folder } = place();
        let list = keeper.folders().conf.join(LIST);
        assert_eq!(keeper.look(false).unwrap(), Kept::default(), "the plugin alone");
        assert!(is_installed(&keeper.folders().bin) && !list.exists());
        let written = Kept { list: Some(Published::Written), ..Kept::default() };
        assert_eq!(keeper.look(true).unwrap(), written);
        for is_ready in [true, false] {
            assert_eq!(keeper.look(is_ready).unwrap(), Kept::default());
            assert!(list.exists());
        }
        fs::remove_file(&list).unwrap();
        assert_eq!(keeper.look(false).unwrap(), Kept::default());
        assert_eq!(keeper.look(true).unwrap(), written);
    }

    #[test]
    fn what_a_package_wipes_is_put_back() {
        let Place { mut keeper, _folder } = place();
        let bin = keeper.folders().bin.clone();
        keeper.look(true).unwrap();
        fs::remove_dir_all(&bin).unwrap();
        let restored = Kept { restored: true, list: None };
        assert_eq!(keeper.look(false).unwrap(), restored);
        assert!(is_installed(&bin));
        fs::remove_file(bin.join("weave-ipam")).unwrap();
        assert_eq!(keeper.look(true).unwrap(), restored);
    }

    #[test]
    fn a_stock_plugin_comes_into_the_list_and_does_not_leave_it() {
        let Place { mut keeper, _folder } = place();
        let list = keeper.folders().conf.join(LIST);
        let named = || fs::read_to_string(&list).unwrap().contains("bandwidth");
        keeper.look(true).unwrap();
        assert!(!named());
        let bandwidth = keeper.folders().bin.join("bandwidth");
        fs::write(&bandwidth, "").unwrap();
        assert_eq!(keeper.look(true).unwrap().list, Some(Published::Written));
        assert!(named());
        fs::remove_file(&bandwidth).unwrap();
        assert_eq!(keeper.look(true).unwrap(), Kept::default());
        assert!(named());
    }
}
