//! The CNI plugins `weave-net` and `weave-ipam` (spec cni.md, sections 1 to 4): how a container
//! runtime puts a container on the switch.
//!
//! ```text
//!  runtime ── CNI_COMMAND, configuration ──▶ weave-net ──▶ weave-ipam, built in ──HTTP──▶ router
//!          ◀── result, or an error object ──     │    └──▶ any other IPAM plugin
//!                                                └──▶ bridge, veth pair, addresses, routes
//! ```
//!
//! Versions 0.3.0 to 1.1.0 of the CNI specification. The plugin keeps nothing the runtime does
//! not know but a note for each attachment, for GC (`record`); what it asks of the router can
//! be asked again, so that a router that is just starting anew is waited for.
//!
//! # Example
//!
//! What a configuration and the runtime ask for, before anything is done:
//!
//! ```
//! use weave_cni::{CniError, Config, Plugin, RuntimeRequest};
//!
//! let text = br#"{"cniVersion": "1.0.0", "name": "weave", "type": "weave-net"}"#;
//! let config = Config::parse(text, Plugin::Net)?;
//! assert!(RuntimeRequest::of(&config, Plugin::Net, "IgnoreUnknown=1;IP=10.32.0.7").is_ok());
//!
//! let error = RuntimeRequest::of(&config, Plugin::Net, "IP=somewhere").unwrap_err();
//! assert_eq!(error.code, CniError::CONFIG);
//! # Ok::<(), CniError>(())
//! ```
//!
//! What is done to the host is in [`weave_host`]; the binary `weave` is both plugins when it is
//! called by their names.

mod away;
pub mod config;
mod environment;
mod error;
mod holder;
mod ipam;
mod lease;
mod net;
mod other;
mod pod;
mod record;
mod request_keys;
mod result;
mod router;
mod runtime_request;
pub mod setup;
mod version;

use std::io::{Read as _, Write as _};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use serde_json::{Value, json};

pub use config::{Config, MAX_INPUT};
pub use environment::{Command, Environment};
pub use error::CniError;
pub use router::Router;
pub use runtime_request::RuntimeRequest;
pub use version::CniVersion;

/// One of the two plugins.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Plugin {
    /// Interfaces.
    Net,
    /// Addresses alone, for other plugins.
    Ipam,
}

impl Plugin {
    /// Returns the name the runtime knows it by.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Net => "weave-net",
            Self::Ipam => "weave-ipam",
        }
    }

    /// By the name of the program; with another name, by the type in the configuration.
    fn of(program: &str, input: &[u8]) -> Self {
        let name = Path::new(program).file_name().and_then(|name| name.to_str());
        match name {
            Some("weave-net") => Self::Net,
            Some("weave-ipam") => Self::Ipam,
            _ => match serde_json::from_slice::<Value>(input) {
                Ok(value) if value["type"] == Self::Ipam.name() => Self::Ipam,
                _ => Self::Net,
            },
        }
    }
}

/// Everything a plugin works with.
#[derive(Clone, Debug)]
pub struct Call {
    /// Which plugin it is.
    pub plugin: Plugin,
    /// What the runtime said in its variables.
    pub environment: Environment,
    /// The configuration, as it came.
    pub input: Vec<u8>,
    /// The router of this host.
    pub router: Router,
    /// The folder of the notes for GC.
    pub state: PathBuf,
}

/// Outlives a restart of the machine, as the addresses do.
const STATE: &str = "/var/lib/weave/cni";

/// What the runtime reads.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Answer {
    /// On standard output; nothing if empty.
    pub text: String,
    /// Whether it worked.
    pub success: bool,
}

/// Returns the program.
pub fn main() -> ExitCode {
    let program = std::env::args().next().unwrap_or_default();
    let answer = if std::env::var_os("CNI_COMMAND").is_none() {
        about(&program);
        return ExitCode::SUCCESS;
    } else {
        match prepare(&program) {
            Ok(call) => answer(&call),
            Err(error) => refuse(&error, CniVersion::LATEST),
        }
    };
    // A runtime that went away needs no answer.
    let _ = std::io::stdout().write_all(answer.text.as_bytes());
    if answer.success { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// For people who try what this file does.
fn about(program: &str) {
    let versions = CniVersion::ALL.map(CniVersion::text).join(", ");
    let _ = writeln!(
        std::io::stderr(),
        "{program}: CNI plugins weave-net and weave-ipam, version {}\nCNI protocol versions \
         supported: {versions}",
        env!("CARGO_PKG_VERSION")
    );
}

fn prepare(program: &str) -> Result<Call, CniError> {
    let mut input = Vec::new();
    std::io::stdin()
        .take(MAX_INPUT as u64 + 1)
        .read_to_end(&mut input)
        .map_err(|error| CniError::io("cannot read the configuration", &error))?;
    let environment = Environment::read(|name| std::env::var(name).ok())?;
    let router = Router::at(std::env::var("WEAVE_HTTP_ADDR").ok().as_deref())?;
    let state = std::env::var_os("WEAVE_CNI_STATE").unwrap_or_else(|| STATE.into()).into();
    Ok(Call { plugin: Plugin::of(program, &input), environment, input, router, state })
}

/// Does what the runtime asks.
pub fn answer(call: &Call) -> Answer {
    let version = match Config::version(&call.input) {
        Ok(version) => version,
        // This is how a runtime of a later version finds out what is spoken here.
        Err(_) if call.environment.command == Command::Version => CniVersion::LATEST,
        Err(error) => return refuse(&error, CniVersion::LATEST),
    };
    let done = match (call.environment.command, call.plugin) {
        (Command::Version, _) => Ok(Some(versions(version))),
        (Command::Add, Plugin::Net) => net::add(call).map(Some),
        (Command::Del, Plugin::Net) => net::del(call).map(|()| None),
        (Command::Check, Plugin::Net) => net::check(call).map(|()| None),
        (Command::Status, Plugin::Net) => net::status(call).map(|()| None),
        (Command::Gc, Plugin::Net) => net::gc(call).map(|()| None),
        (Command::Add, Plugin::Ipam) => ipam::add(call).map(Some),
        (Command::Del, Plugin::Ipam) => ipam::del(call).map(|()| None),
        (Command::Check, Plugin::Ipam) => ipam::check(call).map(|()| None),
        (Command::Status, Plugin::Ipam) => ipam::status(call).map(|()| None),
        (Command::Gc, Plugin::Ipam) => ipam::gc(call).map(|()| None),
    };
    match done {
        Ok(Some(value)) => Answer { text: pretty(&value), success: true },
        Ok(None) => Answer { text: String::new(), success: true },
        Err(error) => refuse(&error, version),
    }
}

fn versions(asked: CniVersion) -> Value {
    json!({
        "cniVersion": asked.text(),
        "supportedVersions": CniVersion::ALL.map(CniVersion::text),
    })
}

fn refuse(error: &CniError, version: CniVersion) -> Answer {
    Answer { text: pretty(&error.object(version)), success: false }
}

/// With the indentation of the original.
fn pretty(value: &Value) -> String {
    use serde::Serialize as _;

    let mut text = Vec::new();
    let format = serde_json::ser::PrettyFormatter::with_indent(b"    ");
    // A value is always text, and so is where it goes.
    let _ = value.serialize(&mut serde_json::Serializer::with_formatter(&mut text, format));
    text.push(b'\n');
    String::from_utf8(text).unwrap_or_default()
}

/// For the log of the runtime.
fn note(text: impl std::fmt::Display) {
    let _ = writeln!(std::io::stderr(), "weave-cni: {text}");
}
