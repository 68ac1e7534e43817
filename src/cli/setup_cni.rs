//! `weave setup-cni`: the CNI plugin into the folders of the host (spec cni.md, section 1).

use std::fs;
use std::io;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};

use clap::{ArgAction, Args};
use serde_json::{Value, json};

use super::failure::Failure;
use super::output;
use super::remote::Remote;
use weave_api::client::ClientError;
use weave_api::json::indented;
use weave_node::VERSION;

/// The names under which a runtime calls the plugin.
const NAMES: [&str; 2] = ["weave-net", "weave-ipam"];
/// What comes after ours in a list, each only where the host has it.
const CHAINED: [&str; 2] = ["portmap", "bandwidth"];
/// Before other lists: a runtime takes the first.
const LIST: &str = "10-weave.conflist";
/// What the original wrote up to version 2.4.0.
const OUTDATED: &str = "10-weave.conf";

/// Arguments of `weave setup-cni`.
#[derive(Debug, Args)]
pub(super) struct SetupCni {
    /// Where the runtime looks for plugins.
    #[arg(long, value_name = "PATH", env = "WEAVE_CNI_PLUGIN_DIR", default_value = "/opt/cni/bin")]
    bin_dir: PathBuf,
    /// Where it looks for networks.
    #[arg(long, value_name = "PATH", default_value = "/etc/cni/net.d")]
    conf_dir: PathBuf,
    /// Where the file system of the host is mounted.
    #[arg(long, value_name = "PATH", env = "HOST_ROOT", default_value = "/")]
    host_root: PathBuf,
    /// The plugin; by default `weave-plugin` beside this program.
    #[arg(long, value_name = "FILE")]
    plugin: Option<PathBuf>,
    /// Whether a container reaches itself by an address that is translated on the bridge.
    #[arg(long, num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    #[arg(env = "HAIRPIN_MODE", default_value_t = true, value_parser = weave_api::parse_bool)]
    #[arg(action = ArgAction::Set)]
    hairpin_mode: bool,
    #[command(flatten)]
    remote: Remote,
}

impl SetupCni {
    pub(super) fn run(self) -> Result<(), Failure> {
        let plugin = self.plugin.clone().map_or_else(beside, Ok)?;
        let bin = on_host(&self.host_root, &self.bin_dir);
        let conf = on_host(&self.host_root, &self.conf_dir);
        if !conf.is_dir() {
            let conf = conf.display();
            return Err(Failure::failed(format!(
                "there is no folder {conf}: no container runtime on this host looks for networks"
            )));
        }
        install(&plugin, &bin).map_err(|error| {
            Failure::failed(format!(
                "cannot install {} in {}: {error}",
                plugin.display(),
                bin.display()
            ))
        })?;
        // Containers that are started once the list is there have to get addresses.
        self.remote.ask(async |client| match client.get("/ipinfo/defaultsubnet", "*/*").await {
            Err(ClientError::NotFound(_)) => Err(ClientError::Refused(
                "this router gives no addresses to containers: see --ipalloc-range".to_owned(),
            )),
            other => other,
        })?;
        let chained: Vec<_> = CHAINED.into_iter().filter(|name| bin.join(name).is_file()).collect();
        for missing in CHAINED.into_iter().filter(|name| !chained.contains(name)) {
            output::complain(&format!(
                "weave: there is no plugin {missing} in {}: containers do without",
                bin.display()
            ));
        }
        let list = list("1.0.0", self.hairpin_mode, &chained);
        let published = publish(&conf, &list).map_err(|error| {
            Failure::failed(format!("cannot write {LIST} in {}: {error}", conf.display()))
        })?;
        let file = conf.join(LIST);
        let file = file.display();
        match published {
            Published::Written => Ok(()),
            Published::Changed => {
                output::complain(&format!(
                    "weave: {file} was changed by somebody and stays as it is"
                ));
                Ok(())
            }
            Published::Unusable(why) => Err(Failure::failed(format!(
                "no runtime can use {file}: {why}; mend or remove it, and try again"
            ))),
        }
    }
}

fn beside() -> Result<PathBuf, Failure> {
    let failed = |error| Failure::failed(format!("cannot find myself: {error}"));
    let program = std::env::current_exe().map_err(failed)?.with_file_name("weave-plugin");
    if program.is_file() {
        Ok(program)
    } else {
        let program = program.display();
        Err(Failure::failed(format!("there is no {program}: say where with --plugin")))
    }
}

/// A path of the host, seen from here.
fn on_host(root: &Path, path: &Path) -> PathBuf {
    root.join(path.strip_prefix("/").unwrap_or(path))
}

/// The program under a name with its version, and the names of the plugins as links to it. At
/// each moment a runtime finds a whole one.
fn install(plugin: &Path, bin: &Path) -> io::Result<()> {
    fs::create_dir_all(bin)?;
    let name = format!("weave-plugin-{VERSION}");
    let (target, draft) = (bin.join(&name), bin.join(format!("{name}.tmp")));
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
            _ => symlink(&name, &draft)?,
        }
        // Also in place of a file, as early versions of the original had them.
        fs::rename(&draft, bin.join(link))?;
    }
    Ok(())
}

/// What became of the list.
#[derive(PartialEq, Eq, Debug)]
enum Published {
    Written,
    /// There is one that somebody changed, which stays.
    Changed,
    /// The same, and no runtime can read it, or it is not of this plugin; why.
    Unusable(String),
}

/// Writes the list, and removes the outdated one.
fn publish(conf: &Path, list: &Value) -> io::Result<Published> {
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

fn list(version: &str, hairpin: bool, chained: &[&str]) -> Value {
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
        assert_eq!(on_host(Path::new("/host"), Path::new("/opt")), Path::new("/host/opt"));
    }
}
