//! Whether the offloads work, from the counters in a router's report: without them a captured frame
//! is not larger than the MTU, and a system call moves one datagram.

use serde_json::Value;

/// Counters at one moment.
#[derive(Clone, Copy, PartialEq, Debug, Default)]
pub struct Counted {
    captured: f64,
    captured_bytes: f64,
    sent: f64,
    send_calls: f64,
    received: f64,
    receive_calls: f64,
}

/// Below this, two packets of the usual MTU, captured frames of a TCP stream are no super-frames. A
/// stream that loses packets sends short ones, but longer than that.
pub const SMALL_FRAME: f64 = 3000.0;

impl Counted {
    /// Reads a report; what is not there counts as 0.
    pub fn read(report: &Value) -> Self {
        let router = &report["Router"];
        let number = |value: &Value| value.as_f64().unwrap_or(0.0);
        let links = router["Connections"].as_array().map(Vec::as_slice).unwrap_or_default();
        let of_links = |name: &str| links.iter().map(|link| number(&link["Counters"][name])).sum();
        Self {
            captured: number(&router["CaptureStats"]["captured"]),
            captured_bytes: number(&router["CaptureStats"]["captured_bytes"]),
            sent: of_links("sleeve.tx_datagrams"),
            send_calls: of_links("sleeve.tx_calls"),
            received: of_links("sleeve.rx_datagrams"),
            receive_calls: number(&router["Counters"]["sleeve_rx_calls"]),
        }
    }

    /// Bytes of a captured frame, since `earlier`.
    pub fn captured_frame(&self, earlier: &Self) -> Option<f64> {
        mean(self.captured_bytes - earlier.captured_bytes, self.captured - earlier.captured)
    }

    /// Datagrams that a system call sent, since `earlier`.
    pub fn datagrams_per_send(&self, earlier: &Self) -> Option<f64> {
        mean(self.sent - earlier.sent, self.send_calls - earlier.send_calls)
    }

    /// Datagrams that a system call received, since `earlier`.
    pub fn datagrams_per_receive(&self, earlier: &Self) -> Option<f64> {
        mean(self.received - earlier.received, self.receive_calls - earlier.receive_calls)
    }
}

fn mean(sum: f64, count: f64) -> Option<f64> {
    (count > 0.0).then(|| sum / count)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn means_are_those_of_the_time_between() {
        let report = |n: u64| {
            json!({"Router": {
                "CaptureStats": {"captured": 10 * n, "captured_bytes": 350_000 * n},
                "Connections": [
                    {"Counters": {"sleeve.tx_datagrams": 260 * n, "sleeve.tx_calls": 10 * n}},
                    {"Counters": {"sleeve.rx_datagrams": 90 * n}},
                    {"State": "failed"},
                ],
                "Counters": {"sleeve_rx_calls": 3 * n},
            }})
        };
        let (before, after) = (Counted::read(&report(1)), Counted::read(&report(3)));
        assert_eq!(after.captured_frame(&before), Some(35_000.0));
        assert_eq!(after.datagrams_per_send(&before), Some(26.0));
        assert_eq!(after.datagrams_per_receive(&before), Some(30.0));
        assert_eq!(after.captured_frame(&after), None);
    }

    #[test]
    fn another_router_counts_nothing() {
        let report = json!({"Router": {"Connections": null}});
        assert_eq!(Counted::read(&report), Counted::default());
    }
}
