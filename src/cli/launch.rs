//! `weave launch`: the router in the background.
//!
//! ```text
//!  weave launch ──starts──▶ weave router --tell-launcher …   (a session of its own)
//!       ▲                        │ stdout: "ready"
//!       └──── or why not ────────┘ stderr ──▶ log file
//! ```

use std::ffi::OsString;
use std::fs::OpenOptions;
use std::io::{BufRead as _, BufReader, Read as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use clap::Args;

use super::failure::Failure;
use super::output;
use super::router::Router;
use crate::serve::READY_LINE;
use weave_node::{StateError, in_memory, make_directory, takes_nothing};

/// The longest line the router may say: an error with two paths in it.
const LONGEST_LINE: u64 = 16 * 1024;

/// Arguments of `weave launch`.
#[derive(Debug, Args)]
pub(super) struct Launch {
    /// Where the router logs to.
    #[arg(long, value_name = "FILE")]
    log_file: Option<PathBuf>,
    #[command(flatten)]
    router: Router,
}

impl Launch {
    /// `arguments` are those of this process, without the password.
    pub(super) fn run(self, arguments: &[OsString]) -> Result<(), Failure> {
        let log_file = self.log_file.unwrap_or_else(|| self.router.log_file());
        if self.router.only_prints() {
            return self.router.run();
        }
        self.router.check()?;
        let failed =
            |what: String| move |error: std::io::Error| Failure::failed(format!("{what}: {error}"));
        let open = |path: &Path| {
            if let Err(StateError::Directory { source, .. }) = make_directory(path) {
                return Err(source);
            }
            OpenOptions::new().create(true).append(true).mode(0o640).open(path)
        };
        let (log_file, log) = match open(&log_file) {
            Err(error) if takes_nothing(&error) => {
                let elsewhere = in_memory(&log_file);
                output::complain(&format!(
                    "weave: cannot log to {}: {error}; the log is {}",
                    log_file.display(),
                    elsewhere.display()
                ));
                let log = open(&elsewhere);
                (elsewhere, log)
            }
            result => (log_file, result),
        };
        let log = log.map_err(failed(format!("cannot log to {}", log_file.display())))?;

        let program = std::env::current_exe().map_err(failed("cannot find myself".to_owned()))?;
        let mut child = Command::new(program)
            .arg0("weave")
            .args(router_arguments(arguments))
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(log)
            .spawn()
            .map_err(failed("cannot start the router".to_owned()))?;
        let mut told = String::new();
        if let Some(stdout) = child.stdout.take() {
            // The end without a word means the end of the router.
            let _ = BufReader::new(stdout.take(LONGEST_LINE)).read_line(&mut told);
        }
        if told.trim_end() == READY_LINE {
            return Ok(());
        }
        let code = child.wait().ok().and_then(|status| status.code());
        Err(match told.trim_end() {
            "" => {
                let log_file = log_file.display();
                Failure::failed(format!("the router did not start; its log is {log_file}"))
            }
            reason if code == Some(Failure::USAGE.into()) => Failure::usage(reason),
            reason => Failure::failed(reason),
        })
    }
}

/// `launch` becomes `router`, and what only concerns us goes.
fn router_arguments(arguments: &[OsString]) -> Vec<OsString> {
    let mut result = Vec::new();
    let mut rest = arguments.iter().skip(1);
    let mut command_seen = false;
    while let Some(argument) = rest.next() {
        match argument.to_str() {
            Some("launch") if !command_seen => {
                command_seen = true;
                result.extend(["router".into(), "--tell-launcher".into()]);
            }
            Some("--log-file") => {
                rest.next();
            }
            Some(text) if text.starts_with("--log-file=") => {}
            _ => result.push(argument.clone()),
        }
    }
    result
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_router_gets_all_but_our_own() {
        let arguments: Vec<OsString> =
            "weave --local launch --log-file x --port 1 --log-file=y -- launch --log-file"
                .split(' ')
                .map(OsString::from)
                .collect();
        let line: Vec<_> = router_arguments(&arguments)
            .iter()
            .map(|argument| argument.to_string_lossy().into_owned())
            .collect();
        assert_eq!(line.join(" "), "--local router --tell-launcher --port 1 -- launch");
    }
}
