//! The plugins as a runtime sees them, with a router that is only told of.
#![expect(clippy::unwrap_used, reason = "a helper that fails fails its test")]

use std::collections::BTreeMap;
use std::fs;
use std::io::{BufRead as _, BufReader, Write as _};
use std::net::{SocketAddr, TcpListener};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use weave_cni::{Answer, Call, Command, Environment, Plugin, Router, answer};

/// How the router behaves.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Mood {
    Good,
    /// Breaks off this many times before it answers.
    Restarting(u32),
    /// Answers with this status and text.
    Says(u16, &'static str),
}

/// A router that gives out addresses.
struct Told {
    address: SocketAddr,
    asked: Arc<Mutex<Vec<String>>>,
}

impl Told {
    fn start(mood: Mood) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let asked = Arc::new(Mutex::new(Vec::new()));
        let log = Arc::clone(&asked);
        // Ends with the process of the test.
        thread::spawn(move || {
            let mut mood = mood;
            let mut owned = BTreeMap::new();
            for stream in listener.incoming() {
                let mut stream = stream.unwrap();
                let mut line = String::new();
                BufReader::new(&stream).read_line(&mut line).unwrap();
                let line = line.trim_end().trim_end_matches(" HTTP/1.1").to_owned();
                log.lock().unwrap().push(line.clone());
                let (status, body) = match mood {
                    Mood::Restarting(0) | Mood::Good => respond(&mut owned, &line),
                    Mood::Restarting(times) => {
                        mood = Mood::Restarting(times - 1);
                        continue;
                    }
                    Mood::Says(status, body) => (status, body.to_owned()),
                };
                let length = body.len();
                let is_nothing = body.starts_with("Delete: no addresses");
                let code = if is_nothing { "weave-error: not-held\r\n" } else { "" };
                // Whoever asks may be gone.
                let _ = write!(
                    stream,
                    "HTTP/1.0 {status} X\r\n{code}Content-Length: {length}\r\n\r\n{body}"
                );
            }
        });
        Self { address, asked }
    }

    fn asked(&self) -> Vec<String> {
        std::mem::take(&mut self.asked.lock().unwrap())
    }
}

fn respond(owned: &mut BTreeMap<String, String>, line: &str) -> (u16, String) {
    let (method, path) = line.split_once(' ').unwrap();
    let path = path.split('?').next().unwrap();
    if path == "/ipinfo/defaultsubnet" {
        return (200, "10.32.0.0/12".to_owned());
    }
    let mut parts = path.split('/').skip(2);
    let id = parts.next().unwrap_or_default().to_owned();
    // In a subnet of its own it gives out the first address alone, to whoever asks.
    if let Some(place) = parts.next() {
        return match (method, parts.next()) {
            ("POST", Some(prefix)) => (200, place.trim_end_matches('0').to_owned() + "1/" + prefix),
            ("DELETE", None) => (204, String::new()),
            ("PUT", _) if place == "10.32.0.66" => (400, "Unable to claim: taken".to_owned()),
            ("PUT", _) => (204, String::new()),
            _ => (200, owned.get(&id).cloned().unwrap_or_default()),
        };
    }
    match method {
        _ if !path.starts_with("/ip") => (404, "this router runs without that\n".to_owned()),
        "GET" => (200, owned.get(&id).cloned().unwrap_or_default()),
        "POST" => {
            let next = owned.len() + 1;
            (200, owned.entry(id).or_insert_with(|| format!("10.32.0.{next}/12")).clone())
        }
        _ if owned.remove(&id).is_some() => (204, String::new()),
        _ => (400, format!("Delete: no addresses for {id}\n")),
    }
}

struct Runtime {
    router: String,
    folder: tempfile::TempDir,
}

impl Runtime {
    fn of(address: &str) -> Self {
        Self { router: address.to_owned(), folder: tempfile::tempdir().unwrap() }
    }

    fn bin(&self) -> PathBuf {
        self.folder.path().join("bin")
    }

    fn call(&self, plugin: Plugin, command: Command, id: &str, input: &Value) -> Answer {
        self.call_in(plugin, command, id, "/run/netns/weave-no-such-thing", input)
    }

    fn call_in(
        &self,
        plugin: Plugin,
        command: Command,
        id: &str,
        netns: &str,
        input: &Value,
    ) -> Answer {
        self.call_with(plugin, command, id, netns, input, "")
    }

