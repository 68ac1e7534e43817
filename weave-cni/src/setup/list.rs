//! The list of plugins by which a runtime knows the network (spec cni.md, section 1).

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};
use weave_api::json::indented;

use super::NAMES;

/// What comes after ours in a list, each only where the host has it.
pub const CHAINED: [&str; 2] = ["portmap", "bandwidth"];
/// Before other lists: a runtime takes the first.
pub const LIST: &str = "10-weave.conflist";
/// What the original wrote up to version 2.4.0.
const OUTDATED: &str = "10-weave.conf";

/// What became of the list.
#[derive(PartialEq, Eq, Debug)]
pub enum Published {
    /// It is there.
    Written,
    /// There is one that somebody changed, which stays.
    Changed,
    /// The same, and no runtime can read it, or it is not of this plugin; why.
    Unusable(String),
}

/// Writes the list, and removes the outdated one.
///
/// # Errors
/// The system refuses.
pub fn publish(conf: &Path, list: &Value) -> io::Result<Published> {
    let (file, draft) = (conf.join(LIST), conf.join(format!("{LIST}.tmp")));
    let text = indented(list).map_err(io::Error::other)? + "\n";
    let found = fs::read(&file);
    let published = match &found {
        Ok(old) if is_default(old) => Published::Written,
        Ok(old) => flaw(old).map_or(Published::Changed, Published::Unusable),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Published::Written,
        Err(error) => return Err(io::Error::new(error.kind(), error.to_string())),
    };
    if matches!(published, Published::Unusable(_)) {
        return Ok(published);
    }
    match fs::remove_file(conf.join(OUTDATED)) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    // A runtime reads its lists again at each change: not for nothing.
    let there = found.is_ok_and(|old| old == text.as_bytes());
    if published == Published::Written && !there {
        fs::write(&draft, text)?;
        fs::rename(&draft, &file)?;
    }
    Ok(published)
}

/// Removes the list, also one that somebody changed: what it calls is about to go. The folder
/// stays, since a runtime that watches it would not notice another one in its place.
///
/// # Errors
/// The system refuses.
pub fn withdraw(conf: &Path) -> io::Result<Vec<PathBuf>> {
    let draft = format!("{LIST}.tmp");
    super::remove_files([LIST, draft.as_str(), OUTDATED].map(|name| conf.join(name)))
}

/// Returns the networks that a runtime finds before ours: it takes the first file by name, and
/// of ours containers would know nothing.
///
/// # Errors
/// The system refuses.
pub fn rivals(conf: &Path) -> io::Result<Vec<String>> {
    let mut names = Vec::new();
    for entry in fs::read_dir(conf)? {
        let Ok(name) = entry?.file_name().into_string() else { continue };
        let is_network = [".conf", ".conflist", ".json"].iter().any(|end| name.ends_with(end));
        if is_network && name.as_str() < LIST && name != OUTDATED {
            names.push(name);
        }
    }
    names.sort();
    Ok(names)
}

/// Why a runtime that reads this gives containers nothing of ours.
fn flaw(text: &[u8]) -> Option<String> {
    let list: Value = match serde_json::from_slice(text) {
        Ok(list) => list,
        Err(error) => return Some(format!("it is not JSON ({error})")),
    };
    let plugins = list.get("plugins").and_then(Value::as_array);
    let Some(plugins) = plugins.filter(|plugins| !plugins.is_empty()) else {
        return Some("it has no list \"plugins\"".to_owned());
    };
    if !list.get("name").is_some_and(Value::is_string) {
        return Some("it has no \"name\"".to_owned());
    }
    let ours = plugins.iter().any(|plugin| plugin.get("type") == Some(&json!(NAMES[0])));
    (!ours).then(|| format!("none of its plugins is of type {}", NAMES[0]))
}

/// Returns the list with this version of CNI and these plugins after ours.
pub fn list(version: &str, hairpin: bool, chained: &[&str]) -> Value {
    let ours = json!({ "name": "weave", "type": "weave-net", "hairpinMode": hairpin });
    let others = chained.iter().map(|name| match *name {
        "portmap" => {
            json!({ "type": name, "capabilities": { "portMappings": true }, "snat": true })
        }
        name => json!({ "type": name, "capabilities": { name: true } }),
    });
    let plugins: Vec<_> = std::iter::once(ours).chain(others).collect();
    json!({ "cniVersion": version, "name": "weave", "plugins": plugins })
}

