//! Running another IPAM plugin (CNI specification, "Plugin delegation").

use std::io::{self, Read as _, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Child, Command as Process, Stdio};
use std::thread;

use serde::Deserialize;
use serde_json::Value;

use crate::Call;
use crate::config::MAX_INPUT;
use crate::environment::Command;
use crate::error::CniError;

/// Has the plugin do this for this container, with our own configuration. Its result, if it
/// printed any.
pub(crate) fn run(
    call: &Call,
    name: &str,
    command: Command,
    container: &str,
) -> Result<Option<Value>, CniError> {
    let program = find(&call.environment.path, name)?;
    let failed = |error: &io::Error| CniError::io(&format!("{name}: cannot be run"), error);
    let mut child = Process::new(program)
        .env("CNI_COMMAND", command.text())
        .env("CNI_CONTAINERID", container)
        .env("CNI_NETNS", &call.environment.netns)
        .env("CNI_IFNAME", &call.environment.interface)
        .env("CNI_PATH", &call.environment.path)
        .env("CNI_ARGS", &call.environment.arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .map_err(|error| failed(&error))?;
    let output = talk(&mut child, &call.input).map_err(|error| failed(&error))?;
    let status = child.wait().map_err(|error| failed(&error))?;
    if !status.success() {
        return Err(complaint(name, &output, &status.to_string()));
    }
    if output.iter().all(u8::is_ascii_whitespace) {
        return Ok(None);
    }
    serde_json::from_slice(&output).map(Some).map_err(|error| {
        let msg = format!("{name}: its result cannot be decoded");
        CniError::new(CniError::DECODING, msg, error.to_string())
    })
}

/// Returns what it prints when it is given this. It may do both at once.
fn talk(child: &mut Child, input: &[u8]) -> io::Result<Vec<u8>> {
    let (stdin, stdout) = (child.stdin.take(), child.stdout.take());
    thread::scope(|scope| {
        scope.spawn(move || {
            // One that does not read to the end says why.
            stdin.map(|mut stdin| stdin.write_all(input))
        });
        let mut output = Vec::new();
        if let Some(stdout) = stdout {
            stdout.take(MAX_INPUT as u64).read_to_end(&mut output)?;
        }
        Ok(output)
    })
}

/// In the folders the runtime names.
fn find(path: &str, name: &str) -> Result<PathBuf, CniError> {
    let folders = path.split(':').filter(|folder| !folder.is_empty());
    folders.map(|folder| Path::new(folder).join(name)).find(|file| file.is_file()).ok_or_else(
        || {
            let details = format!("looked in {path}");
            CniError::new(CniError::CONFIG, format!("there is no plugin {name:?}"), details)
        },
    )
}

/// Returns the error it printed.
fn complaint(name: &str, output: &[u8], status: &str) -> CniError {
    #[derive(Deserialize)]
    struct Object {
        code: u32,
        #[serde(default)]
        msg: String,
        #[serde(default)]
        details: String,
    }
    match serde_json::from_slice::<Object>(output) {
        Ok(Object { code, msg, details }) => CniError::new(code, format!("{name}: {msg}"), details),
        Err(_) => {
            let said = String::from_utf8_lossy(output);
            CniError::new(CniError::REFUSED, format!("{name}: {status}"), said.trim())
        }
    }
}