    fn call_with(
        &self,
        plugin: Plugin,
        command: Command,
        id: &str,
        netns: &str,
        input: &Value,
        arguments: &str,
    ) -> Answer {
        answer(&Call {
            plugin,
            environment: Environment {
                command,
                container: id.to_owned(),
                netns: netns.to_owned(),
                interface: "eth0".to_owned(),
                path: self.bin().display().to_string(),
                arguments: arguments.to_owned(),
            },
            input: input.to_string().into_bytes(),
            router: Router::at(Some(&self.router)).unwrap(),
            state: self.folder.path().join("state"),
        })
    }

    fn plugin(&self, name: &str, script: &str) {
        fs::create_dir_all(self.bin()).unwrap();
        let file = self.bin().join(name);
        fs::write(&file, format!("#!/bin/sh\n{script}\n")).unwrap();
        fs::set_permissions(&file, fs::Permissions::from_mode(0o755)).unwrap();
    }

    fn notes(&self) -> Vec<String> {
        self.notes_of("net")
    }

    fn notes_of(&self, network: &str) -> Vec<String> {
        let Ok(entries) = fs::read_dir(self.folder.path().join("state").join(network)) else {
            return Vec::new();
        };
        let mut names: Vec<_> =
            entries.map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }
}

fn config(version: &str) -> Value {
    json!({ "cniVersion": version, "name": "net", "type": "weave-net" })
}

fn with(version: &str, key: &str, value: Value) -> Value {
    let mut config = config(version);
    config[key] = value;
    config
}

fn object(answer: &Answer) -> Value {
    serde_json::from_str(&answer.text).unwrap()
}

#[track_caller]
fn refused(answer: &Answer, code: u32, text: &str) {
    let object = object(answer);
    assert!(!answer.success && object["code"] == code, "{object}");
    let said = format!("{}: {}", object["msg"], object["details"]);
    assert!(said.contains(text), "{object}");
    assert!(answer.text.starts_with("{\n    \""), "indentation of the original: {}", answer.text);
}

#[test]
fn addresses_are_given_out_and_back_and_again() {
    let router = Told::start(Mood::Good);
    let runtime = Runtime::of(&router.address.to_string());
    let ipam = |command, input: &Value| runtime.call(Plugin::Ipam, command, "c1", input);
    let added = ipam(Command::Add, &config("1.0.0"));
    let expected = json!({
        "cniVersion": "1.0.0", "ips": [{ "address": "10.32.0.1/12" }], "dns": {},
    });
    assert_eq!(object(&added), expected);
    assert_eq!(ipam(Command::Add, &config("1.0.0")), added);
    assert_eq!(runtime.notes(), ["c1@eth0"]);
    let nothing = Answer { text: String::new(), success: true };
    let previous = with("1.0.0", "prevResult", expected);
    assert_eq!(ipam(Command::Check, &previous), nothing);
    assert_eq!(ipam(Command::Del, &config("1.0.0")), nothing);
    assert_eq!(ipam(Command::Del, &config("1.0.0")), nothing);
    refused(&ipam(Command::Check, &previous), 102, "does not keep 10.32.0.1/12");
    assert_eq!(runtime.notes(), [] as [&str; 0]);
    // A plugin that takes its addresses from us has settings of its own.
    let of_bridge = with("0.3.1", "isGateway", json!(true));
    assert_eq!(object(&ipam(Command::Add, &of_bridge))["ips"][0]["version"], "4");
    let subnet = with("1.0.0", "ipam", json!({ "type": "weave-ipam", "subnet": "10.40.0.0/16" }));
    router.asked();
    ipam(Command::Add, &subnet);
    assert_eq!(router.asked(), ["GET /ip/c1/10.40.0.0/16", "POST /ip/c1/10.40.0.0/16"]);
}

#[test]
fn a_router_that_starts_anew_is_waited_for() {
    let router = Told::start(Mood::Restarting(3));
    let runtime = Runtime::of(&router.address.to_string());
    let added = runtime.call(Plugin::Ipam, Command::Add, "c1", &config("1.1.0"));
    assert!(added.success, "{}", added.text);
    assert_eq!(router.asked().len(), 5);
}

