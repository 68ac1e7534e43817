//! Control groups of a cluster: `/CLUSTER/NODE` in each hierarchy of this machine.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result};

use crate::wait::eventually;

const ROOT: &str = "/sys/fs/cgroup";
/// What a group of version 1 has to be told before a process can enter it.
const CPUSETS: [&str; 2] = ["cpuset.cpus", "cpuset.mems"];
/// The kernel takes a moment to see that the last process of a group has ended.
const EMPTY: Duration = Duration::from_secs(5);

/// Makes the groups of a node.
pub(super) fn make(cluster: &str, node: &str) -> Result<()> {
    for hierarchy in hierarchies() {
        for group in [hierarchy.join(cluster), hierarchy.join(cluster).join(node)] {
            fs::create_dir_all(&group).with_context(|| format!("making {}", group.display()))?;
            copy_from_parent(&group)?;
        }
    }
    Ok(())
}

fn copy_from_parent(group: &Path) -> Result<()> {
    let Some(parent) = group.parent() else { return Ok(()) };
    for name in CPUSETS {
        let (from, to) = (parent.join(name), group.join(name));
        // Version 2 inherits what is not set.
        if from.exists() && to.exists() && !parent.join("cgroup.controllers").exists() {
            let value = fs::read_to_string(from)?;
            fs::write(&to, value.trim()).with_context(|| format!("writing {}", to.display()))?;
        }
    }
    Ok(())
}

/// Removes groups with all those in them. What a process is still in stays.
pub(super) fn remove(path: &str) {
    for hierarchy in hierarchies() {
        let group = hierarchy.join(path);
        let _ = eventually("an empty control group", EMPTY, || {
            remove_tree(&group);
            !group.exists()
        });
    }
}

fn remove_tree(group: &Path) {
    let Ok(entries) = fs::read_dir(group) else { return };
    for entry in entries.flatten() {
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            remove_tree(&entry.path());
        }
    }
    // It fails while there is a process in the group; the caller tries again.
    let _ = fs::remove_dir(group);
}

/// One folder with version 2 of the interface, one for each controller with version 1.
fn hierarchies() -> Vec<PathBuf> {
    let root = Path::new(ROOT);
    if root.join("cgroup.controllers").exists() {
        return vec![root.to_owned()];
    }
    let Ok(entries) = fs::read_dir(root) else { return Vec::new() };
    let folders = entries.flatten().filter(|e| e.file_type().is_ok_and(|kind| kind.is_dir()));
    folders.map(|entry| entry.path()).collect()
}
