//! Keeping the password out of the process list.
//!
//! Whoever is on the machine can read the arguments of any process; its owner and root can read
//! its environment, and so can every program that it starts. So a command that was given the
//! password in one of these ways starts itself over, in the same process, with the password in a
//! file in memory (memfd_create(2)) that has no name, and whose number is an argument. `launch`
//! passes it on to the router, which closes it once it has read it.

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::{self, Write as _};
use std::os::fd::AsRawFd as _;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::Command;

use nix::sys::memfd::{MFdFlags, memfd_create};

/// The variable that may hold the password.
const PASSWORD_VARIABLE: &str = "WEAVE_PASSWORD";

const PASSWORD_FILE: &[u8] = b"--password-file";
const PASSWORD_NUMBER: &str = "--password-fd";

/// What was given in place of a password: nothing. A mistake in a script or a manifest must not
/// end in a mesh without encryption.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error(
    "the password in {place} is empty: give one there, or {otherwise} to run without encryption"
)]
pub(crate) struct Empty {
    place: &'static str,
    otherwise: &'static str,
}

/// Why the password was not hidden.
#[derive(Debug, thiserror::Error)]
pub(crate) enum HideError {
    #[error(transparent)]
    Empty(#[from] Empty),
    #[error("cannot hide the password: {0}")]
    Io(#[from] io::Error),
}

const EMPTY_VARIABLE: Empty = Empty { place: "WEAVE_PASSWORD", otherwise: "unset it" };
const EMPTY_ARGUMENT: Empty = Empty { place: "--password", otherwise: "leave the option away" };

/// Starts this program over without the password among its arguments and in its environment;
/// returns only if there is none, or with the reason why that failed.
pub(crate) fn hide_password(arguments: &[OsString]) -> Result<(), HideError> {
    let variable = std::env::var_os(PASSWORD_VARIABLE);
    let Some((password, others)) = take_password(arguments, variable)? else {
        return Ok(());
    };
    // It has to stay open in what we become.
    let mut file =
        File::from(memfd_create("password", MFdFlags::empty()).map_err(io::Error::from)?);
    file.write_all(password.as_bytes())?;
    let mut command = Command::new(std::env::current_exe()?);
    let others = with_number(others, file.as_raw_fd());
    if let Some((name, others)) = others.split_first() {
        command.arg0(name).args(others);
    }
    Err(command.env_remove(PASSWORD_VARIABLE).exec().into())
}

/// Where the password is that has this number. Reading there starts at its beginning, whoever
/// read it before.
pub(crate) fn path(number: i32) -> PathBuf {
    format!("/proc/self/fd/{number}").into()
}

/// Puts the number where it is an option: before what ends those.
fn with_number(mut arguments: Vec<OsString>, number: i32) -> Vec<OsString> {
    let end = arguments.iter().position(|argument| argument == "--");
    arguments.insert(end.unwrap_or(arguments.len()), format!("{PASSWORD_NUMBER}={number}").into());
    arguments
}

/// The last password among the arguments of a router, or the one of the variable, and the
/// arguments without any. An option without a value stays, and so does one beside
/// `--password-file`, for the parser to complain about; that file counts more than the variable.
fn take_password(
    arguments: &[OsString],
    variable: Option<OsString>,
) -> Result<Option<(OsString, Vec<OsString>)>, Empty> {
    let is_router = |argument: &OsString| argument == "launch" || argument == "router";
    if !arguments.iter().any(is_router) && !weave_kube::runs_router(arguments) {
        return Ok(None);
    }
    let mut password = variable;
    let mut empty = EMPTY_VARIABLE;
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
                    (password, empty) = (Some(value.clone()), EMPTY_ARGUMENT);
                    rest.next();
                }
                _ => others.push(argument.clone()),
            },
            Some([b'=', value @ ..]) => {
                (password, empty) = (Some(OsString::from_vec(value.to_vec())), EMPTY_ARGUMENT);
            }
            _ => others.push(argument.clone()),
        }
    }
    let contradicted = others.iter().any(|other| other.as_bytes().starts_with(PASSWORD_FILE));
    match password.filter(|_| !contradicted) {
        Some(password) if password.is_empty() => Err(empty),
        password => Ok(password.map(|password| (password, others))),
    }
}

fn looks_like_option(value: &OsStr) -> bool {
    value.as_bytes().starts_with(b"--")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn taken(line: &str, variable: Option<&str>) -> Option<(String, String)> {
        let arguments: Vec<OsString> = line.split(' ').map(OsString::from).collect();
        let variable = variable.map(OsString::from);
        take_password(&arguments, variable).unwrap().map(|(password, others)| {
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
            let expected = Some((password.to_owned(), others.to_owned()));
            assert_eq!(taken(line, None), expected, "{line}");
            assert_eq!(taken(line, Some("y")), expected, "{line}");
        }
    }

    #[test]
    fn nothing_else_is_touched() {
        for line in [
            "weave status",
            "weave status --password x",
            "weave router --password-file /secret",
            "weave router --password",
            "weave router --password --port 1",
            "weave router --password x --password-file y",
            "weave router -- --password x",
        ] {
            assert_eq!(taken(line, None), None, "{line}");
        }
    }

    #[test]
    fn an_empty_password_is_a_mistake() {
        let refused = |line: &[&str], variable: Option<&str>| {
            let arguments: Vec<OsString> = line.iter().map(OsString::from).collect();
            take_password(&arguments, variable.map(OsString::from))
        };
        for line in
            [&["weave", "router", "--password="][..], &["weave", "launch", "--password", ""]]
        {
            assert_eq!(refused(line, Some("x")), Err(EMPTY_ARGUMENT), "{line:?}");
        }
        assert_eq!(refused(&["weave", "launch"], Some("")), Err(EMPTY_VARIABLE));
        assert_eq!(refused(&["weave", "router", "--password-file", "y"], Some("")), Ok(None));
        assert_eq!(refused(&["weave", "status"], Some("")), Ok(None));
        assert!(refused(&["weave", "launch", "--password", "x"], Some("")).unwrap().is_some());
        assert!(EMPTY_VARIABLE.to_string().contains("WEAVE_PASSWORD is empty: give one there"));
    }

    #[test]
    fn the_variable_is_taken_by_routers() {
        let line = "weave --local launch host -- --password";
        let expected = Some(("x".to_owned(), line.to_owned()));
        assert_eq!(taken(line, Some("x")), expected);
        for line in ["weave status", "weave router --password-file y"] {
            assert_eq!(taken(line, Some("x")), None, "{line}");
        }
    }

    #[test]
    fn the_number_is_an_option() {
        for (line, expected) in [
            ("weave router host", "weave router host --password-fd=3"),
            ("weave router -- host", "weave router --password-fd=3 -- host"),
        ] {
            let arguments = line.split(' ').map(OsString::from).collect();
            assert_eq!(with_number(arguments, 3).join(OsStr::new(" ")), expected);
        }
    }
}
