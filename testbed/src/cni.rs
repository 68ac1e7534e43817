//! CNI plugins, called as a container runtime calls them.

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, ensure};
use serde_json::{Map, Value, json};

use crate::Namespace;

/// The plugins of one folder, for containers of one host.
#[derive(Clone, Debug)]
pub struct Plugins<'host> {
    host: &'host Namespace,
    folder: PathBuf,
    state: PathBuf,
    interface: String,
    arguments: String,
}

/// What a plugin printed.
#[derive(Clone, Debug)]
pub struct Answer {
    /// Whether it succeeded.
    pub success: bool,
    /// Its result or its error object; null if it printed nothing.
    pub object: Value,
}

impl<'host> Plugins<'host> {
    /// Those in `folder`; ours keep their notes in `state`.
    pub fn new(host: &'host Namespace, folder: &Path, state: &Path) -> Self {
        let (folder, state) = (folder.to_owned(), state.to_owned());
        Self { host, folder, state, interface: "eth0".to_owned(), arguments: String::new() }
    }

    /// The same for another interface than `eth0`.
    #[must_use]
    pub fn on_interface(&self, interface: &str) -> Self {
        Self { interface: interface.to_owned(), ..self.clone() }
    }

    /// The same with a text in `CNI_ARGS`.
    #[must_use]
    pub fn with_arguments(&self, arguments: &str) -> Self {
        Self { arguments: arguments.to_owned(), ..self.clone() }
    }

    /// Calls the plugin that is the `type` of the configuration, for one interface of a container.
    pub fn call(&self, command: &str, id: &str, netns: &str, config: &Value) -> Result<Answer> {
        let name = config["type"].as_str().context("no type in the configuration")?;
        let program = self.folder.join(name);
        let mut process = Command::new(&program);
        process
            .env("CNI_COMMAND", command)
            .env("CNI_CONTAINERID", id)
            .env("CNI_NETNS", netns)
            .env("CNI_IFNAME", &self.interface)
            .env("CNI_ARGS", &self.arguments)
            .env("CNI_PATH", &self.folder)
            .env("WEAVE_CNI_STATE", &self.state)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        let input = config.to_string();
        // It starts on the host with the thread that starts it, and so without other programs
        // before it.
        let output = self.host.enter(move || -> Result<_> {
            let mut child =
                process.spawn().with_context(|| format!("starting {}", program.display()))?;
            child.stdin.take().context("no input")?.write_all(input.as_bytes())?;
            Ok(child.wait_with_output()?)
        })??;
        let text = String::from_utf8(output.stdout)?;
        let object = if text.is_empty() {
            Value::Null
        } else {
            serde_json::from_str(&text).with_context(|| format!("{command} of {name}: {text}"))?
        };
        Ok(Answer { success: output.status.success(), object })
    }
}

impl Answer {
    /// What it printed; not succeeding is an error.
    pub fn done(self) -> Result<Value> {
        ensure!(self.success, "the plugin refused: {}", self.object);
        Ok(self.object)
    }

    /// Code and text of its error; succeeding is an error.
    pub fn refused(self) -> Result<(u64, String)> {
        ensure!(!self.success, "the plugin succeeded: {}", self.object);
        let code = self.object["code"].as_u64().context("no code")?;
        Ok((code, format!("{} {}", self.object["msg"], self.object["details"])))
    }
}

/// A list of plugins, one behind the other, as a runtime reads it from its folder of networks.
#[derive(Clone, Debug)]
pub struct PluginList(Value);

impl PluginList {
    /// Reads a `.conflist`.
    pub fn read(path: &Path) -> Result<Self> {
        let text = std::fs::read(path).with_context(|| format!("reading {}", path.display()))?;
        Ok(Self(serde_json::from_slice(&text)?))
    }

    /// One of this text.
    pub fn new(list: Value) -> Self {
        Self(list)
    }

    /// Adds a container: each plugin gets the result of the one before, and of `capabilities` those
    /// it can. The result of the last one.
    pub fn add(
        &self,
        plugins: &Plugins<'_>,
        id: &str,
        netns: &str,
        capabilities: &Value,
    ) -> Result<Value> {
        let mut previous = Value::Null;
        for config in self.configs(capabilities)? {
            previous = plugins.call("ADD", id, netns, &with(config, &previous))?.done()?;
        }
        Ok(previous)
    }

    /// Checks a container against what adding it answered.
    pub fn check(
        &self,
        plugins: &Plugins<'_>,
        id: &str,
        netns: &str,
        capabilities: &Value,
        added: &Value,
    ) -> Result<()> {
        for config in self.configs(capabilities)? {
            plugins.call("CHECK", id, netns, &with(config, added))?.done()?;
        }
        Ok(())
    }

    /// Deletes a container, the last plugin first.
    pub fn delete(
        &self,
        plugins: &Plugins<'_>,
        id: &str,
        netns: &str,
        capabilities: &Value,
        added: &Value,
    ) -> Result<()> {
        for config in self.configs(capabilities)?.into_iter().rev() {
            plugins.call("DEL", id, netns, &with(config, added))?.done()?;
        }
        Ok(())
    }

    /// The configuration of each plugin.
    fn configs(&self, capabilities: &Value) -> Result<Vec<Value>> {
        let list = self.0["plugins"].as_array().context("no plugins in the list")?;
        let config = |plugin: &Value| {
            let mut config = plugin.clone();
            config["cniVersion"] = self.0["cniVersion"].clone();
            config["name"] = self.0["name"].clone();
            let asked = capabilities.as_object().cloned().unwrap_or_default();
            let can = asked.into_iter().filter(|(name, _)| plugin["capabilities"][name] == true);
            let can: Map<_, _> = can.collect();
            if !can.is_empty() {
                config["runtimeConfig"] = json!(can);
            }
            config
        };
        Ok(list.iter().map(config).collect())
    }
}

fn with(mut config: Value, previous: &Value) -> Value {
    if !previous.is_null() {
        config["prevResult"] = previous.clone();
    }
    config
}
