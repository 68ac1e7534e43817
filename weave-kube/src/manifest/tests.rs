use clap::{Args as _, Command, FromArgMatches as _};
use k8s_openapi::api::apps::v1::DaemonSet;
use k8s_openapi::api::core::v1::ServiceAccount;
use k8s_openapi::api::rbac::v1::{ClusterRole, ClusterRoleBinding, Role, RoleBinding};
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::*;

/// What the repository has for those who have no program yet.
const DEPLOYED: &str = include_str!("../../../deploy/kubernetes/weave-net.yaml");

fn manifest(line: &str) -> Result<Manifest, String> {
    let command = Manifest::augment_args(Command::new("manifest"));
    let words = std::iter::once("manifest").chain(line.split_whitespace());
    let matches = command.try_get_matches_from(words).map_err(|error| error.to_string())?;
    Manifest::from_arg_matches(&matches).map_err(|error| error.to_string())
}

fn print(line: &str) -> Result<String, String> {
    manifest(line)?.text().map_err(|error| error.to_string())
}

/// The objects as an API server would read the text.
fn read(line: &str) -> Vec<Value> {
    let text = print(line).unwrap();
    serde_saphyr::from_multiple(&text).unwrap()
}

/// The pod of each node.
fn pod(line: &str) -> Value {
    let mut objects = read(line);
    objects.pop().unwrap()["spec"]["template"]["spec"].take()
}

/// Fields that the API does not know would be lost on the way.
fn is_known<T: DeserializeOwned + Serialize>(object: &Value) -> bool {
    let typed: T = serde_json::from_value(object.clone()).unwrap();
    serde_json::to_value(typed).unwrap() == *object
}

#[test]
fn the_file_in_the_repository_is_the_default() {
    let text = print("").unwrap();
    assert!(
        text == DEPLOYED,
        "deploy/kubernetes/weave-net.yaml has to be what `weave kube manifest` prints:\n{text}"
    );
}

#[test]
fn every_field_is_one_of_the_api() {
    for line in [
        "",
        "--no-npc --mtu 1400 --password-secret weave-passwd --selinux-option type=spc_t",
        "--cni-bin-dir /home/kubernetes/bin --cni-conf-dir /etc/cni/net.d --env CONN_LIMIT=30",
    ] {
        let mut kinds = Vec::new();
        for object in read(line) {
            let kind = object["kind"].as_str().unwrap().to_owned();
            let known = match kind.as_str() {
                "ServiceAccount" => is_known::<ServiceAccount>(&object),
                "ClusterRole" => is_known::<ClusterRole>(&object),
                "ClusterRoleBinding" => is_known::<ClusterRoleBinding>(&object),
                "Role" => is_known::<Role>(&object),
                "RoleBinding" => is_known::<RoleBinding>(&object),
                "DaemonSet" => is_known::<DaemonSet>(&object),
                other => panic!("{other}"),
            };
            assert!(known, "{object:#}");
            assert_eq!(object["metadata"]["name"], "weave-net");
            assert_eq!(object["metadata"]["labels"]["name"], "weave-net");
            assert_eq!(object["metadata"].get("namespace").is_none(), kind.starts_with("Cluster"));
            kinds.push(kind);
        }
        assert_eq!(kinds.len(), 6, "{kinds:?}");
    }
}

#[test]
fn what_2x_has_keeps_its_name() {
    let daemon_set = read("").pop().unwrap();
    assert_eq!(daemon_set["spec"]["selector"], json!({ "matchLabels": { "name": "weave-net" } }));
    let pod = pod("");
    assert_eq!(pod["initContainers"][0]["name"], "weave-init");
    assert_eq!(pod["containers"][0]["name"], "weave");
    let path = |name: &str| {
        let volumes = pod["volumes"].as_array().unwrap();
        let volume = volumes.iter().find(|volume| volume["name"] == name);
        volume.map(|volume| volume["hostPath"]["path"].as_str().unwrap().to_owned())
    };
    for (name, expected) in [
        ("weavedb", "/var/lib/weave"),
        ("dbus", "/var/lib/dbus"),
        ("cni-machine-id", "/etc/machine-id"),
        ("lib-modules", "/lib/modules"),
        ("xtables-lock", "/run/xtables.lock"),
    ] {
        assert_eq!(path(name).as_deref(), Some(expected), "{name}");
    }
    for whole in ["/", "/opt", "/home", "/etc"] {
        assert!(!pod["volumes"].to_string().contains(&format!("\"{whole}\"")), "{whole}");
    }
}

#[test]
fn every_mount_has_its_volume_and_every_volume_its_use() {
    for line in ["", "--cni-bin-dir /a", "--cni-bin-dir /a --cni-conf-dir /b"] {
        let pod = pod(line);
        let names = |list: &Value| -> std::collections::BTreeSet<String> {
            let list = list.as_array().unwrap();
            list.iter().map(|entry| entry["name"].as_str().unwrap().to_owned()).collect()
        };
        let containers = ["initContainers", "containers"].map(|key| pod[key].as_array().unwrap());
        let used = containers.into_iter().flatten();
        let used = used.flat_map(|container| names(&container["volumeMounts"])).collect();
        assert_eq!(names(&pod["volumes"]), used, "{line}");
    }
}