#[test]
fn no_router_is_one_to_try_again() {
    // Nobody listens on a port that was just free; an address that does not resolve fails at once.
    let runtime = Runtime::of("no-such-host.invalid:6784");
    let net = |command, input: &Value| runtime.call_in(Plugin::Net, command, "c1", "", input);
    refused(&net(Command::Status, &config("1.1.0")), 50, "the weave router is not ready");
    let added = runtime.call(Plugin::Ipam, Command::Add, "c1", &config("1.0.0"));
    refused(&added, 11, "unable to allocate IP address");
    refused(&added, 11, "is it running?");
}

#[test]
fn what_the_router_refuses_is_told() {
    for (status, text, code) in [
        (400, "range out of bounds", 101),
        (404, "this router runs without address allocation", 101),
        (503, "the router is stopping", 11),
        (408, "request took too long", 11),
        (200, "cancelled", 11),
    ] {
        let router = Told::start(Mood::Says(status, text));
        let runtime = Runtime::of(&router.address.to_string());
        let answer = runtime.call(Plugin::Ipam, Command::Add, "c1", &config("1.0.0"));
        refused(&answer, code, text);
        refused(&answer, code, "unable to allocate IP address");
    }
}

#[test]
fn wrong_configurations_are_told_by_their_code() {
    let runtime = Runtime::of("127.0.0.1:1");
    let add = |input: &Value| runtime.call(Plugin::Net, Command::Add, "c1", input);
    refused(&add(&config("9.9.9")), 1, "plugin supports 0.3.0, 0.3.1, 0.4.0, 1.0.0, 1.1.0");
    refused(&add(&with("1.0.0", "isGateway", json!(true))), 2, "Gateway functionality");
    refused(&add(&with("1.0.0", "ipMasq", json!(true))), 2, "IP Masquerading functionality");
    refused(&add(&config("1.0.0")), 3, "no network namespace");
    refused(&add(&json!("text")), 6, "cannot be decoded");
    refused(&add(&with("1.0.0", "name", json!("a/b"))), 7, "invalid network name");
    let host =
        runtime.call_in(Plugin::Net, Command::Add, "c1", "/proc/self/ns/net", &config("1.0.0"));
    refused(&host, 4, "uses the network namespace of the host");
    let check = |input: &Value| runtime.call(Plugin::Net, Command::Check, "c1", input);
    refused(&check(&config("0.3.1")), 1, "CHECK is not supported");
    refused(&check(&config("1.0.0")), 7, "prevResult is missing");
    let gc = runtime.call(Plugin::Net, Command::Gc, "", &config("1.1.0"));
    refused(&gc, 7, "cni.dev/valid-attachments is missing");
    // What cannot be understood was not added by us.
    let del = runtime.call(Plugin::Net, Command::Del, "c1", &with("1.0.0", "mtu", json!(1)));
    assert!(del.success);
}

#[test]
fn status_tells_what_every_add_would_be_refused_for() {
    let router = Told::start(Mood::Good);
    let runtime = Runtime::of(&router.address.to_string());
    let status = |plugin, input: &Value| runtime.call(plugin, Command::Status, "", input);
    let rates = with("1.1.0", "capabilities", json!({ "bandwidth": true }));
    refused(&status(Plugin::Net, &rates), 2, "capabilities.bandwidth");
    assert!(status(Plugin::Ipam, &rates).success, "the capabilities of another plugin");
    let ranges = with("1.1.0", "ipam", json!({ "ranges": [[{ "subnet": "10.0.0.0/8" }]] }));
    for plugin in [Plugin::Net, Plugin::Ipam] {
        refused(&status(plugin, &ranges), 2, "ipam.ranges");
        assert!(status(plugin, &config("1.1.0")).success);
    }
}

#[test]
fn versions_are_told() {
    let runtime = Runtime::of("127.0.0.1:1");
    let version = runtime.call(Plugin::Net, Command::Version, "", &json!({"cniVersion": "0.4.0"}));
    let expected = json!({
        "cniVersion": "0.4.0",
        "supportedVersions": ["0.3.0", "0.3.1", "0.4.0", "1.0.0", "1.1.0"],
    });
    assert_eq!(object(&version), expected);
    // To a runtime of a version that is not spoken, above all.
    for asked in [json!({"cniVersion": "0.1.0"}), json!({"cniVersion": "2.0.0"}), json!({})] {
        let version = runtime.call(Plugin::Net, Command::Version, "", &asked);
        assert_eq!(object(&version)["cniVersion"], "1.1.0", "{asked}");
        assert_eq!(object(&version)["supportedVersions"], expected["supportedVersions"]);
    }
}

