//! What is measured of a contender.

/// One number.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Figure {
    /// One TCP stream (cubic), Gbit/s that arrived.
    Tcp1,
    /// The same, from the second container to the first.
    Tcp1Back,
    /// Four TCP streams together, Gbit/s.
    Tcp4,
    /// The same, from the second container to the first.
    Tcp4Back,
    /// UDP with 64 bytes of payload sent as fast as it goes, thousands of packets per second that
    /// arrived.
    Udp64,
    /// Of these packets, per cent that did not.
    Udp64Loss,
    /// The same with IP packets of 1400 bytes, or of the MTU where that is smaller.
    Udp1400,
    /// Of these packets, per cent that did not arrive.
    Udp1400Loss,
    /// Median round trip, milliseconds.
    Ping,
    /// 99th percentile of the round trip, milliseconds.
    PingP99,
    /// Median round trip while one TCP stream runs.
    PingLoaded,
    /// 99th percentile while one TCP stream runs.
    PingLoadedP99,
    /// Processor seconds of all routers per GB of one TCP stream.
    RouterCpu,
    /// Processor seconds of the whole machine per GB.
    MachineCpu,
    /// Largest resident memory of a router, MB.
    Memory,
    /// Bytes of a frame that the sending router captures from one TCP stream, on average.
    CapturedFrame,
    /// Datagrams that one system call sends, on average.
    DatagramsPerSend,
    /// Datagrams that one system call receives, on average.
    DatagramsPerReceive,
    /// A frame without a flow on both hosts, from container to container, milliseconds.
    MissFirst,
    /// A frame that has flows, the same way.
    MissSecond,
    /// From sending a frame without a flow until the first host has one, milliseconds.
    MissFlow,
    /// Packets that the lossy underlay dropped.
    Dropped,
}

impl Figure {
    /// All, in the order in which they are measured.
    pub const ALL: [Self; 22] = [
        Self::Tcp1,
        Self::Tcp1Back,
        Self::Tcp4,
        Self::Tcp4Back,
        Self::Udp64,
        Self::Udp64Loss,
        Self::Udp1400,
        Self::Udp1400Loss,
        Self::Ping,
        Self::PingP99,
        Self::PingLoaded,
        Self::PingLoadedP99,
        Self::RouterCpu,
        Self::MachineCpu,
        Self::Memory,
        Self::CapturedFrame,
        Self::DatagramsPerSend,
        Self::DatagramsPerReceive,
        Self::MissFirst,
        Self::MissSecond,
        Self::MissFlow,
        Self::Dropped,
    ];

    /// Its name in the record.
    pub fn key(self) -> &'static str {
        match self {
            Self::Tcp1 => "tcp1_gbit_s",
            Self::Tcp1Back => "tcp1_back_gbit_s",
            Self::Tcp4 => "tcp4_gbit_s",
            Self::Tcp4Back => "tcp4_back_gbit_s",
            Self::Udp64 => "udp64_kpps",
            Self::Udp64Loss => "udp64_loss_percent",
            Self::Udp1400 => "udp1400_kpps",
            Self::Udp1400Loss => "udp1400_loss_percent",
            Self::Ping => "ping_median_ms",
            Self::PingP99 => "ping_p99_ms",
            Self::PingLoaded => "ping_loaded_median_ms",
            Self::PingLoadedP99 => "ping_loaded_p99_ms",
            Self::RouterCpu => "router_cpu_s_per_gb",
            Self::MachineCpu => "machine_cpu_s_per_gb",
            Self::Memory => "rss_mb",
            Self::CapturedFrame => "captured_frame_bytes",
            Self::DatagramsPerSend => "datagrams_per_send",
            Self::DatagramsPerReceive => "datagrams_per_receive",
            Self::MissFirst => "miss_first_ms",
            Self::MissSecond => "miss_second_ms",
            Self::MissFlow => "miss_flow_ms",
            Self::Dropped => "underlay_dropped",
        }
    }

    /// The figure of this name.
    pub fn keyed(key: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|figure| figure.key() == key)
    }
}

/// The middle one; of an even number the mean of the two in the middle.
pub fn median(mut values: Vec<f64>) -> Option<f64> {
    values.sort_by(f64::total_cmp);
    let upper = *values.get(values.len() / 2)?;
    let lower = *values.get(values.len().saturating_sub(1) / 2)?;
    Some((lower + upper) / 2.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_figure_has_a_key_of_its_own() {
        for figure in Figure::ALL {
            assert_eq!(Figure::keyed(figure.key()), Some(figure));
        }
    }

    #[test]
    fn medians() {
        assert_eq!(median(vec![]), None);
        assert_eq!(median(vec![3.0]), Some(3.0));
        assert_eq!(median(vec![9.0, 1.0, 2.0]), Some(2.0));
        assert_eq!(median(vec![4.0, 1.0]), Some(2.5));
    }
}
