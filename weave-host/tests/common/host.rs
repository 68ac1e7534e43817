//! The host of a test, its containers, and what `ip` shows of them.

use std::fs::File;
use std::os::fd::{AsFd, AsRawFd};
use std::path::Path;
use std::process::Command;
use std::thread;

use nix::sched::{CloneFlags, setns, unshare};
use serde_json::Value;
use weave_core::wire::MacAddress;
use weave_host::{Attachment, BRIDGE_NAME, BridgeConfig, Namespace};

pub const MAC: MacAddress = MacAddress([0x7a, 0x9f, 0xeb, 0xb6, 0x0c, 0x6e]);

pub fn config(mtu: u32) -> BridgeConfig {
    BridgeConfig { name: BRIDGE_NAME.to_owned(), mac: MAC, mtu }
}

pub fn attachment(addresses: &[&str]) -> Attachment {
    Attachment {
        addresses: addresses.iter().map(|text| text.parse().unwrap()).collect(),
        multicast_route: true,
        ..Attachment::new(BRIDGE_NAME)
    }
}

/// A network namespace that lives as long as this.
pub struct Container(pub File);

impl Container {
    pub fn new() -> Self {
        let make = || {
            unshare(CloneFlags::CLONE_NEWNET).expect("these tests need root");
            File::open("/proc/thread-self/ns/net").unwrap()
        };
        Self(thread::spawn(make).join().unwrap())
    }

    pub fn namespace(&self) -> Namespace {
        let path = format!("/proc/self/fd/{}", self.0.as_raw_fd());
        Namespace::find(&path, Path::new("/proc")).unwrap()
    }

    pub fn run<T: Send>(&self, work: impl FnOnce() -> T + Send) -> T {
        let inside = || {
            setns(self.0.as_fd(), CloneFlags::CLONE_NEWNET).unwrap();
            work()
        };
        thread::scope(|scope| match scope.spawn(inside).join() {
            Ok(result) => result,
            Err(panic) => std::panic::resume_unwind(panic),
        })
    }
}

/// Runs `ip` in the namespace of this thread.
pub fn ip(arguments: &[&str]) -> Value {
    let output = Command::new("ip").args(arguments).output().expect("iproute2 is installed");
    let complaint = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "ip {arguments:?}: {complaint}");
    if output.stdout.is_empty() {
        return Value::Null;
    }
    serde_json::from_slice(&output.stdout).unwrap_or(Value::Null)
}

pub fn links() -> Vec<Value> {
    match ip(&["-j", "-d", "link", "show"]) {
        Value::Array(links) => links,
        other => panic!("not a list: {other}"),
    }
}

pub fn link(name: &str) -> Option<Value> {
    links().into_iter().find(|link| link["ifname"] == name)
}

/// The names of all veth interfaces.
pub fn veths() -> Vec<String> {
    let mut names: Vec<_> = links()
        .iter()
        .filter(|link| link["linkinfo"]["info_kind"] == "veth")
        .filter_map(|link| link["ifname"].as_str().map(str::to_owned))
        .collect();
    names.sort();
    names
}