/// Whether it is what this command, or the original, wrote.
fn is_default(text: &[u8]) -> bool {
    let Ok(mut found) = serde_json::from_slice::<Value>(text) else { return false };
    if let Some(found) = found.as_object_mut() {
        // Of version 2.9, which had no CHECK.
        found.remove("disableCheck");
    }
    let [portmap, bandwidth] = CHAINED;
    let chains: [&[&str]; 4] = [&[], &[portmap], &[bandwidth], &[portmap, bandwidth]];
    ["0.3.0", "1.0.0", "1.1.0"].iter().any(|version| {
        [true, false]
            .iter()
            .any(|hairpin| chains.iter().any(|chain| list(version, *hairpin, chain) == found))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_of_somebody_else_stays() {
        let conf = tempfile::tempdir().unwrap();
        let file = conf.path().join(LIST);
        let new = list("1.0.0", true, &CHAINED);
        fs::write(conf.path().join(OUTDATED), "old").unwrap();
        assert_eq!(publish(conf.path(), &new).unwrap(), Published::Written);
        assert!(!conf.path().join(OUTDATED).exists());
        let original = r#"{"cniVersion":"1.0.0","name":"weave","disableCheck":true,"plugins":[
            {"name":"weave","type":"weave-net","hairpinMode":true},
            {"type":"portmap","capabilities":{"portMappings":true},"snat":true}]}"#;
        fs::write(&file, original).unwrap();
        assert_eq!(publish(conf.path(), &new).unwrap(), Published::Written);
        let written: Value = serde_json::from_slice(&fs::read(&file).unwrap()).unwrap();
        assert_eq!(written, new);
        let changed = original.replace("weave-net\",", "weave-net\",\"mtu\":1300,");
        fs::write(&file, &changed).unwrap();
        assert_eq!(publish(conf.path(), &new).unwrap(), Published::Changed);
        assert_eq!(fs::read_to_string(&file).unwrap(), changed);
    }

    #[test]
    fn a_list_that_is_there_is_not_written_again() {
        let conf = tempfile::tempdir().unwrap();
        let new = list("1.1.0", true, &CHAINED);
        assert_eq!(publish(conf.path(), &new).unwrap(), Published::Written);
        let file = fs::File::open(conf.path().join(LIST)).unwrap();
        assert_eq!(publish(conf.path(), &new).unwrap(), Published::Written);
        assert_eq!(links(&file), 1, "it was replaced by the same");
        assert_eq!(publish(conf.path(), &list("1.0.0", true, &[])).unwrap(), Published::Written);
        assert_eq!(links(&file), 0, "another version of it replaces it");
    }

    /// Of a file that somebody replaced, none is left.
    fn links(file: &fs::File) -> u64 {
        std::os::unix::fs::MetadataExt::nlink(&file.metadata().unwrap())
    }

    #[test]
    fn networks_before_ours_are_found_and_stay() {
        let conf = tempfile::tempdir().unwrap();
        for name in
            ["05-cilium.conflist", "10-calico.conf", "10-a.txt", OUTDATED, LIST, "20-x.conf"]
        {
            fs::write(conf.path().join(name), "{}").unwrap();
        }
        let found = rivals(conf.path()).unwrap();
        assert_eq!(found, ["05-cilium.conflist", "10-calico.conf"]);
        let removed = withdraw(conf.path()).unwrap();
        assert_eq!(removed, [LIST, OUTDATED].map(|name| conf.path().join(name)));
        assert_eq!(fs::read_dir(conf.path()).unwrap().count(), 4);
        assert!(withdraw(conf.path()).unwrap().is_empty(), "twice is no failure");
    }

    #[test]
    fn a_list_that_no_runtime_can_use_is_a_failure() {
        let conf = tempfile::tempdir().unwrap();
        let file = conf.path().join(LIST);
        for (text, reason) in [
            ("", "not JSON"),
            (r#"{"name":"weave","plugins":[{"type":"weave-net"}"#, "not JSON"),
            (r#"{"name":"weave","type":"weave-net"}"#, "no list \"plugins\""),
            (r#"{"name":"weave","plugins":[]}"#, "no list \"plugins\""),
            (r#"{"plugins":[{"type":"weave-net"}]}"#, "no \"name\""),
            (r#"{"name":"weave","plugins":[{"type":"bridge"}]}"#, "of type weave-net"),
        ] {
            fs::write(&file, text).unwrap();
            match publish(conf.path(), &list("1.0.0", true, &CHAINED)).unwrap() {
                Published::Unusable(why) => assert!(why.contains(reason), "{text}: {why}"),
                other => panic!("{text}: {other:?}"),
            }
            assert_eq!(fs::read_to_string(&file).unwrap(), text);
        }
    }
}
