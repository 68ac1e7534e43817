//! What the kernel tells of this process.

use std::fs;

use super::count;
use weave_api::metric::Metric;

/// What dashboards show of any process, as far as the kernel tells.
pub(super) fn process() -> String {
    let mut text = String::new();
    let gauge = |name: &str, help| Metric::new(name, "gauge", help);
    if let Ok(descriptors) = fs::read_dir("/proc/self/fd") {
        gauge("process_open_fds", "Number of open file descriptors.")
            .value(&[], count(descriptors.count()))
            .print(&mut text);
    }
    // The second field is the program's name in brackets, which may contain anything.
    let stat = fs::read_to_string("/proc/self/stat").unwrap_or_default();
    let fields: Vec<f64> = stat
        .rsplit_once(')')
        .map(|(_, fields)| fields.split_whitespace().map(|f| f.parse().unwrap_or(0.0)).collect())
        .unwrap_or_default();
    // Fields 14, 15, 23 and 24 of proc_pid_stat(5), counted from the third here; 100 ticks a
    // second and pages of 4 KiB are what Linux shows on all platforms we run on.
    if let (Some(user), Some(system)) = (fields.get(11), fields.get(12)) {
        Metric::new("process_cpu_seconds_total", "counter", "CPU time spent, in seconds.")
            .value(&[], (user + system) / 100.0)
            .print(&mut text);
    }
    if let (Some(size), Some(pages)) = (fields.get(20), fields.get(21)) {
        gauge("process_virtual_memory_bytes", "Virtual memory size in bytes.")
            .value(&[], *size)
            .print(&mut text);
        gauge("process_resident_memory_bytes", "Resident memory size in bytes.")
            .value(&[], pages * 4096.0)
            .print(&mut text);
    }
    text
}
