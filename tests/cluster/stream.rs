//! A TCP connection between two pods that says at each moment whether it lives.
//!
//! ```text
//!  source on one node ==== a line with a number every 10 ms ====> sink on another node
//! ```
//!
//! The sink writes down when each line came; the clock is that of its own kernel, which counts in
//! hundredths of a second.

use anyhow::{Context, Result, bail, ensure};
use weave_testbed::try_until;

use crate::SOON;
use crate::space::{Space, shell_pod};

const SOURCE: &str = "n=0; while echo $n; do n=$((n+1)); usleep 10000; done";

/// The connection; it is made once and never again.
pub struct Stream<'a> {
    space: &'a Space,
}

impl<'a> Stream<'a> {
    /// Starts the pods `source` and `sink`, and waits for the first lines.
    pub fn start(space: &'a Space, from: &str, to: &str) -> Result<Self> {
        let serve = format!("exec nc -l -p 9000 -e sh -c '{SOURCE}'");
        space.start(&[shell_pod("source", from, &serve)])?;
        let read = format!(
            "nc {} 9000 | while read n; do read now rest < /proc/uptime; echo $n $now; done; \
             echo end; sleep 3600",
            space.address("source")?
        );
        space.start(&[shell_pod("sink", to, &read)])?;
        let stream = Self { space };
        stream.wait_for_more(100)?;
        Ok(stream)
    }

    /// Waits until `count` more lines have come.
    pub fn wait_for_more(&self, count: usize) -> Result<()> {
        let before = self.lines().map_or(0, |lines| lines.len());
        try_until("more lines of the stream", SOON, || {
            let lines = self.lines()?;
            ensure!(lines.len() >= before + count, "{} of {count}", lines.len() - before);
            Ok(())
        })
    }

    /// The longest time between two lines in milliseconds; no line may be missing.
    pub fn longest_gap(&self) -> Result<u64> {
        let lines = self.lines()?;
        let mut longest = 0;
        for (expected, pair) in lines.windows(2).enumerate() {
            let [(number, before), (_, after)] = pair else { bail!("no pair") };
            ensure!(*number == expected, "line {expected} is missing");
            longest = longest.max(after.saturating_sub(*before));
        }
        Ok(longest)
    }

    /// Number of each line, and when it came in milliseconds.
    fn lines(&self) -> Result<Vec<(usize, u64)>> {
        let text = self.space.kubectl("logs sink")?;
        ensure!(!text.contains("end\n"), "the connection has ended");
        // The last line may be half written.
        let whole = text.rsplit_once('\n').map_or("", |(whole, _)| whole);
        whole.lines().map(parse).collect()
    }
}

fn parse(line: &str) -> Result<(usize, u64)> {
    let (number, seconds) = line.split_once(' ').with_context(|| format!("line `{line}`"))?;
    let (whole, hundredths) = seconds.split_once('.').context("no hundredths")?;
    Ok((number.parse()?, whole.parse::<u64>()? * 1000 + hundredths.parse::<u64>()? * 10))
}

#[test]
fn a_line_has_a_number_and_a_time() -> Result<()> {
    ensure!(parse("7 1234.05")? == (7, 1_234_050));
    ensure!(parse("7").is_err());
    Ok(())
}
