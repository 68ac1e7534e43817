//! How metrics are written (the text format of Prometheus, version 0.0.4).

use std::fmt::Write as _;

/// One metric with all its values.
#[derive(Clone, PartialEq, Debug)]
pub struct Metric {
    name: String,
    kind: &'static str,
    help: &'static str,
    /// Labels, ready to be printed, and value.
    values: Vec<(String, f64)>,
}

impl Metric {
    /// Returns a metric without values; `kind` is `counter` or `gauge`.
    pub fn new(name: impl Into<String>, kind: &'static str, help: &'static str) -> Self {
        Self { name: name.into(), kind, help, values: Vec::new() }
    }

    /// Adds a value with its labels.
    #[must_use]
    pub fn value(mut self, labels: &[(&str, &str)], value: f64) -> Self {
        let labels: Vec<_> = labels
            .iter()
            .map(|(name, text)| {
                let text = text.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n");
                format!("{name}=\"{text}\"")
            })
            .collect();
        let labels = match labels.as_slice() {
            [] => String::new(),
            labels => format!("{{{}}}", labels.join(",")),
        };
        // The sum of no floats is -0.0.
        self.values.push((labels, value + 0.0));
        self
    }

    /// Appends the metric in the text format, or nothing if it has no values.
    pub fn print(&self, text: &mut String) {
        let Self { name, kind, help, values } = self;
        if values.is_empty() {
            return;
        }
        // Writing to a String cannot fail.
        let _ = writeln!(text, "# HELP {name} {help}\n# TYPE {name} {kind}");
        for (labels, value) in values {
            let _ = writeln!(text, "{name}{labels} {value}");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_are_escaped() {
        let mut text = String::new();
        Metric::new("m", "gauge", "h").value(&[("l", "a\"b\\c\nd")], 1.0).print(&mut text);
        assert!(text.ends_with("m{l=\"a\\\"b\\\\c\\nd\"} 1\n"), "{text}");
    }
}
