//! How much is told: lists may be as long as there are stations, and a flood makes those many.

/// Stations in one report: more than any mesh has that is not flooded, and some 4 MB as JSON.
const MOST_STATIONS: usize = 16 * 1024;
/// Flows in one report, which take several times as much.
const MOST_FLOWS: usize = 4 * 1024;

/// What a report is made for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Detail {
    /// Status pages, which show neither stations nor what the kernel carries.
    Pages,
    /// Metrics, which count them.
    Metrics,
    /// The document.
    Everything,
}

impl Detail {
    /// How many stations are listed at most.
    pub const fn most_stations(self) -> usize {
        match self {
            Self::Pages | Self::Metrics => 0,
            Self::Everything => MOST_STATIONS,
        }
    }

    /// How many flows are listed at most.
    pub const fn most_flows(self) -> usize {
        match self {
            Self::Pages | Self::Metrics => 0,
            Self::Everything => MOST_FLOWS,
        }
    }

    /// Whether the kernel is asked what it has.
    pub const fn asks_kernel(self) -> bool {
        !matches!(self, Self::Pages)
    }
}
