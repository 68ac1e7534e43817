//! What the kernel tells of this process.

use std::fs;

use weave_api::metric::Metric;

use crate::number::count;

/// What dashboards show of any process, as far as the kernel tells.
pub(super) fn process() -> Vec<Metric> {
    let mut metrics = Vec::new();
    let gauge = |name: &str, help| Metric::new(name, "gauge", help);
    if let Ok(descriptors) = fs::read_dir("/proc/self/fd") {
        let open = gauge("process_open_fds", "Number of open file descriptors.");
        metrics.push(open.value(&[], count(descriptors.count())));
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
        let help = "CPU time spent, in seconds.";
        let spent = Metric::new("process_cpu_seconds_total", "counter", help);
        metrics.push(spent.value(&[], (user + system) / 100.0));
    }
    if let (Some(size), Some(pages)) = (fields.get(20), fields.get(21)) {
        let virtual_size = gauge("process_virtual_memory_bytes", "Virtual memory size in bytes.");
        metrics.push(virtual_size.value(&[], *size));
        let resident = gauge("process_resident_memory_bytes", "Resident memory size in bytes.");
        metrics.push(resident.value(&[], pages * 4096.0));
    }
    metrics
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_process_is_measured() {
        let mut text = String::new();
        process().iter().for_each(|metric| metric.print(&mut text));
        for name in
            ["process_cpu_seconds_total", "process_resident_memory_bytes", "process_open_fds"]
        {
            assert!(text.contains(&format!("\n{name} ")), "{text}");
        }
    }
}
