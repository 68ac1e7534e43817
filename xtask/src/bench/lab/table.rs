//! Medians and ratios, as tables that are readable as text and as Markdown.

use std::fmt::Write as _;

use super::figure::Figure;
use super::health::SMALL_FRAME;
use super::record::{Entry, Record, Row};

/// A column: heading, figure, digits.
type Column = (&'static str, Figure, usize);

const COLUMNS: [Column; 14] = [
    ("TCP 1 →", Figure::Tcp1, 2),
    ("←", Figure::Tcp1Back, 2),
    ("TCP 4 →", Figure::Tcp4, 2),
    ("←", Figure::Tcp4Back, 2),
    ("UDP 64 kpps", Figure::Udp64, 1),
    ("lost %", Figure::Udp64Loss, 1),
    ("UDP 1400 kpps", Figure::Udp1400, 1),
    ("lost %", Figure::Udp1400Loss, 1),
    ("ping ms", Figure::Ping, 3),
    ("p99", Figure::PingP99, 3),
    ("loaded ms", Figure::PingLoaded, 3),
    ("p99", Figure::PingLoadedP99, 3),
    ("routers s/GB", Figure::RouterCpu, 2),
    ("RSS MB", Figure::Memory, 0),
];

/// Ratios to these contenders, where they were measured.
const BASES: [&str; 4] = ["vxlan", "vxlan-tracked", "openvswitch", "other"];

/// All contenders, medians and ratios.
pub fn results(record: &Record) -> String {
    let bases = BASES.map(|base| (base, record.median(base, Figure::Tcp1).is_some()));
    let bases: Vec<&str> =
        bases.iter().filter(|(_, there)| *there).map(|(base, _)| *base).collect();
    let mut lines = vec![vec!["contender".to_owned(), "sealed".to_owned()]];
    lines[0].extend(COLUMNS.iter().map(|(heading, ..)| (*heading).to_owned()));
    for base in &bases {
        lines[0].extend([format!("TCP ÷ {base}"), format!("UDP ÷ {base}")]);
    }
    for entry in &record.contenders {
        lines.push(line_of(record, entry, &bases));
    }
    aligned(&lines)
}

fn line_of(record: &Record, entry: &Entry, bases: &[&str]) -> Vec<String> {
    let name = entry.name.as_str();
    let mut line = vec![name.to_owned(), if entry.sealed { "yes" } else { "no" }.to_owned()];
    if let Some(reason) = &entry.absent {
        line.push(reason.clone());
        return line;
    }
    for (_, figure, digits) in COLUMNS {
        line.push(shown(record.median(name, figure), digits));
    }
    for base in bases {
        for figure in [Figure::Tcp1, Figure::Udp64] {
            let (own, base) = (record.median(name, figure), record.median(base, figure));
            line.push(shown(own.zip(base).map(|(own, base)| own / base), 2));
        }
    }
    line
}

/// Whether the offloads of our router work, for the contenders that tell.
pub fn health(record: &Record) -> String {
    let headings = [
        "contender",
        "bytes a captured frame",
        "datagrams a send",
        "datagrams a receive",
        "offloads",
    ];
    let mut lines = vec![headings.map(str::to_owned).to_vec()];
    for entry in &record.contenders {
        let median = |figure| record.median(&entry.name, figure);
        let Some(frame) = median(Figure::CapturedFrame) else { continue };
        lines.push(vec![
            entry.name.clone(),
            shown(Some(frame), 0),
            shown(median(Figure::DatagramsPerSend), 1),
            shown(median(Figure::DatagramsPerReceive), 1),
            if frame < SMALL_FRAME { "LOST" } else { "work" }.to_owned(),
        ]);
    }
    if lines.len() == 1 { String::new() } else { aligned(&lines) }
}

/// What misses cost, for the contenders that have flows.
pub fn misses(record: &Record) -> String {
    let headings = ["contender", "first frame ms", "second", "two misses", "first flow ms"];
    let mut lines = vec![headings.map(str::to_owned).to_vec()];
    for entry in &record.contenders {
        let median = |figure| record.median(&entry.name, figure);
        let (first, second) = (median(Figure::MissFirst), median(Figure::MissSecond));
        let Some((first, second)) = first.zip(second) else { continue };
        lines.push(vec![
            entry.name.clone(),
            shown(Some(first), 3),
            shown(Some(second), 3),
            shown(Some(first - second), 3),
            shown(median(Figure::MissFlow), 3),
        ]);
    }
    if lines.len() == 1 { String::new() } else { aligned(&lines) }
}

/// One row, for who watches the lab.
pub fn line(row: &Row) -> String {
    let mut text = String::new();
    for (name, figure, digits) in [
        ("TCP", Figure::Tcp1, 2),
        ("UDP", Figure::Udp64, 1),
        ("ping", Figure::Ping, 3),
        ("frame", Figure::CapturedFrame, 0),
    ] {
        // Writing to a string cannot fail.
        let _ = write!(text, "{name} {}  ", shown(row.figures.get(&figure).copied(), digits));
    }
    text + &row.problems.join("; ")
}

/// The page for the documentation, with a picture beside it.
pub fn document(record: &Record) -> String {
    let mut text = String::from(
        "# Side by side\n\nMade by `cargo xtask bench lab`; what is measured, and how, is told in \
         `benches/lab/README.md`.\n\n",
    );
    // Writing to a string cannot fail.
    let _ = writeln!(
        text,
        "{}; medians over {}, loads of {} s, MTU 1500 below{}.\n",
        record.machine,
        rounds(record),
        record.seconds,
        if record.loss > 0.0 {
            format!(", {} % of the packets lost", record.loss)
        } else {
            String::new()
        }
    );
    text += "![bars for each contender](lab.svg)\n\n";
    text += "TCP in Gbit/s, with 1 and with 4 streams, forth (→) and back (←).\n\n";
    text += &results(record);
    let health = health(record);
    if !health.is_empty() {
        let _ = write!(text, "\nWhat one TCP stream looks like to our router:\n\n{health}");
    }
    let misses = misses(record);
    if !misses.is_empty() {
        let _ = write!(text, "\nWhat a frame costs that there is no flow for:\n\n{misses}");
    }
    let problems = record.problems();
    if !problems.is_empty() {
        text += "\nNot measured:\n\n";
        for problem in problems {
            let _ = writeln!(text, "* {}", problem.replace('\n', " "));
        }
    }
    text
}

/// How often was measured, in words.
pub fn rounds(record: &Record) -> String {
    match record.rounds() {
        1 => "1 round".to_owned(),
        rounds => format!("{rounds} rounds"),
    }
}

fn shown(value: Option<f64>, digits: usize) -> String {
    match value {
        Some(value) if value.is_finite() => format!("{value:.digits$}"),
        _ => "-".to_owned(),
    }
}

/// A table whose columns are as wide as what is in them.
fn aligned(lines: &[Vec<String>]) -> String {
    let columns = lines.first().map_or(0, Vec::len);
    // A line that is shorter ends with a sentence, for which no column is made wide.
    let width = |i: usize| {
        let whole = lines.iter().filter(|line| line.len() == columns);
        whole
            .filter_map(|line| line.get(i))
            .map(|cell| cell.chars().count())
            .max()
            .unwrap_or(0)
            .max(3)
    };
    let names = lines.iter().filter_map(|line| line.first());
    let first = names.map(|cell| cell.chars().count()).max().unwrap_or(0).max(3);
    let widths: Vec<usize> = std::iter::once(first).chain((1..columns).map(width)).collect();
    let mut text = String::new();
    for (n, line) in lines.iter().enumerate() {
        text.push('|');
        for (i, width) in widths.iter().enumerate() {
            let cell = line.get(i).map_or("", String::as_str);
            // Writing to a string cannot fail.
            let _ = if i == 0 {
                write!(text, " {cell:<width$} |")
            } else {
                write!(text, " {cell:>width$} |")
            };
        }
        text.push('\n');
        if n == 0 {
            text.push('|');
            for (i, width) in widths.iter().enumerate() {
                let dashes = "-".repeat(width + 1);
                let _ =
                    if i == 0 { write!(text, "{dashes}-|") } else { write!(text, "{dashes}:|") };
            }
            text.push('\n');
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bench::lab::record::tests::record;

    fn cells(text: &str, name: &str) -> Vec<String> {
        let line = text.lines().find(|line| line.starts_with(&format!("| {name} ")));
        let cells = line.expect("a line of that name").trim_matches('|').split('|');
        cells.map(|cell| cell.trim().to_owned()).collect()
    }

    #[test]
    fn medians_and_ratios_are_shown() {
        let mut record =
            record(&[("vxlan", 4.0), ("weave-sealed", 1.0), ("weave-sealed", 3.0), ("other", 0.5)]);
        record.rows[3].figures.remove(&Figure::Udp64);
        let text = results(&record);
        assert_eq!(cells(&text, "vxlan")[..4], ["vxlan", "no", "4.00", "4.00"]);
        let line = cells(&text, "weave-sealed");
        assert_eq!(line[..3], ["weave-sealed", "yes", "2.00"]);
        assert_eq!(line[16..], ["0.50", "0.50", "4.00", "-"]);
        assert!(text.lines().all(|line| line.matches('|').count() == 21), "{text}");
    }

    #[test]
    fn who_is_absent_has_a_line() {
        let mut record = record(&[("bridge", 1.0)]);
        record.contenders[0].absent = Some("not installed: tincd".to_owned());
        let text = results(&record);
        assert_eq!(cells(&text, "bridge")[2], "not installed: tincd");
        assert!(!text.contains('÷'), "{text}");
    }

    #[test]
    fn a_lost_offload_is_seen() {
        let text = health(&record(&[("weave", 35_000.0), ("weave-sealed", 1400.0)]));
        assert_eq!(cells(&text, "weave")[4], "work");
        assert_eq!(cells(&text, "weave-sealed")[4], "LOST");
    }

    #[test]
    fn the_page_has_all_parts() {
        let mut record = record(&[("bridge", 1.0)]);
        record.rows[0].problems.push("ping: no answer".to_owned());
        let text = document(&record);
        for part in
            ["lab.svg", "2 processors", "over 1 round,", "| bridge ", "* bridge: ping: no answer"]
        {
            assert!(text.contains(part), "{part} in {text}");
        }
        assert!(!text.contains("packets lost"));
        record.loss = 0.1;
        assert!(document(&record).contains(", 0.1 % of the packets lost"));
    }
}
