//! Which container a user means.
//!
//! ```text
//!  4711              a process id         │ of itself
//!  c1                known to `ip netns`  │
//!  /run/netns/c1     a path               │
//!  web, 3f2a9c…      Docker               │ asked at its socket, which answers for prefixes, too
//!  3f2a9c…           containerd           │ a folder for each of its tasks, with the process id in it
//! ```

use std::fs;
use std::path::{Path, PathBuf};

use weave_host::{HostError, Namespace};

use super::failure::Failure;
use weave_api::Address;
use weave_api::client::{self, Client, ClientError};

/// Where Docker listens unless `DOCKER_HOST` says otherwise.
const DOCKER: &str = "/var/run/docker.sock";
/// Where containerd listens unless `CONTAINERD_ADDRESS` says otherwise; its state is beside that.
const CONTAINERD: &str = "/run/containerd/containerd.sock";
/// What it calls the folder of its tasks: one for each of its namespaces, in which there is one for each
/// task.
const TASKS: &str = "io.containerd.runtime.v2.task";
/// Fewer characters of an id are not taken for the beginning of one.
const SHORTEST_PREFIX: usize = 4;

/// Finds the network namespace of a container.
pub(super) fn find(target: &str, proc: &Path) -> Result<Namespace, Failure> {
    let unknown = match Namespace::find(target, proc) {
        Err(error @ HostError::NoNamespace { .. }) if !target.contains('/') => error,
        result => return Ok(result?),
    };
    let variable = |name| std::env::var(name).ok().filter(|text| !text.is_empty());
    let docker = variable("DOCKER_HOST").unwrap_or_else(|| format!("unix://{DOCKER}"));
    let containerd = variable("CONTAINERD_ADDRESS").unwrap_or_else(|| CONTAINERD.to_owned());
    let containerd = Path::new(containerd.trim_start_matches("unix://"));
    let tasks = containerd.parent().unwrap_or(Path::new("/")).join(TASKS);
    let process = match docker_process(&docker, target)? {
        Some(process) => Some(process),
        None => containerd_process(&tasks, target, proc)?,
    };
    match process {
        Some(process) => Ok(Namespace::find(&process.to_string(), proc)?),
        None => Err(Failure::failed(format!(
            "{unknown}; and neither Docker nor containerd has a container {target:?} that runs"
        ))),
    }
}

/// The process id of a container of Docker; none if it has none of that name, or is not there.
fn docker_process(host: &str, target: &str) -> Result<Option<u32>, Failure> {
    // Other hosts have no containers here.
    let Some(socket) = host.strip_prefix("unix://").filter(|path| Path::new(path).exists()) else {
        return Ok(None);
    };
    let client = Client::new(Address::Unix(PathBuf::from(socket)));
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| Failure::failed(format!("cannot start: {error}")))?;
    let path = client::path(&["containers", target, "json"]);
    let text = match runtime.block_on(client.get(&path, "application/json")) {
        Ok(text) => text,
        Err(ClientError::NotFound(_) | ClientError::NotRunning { .. }) => return Ok(None),
        Err(error) => return Err(Failure::failed(format!("Docker at {socket}: {error}"))),
    };
    let answer: serde_json::Value = serde_json::from_str(&text)
        .map_err(|error| Failure::failed(format!("Docker at {socket}: {error}")))?;
    match answer["State"]["Pid"].as_u64().and_then(|process| u32::try_from(process).ok()) {
        Some(0) | None => Err(Failure::failed(format!("the container {target} does not run"))),
        process => Ok(process),
    }
}

/// The process id of a container of containerd, by its id or an unmistakable beginning of it.
fn containerd_process(tasks: &Path, target: &str, proc: &Path) -> Result<Option<u32>, Failure> {
    let folders = |path: &Path| {
        let entries = fs::read_dir(path).into_iter().flatten().flatten();
        entries.map(|entry| entry.path()).collect::<Vec<_>>()
    };
    let all: Vec<PathBuf> =
        folders(tasks).iter().flat_map(|namespace| folders(namespace)).collect();
    let named = |matches: &dyn Fn(&str) -> bool| -> Vec<&PathBuf> {
        let matches =
            |path: &&PathBuf| path.file_name().and_then(|name| name.to_str()).is_some_and(matches);
        all.iter().filter(matches).collect()
    };
    let mut found = named(&|name| name == target);
    if found.is_empty() && target.len() >= SHORTEST_PREFIX {
        found = named(&|name| name.starts_with(target));
    }
    match found.as_slice() {
        [] => Ok(None),
        [task] => {
            let text = fs::read_to_string(task.join("init.pid")).unwrap_or_default();
            let process = text.trim().parse().ok();
            process.filter(|process| is_of_task(*process, task, proc)).map(Some).ok_or_else(|| {
                Failure::failed(format!("the container {target} of containerd does not run"))
            })
        }
        several => Err(Failure::usage(format!(
            "containerd has {} containers that {target} may mean: give the whole id",
            several.len()
        ))),
    }
}

/// Whether a process belongs to a task. The folder outlives a task whose shim was killed, and the kernel
/// gives the number of its process to another one: that is in another control group than the task.
fn is_of_task(process: u32, task: &Path, proc: &Path) -> bool {
    let text = fs::read_to_string(task.join("config.json")).unwrap_or_default();
    let bundle: serde_json::Value = serde_json::from_str(&text).unwrap_or_default();
    // `/default/ID`, or `system.slice:cri-containerd:ID` for systemd.
    let group = bundle["linux"]["cgroupsPath"].as_str().unwrap_or_default();
    let name = group.rsplit(['/', ':']).next().unwrap_or_default();
    let Ok(groups) = fs::read_to_string(proc.join(process.to_string()).join("cgroup")) else {
        return false;
    };
    // `0::/default/ID`: there is nothing to compare where control groups are not used.
    let mut paths = groups.lines().filter_map(|line| line.splitn(3, ':').nth(2));
    name.is_empty()
        || paths.clone().all(|path| path == "/")
        || paths.any(|path| path.contains(name))
}

