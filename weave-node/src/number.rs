//! Numbers as metrics have them: Prometheus knows floating-point numbers alone.

pub(crate) fn count(number: usize) -> f64 {
    u32::try_from(number).map_or(f64::INFINITY, f64::from)
}

/// Above 2^53 the last digits are lost.
#[expect(clippy::cast_precision_loss, reason = "as said")]
pub(crate) fn as_f64(number: u64) -> f64 {
    number as f64
}
