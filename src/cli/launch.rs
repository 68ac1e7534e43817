//! `weave launch`: the router in the background.
//!
//! ```text
//!  weave launch ──starts──▶ weave router --tell-launcher …   (a session of its own)
//!       ▲                        │ stdout: "ready", or the end
//!       └────────────────────────┘ stderr ──▶ log file
//! ```

use std::ffi::OsString;
use std::fs::OpenOptions;
use std::io::{BufRead as _, BufReader, Read as _, Seek as _, SeekFrom};
use std::os::unix::fs::OpenOptionsExt as _;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use clap::Args;

use super::failure::Failure;
use super::output;
use super::router::Router;
use crate::daemon::READY_LINE;
use crate::state::make_directory;

/// How many lines of the log are shown when the router does not start.
const SHOWN_LINES: usize = 10;
/// And at most how many bytes from its end.
const SHOWN_BYTES: u64 = 16 * 1024;

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
        let cannot_log = || failed(format!("cannot log to {}", log_file.display()));
        make_directory(&log_file).map_err(|error| Failure::failed(error.to_string()))?;
        let log = OpenOptions::new()
            .create(true)
            .append(true)
            .mode(0o640)
            .open(&log_file)
            .map_err(cannot_log())?;
        let before = log.metadata().map_err(cannot_log())?.len();

        let program = std::env::current_exe().map_err(failed("cannot find myself".to_owned()))?;
        let mut child = Command::new(program)
            .arg0("weave")
            .args(router_arguments(arguments))
            .current_dir("/")
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(log)
            .spawn()
            .map_err(failed("cannot start the router".to_owned()))?;
        let mut told = String::new();
        if let Some(stdout) = child.stdout.take() {
            // The end without a word means the end of the router.
            let _ = BufReader::new(stdout.take(64)).read_line(&mut told);
        }
        if told.trim_end() == READY_LINE {
            return Ok(());
        }
        let _ = child.wait();
        for line in last_lines(&log_file, before) {
            output::complain(&line);
        }
        let log_file = log_file.display();
        Err(Failure::failed(format!("the router did not start; its log is {log_file}")))
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

/// What was logged since the file had that length, the end of it.
fn last_lines(path: &Path, before: u64) -> Vec<String> {
    let read = || {
        let mut file = OpenOptions::new().read(true).open(path)?;
        let length = file.metadata()?.len();
        file.seek(SeekFrom::Start(before.max(length.saturating_sub(SHOWN_BYTES))))?;
        let mut bytes = Vec::new();
        file.take(SHOWN_BYTES).read_to_end(&mut bytes)?;
        Ok::<_, std::io::Error>(bytes)
    };
    let bytes = read().unwrap_or_default();
    let text = String::from_utf8_lossy(&bytes);
    let lines: Vec<_> = text.lines().map(str::to_owned).collect();
    let skipped = lines.len().saturating_sub(SHOWN_LINES);
    lines.into_iter().skip(skipped).collect()
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

    #[test]
    fn only_the_new_end_of_the_log_is_shown() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("log");
        let old = "old\n";
        let new: String = (0..20).map(|number| format!("{number}\n")).collect();
        std::fs::write(&path, format!("{old}{new}")).unwrap();
        let shown = last_lines(&path, 4);
        assert_eq!(shown.len(), SHOWN_LINES);
        assert_eq!(shown.last().map(String::as_str), Some("19"));
        assert_eq!(last_lines(&path, 4 + 50 - 3), ["19"]);
        assert_eq!(last_lines(&directory.path().join("none"), 0), Vec::<String>::new());
    }
}
