//! Variables of the environment, as those of a container are set.

use std::fmt::Display;
use std::str::FromStr;

use crate::error::CommandError;

/// The variables. One that is set to nothing says nothing.
pub(crate) struct Environment<F>(pub(crate) F);

impl Environment<fn(&str) -> Option<String>> {
    /// Those of this process.
    pub(crate) fn of_process() -> Self {
        Self(|name| std::env::var(name).ok())
    }
}

impl<F: Fn(&str) -> Option<String>> Environment<F> {
    pub(crate) fn text(&self, name: &str) -> Option<String> {
        (self.0)(name).filter(|text| !text.is_empty())
    }

    pub(crate) fn or(&self, name: &str, default: &str) -> String {
        self.text(name).unwrap_or_else(|| default.to_owned())
    }

    /// The words of a variable.
    pub(crate) fn words(&self, name: &str) -> Vec<String> {
        let text = self.text(name).unwrap_or_default();
        text.split_whitespace().map(str::to_owned).collect()
    }

    /// What the text of a variable stands for.
    pub(crate) fn read<T>(
        &self,
        name: &str,
        read: impl FnOnce(&str) -> Result<T, String>,
    ) -> Result<Option<T>, CommandError> {
        let Some(text) = self.text(name) else { return Ok(None) };
        read(&text)
            .map(Some)
            .map_err(|reason| CommandError::Usage(format!("{name}={text}: {reason}")))
    }

    pub(crate) fn parse<T: FromStr<Err: Display>>(
        &self,
        name: &str,
    ) -> Result<Option<T>, CommandError> {
        self.read(name, |text| text.parse().map_err(|error: T::Err| error.to_string()))
    }
}
