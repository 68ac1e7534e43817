//! Where the router reads its password from.

use std::fs;
use std::io::Read as _;
use std::path::Path;

use super::super::failure::Failure;
use super::Router;
use crate::secret;

/// The longest password file that is read.
const MAX_PASSWORD: u64 = 4096;

impl Router {
    /// The first line of the file, or what was hidden from the command line and the environment.
    /// None if it is empty.
    pub(super) fn password(&self) -> Result<Option<String>, Failure> {
        let text = match (&self.password, &self.password_file, self.password_fd) {
            (Some(password), ..) => password.clone(),
            (None, Some(file), _) => {
                let text = read_secret(file)?;
                let line = text.lines().next().unwrap_or_default().to_owned();
                if line.is_empty() {
                    let file = file.display();
                    return Err(Failure::usage(format!(
                        "there is no password in {file}: its first line is empty; write one there, \
                         or leave --password-file away to run without encryption"
                    )));
                }
                line
            }
            (None, None, Some(number)) => read_secret(&secret::path(number))?,
            (None, None, None) => String::new(),
        };
        Ok((!text.is_empty()).then_some(text))
    }
}

fn read_secret(file: &Path) -> Result<String, Failure> {
    let shown = file.display();
    let failed = |error| Failure::failed(format!("cannot read {shown}: {error}"));
    let file = fs::File::open(file).map_err(failed)?;
    let mut bytes = Vec::new();
    file.take(MAX_PASSWORD + 1).read_to_end(&mut bytes).map_err(failed)?;
    if bytes.len() as u64 > MAX_PASSWORD {
        return Err(Failure::usage(format!("the password in {shown} is too long")));
    }
    String::from_utf8(bytes)
        .map_err(|_| Failure::usage(format!("the password in {shown} is not UTF-8")))
}