#[cfg(test)]
mod tests {
    use std::io::{Read as _, Write as _};
    use std::os::unix::net::UnixListener;

    use super::*;

    /// Answers one question like Docker, and returns it.
    fn docker(
        status: &str,
        body: &str,
    ) -> (String, tempfile::TempDir, std::thread::JoinHandle<String>) {
        let directory = tempfile::tempdir().unwrap();
        let socket = directory.path().join("docker.sock");
        let listener = UnixListener::bind(&socket).unwrap();
        let answer = format!("HTTP/1.1 {status}\r\nContent-Length: {}\r\n\r\n{body}", body.len());
        let served = std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let mut question = [0; 1024];
            let length = stream.read(&mut question).unwrap();
            stream.write_all(answer.as_bytes()).unwrap();
            String::from_utf8_lossy(&question[..length]).lines().next().unwrap().to_owned()
        });
        (format!("unix://{}", socket.display()), directory, served)
    }

    #[test]
    fn docker_knows_its_containers() {
        let (host, _directory, served) = docker("200 OK", r#"{"State":{"Pid":4711}}"#);
        assert_eq!(docker_process(&host, "web/1").unwrap(), Some(4711));
        assert_eq!(served.join().unwrap(), "GET /containers/web%2F1/json HTTP/1.1");
        let (host, _directory, _served) = docker("404 Not Found", r#"{"message":"no"}"#);
        assert_eq!(docker_process(&host, "web").unwrap(), None);
        for (status, body, complaint) in [
            ("200 OK", r#"{"State":{"Pid":0}}"#, "the container web does not run"),
            ("200 OK", "nonsense", "Docker at "),
            ("500 Internal Server Error", "broken", "broken"),
        ] {
            let (host, _directory, _served) = docker(status, body);
            let error = docker_process(&host, "web").unwrap_err();
            assert!(error.text().contains(complaint), "{}", error.text());
        }
        assert_eq!(docker_process("unix:///no/such/socket", "web").unwrap(), None);
        assert_eq!(docker_process("tcp://192.0.2.1:2375", "web").unwrap(), None);
    }

    #[test]
    fn containerd_keeps_a_folder_for_each_task() {
        let tasks = tempfile::tempdir().unwrap();
        let proc = tempfile::tempdir().unwrap();
        for process in ["9", "17", "42"] {
            fs::create_dir(proc.path().join(process)).unwrap();
            fs::write(proc.path().join(process).join("cgroup"), "0::/other\n").unwrap();
        }
        for (task, process) in [
            ("default/c1", "17\n"),
            ("k8s.io/3f2a9c41", "42"),
            ("k8s.io/3f2a9c77", ""),
            ("moby/c1-2", "9"),
        ] {
            let folder = tasks.path().join(task);
            fs::create_dir_all(&folder).unwrap();
            fs::write(folder.join("init.pid"), process).unwrap();
        }
        let find = |target| containerd_process(tasks.path(), target, proc.path());
        assert_eq!(find("c1").unwrap(), Some(17));
        assert_eq!(find("3f2a9c4").unwrap(), Some(42));
        assert_eq!(find("nothing").unwrap(), None);
        // Too short for a beginning.
        assert_eq!(find("3f2").unwrap(), None);
        assert!(find("3f2a9c").unwrap_err().text().contains("2 containers that 3f2a9c may mean"));
        assert!(find("3f2a9c77").unwrap_err().text().contains("does not run"));
        let nowhere = Path::new("/no/such/folder");
        assert_eq!(containerd_process(nowhere, "c1", proc.path()).unwrap(), None);
    }

    #[test]
    fn a_process_of_another_container_is_not_that_of_a_task() {
        let tasks = tempfile::tempdir().unwrap();
        let proc = tempfile::tempdir().unwrap();
        let (task, process) = (tasks.path().join("k8s.io/3f2a9c41"), proc.path().join("17"));
        fs::create_dir_all(&task).unwrap();
        fs::create_dir(&process).unwrap();
        fs::write(task.join("init.pid"), "17").unwrap();
        let find = || containerd_process(tasks.path(), "3f2a9c41", proc.path());
        assert!(find().unwrap_err().text().contains("does not run"), "there is no such process");
        for (group, groups, is_its_own) in [
            ("/default/3f2a9c41", "0::/default/3f2a9c41\n", true),
            ("/default/3f2a9c41", "0::/system.slice/ssh.service\n", false),
            ("kube.slice:cri-containerd:3f2a9c41", "0::/kube.slice/cri-3f2a9c41.scope\n", true),
            ("kube.slice:cri-containerd:3f2a9c41", "0::/kube.slice/cri-77.scope\n", false),
            ("/default/3f2a9c41", "3:cpu:/default/3f2a9c41\n1:name=x:/\n", true),
            ("/default/3f2a9c41", "0::/\n", true),
            ("", "0::/system.slice/ssh.service\n", true),
        ] {
            let bundle = serde_json::json!({ "linux": { "cgroupsPath": group } });
            fs::write(task.join("config.json"), bundle.to_string()).unwrap();
            fs::write(process.join("cgroup"), groups).unwrap();
            assert_eq!(find().is_ok(), is_its_own, "{group} {groups}");
        }
    }
}
