//! The examples that want a kernel with Open vSwitch.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::{Result, anyhow};

use crate::lab;

#[path = "../../examples/datapath.rs"]
#[allow(dead_code, reason = "its main function is not called")]
mod datapath;

/// ```text
///   a ─── one │ datapath │ other ─── b
/// ```
#[test]
fn a_datapath_joins_two_interfaces() -> Result<()> {
    let lab = lab()?;
    let switch = lab.namespace("switch")?;
    let mut ends = Vec::new();
    for (name, number) in [("one", 1), ("other", 2)] {
        let end = lab.namespace(name)?;
        switch
            .ip(&format!("link add name {name} type veth peer name eth0 netns {}", end.name()))?;
        switch.ip(&format!("link set dev {name} up"))?;
        end.ip(&format!("addr add 10.9.0.{number}/24 dev eth0"))?;
        end.ip("link set eth0 up")?;
        ends.push(end);
    }
    let stop = Arc::new(AtomicBool::new(false));
    let stopped = stop.clone();
    let patch = move || datapath::patch(["one", "other"], || stopped.load(Ordering::Relaxed));
    let patch = std::thread::spawn(move || switch.enter(patch));
    let pinged = ends[0].exec("ping -q -i 0.2 -c 10 -W 5 10.9.0.2");
    stop.store(true, Ordering::Relaxed);
    patch.join().map_err(|_| anyhow!("a panic"))??.map_err(|error| anyhow!(error))?;
    pinged?;
    lab.finish()
}