#[test]
fn a_container_on_two_networks_keeps_what_it_has_on_the_other() {
    let router = Told::start(Mood::Good);
    let runtime = Runtime::of(&router.address.to_string());
    let ipam = |command, input: &Value| runtime.call(Plugin::Ipam, command, "c1", input);
    let on = |network: &str, subnet: &str| {
        let mut config = with("1.1.0", "ipam", json!({ "subnet": subnet }));
        config["name"] = json!(network);
        config
    };
    let (one, two) = (on("net", "10.32.1.0/24"), on("two", "10.32.2.0/24"));
    assert_eq!(object(&ipam(Command::Add, &one))["ips"][0]["address"], "10.32.1.1/24");
    assert_eq!(object(&ipam(Command::Add, &two))["ips"][0]["address"], "10.32.2.1/24");
    router.asked();
    assert!(ipam(Command::Del, &two).success);
    assert_eq!(router.asked(), ["DELETE /ip/c1/10.32.2.1"]);
    // So it is when the container is gone from one network, and the other is told of in GC.
    assert!(ipam(Command::Add, &two).success);
    router.asked();
    let mut gc = two.clone();
    gc["cni.dev/valid-attachments"] = json!([]);
    assert!(runtime.call(Plugin::Ipam, Command::Gc, "", &gc).success);
    assert_eq!(router.asked(), ["DELETE /ip/c1/10.32.2.1"]);
    // The address of both is not given back with one.
    let same = on("same", "10.32.1.0/24");
    assert_eq!(object(&ipam(Command::Add, &same))["ips"][0]["address"], "10.32.1.1/24");
    router.asked();
    assert!(ipam(Command::Del, &one).success);
    assert_eq!(router.asked(), [] as [&str; 0]);
    assert!(ipam(Command::Del, &same).success);
    assert_eq!(router.asked(), ["DELETE /ip/c1"]);
}

#[test]
fn what_belongs_to_nobody_is_collected() {
    let router = Told::start(Mood::Good);
    let runtime = Runtime::of(&router.address.to_string());
    for id in ["c1", "c2", "c3"] {
        assert!(runtime.call(Plugin::Ipam, Command::Add, id, &config("1.1.0")).success);
    }
    // Of another network, and none of a network at all.
    let other = with("1.1.0", "name", json!("other"));
    assert!(runtime.call(Plugin::Ipam, Command::Add, "c4", &other).success);
    router.asked();
    let valid = json!([
        { "containerID": "c2", "ifname": "eth0" },
        { "containerID": "c3", "ifname": "eth1" },
    ]);
    let input = with("1.1.0", "cni.dev/valid-attachments", valid);
    let gc = runtime.call(Plugin::Ipam, Command::Gc, "", &input);
    assert_eq!(gc, Answer { text: String::new(), success: true });
    // That the container c3 has another interface does not keep this one.
    assert_eq!(router.asked(), ["DELETE /ip/c1", "DELETE /ip/c3"]);
    assert_eq!(runtime.notes(), ["c2@eth0"]);
}

#[test]
fn what_is_deleted_while_the_router_is_away_is_given_back_later() {
    let runtime = Runtime::of("no-such-host.invalid:6784");
    let nothing = Answer { text: String::new(), success: true };
    for plugin in [Plugin::Net, Plugin::Ipam] {
        let id = format!("{plugin:?}");
        let begun = Instant::now();
        let del = || runtime.call_in(plugin, Command::Del, &id, "", &config("1.1.0"));
        assert_eq!([del(), del()], [nothing.clone(), nothing.clone()]);
        // A router that is away is waited for 5 s elsewhere.
        assert!(begun.elapsed() < Duration::from_secs(4), "waited for the router");
    }
    assert_eq!(runtime.notes_of(".owed"), ["Ipam@eth0", "Net@eth0"]);
    assert_eq!(runtime.notes(), [] as [&str; 0]);
    // What has been attached again owes nothing; the rest is paid by whoever comes next.
    let router = Told::start(Mood::Good);
    let runtime = Runtime { router: router.address.to_string(), ..runtime };
    let add = |id: &str| runtime.call(Plugin::Ipam, Command::Add, id, &config("1.1.0"));
    assert!(add("Ipam").success);
    assert_eq!(runtime.notes_of(".owed"), ["Net@eth0"]);
    assert!(add("c1").success);
    router.asked();
    assert!(runtime.call(Plugin::Ipam, Command::Del, "c1", &config("1.1.0")).success);
    assert_eq!(router.asked(), ["DELETE /ip/c1", "DELETE /ip/Net"]);
    assert_eq!(runtime.notes_of(".owed"), [] as [&str; 0]);
}

