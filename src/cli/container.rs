//! Which container a user means.
//!
//! ```text
//!  4711              a process id         │ of itself
//!  c1                known to `ip netns`  │
//!  /run/netns/c1     a path               │
//!  web, 3f2a9c…      Docker               │ asked at its socket, which answers for prefixes, too
//!  3f2a9c…           containerd           │ a folder for each of its tasks, with the process id in it
//! ```

use std::path::{Path, PathBuf};

use weave_host::{ContainerdError, HostError, Namespace, containerd_process};

use super::failure::Failure;
use weave_api::Address;
use weave_api::client::{self, Client, ClientError};

/// Where Docker listens unless `DOCKER_HOST` says otherwise.
const DOCKER: &str = "/var/run/docker.sock";
/// Where containerd listens unless `CONTAINERD_ADDRESS` says otherwise; its state is beside that.
const CONTAINERD: &str = "/run/containerd/containerd.sock";

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
    let state = containerd.parent().unwrap_or(Path::new("/"));
    let process = match docker_process(&docker, target)? {
        Some(process) => Some(process),
        None => containerd_process(state, target, proc).map_err(failure)?,
    };
    match process {
        Some(process) => Ok(Namespace::find(&process.to_string(), proc)?),
        None => Err(Failure::failed(format!(
            "{unknown}; and neither Docker nor containerd has a container {target:?} that runs"
        ))),
    }
}

fn failure(error: ContainerdError) -> Failure {
    match error {
        ContainerdError::Ambiguous { .. } => Failure::usage(error.to_string()),
        ContainerdError::NotRunning { .. } => Failure::failed(error.to_string()),
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
}
