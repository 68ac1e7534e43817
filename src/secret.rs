//! Keeping the password out of the process list.
//!
//! Whoever is on the machine can read the arguments of any process, but only its owner and
//! root can read its environment. So a command that was given `--password` starts itself over,
//! in the same process, with the password in the environment instead.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::process::CommandExt;
use std::process::Command;

/// The variable that holds the password.
pub(crate) const PASSWORD_VARIABLE: &str = "WEAVE_PASSWORD";

const PASSWORD_FILE: &[u8] = b"--password-file";

/// Starts this program over without the password among its arguments; returns only if there is
/// none, or with the reason why that failed.
pub(crate) fn hide_password(arguments: &[OsString]) -> Result<(), std::io::Error> {
    let Some((password, others)) = take_password(arguments) else {
        return Ok(());
    };
    let program = std::env::current_exe()?;
    let mut command = Command::new(program);
    if let Some((name, others)) = others.split_first() {
        command.arg0(name).args(others);
    }
    Err(command.env(PASSWORD_VARIABLE, password).exec())
}

/// The last password among the arguments, and the arguments without any. An option without a
/// value stays, and so does one beside `--password-file`, for the parser to complain about.
fn take_password(arguments: &[OsString]) -> Option<(OsString, Vec<OsString>)> {
    let mut password = None;
    let mut others = Vec::new();
    let mut rest = arguments.iter();
    while let Some(argument) = rest.next() {
        let bytes = argument.as_bytes();
        if bytes == b"--" {
            others.push(argument.clone());
            others.extend(rest.cloned());
            break;
        }
        // The script of the original also took one dash.
        let option = bytes.strip_prefix(b"--").or_else(|| bytes.strip_prefix(b"-"));
        match option.and_then(|option| option.strip_prefix(b"password")) {
            Some([]) => match rest.as_slice().first() {
                Some(value) if !looks_like_option(value) => {
                    password = Some(value.clone());
                    rest.next();
                }
                _ => others.push(argument.clone()),
            },
            Some([b'=', value @ ..]) => password = Some(OsString::from_vec(value.to_vec())),
            _ => others.push(argument.clone()),
        }
    }
    let contradicted = others.iter().any(|other| other.as_bytes().starts_with(PASSWORD_FILE));
    let password = password.filter(|password| !password.is_empty() && !contradicted)?;
    Some((password, others))
}

fn looks_like_option(value: &OsStr) -> bool {
    value.as_bytes().starts_with(b"--")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn taken(line: &str) -> Option<(String, String)> {
        let arguments: Vec<OsString> = line.split(' ').map(OsString::from).collect();
        take_password(&arguments).map(|(password, others)| {
            let others: Vec<_> = others.iter().map(|o| o.to_string_lossy().into_owned()).collect();
            (password.to_string_lossy().into_owned(), others.join(" "))
        })
    }

    #[test]
    fn every_spelling_is_found() {
        for (line, password, others) in [
            ("weave launch --password x host", "x", "weave launch host"),
            ("weave launch --password=x=y host", "x=y", "weave launch host"),
            ("weave launch -password x", "x", "weave launch"),
            ("weave router --password a --port 1 --password=b", "b", "weave router --port 1"),
            ("weave router --password -x- a", "-x-", "weave router a"),
        ] {
            assert_eq!(taken(line), Some((password.to_owned(), others.to_owned())), "{line}");
        }
    }

    #[test]
    fn nothing_else_is_touched() {
        for line in [
            "weave status",
            "weave router --password-file /secret",
            "weave router --password",
            "weave router --password --port 1",
            "weave router --password= a",
            "weave router --password x --password-file y",
            "weave router -- --password x",
        ] {
            assert_eq!(taken(line), None, "{line}");
        }
    }
}
