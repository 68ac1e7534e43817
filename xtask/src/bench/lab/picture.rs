//! The record as a picture (SVG): a group of bars for each case, a bar for each contender.
//!
//! Told apart by grey and by pattern, not by colour; each bar has its number.

use std::fmt::Write as _;

use super::figure::Figure;
use super::record::{Entry, Record};
use super::table::rounds;

/// A group: heading, figure, digits of the numbers.
type Group = (&'static str, Figure, usize);

const GROUPS: [Group; 8] = [
    ("TCP, 1 stream: Gbit/s", Figure::Tcp1, 2),
    ("TCP, 4 streams: Gbit/s", Figure::Tcp4, 2),
    ("UDP, 64 bytes: 1000 packets/s that arrive", Figure::Udp64, 0),
    ("UDP, 1400 bytes: 1000 packets/s that arrive", Figure::Udp1400, 0),
    ("Ping, median: ms (shorter is better)", Figure::Ping, 3),
    ("Ping under load, 99th percentile: ms (shorter is better)", Figure::PingLoadedP99, 2),
    ("Processor seconds of the routers per GB (shorter is better)", Figure::RouterCpu, 2),
    ("Resident memory of a router: MB (shorter is better)", Figure::Memory, 0),
];

/// Sizes in pixels.
const COLUMNS: usize = 2;
const COLUMN: usize = 490;
const NAME: usize = 145;
const BAR: usize = 260;
const LINE: usize = 18;
const HEADING: usize = 34;
const MARGIN: usize = 20;

/// Draws a record.
pub fn draw(record: &Record) -> String {
    let contenders: Vec<&Entry> = record
        .contenders
        .iter()
        .filter(|entry| record.rows.iter().any(|row| row.contender == entry.name))
        .collect();
    let group_height = HEADING + contenders.len() * LINE + MARGIN;
    let top = MARGIN + 2 * LINE + 8;
    let width = COLUMNS * COLUMN + 2 * MARGIN;
    let height = top + GROUPS.len().div_ceil(COLUMNS) * group_height;
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{width}\" height=\"{height}\" \
         viewBox=\"0 0 {width} {height}\" font-family=\"sans-serif\" font-size=\"12\">\n{PATTERNS}\
         <rect width=\"{width}\" height=\"{height}\" fill=\"#ffffff\"/>\n"
    );
    let caption = format!(
        "{}; medians over {}, loads of {} s{}",
        record.machine,
        rounds(record),
        record.seconds,
        if record.loss > 0.0 { format!(", {} % packets lost", record.loss) } else { String::new() }
    );
    text(&mut svg, MARGIN, MARGIN + 4, "", &caption);
    legend(&mut svg, MARGIN + LINE + 8);
    for (i, group) in GROUPS.iter().enumerate() {
        let x = MARGIN + i % COLUMNS * COLUMN;
        let y = top + i / COLUMNS * group_height;
        bars(&mut svg, record, &contenders, group, (x, y));
    }
    svg + "</svg>\n"
}

const PATTERNS: &str = "<defs><pattern id=\"lines\" width=\"6\" height=\"6\" patternUnits=\"userSpaceOnUse\" \
    patternTransform=\"rotate(45)\"><rect width=\"6\" height=\"6\" fill=\"#ffffff\"/>\
    <rect width=\"2\" height=\"6\" fill=\"#555555\"/></pattern></defs>\n";

/// What kind of contender a bar is for.
fn fill(name: &str) -> &'static str {
    match name {
        "bridge" | "vxlan" => "#ffffff",
        name if name.starts_with("weave") => "#222222",
        name if name.starts_with("other") => "url(#lines)",
        _ => "#bbbbbb",
    }
}

fn legend(svg: &mut String, y: usize) {
    let kinds = [
        ("vxlan", "the kernel"),
        ("weave", "this router"),
        ("other", "another router"),
        ("", "rivals"),
    ];
    for (i, (name, meaning)) in kinds.into_iter().enumerate() {
        let x = MARGIN + i * 150;
        rectangle(svg, (x, y), 24, fill(name));
        text(svg, x + 32, y + 10, "", meaning);
    }
}