#[test]
fn what_takes_a_network_away_sees_the_same_folders() {
    let objects = read("--uninstall --cni-bin-dir /a");
    let [object] = objects.as_slice() else { panic!("{objects:?}") };
    assert!(is_known::<DaemonSet>(object), "{object:#}");
    let pod = &object["spec"]["template"]["spec"];
    assert_eq!(pod["initContainers"][0]["command"], json!(["weave", "kube", "uninstall"]));
    assert_ne!(object["metadata"]["name"], "weave-net", "it is beside nothing else");
    let text = pod["volumes"].to_string();
    assert!(text.contains("/var/lib/weave") && text.contains("\"/a\""), "{text}");
}

#[test]
fn who_changes_devices_has_the_lock_that_the_plugin_has_on_the_host() {
    let once = read("--uninstall").pop().unwrap()["spec"]["template"]["spec"].take();
    for (pod, container) in [(pod(""), "containers"), (once, "initContainers")] {
        let by_name = |list: &Value, key: &str, value: &str| -> Value {
            let list = list.as_array().unwrap();
            list.iter().find(|entry| entry[key] == value).unwrap_or(&Value::Null).clone()
        };
        let mount = by_name(&pod[container][0]["volumeMounts"], "mountPath", "/run/weave");
        let volume = by_name(&pod["volumes"], "name", mount["name"].as_str().unwrap());
        assert_eq!(volume["hostPath"]["path"], "/run/weave");
        assert_eq!(mount.get("readOnly"), None);
    }
}

#[test]
fn every_flag_has_an_effect() {
    let plain = print("").unwrap();
    for (line, shown) in [
        ("--password-secret weave-passwd", "secretKeyRef"),
        ("--password-secret weave:mesh", "key: mesh"),
        ("--ipalloc-range 10.0.0.0/16", "10.0.0.0/16"),
        ("--mtu 8000", "8000"),
        ("--image registry.example/weave@sha256:0f", "registry.example/weave@sha256:0f"),
        ("--env HAIRPIN_MODE=false", "HAIRPIN_MODE"),
        ("--env WEAVE_HTTP_ADDR=127.0.0.1:7784", "port: 7784"),
        ("--selinux-option type=spc_t", "spc_t"),
        ("--cni-bin-dir /home/kubernetes/bin", "/host/home/kubernetes/bin"),
        ("--cni-conf-dir /etc/other", "WEAVE_CNI_CONF_DIR"),
    ] {
        let text = print(line).unwrap();
        assert!(text.contains(shown) && !plain.contains(shown), "{line}: {text}");
    }
    for same in ["--kubernetes-version 1.29", "--k8s-version v1.37.1+k3s1", "--disable-npc=false"] {
        assert_eq!(print(same).unwrap(), plain, "{same}");
    }
    let expects = |line: &str| pod(line).to_string().contains(r#""name":"EXPECT_NPC","value":"0""#);
    assert!(expects("--no-npc") && expects("--disable-npc=true"));
    assert_eq!(expects(""), !HAS_POLICY_CONTROLLER);
    let narrow = print("--cni-bin-dir /a --cni-conf-dir /b").unwrap();
    assert!(
        !narrow.contains("rancher") && !narrow.contains("/opt"),
        "named: nothing is looked for"
    );
}

#[test]
fn nobody_gets_more_than_what_is_used() {
    let objects = read("--no-npc");
    let rules = objects[1]["rules"].to_string();
    assert!(
        !rules.contains("pods") && !rules.contains("secrets") && !rules.contains('*'),
        "{rules}"
    );
    let role = &objects[3]["rules"];
    assert_eq!(role[0]["resourceNames"], json!(["weave-net"]));
    assert_eq!(role[1]["verbs"], json!(["create"]));
}

#[test]
fn wrong_values_are_refused() {
    for (line, reason) in [
        ("--kubernetes-version 1.28.4", "Kubernetes 1.29 and later"),
        ("--kubernetes-version newest", "no version like 1.33"),
        ("--password-secret a/b", "NAME:KEY"),
        ("--password-secret Weave", "NAME:KEY"),
        ("--ipalloc-range 10.32.0.1/12", "IPALLOC_RANGE=10.32.0.1/12: "),
        ("--mtu 100", "WEAVE_MTU=100: "),
        ("--env CONN_LIMIT=many", "CONN_LIMIT=many: "),
        ("--env 1=2", "not NAME=VALUE"),
        ("--env HOSTNAME=a", "set by the manifest itself"),
        ("--env WEAVE_MTU=1400 --mtu 1400", "set by --mtu"),
        ("--env A=1 --env A=2", "said twice"),
        ("--env WEAVE_CNI_CONF_DIR=/x", "say --cni-conf-dir"),
        ("--env DB_PREFIX=/x", "the manifest sets it"),
        ("--env WEAVE_PASSWORD=a --password-secret b", "set by --password-secret"),
        ("--env WEAVE_HTTP_ADDR=/run/weave.sock", "HOST:PORT only"),
        ("--selinux-option kind=x", "level, role, type and user"),
        ("--cni-bin-dir opt", "not an absolute path"),
        ("--cni-bin-dir /opt/../etc", "not an absolute path"),
        ("--image a{b}", "not the name of an image"),
    ] {
        let error = print(line).unwrap_err();
        assert!(error.contains(reason), "{line}: {error}");
    }
}
