//! Proof that a contender carries the frames, and whether the underlay can read them.

use std::time::Duration;

use anyhow::{Result, bail, ensure};
use weave_testbed::{Capture, Lab, Namespace};

use super::contender::Contender;
use super::ends::Joined;
use super::iperf;
use super::underlay::Underlay;

/// What iperf3 fills packets with when it is told to repeat itself.
const NEEDLE: &[u8] = b"0123456789012345678901234567890123456789";

/// Bytes that are sent.
const SENT: usize = 2_000_000;

/// Bits a second. At full speed tcpdump misses packets when the processors are busy.
const PACE: &str = "200M";

/// Sends readable bytes while the underlay is watched, and judges what is seen there.
pub fn prove(
    contender: &Contender,
    lab: &Lab,
    watched: &Namespace,
    underlay: &Underlay,
    joined: &Joined<'_>,
) -> Result<()> {
    let capture = Capture::start(lab, watched, underlay.devices()[1], joined.filter())?;
    let [from, _] = joined.ends();
    let arguments = format!("-C cubic --repeating-payload -n {SENT} -b {PACE}");
    iperf::run_bytes(from, joined.address(), &arguments)?;
    // What is missing after that is judged below.
    let _ = capture.wait_length(SENT as u64, Duration::from_secs(3));
    let captured = capture.finish()?;
    judge(contender, captured.length(), captured.contains(NEEDLE))
}

fn judge(contender: &Contender, crossed: usize, readable: bool) -> Result<()> {
    ensure!(
        crossed >= SENT,
        "not proved: of {SENT} bytes sent, the tunnel carried {crossed} over the underlay"
    );
    match (contender.sealed, readable) {
        (true, true) => {
            bail!("not proved: said to be sealed, but the underlay can read the frames")
        }
        (false, false) => {
            bail!("not proved: said to be plain, but the underlay cannot read the frames")
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bench::lab::contender::named;

    #[test]
    fn what_is_not_proved_is_refused() {
        let (plain, sealed) =
            (named("weave").expect("known"), named("weave-sealed").expect("known"));
        assert!(judge(&plain, SENT, true).is_ok());
        assert!(judge(&sealed, SENT, false).is_ok());
        assert!(judge(&sealed, SENT, true).is_err());
        assert!(judge(&plain, SENT, false).is_err());
        assert!(judge(&plain, SENT - 1, true).is_err());
    }
}
