//! What the image is made from.

use anyhow::{Context as _, Result};
use serde_json::Value;

use super::options::Target;
use crate::tools::{cargo, output, root};

/// Returns what cargo knows of the workspace.
pub fn metadata(target: &Target) -> Result<Value> {
    let line =
        format!("metadata --locked --format-version 1 --filter-platform {}", target.triple());
    Ok(serde_json::from_str(&output(&mut cargo(&line))?)?)
}

/// The sources in this folder.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Source {
    /// Version of the workspace.
    pub version: String,
    /// The commit; with `-dirty` if that is not all.
    pub revision: String,
    /// When, in seconds since 1970: the time of the commit, or `SOURCE_DATE_EPOCH`.
    pub time: u64,
}

impl Source {
    /// Asks git, and cargo's metadata.
    pub fn here(metadata: &Value) -> Result<Self> {
        let packages = metadata["packages"].as_array().context("no packages")?;
        let weave = packages.iter().find(|package| package["name"] == "weave");
        let version = weave.and_then(|weave| weave["version"].as_str());
        let version = version.context("no version of weave")?.to_owned();
        let git = |line: &str| -> Result<String> {
            let mut command = std::process::Command::new("git");
            let text = output(command.current_dir(root()).args(line.split_whitespace()))?;
            Ok(text.trim().to_owned())
        };
        let mut revision = git("rev-parse HEAD")?;
        if !git("status --porcelain --untracked-files=no")?.is_empty() {
            revision.push_str("-dirty");
        }
        let time = match std::env::var("SOURCE_DATE_EPOCH") {
            Ok(text) => text.parse().with_context(|| format!("SOURCE_DATE_EPOCH={text}"))?,
            Err(_) => git("log -1 --format=%ct")?.parse().context("the time of the commit")?,
        };
        Ok(Self { version, revision, time })
    }

    /// The time as RFC 3339 writes it.
    pub fn created(&self) -> String {
        let (days, seconds) = (self.time / 86_400, self.time % 86_400);
        let (year, month, day) = date(days);
        let (hour, minute, second) = (seconds / 3_600, seconds / 60 % 60, seconds % 60);
        format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}Z")
    }
}

/// The date so many days after 1970-01-01. Years begin in March here, so that the odd day is their
/// last.
fn date(days: u64) -> (u64, u64, u64) {
    const FOUR_CENTURIES: u64 = 146_097;
    // From 0000-03-01.
    let days = days + 719_468;
    let (era, day) = (days / FOUR_CENTURIES, days % FOUR_CENTURIES);
    let year = (day - day / 1_460 + day / 36_524 - day / 146_096) / 365;
    let day_of_year = day - (365 * year + year / 4 - year / 100);
    let month = (5 * day_of_year + 2) / 153;
    let day_of_month = day_of_year - (153 * month + 2) / 5 + 1;
    let month = if month < 10 { month + 3 } else { month - 9 };
    (era * 400 + year + u64::from(month <= 2), month, day_of_month)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_written_as_documents_have_them() {
        for (time, expected) in [
            (0, "1970-01-01T00:00:00Z"),
            (951_782_399, "2000-02-28T23:59:59Z"),
            (951_782_400, "2000-02-29T00:00:00Z"),
            (1_704_067_199, "2023-12-31T23:59:59Z"),
            (4_107_542_400, "2100-03-01T00:00:00Z"),
        ] {
            let source = Source { version: String::new(), revision: String::new(), time };
            assert_eq!(source.created(), expected);
        }
    }
}