#[test]
fn addresses_that_are_asked_for_are_claimed_all_or_none() {
    let router = Told::start(Mood::Good);
    let runtime = Runtime::of(&router.address.to_string());
    let add = |input: &Value, arguments: &str| {
        runtime.call_with(Plugin::Ipam, Command::Add, "c1", "", input, arguments)
    };
    let added = add(&config("1.1.0"), "IP=10.32.0.9");
    assert_eq!(object(&added)["ips"][0]["address"], "10.32.0.9/12");
    let both = with("1.1.0", "args", json!({ "cni": { "ips": ["10.32.0.8/16", "10.32.0.66"] } }));
    router.asked();
    refused(&add(&both, ""), 101, "Unable to claim: taken");
    let asked = [
        "GET /ip/c1",
        "GET /ipinfo/defaultsubnet",
        "PUT /ip/c1/10.32.0.8/16",
        "PUT /ip/c1/10.32.0.66/12",
        "DELETE /ip/c1/10.32.0.8",
    ];
    assert_eq!(router.asked(), asked);
    refused(&add(&config("1.1.0"), "IP=10.48.0.1"), 7, "no address of a container in 10.32.0.0/12");
    refused(&add(&config("1.1.0"), "K8S_POD_NAME=x"), 4, "unknown key");
    assert_eq!(runtime.notes(), ["c1@eth0"], "of the first");
}

#[test]
fn nothing_is_attached_that_cannot_be_noted() {
    let router = Told::start(Mood::Good);
    let runtime = Runtime::of(&router.address.to_string());
    // For root, a file in place of the folder is what a disk is that cannot be written to.
    fs::write(runtime.folder.path().join("state"), "").unwrap();
    let added = runtime.call(Plugin::Ipam, Command::Add, "c1", &config("1.1.0"));
    refused(&added, 5, "the attachment cannot be noted");
    refused(&added, 5, "c1@eth0: ");
    assert_eq!(router.asked(), [] as [&str; 0], "an address was asked for");
}

#[test]
fn other_plugins_give_out_addresses() {
    let router = Told::start(Mood::Good);
    let runtime = Runtime::of(&router.address.to_string());
    let log = runtime.folder.path().join("log");
    let log_line = format!("echo $CNI_COMMAND $CNI_CONTAINERID $CNI_IFNAME >> {}", log.display());
    runtime.plugin("mine", &format!("{log_line}; cat > /dev/null"));
    let input = with("1.1.0", "ipam", json!({ "type": "mine" }));
    let net = |command, netns| runtime.call_in(Plugin::Net, command, "c1", netns, &input);
    assert!(net(Command::Del, "").success);
    assert_eq!(router.asked(), [] as [&str; 0], "the router is not asked");
    // It is there, and answers.
    refused(&net(Command::Status, ""), 50, "this router runs without that");
    assert_eq!(fs::read_to_string(&log).unwrap(), "DEL c1 eth0\n");

    let ipam = |command| runtime.call(Plugin::Ipam, command, "c1", &input);
    refused(&ipam(Command::Add), 101, "mine: no address");
    runtime.plugin("mine", "cat > /dev/null; echo '{\"ips\":[{\"address\":\"10.9.0.5/24\"}]}'");
    assert_eq!(object(&ipam(Command::Add))["ips"][0]["address"], "10.9.0.5/24");
    runtime.plugin("mine", "echo '{\"code\":77,\"msg\":\"no more\",\"details\":\"d\"}'; exit 1");
    refused(&ipam(Command::Add), 77, "mine: no more");
    runtime.plugin("mine", "echo nonsense; exit 3");
    refused(&ipam(Command::Add), 101, "nonsense");
    runtime.plugin("mine", "echo '{\"ips\":[{\"address\":\"x\"}]}'");
    refused(&ipam(Command::Add), 7, "invalid address");
    fs::remove_file(Path::new(&runtime.bin()).join("mine")).unwrap();
    refused(&ipam(Command::Add), 7, "there is no plugin \\\"mine\\\"");
}
