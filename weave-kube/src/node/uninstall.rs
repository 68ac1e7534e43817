//! `weave kube uninstall`: takes everything off a node that a router or Weave Net 2.x left on it.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use clap::Args;
use weave_cni::setup::{self, Folders};
use weave_host::BRIDGE_NAME;

use super::init::places;
use super::tell;
use crate::environment::Environment;
use crate::error::CommandError;
use crate::settings::DB_PREFIX;

/// What the plugin notes of each attachment, beside the state of the router.
const NOTES: &str = "cni";

/// Takes everything off this node that a router left on it: network, devices, rules and state. Pods
/// that are on it lose their network.
#[derive(Debug, Args)]
pub(crate) struct Uninstall {
    /// Leave the state: a router that comes back has the name and the addresses it had.
    #[arg(long)]
    keep_state: bool,
}

impl Uninstall {
    /// Does it, as far as it can.
    ///
    /// # Errors
    /// A router is running, or something could not be taken away; each is told.
    pub(crate) fn run(self) -> Result<(), CommandError> {
        let environment = Environment::of_process();
        let prefix = PathBuf::from(environment.or("DB_PREFIX", DB_PREFIX));
        let (root, wanted) = places(&environment);
        let claim = weave_host::BridgeClaim::acquire(BRIDGE_NAME).map_err(|error| {
            CommandError::Failed(format!("delete the DaemonSet weave-net first: {error}"))
        })?;
        let mut left = Left::default();
        // The network first, so that no pod comes to what is about to go.
        let folders = Folders::find(&root, &wanted);
        left.note("the network", setup::withdraw(&folders.conf).map(|files| paths(&files)));
        left.note("the plugin", setup::remove(&folders.bin).map(|files| paths(&files)));
        let tunnels = weave_fastdp::vxlan::remove_leftovers(BRIDGE_NAME);
        left.note("tunnels", tunnels.map(|()| Vec::new()));
        left.note("devices", weave_host::reset(BRIDGE_NAME));
        // After all that they sealed.
        let keys = weave_fastdp::ipsec::remove_leftovers(None);
        left.note("keys of IPsec", keys.map(|_| Vec::new()));
        let rules = weave_host::remove_rules(BRIDGE_NAME);
        left.note("rules", rules.map(|found| found.iter().map(ToString::to_string).collect()));
        if !self.keep_state {
            left.note("the state", remove_state(&prefix).map(|files| paths(&files)));
        }
        drop(claim);
        let Left(failures) = left;
        if !failures.is_empty() {
            return Err(CommandError::Failed(failures.join("; ")));
        }
        tell("nothing of weave is left on this node");
        Ok(())
    }
}

/// What could not be taken away, and why.
#[derive(Default)]
struct Left(Vec<String>);

impl Left {
    /// The rest goes on.
    fn note<E: std::fmt::Display>(&mut self, what: &str, done: Result<Vec<String>, E>) {
        match done {
            Ok(removed) if removed.is_empty() => {}
            Ok(removed) => tell(format_args!("removed {what}: {}", removed.join(", "))),
            Err(error) => self.0.push(format!("{what} cannot be removed: {error}")),
        }
    }
}

fn paths(files: &[PathBuf]) -> Vec<String> {
    files.iter().map(|file| file.display().to_string()).collect()
}

/// Removes all files of a prefix, among them those that were set aside and those of Weave Net 2.x,
/// and the notes of the plugin.
fn remove_state(prefix: &Path) -> io::Result<Vec<PathBuf>> {
    let (Some(folder), Some(start)) = (prefix.parent(), prefix.file_name()) else {
        return Ok(Vec::new());
    };
    let mut removed = Vec::new();
    let entries = match fs::read_dir(folder) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(removed),
        entries => entries?,
    };
    for entry in entries {
        let entry = entry?;
        let (path, name) = (entry.path(), entry.file_name());
        let is_file = entry.file_type()?.is_file();
        if is_file && name.as_encoded_bytes().starts_with(start.as_encoded_bytes()) {
            fs::remove_file(&path)?;
        } else if !is_file && name == NOTES {
            fs::remove_dir_all(&path)?;
        } else {
            continue;
        }
        removed.push(path);
    }
    removed.sort();
    Ok(removed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn state_is_removed_and_what_is_beside_it_stays() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        for name in ["weave-netdata.redb", "weave-netdata.db", "weave-net.pid", "other"] {
            fs::write(at(name), "").unwrap();
        }
        for name in ["cni/notes", "kept"] {
            fs::create_dir_all(at(name)).unwrap();
        }
        let removed = remove_state(&at("weave-net")).unwrap();
        let expected = ["cni", "weave-net.pid", "weave-netdata.db", "weave-netdata.redb"];
        assert_eq!(removed, expected.map(at));
        assert!(at("other").exists() && at("kept").exists());
        assert!(remove_state(&at("weave-net")).unwrap().is_empty(), "twice is no failure");
        assert!(remove_state(Path::new("/nowhere/at/all")).unwrap().is_empty());
    }

    #[test]
    fn what_fails_does_not_stop_the_rest() {
        let mut left = Left::default();
        left.note("rules", Err("busy"));
        left.note::<io::Error>("devices", Ok(vec!["weave".to_owned()]));
        left.note("the state", Err("read-only"));
        let expected = ["rules cannot be removed: busy", "the state cannot be removed: read-only"];
        assert_eq!(left.0, expected);
    }
}
