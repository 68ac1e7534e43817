//! Log lines in the shape of the original (spec cli-http.md, section 9):
//!
//! ```text
//! INFO: 2026/11/21 07:30:49.138481 text                                        key=value
//! ```

use std::fmt::{self, Write as _};
use std::str::FromStr;
use std::time::SystemTime;

use tracing::field::{Field, Visit};
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::filter::LevelFilter;
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::{FmtContext, FormatEvent, FormatFields};
use tracing_subscriber::registry::LookupSpan;

use weave_node::LocalTime;

/// Where the fields begin, unless the text is longer.
const TEXT_WIDTH: usize = 44;

/// How much is told.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(crate) enum LogLevel {
    Debug,
    #[default]
    Info,
    Warning,
    Error,
}

impl FromStr for LogLevel {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text.to_ascii_lowercase().as_str() {
            "debug" => Ok(Self::Debug),
            "info" => Ok(Self::Info),
            "warning" | "warn" => Ok(Self::Warning),
            "error" => Ok(Self::Error),
            _ => Err("neither debug, info, warning nor error".to_owned()),
        }
    }
}

/// Sends everything that is told from here on to standard error.
pub(crate) fn start(level: LogLevel) {
    let level = match level {
        LogLevel::Debug => LevelFilter::DEBUG,
        LogLevel::Info => LevelFilter::INFO,
        LogLevel::Warning => LevelFilter::WARN,
        LogLevel::Error => LevelFilter::ERROR,
    };
    // Libraries tell their own business at these levels; only ours is wanted.
    let ours = tracing_subscriber::filter::Targets::new()
        .with_targets(
            ["weave", "weave_core", "weave_host", "weave_npc", "weave_port", "weave_sleeve"]
                .map(|name| (name, level)),
        )
        .with_default(LevelFilter::WARN.min(level));
    use tracing_subscriber::layer::SubscriberExt as _;
    use tracing_subscriber::util::SubscriberInitExt as _;
    let lines = tracing_subscriber::fmt::layer()
        .with_writer(std::io::stderr)
        .with_ansi(false)
        .event_format(Lines)
        // A log that cannot be written is no reason to end.
        .log_internal_errors(false);
    // A second start would find one running, and leave it.
    let _ = tracing_subscriber::registry().with(ours).with(lines).try_init();
}

struct Lines;

impl<S, N> FormatEvent<S, N> for Lines
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    fn format_event(
        &self,
        _: &FmtContext<'_, S, N>,
        mut writer: Writer<'_>,
        event: &Event<'_>,
    ) -> fmt::Result {
        let mut fields = Fields::default();
        event.record(&mut fields);
        let time = LocalTime::at(SystemTime::now());
        writeln!(writer, "{}", line(*event.metadata().level(), &time, &fields))
    }
}

fn line(level: Level, time: &LocalTime, fields: &Fields) -> String {
    let level = match level {
        Level::ERROR => "ERRO",
        Level::WARN => "WARN",
        Level::INFO => "INFO",
        _ => "DEBU",
    };
    let (time, text) = (time.log_text(), &fields.text);
    if fields.others.is_empty() {
        format!("{level}: {time} {text}")
    } else {
        format!("{level}: {time} {text:<TEXT_WIDTH$}{}", fields.others)
    }
}

/// The text, and the other fields as ` key=value`, on one line whatever they hold.
#[derive(Default)]
struct Fields {
    text: String,
    others: String,
}

impl Visit for Fields {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        let value = format!("{value:?}");
        // Writing to a String cannot fail.
        let _ = match field.name() {
            "message" => write!(self.text, "{}", one_line(&value)),
            name if value.contains(' ') && !value.starts_with('"') => {
                write!(self.others, " {name}={:?}", one_line(&value))
            }
            name => write!(self.others, " {name}={}", one_line(&value)),
        };
    }
}

/// A peer's nickname, say, must not be able to forge a line.
fn one_line(text: &str) -> String {
    text.chars()
        .flat_map(|c| if c.is_control() { c.escape_default().collect() } else { vec![c] })
        .collect()
}

#[cfg(test)]
mod tests {
    use std::time::UNIX_EPOCH;

    use super::*;

    #[test]
    fn fields_follow_the_padded_text() {
        let time = LocalTime::at(UNIX_EPOCH);
        let mut fields = Fields { text: "Sniffing".to_owned(), others: String::new() };
        let shown = line(Level::WARN, &time, &fields);
        assert!(shown.starts_with("WARN: 19") && shown.ends_with(".000000 Sniffing"), "{shown}");
        fields.others = " device=tap".to_owned();
        let shown = line(Level::INFO, &time, &fields);
        let text = format!("Sniffing{} device=tap", " ".repeat(36));
        assert!(shown.starts_with("INFO: ") && shown.ends_with(&text), "{shown}");
    }

    #[test]
    fn nobody_forges_a_line() {
        assert_eq!(one_line("a\nERRO: \u{1b}[0m"), "a\\nERRO: \\u{1b}[0m");
    }

    #[test]
    fn levels() {
        assert_eq!("warning".parse(), Ok(LogLevel::Warning));
        assert!("loud".parse::<LogLevel>().is_err());
    }
}
