//! Times that were measured.

use std::time::Duration;

/// How long something took each time.
#[derive(Default)]
pub struct Times(pub Vec<Duration>);

impl Times {
    /// So many per cent of them are not longer than this, in milliseconds.
    pub fn per_cent(&self, per_cent: usize) -> f64 {
        let mut sorted = self.0.clone();
        sorted.sort_unstable();
        let rank = (sorted.len() * per_cent).div_ceil(100).max(1);
        sorted.get(rank - 1).map_or(f64::NAN, |time| time.as_secs_f64() * 1000.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_of_the_nearest_rank() {
        let times =
            |list: &[u64]| Times(list.iter().map(|&ms| Duration::from_millis(ms)).collect());
        let hundred: Vec<u64> = (1..=100).rev().collect();
        assert_eq!((times(&hundred).per_cent(50), times(&hundred).per_cent(99)), (50.0, 99.0));
        assert_eq!((times(&[7]).per_cent(50), times(&[7]).per_cent(99)), (7.0, 7.0));
        assert!(times(&[]).per_cent(50).is_nan());
    }
}
