//! The plugin and its list in the folders of the host (spec cni.md, section 1).
//!
//! ```text
//!  folders   where a runtime looks ──▶ program   the plugin, under its names
//!  versions  what the others speak ──▶ list      the network; last, since it makes a node ready
//! ```

mod folders;
mod keeper;
mod list;
mod program;
mod versions;

use std::fs;
use std::io;
use std::path::PathBuf;

pub use folders::{Folders, Wanted};
pub use keeper::{Keeper, Kept};
pub use list::{CHAINED, LIST, Published, list, publish, rivals, withdraw};
pub use program::{install, is_installed, remove};
pub use versions::{best_list, chained};

/// The names under which a runtime calls the plugin.
const NAMES: [&str; 2] = ["weave-net", "weave-ipam"];

/// Removes those that are there, and tells which.
fn remove_files(files: impl IntoIterator<Item = PathBuf>) -> io::Result<Vec<PathBuf>> {
    let mut removed = Vec::new();
    for file in files {
        match fs::remove_file(&file) {
            Ok(()) => removed.push(file),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(error),
        }
    }
    Ok(removed)
}
