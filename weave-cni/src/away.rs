//! For how long the router has been away, as far as STATUS can know, which runs for a moment each
//! time.
//!
//! A runtime that hears that nothing can be added takes its node for one that is not ready, so a
//! router that is replaced must not be reported at once. What was found out goes into a file:
//!
//! ```text
//!   b0a1... 4711.20 4726.31     the boot, and the first and the last call that got no answer
//! ```
//!
//! Times are seconds since the boot, which nobody can set. After another boot, or when nobody asked
//! for a while, nothing is known of the time in between, and counting starts anew.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

/// How long a router may be away: longer than a rollout takes, unless something is wrong.
const PATIENCE: f64 = 30.0;
/// Runtimes ask every few seconds. If they did not, the router may have been back in between.
const GAP: f64 = 60.0;
/// Name of the file: no network's name starts with a dot.
const FILE: &str = ".away";

/// The absence of a router.
#[derive(Clone, PartialEq, Debug)]
struct Absence {
    boot: String,
    first: f64,
    last: f64,
}

impl Absence {
    /// Returns the absence after another call that got no answer.
    fn after(before: Option<Self>, boot: &str, now: f64) -> Self {
        let goes_on = |it: &Self| it.boot == boot && it.last <= now && now - it.last <= GAP;
        let first = before.filter(goes_on).map_or(now, |it| it.first);
        Self { boot: boot.to_owned(), first, last: now }
    }

    fn is_long(&self) -> bool {
        self.last - self.first >= PATIENCE
    }

    fn parse(text: &str) -> Option<Self> {
        let mut words = text.split_whitespace();
        let boot = words.next()?.to_owned();
        let mut time = || words.next()?.parse().ok().filter(|time: &f64| time.is_finite());
        let (first, last) = (time()?, time()?);
        (first <= last).then_some(Self { boot, first, last })
    }

    fn text(&self) -> String {
        format!("{} {} {}\n", self.boot, self.first, self.last)
    }
}

/// Notes that the router answered.
pub(crate) fn note_answer(folder: &Path) {
    // As a rule there is none.
    let _ = fs::remove_file(file(folder));
}

/// Notes that the router did not answer, and returns whether it has been away for long.
///
/// # Errors
/// Fails if that cannot be noted.
pub(crate) fn note_silence(folder: &Path) -> io::Result<bool> {
    let boot = fs::read_to_string("/proc/sys/kernel/random/boot_id")?;
    let uptime = fs::read_to_string("/proc/uptime")?;
    let now = uptime.split_whitespace().next().and_then(|time| time.parse().ok());
    let now = now.ok_or_else(|| io::Error::from(io::ErrorKind::InvalidData))?;
    note_silence_at(folder, boot.trim(), now)
}

fn note_silence_at(folder: &Path, boot: &str, now: f64) -> io::Result<bool> {
    let file = file(folder);
    let before = fs::read_to_string(&file).ok().and_then(|text| Absence::parse(&text));
    let absence = Absence::after(before, boot, now);
    fs::create_dir_all(folder)?;
    let new = file.with_extension("new");
    fs::write(&new, absence.text())?;
    fs::rename(&new, &file)?;
    Ok(absence.is_long())
}

fn file(folder: &Path) -> PathBuf {
    folder.join(FILE)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_router_is_missed_after_half_a_minute() {
        let folder = tempfile::tempdir().unwrap();
        let silent = |boot, now| note_silence_at(folder.path(), boot, now).unwrap();
        for now in [100.0, 110.0, 129.0] {
            assert!(!silent("a", now), "{now}");
        }
        assert!(silent("a", 130.0) && silent("a", 140.0));
        note_answer(folder.path());
        assert!(!silent("a", 141.0), "it was back");
        assert!(!silent("a", 141.0 + GAP + 1.0), "nobody asked");
        assert!(!silent("a", 229.0) && silent("a", 141.0 + GAP + 31.0));
        assert!(!silent("b", 240.0), "another boot");
        assert!(!silent("b", 5.0), "a time that cannot be");
    }

    #[test]
    fn what_is_no_note_counts_as_none() {
        let folder = tempfile::tempdir().unwrap();
        for text in ["", "a", "a 1", "a 2 1", "a NaN NaN", "a x y", "a inf inf"] {
            fs::write(file(folder.path()), text).unwrap();
            assert_eq!(Absence::parse(text), None, "{text:?}");
            assert!(!note_silence_at(folder.path(), "a", 100.0).unwrap());
        }
    }
}
