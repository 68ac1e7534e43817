//! Versions of the CNI specification.

/// One that is spoken.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum CniVersion {
    /// 0.3.0
    V030,
    /// 0.3.1
    V031,
    /// 0.4.0, with CHECK.
    V040,
    /// 1.0.0, without the `version` of an address.
    V100,
    /// 1.1.0, with STATUS and GC.
    V110,
}

impl CniVersion {
    /// All of them.
    pub const ALL: [Self; 5] = [Self::V030, Self::V031, Self::V040, Self::V100, Self::V110];
    /// The last one.
    pub const LATEST: Self = Self::V110;

    /// As it is written.
    pub const fn text(self) -> &'static str {
        match self {
            Self::V030 => "0.3.0",
            Self::V031 => "0.3.1",
            Self::V040 => "0.4.0",
            Self::V100 => "1.0.0",
            Self::V110 => "1.1.0",
        }
    }

    /// Reads one; none if it is not spoken.
    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|version| version.text() == text)
    }
}