fn bars(
    svg: &mut String,
    record: &Record,
    contenders: &[&Entry],
    (heading, figure, digits): &Group,
    (x, y): (usize, usize),
) {
    text(svg, x, y + 16, " font-weight=\"bold\"", heading);
    let medians: Vec<_> =
        contenders.iter().map(|entry| record.median(&entry.name, *figure)).collect();
    let longest = medians.iter().flatten().copied().fold(0.0, f64::max);
    for (i, (entry, median)) in contenders.iter().zip(medians).enumerate() {
        let y = y + HEADING - 8 + i * LINE;
        text(svg, x + NAME - 8, y + 11, " text-anchor=\"end\"", &entry.name);
        let Some(value) = median.filter(|value| value.is_finite()) else {
            text(svg, x + NAME + 4, y + 11, "", "not measured");
            continue;
        };
        let length = if longest > 0.0 { value / longest * BAR as f64 } else { 0.0 };
        // Between 0 and BAR.
        let length = length.clamp(0.0, BAR as f64).round();
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "clamped above"
        )]
        let length = length as usize;
        rectangle(svg, (x + NAME, y), length, fill(&entry.name));
        text(svg, x + NAME + length + 6, y + 11, "", &format!("{value:.digits$}"));
    }
}

fn rectangle(svg: &mut String, (x, y): (usize, usize), width: usize, fill: &str) {
    // Writing to a string cannot fail.
    let _ = writeln!(
        svg,
        "<rect x=\"{x}\" y=\"{y}\" width=\"{width}\" height=\"12\" fill=\"{fill}\" stroke=\"#222222\"/>"
    );
}

fn text(svg: &mut String, x: usize, y: usize, attributes: &str, content: &str) {
    let content = content.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;");
    // Writing to a string cannot fail.
    let _ = writeln!(svg, "<text x=\"{x}\" y=\"{y}\"{attributes}>{content}</text>");
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bench::lab::record::tests::record;

    /// Widths of the bars with a number, in order.
    fn widths(svg: &str) -> Vec<usize> {
        let bars = svg.split("height=\"12\"").filter_map(|part| part.rsplit("width=\"").next());
        bars.filter_map(|rest| rest.split('"').next()?.parse().ok()).collect()
    }

    #[test]
    fn bars_are_as_long_as_their_values() {
        let svg = draw(&record(&[("bridge", 8.0), ("weave", 2.0), ("other", 4.0)]));
        assert_eq!(svg.matches(">8.00</text>").count(), 4, "{svg}");
        // Behind those of the legend.
        assert_eq!(widths(&svg)[4..7], [BAR, BAR / 4, BAR / 2]);
        assert_eq!(widths(&svg).len(), 4 + 3 * GROUPS.len());
    }

    #[test]
    fn kinds_differ_without_colour() {
        let kinds = ["bridge", "weave-sealed", "other", "tinc"].map(fill);
        for (i, kind) in kinds.iter().enumerate() {
            assert!(!kinds[..i].contains(kind), "{kind}");
        }
    }

    #[test]
    fn what_is_missing_has_no_bar() {
        let mut record = record(&[("bridge", 1.0), ("tinc", 0.5)]);
        record.rows[1].figures.remove(&Figure::Tcp1);
        record.rows[0].set(Figure::Ping, f64::NAN);
        let svg = draw(&record);
        assert_eq!(svg.matches("not measured").count(), 2);
        // Nobody at all is a picture too.
        assert!(draw(&super::super::record::Record::new(5, 0.0)).ends_with("</svg>\n"));
    }

    #[test]
    fn names_cannot_break_the_document() {
        let svg = draw(&record(&[("a<b>&c", 1.0)]));
        assert!(svg.contains("a&lt;b&gt;&amp;c") && !svg.contains("<b>"), "{svg}");
        assert!(svg.contains("fast &amp; small"));
    }
}
