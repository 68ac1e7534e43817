//! Which version of CNI a list may name. A runtime of CNI 1.1 takes the version of the list at its
//! word and asks each plugin in it for STATUS, which the stock plugins of before refuse: the node
//! would never be ready.

use std::io::Read as _;
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::Value;

use super::folders::{Folders, resolve};
use super::list::{CHAINED, list};

/// With STATUS and GC.
const NEW: &str = "1.1.0";
/// What all stock plugins since 2021 speak.
const OLD: &str = "1.0.0";

/// A plugin answers at once, or something is wrong with it.
const PATIENCE: Duration = Duration::from_secs(5);
const PAUSE: Duration = Duration::from_millis(10);

/// No plugin has more to say.
const MOST_OUTPUT: u64 = 64 * 1024;

/// Returns the stock plugins of this host that come after ours in a list.
pub fn chained(folders: &Folders) -> Vec<&'static str> {
    let there = |name: &&str| {
        let path = folders.bin.join(name);
        let Ok(on_host) = path.strip_prefix(&folders.root) else { return path.is_file() };
        // A pod does not see all of its host: there, a link may lead to what only the host has.
        let sees_all = folders.root == Path::new("/");
        resolve(&folders.root, on_host).is_ok_and(|path| path.is_file())
            || !sees_all && path.is_symlink()
    };
    CHAINED.into_iter().filter(there).collect()
}

/// Returns the best list that the plugins of this host allow.
pub fn best_list(folders: &Folders, hairpin: bool) -> Value {
    let chained = chained(folders);
    let answers: Vec<_> = chained.iter().map(|name| ask(folders, name)).collect();
    list(version(&answers), hairpin, &chained)
}

/// Returns the version of a list of plugins that gave these answers to VERSION.
fn version(answers: &[Option<Vec<u8>>]) -> &'static str {
    let speaks = |answer: &Option<Vec<u8>>| {
        let answer = answer.as_deref().unwrap_or_default();
        let answer: Value = serde_json::from_slice(answer).unwrap_or_default();
        let versions = answer.get("supportedVersions").and_then(Value::as_array);
        versions.is_some_and(|versions| versions.iter().any(|version| version == NEW))
    };
    if answers.iter().all(speaks) { NEW } else { OLD }
}

/// Asks a plugin which versions it speaks. One that cannot be run here says nothing.
fn ask(folders: &Folders, name: &str) -> Option<Vec<u8>> {
    let path = folders.bin.join(name);
    let program = match path.strip_prefix(&folders.root) {
        Ok(on_host) => resolve(&folders.root, on_host).ok()?,
        Err(_) => path,
    };
    let mut child = Command::new(program)
        // Those of some distributions are one program, which goes by its name.
        .arg0(name)
        .env("CNI_COMMAND", "VERSION")
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .ok()?;
    let output = child.stdout.take()?;
    let reader = thread::spawn(move || {
        let mut text = Vec::new();
        // Half an answer is none.
        let _ = output.take(MOST_OUTPUT).read_to_end(&mut text);
        text
    });
    let deadline = Instant::now() + PATIENCE;
    let succeeded = loop {
        match child.try_wait() {
            Ok(Some(status)) => break status.success(),
            Ok(None) if Instant::now() < deadline => thread::sleep(PAUSE),
            _ => {
                let _ = child.kill();
                let _ = child.wait();
                // A program it left behind may hold the pipe.
                return None;
            }
        }
    };
    succeeded.then(|| reader.join().ok()).flatten()
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::{PermissionsExt as _, symlink};

    use super::super::Wanted;
    use super::*;

    #[test]
    fn the_version_is_one_that_all_of_them_speak() {
        let new = || Some(br#"{"supportedVersions":["1.0.0","1.1.0"]}"#.to_vec());
        let old = Some(br#"{"supportedVersions":["0.3.0","1.0.0"]}"#.to_vec());
        assert_eq!(version(&[]), NEW);
        assert_eq!(version(&[new(), new()]), NEW);
        assert_eq!(version(&[new(), old]), OLD);
        for silent in [None, Some(Vec::new()), Some(b"{}".to_vec()), Some(b"[1.1.0".to_vec())] {
            assert_eq!(version(&[new(), silent]), OLD);
        }
    }

    #[test]
    fn plugins_of_the_host_are_asked() {
        let root = tempfile::tempdir().unwrap();
        let folders = Folders::find(root.path(), &Wanted::default());
        folders.create().unwrap();
        assert_eq!(best_list(&folders, true), list(NEW, true, &[]), "ours alone");
        let script = |versions: &str| {
            let file = root.path().join("plugins");
            // Renamed into place, so that it is never open for writing when it is run.
            let draft = root.path().join("draft");
            fs::write(
                &draft,
                format!(
                    "#!/bin/sh\n[ $CNI_COMMAND = VERSION ] && \
                     echo '{{\"supportedVersions\":[{versions}]}}'\n"
                ),
            )
            .unwrap();
            fs::set_permissions(&draft, fs::Permissions::from_mode(0o755)).unwrap();
            fs::rename(draft, file).unwrap();
        };
        // As k3s has it: a link to a path of the host.
        symlink("/plugins", folders.bin.join("portmap")).unwrap();
        assert_eq!(best_list(&folders, true), list(OLD, true, &["portmap"]), "of the host alone");
        script(r#""1.0.0""#);
        assert_eq!(best_list(&folders, true), list(OLD, true, &["portmap"]));
        script(r#""1.0.0","1.1.0""#);
        assert_eq!(best_list(&folders, false), list(NEW, false, &["portmap"]));
        fs::set_permissions(root.path().join("plugins"), fs::Permissions::from_mode(0o644))
            .unwrap();
        assert_eq!(best_list(&folders, true), list(OLD, true, &["portmap"]), "it cannot be run");
    }
}
