//! The plugin and its list in the folders of the host (spec cni.md, section 1).

use std::fs;
use std::io;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::Path;

use serde_json::{Value, json};
use weave_api::json::indented;

/// The names under which a runtime calls the plugin.
const NAMES: [&str; 2] = ["weave-net", "weave-ipam"];
/// What comes after ours in a list, each only where the host has it.
pub const CHAINED: [&str; 2] = ["portmap", "bandwidth"];
/// Before other lists: a runtime takes the first.
pub const LIST: &str = "10-weave.conflist";
/// What the original wrote up to version 2.4.0.
const OUTDATED: &str = "10-weave.conf";

/// Installs the program under a name with its version, and the names of the plugins as links to it.
/// At each moment a runtime finds a whole one.
///
/// # Errors
/// The system refuses.
pub fn install(plugin: &Path, bin: &Path) -> io::Result<()> {
    fs::create_dir_all(bin)?;
    let name = concat!("weave-plugin-", env!("CARGO_PKG_VERSION"));
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
    let published = match fs::read(&file) {
        Ok(old) if is_default(&old) => Published::Written,
        Ok(old) => flaw(&old).map_or(Published::Changed, Published::Unusable),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Published::Written,
        Err(error) => return Err(error),
    };
    if matches!(published, Published::Unusable(_)) {
        return Ok(published);
    }
    match fs::remove_file(conf.join(OUTDATED)) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    if published == Published::Written {
        fs::write(&draft, indented(list).map_err(io::Error::other)? + "\n")?;
        fs::rename(&draft, &file)?;
    }
    Ok(published)
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
    ["0.3.0", "1.0.0"].iter().any(|version| {
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
}
