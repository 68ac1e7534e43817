//! The wall clock in the time zone of the machine: `localtime_r`.

use std::ffi::CStr;
use std::mem;
use std::time::{SystemTime, UNIX_EPOCH};

/// A moment as a clock on the wall shows it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct LocalTime {
    year: i64,
    month: u32,
    day: u32,
    hour: u32,
    minute: u32,
    second: u32,
    nanosecond: u32,
    /// East of Greenwich.
    offset_minutes: i64,
    /// What the time zone is called.
    zone: String,
}

impl LocalTime {
    /// What the clock shows at that time; times before 1970 count as 1970.
    pub fn at(time: SystemTime) -> Self {
        let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
        let seconds = libc::time_t::try_from(since.as_secs()).unwrap_or(0);
        // SAFETY: all-zero bytes are a valid `tm`; its null pointer is not followed here.
        let mut tm: libc::tm = unsafe { mem::zeroed() };
        // SAFETY: both pointers are to live variables of the right types.
        let filled = unsafe { libc::localtime_r(&raw const seconds, &raw mut tm) };
        let zone = if filled.is_null() || tm.tm_zone.is_null() {
            "UTC".to_owned()
        } else {
            // SAFETY: `localtime_r` sets `tm_zone` to a static, zero-terminated name.
            unsafe { CStr::from_ptr(tm.tm_zone) }.to_string_lossy().into_owned()
        };
        let field = |value: libc::c_int| u32::try_from(value).unwrap_or(0);
        Self {
            year: i64::from(tm.tm_year) + 1900,
            month: field(tm.tm_mon) + 1,
            day: field(tm.tm_mday),
            hour: field(tm.tm_hour),
            minute: field(tm.tm_min),
            second: field(tm.tm_sec),
            nanosecond: since.subsec_nanos(),
            offset_minutes: tm.tm_gmtoff / 60,
            zone,
        }
    }

    /// As in log lines: `2026/11/21 07:30:49.138481`.
    pub fn log_text(&self) -> String {
        let Self { year, month, day, hour, minute, second, nanosecond, .. } = self;
        let micros = nanosecond / 1000;
        format!("{year:04}/{month:02}/{day:02} {hour:02}:{minute:02}:{second:02}.{micros:06}")
    }

    /// As in status texts: `2026-11-21 07:30:49 +0000 UTC`.
    pub fn status_text(&self) -> String {
        let Self { year, month, day, hour, minute, second, zone, .. } = self;
        let (sign, hours, minutes) = self.offset();
        format!(
            "{year:04}-{month:02}-{day:02} {hour:02}:{minute:02}:{second:02} \
             {sign}{hours:02}{minutes:02} {zone}"
        )
    }

    /// RFC 3339, section 5.6, with nanoseconds.
    pub fn rfc3339(&self) -> String {
        let Self { year, month, day, hour, minute, second, nanosecond, .. } = self;
        let offset = match self.offset() {
            (_, 0, 0) => "Z".to_owned(),
            (sign, hours, minutes) => format!("{sign}{hours:02}:{minutes:02}"),
        };
        format!(
            "{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{nanosecond:09}{offset}"
        )
    }

    fn offset(&self) -> (char, i64, i64) {
        let sign = if self.offset_minutes < 0 { '-' } else { '+' };
        let minutes = self.offset_minutes.abs();
        (sign, minutes / 60, minutes % 60)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn the_three_texts() {
        let time = LocalTime {
            year: 2026,
            month: 1,
            day: 2,
            hour: 3,
            minute: 4,
            second: 5,
            nanosecond: 6_007_008,
            offset_minutes: -90,
            zone: "XYZ".to_owned(),
        };
        assert_eq!(time.log_text(), "2026/01/02 03:04:05.006007");
        assert_eq!(time.status_text(), "2026-01-02 03:04:05 -0130 XYZ");
        assert_eq!(time.rfc3339(), "2026-01-02T03:04:05.006007008-01:30");
        let utc = LocalTime { offset_minutes: 0, zone: "UTC".to_owned(), ..time };
        assert_eq!(utc.rfc3339(), "2026-01-02T03:04:05.006007008Z");
    }

    #[test]
    fn the_clock_of_the_machine_agrees_with_unix_time() {
        // 2001-09-09 01:46:40 UTC, in whatever zone the test runs.
        let time = LocalTime::at(UNIX_EPOCH + Duration::from_secs(1_000_000_000));
        let minutes = i64::from(time.day) * 1440 + i64::from(time.hour * 60 + time.minute);
        assert_eq!(minutes - time.offset_minutes, 9 * 1440 + 106);
        assert_eq!((time.year, time.month, time.second), (2001, 9, 40));
    }
}
