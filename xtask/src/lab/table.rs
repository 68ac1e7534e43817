//! Medians and ratios of the measurements, as text and JSON.

use std::fmt::Write as _;

use serde_json::json;

use super::contender::Contender;
use super::measure::Row;

/// A column: heading, digits, value.
type Column = (&'static str, usize, fn(&Row) -> f64);

const COLUMNS: [Column; 7] = [
    ("TCP Gbit/s", 2, |row| row.tcp_gigabits),
    ("UDP 64 B kpps", 1, |row| row.udp_kilopackets),
    ("ping ms", 3, |row| row.ping_median),
    ("p99 ms", 3, |row| row.ping_p99),
    ("routers s/GB", 2, |row| row.router_cpu),
    ("machine s/GB", 2, |row| row.machine_cpu),
    ("RSS MB", 0, |row| row.memory),
];

/// The table of medians; TCP and UDP also as a ratio to the first contender.
pub fn text(contenders: &[Contender], rows: &[Row]) -> String {
    let mut text = String::from("| contender |");
    // Writing to a string cannot fail.
    for (heading, ..) in COLUMNS {
        let _ = write!(text, " {heading} |");
    }
    text.push_str(" TCP ratio | UDP ratio |\n|---|");
    text.push_str(&"---|".repeat(COLUMNS.len() + 2));
    text.push('\n');
    let first = contenders.first().map_or("", |contender| contender.name());
    for contender in contenders {
        let _ = write!(text, "| {} |", contender.name());
        for (_, digits, value) in COLUMNS {
            let _ = write!(text, " {:.digits$} |", median(rows, contender.name(), value));
        }
        for (.., value) in &COLUMNS[..2] {
            let ratio = median(rows, contender.name(), *value) / median(rows, first, *value);
            let _ = write!(text, " {ratio:.3} |");
        }
        text.push('\n');
    }
    text
}

fn median(rows: &[Row], name: &str, value: fn(&Row) -> f64) -> f64 {
    let mut values: Vec<f64> = rows.iter().filter(|row| row.name == name).map(value).collect();
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
}

/// Every single measurement.
pub fn json(rows: &[Row]) -> String {
    let rows: Vec<_> = rows
        .iter()
        .map(|row| {
            let mut object = serde_json::Map::new();
            object.insert("contender".to_owned(), json!(row.name));
            for (heading, _, value) in COLUMNS {
                object.insert(heading.to_owned(), json!(value(row)));
            }
            object
        })
        .collect();
    json!(rows).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(name: &'static str, gigabits: f64) -> Row {
        Row {
            name,
            tcp_gigabits: gigabits,
            udp_kilopackets: 100.0,
            ping_median: 0.1,
            ping_p99: 0.2,
            router_cpu: 1.0,
            machine_cpu: 2.0,
            memory: 10.0,
        }
    }

    #[test]
    fn the_table_shows_medians_and_ratios() {
        let contenders = [Contender::Bridge, Contender::Vxlan];
        let rows = [
            row("bridge", 8.0),
            row("vxlan", 1.0),
            row("bridge", 99.0),
            row("vxlan", 5.0),
            row("bridge", 10.0),
            row("vxlan", 9.0),
        ];
        let text = text(&contenders, &rows);
        let lines: Vec<&str> = text.lines().collect();
        assert!(lines[2].starts_with("| bridge | 10.00 |"), "{text}");
        assert!(lines[2].ends_with("| 1.000 | 1.000 |"), "{text}");
        assert!(lines[3].starts_with("| vxlan | 5.00 |"), "{text}");
        assert!(lines[3].ends_with("| 0.500 | 1.000 |"), "{text}");
    }
}
