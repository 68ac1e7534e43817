//! Containers of containerd, which keeps a folder for each of its tasks with the process id in it.

use std::fs;
use std::path::{Path, PathBuf};

/// The folder of the tasks: one for each of containerd's namespaces, in which there is one for each
/// task.
const TASKS: &str = "io.containerd.runtime.v2.task";
/// Fewer characters of an id are not taken for the beginning of one.
const SHORTEST_PREFIX: usize = 4;

/// Why a container of containerd has no process.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum ContainerdError {
    /// It is there and does not run.
    #[error("the container {id} of containerd does not run")]
    NotRunning {
        /// As it was asked for.
        id: String,
    },
    /// The beginning of an id is that of several.
    #[error("containerd has {count} containers that {id} may mean: give the whole id")]
    Ambiguous {
        /// As it was asked for.
        id: String,
        /// How many begin like that.
        count: usize,
    },
}

/// Returns the process id of a container by its id or an unmistakable beginning of it; `None` if
/// containerd has no such container. `state` is the folder of containerd's state, as a rule
/// `/run/containerd`, `proc` where the process tree of the host is mounted.
///
/// # Errors
/// The container does not run, or several may be meant.
pub fn containerd_process(
    state: &Path,
    target: &str,
    proc: &Path,
) -> Result<Option<u32>, ContainerdError> {
    let tasks = state.join(TASKS);
    let folders = |path: &Path| {
        let entries = fs::read_dir(path).into_iter().flatten().flatten();
        entries.map(|entry| entry.path()).collect::<Vec<_>>()
    };
    let all: Vec<PathBuf> =
        folders(&tasks).iter().flat_map(|namespace| folders(namespace)).collect();
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
            process
                .filter(|process| is_of_task(*process, task, proc))
                .map(Some)
                .ok_or_else(|| ContainerdError::NotRunning { id: target.to_owned() })
        }
        several => Err(ContainerdError::Ambiguous { id: target.to_owned(), count: several.len() }),
    }
}

/// Whether a process belongs to a task. The folder outlives a task whose shim was killed, and the
/// kernel gives the number of its process to another one: that is in another control group than the
/// task.
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
    use super::*;

    #[test]
    fn containerd_keeps_a_folder_for_each_task() {
        let state = tempfile::tempdir().unwrap();
        let tasks = state.path().join(TASKS);
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
            let folder = tasks.join(task);
            fs::create_dir_all(&folder).unwrap();
            fs::write(folder.join("init.pid"), process).unwrap();
        }
        let find = |target| containerd_process(state.path(), target, proc.path());
        assert_eq!(find("c1").unwrap(), Some(17));
        assert_eq!(find("3f2a9c4").unwrap(), Some(42));
        assert_eq!(find("nothing").unwrap(), None);
        // Too short for a beginning.
        assert_eq!(find("3f2").unwrap(), None);
        assert!(
            find("3f2a9c").unwrap_err().to_string().contains("2 containers that 3f2a9c may mean")
        );
        assert!(find("3f2a9c77").unwrap_err().to_string().contains("does not run"));
        let nowhere = Path::new("/no/such/folder");
        assert_eq!(containerd_process(nowhere, "c1", proc.path()).unwrap(), None);
    }

    #[test]
    fn a_process_of_another_container_is_not_that_of_a_task() {
        let state = tempfile::tempdir().unwrap();
        let tasks = state.path().join(TASKS);
        let proc = tempfile::tempdir().unwrap();
        let (task, process) = (tasks.join("k8s.io/3f2a9c41"), proc.path().join("17"));
        fs::create_dir_all(&task).unwrap();
        fs::create_dir(&process).unwrap();
        fs::write(task.join("init.pid"), "17").unwrap();
        let find = || containerd_process(state.path(), "3f2a9c41", proc.path());
        assert!(
            find().unwrap_err().to_string().contains("does not run"),
            "there is no such process"
        );
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
