//! All that was measured, as a file: pictures and tables are made from it.

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::{Context, Result, ensure};
use serde_json::{Map, Value, json};

use super::contender::Contender;
use super::figure::{Figure, median};

/// A run of the lab.
#[derive(Clone, PartialEq, Debug)]
pub struct Record {
    /// Kernel, processor and their number.
    pub machine: String,
    /// Length of one load.
    pub seconds: u32,
    /// Per cent of the packets that the underlay dropped.
    pub loss: f64,
    /// Names, in the order of the table.
    pub contenders: Vec<Entry>,
    /// One for each contender and round.
    pub rows: Vec<Row>,
}

/// A contender in a record.
#[derive(Clone, PartialEq, Debug)]
pub struct Entry {
    /// Its name.
    pub name: String,
    /// Whether the underlay could not read its frames.
    pub sealed: bool,
    /// Why it was not measured.
    pub absent: Option<String>,
}

/// What was measured of a contender in one round.
#[derive(Clone, PartialEq, Debug)]
pub struct Row {
    /// Name of the contender.
    pub contender: String,
    /// What could be measured.
    pub figures: BTreeMap<Figure, f64>,
    /// What could not, and why.
    pub problems: Vec<String>,
}

impl Row {
    /// Nothing so far.
    pub fn new(contender: &str) -> Self {
        Self { contender: contender.to_owned(), figures: BTreeMap::new(), problems: Vec::new() }
    }

    /// Notes a figure, with as many digits as mean something.
    pub fn set(&mut self, figure: Figure, value: f64) {
        self.figures.insert(figure, (value * 1e4).round() / 1e4);
    }

    /// Notes a figure, if there is one.
    pub fn set_if(&mut self, figure: Figure, value: Option<f64>) {
        if let Some(value) = value {
            self.set(figure, value);
        }
    }

    /// Makes a measurement; a failure is noted.
    pub fn attempt(&mut self, what: &str, work: impl FnOnce(&mut Self) -> Result<()>) {
        if let Err(error) = work(self) {
            self.problems.push(format!("{what}: {error:#}"));
        }
    }
}

impl Record {
    /// Nothing measured so far, on this machine.
    pub fn new(seconds: u32, loss: f64) -> Self {
        Self { machine: machine(), seconds, loss, contenders: Vec::new(), rows: Vec::new() }
    }

    /// Enters contenders, and returns those that can be measured here.
    pub fn admit(&mut self, contenders: &[Contender], weave: &Path) -> Vec<Contender> {
        let entry = |one: &Contender| Entry {
            name: one.name.to_owned(),
            sealed: one.sealed,
            absent: one.absent(weave),
        };
        self.contenders = contenders.iter().map(entry).collect();
        let present = contenders.iter().zip(&self.contenders);
        present.filter(|(_, entry)| entry.absent.is_none()).map(|(one, _)| *one).collect()
    }

    /// The median of all rounds.
    pub fn median(&self, contender: &str, figure: Figure) -> Option<f64> {
        let rows = self.rows.iter().filter(|row| row.contender == contender);
        median(rows.filter_map(|row| row.figures.get(&figure).copied()).collect())
    }

    /// What could not be measured, a line each.
    pub fn problems(&self) -> Vec<String> {
        let of = |row: &Row| {
            let line = |problem: &String| format!("{}: {problem}", row.contender);
            row.problems.iter().map(line).collect::<Vec<_>>()
        };
        self.rows.iter().flat_map(of).collect()
    }

    /// The number of rounds: the most rows that a contender has.
    pub fn rounds(&self) -> usize {
        let count =
            |entry: &Entry| self.rows.iter().filter(|row| row.contender == entry.name).count();
        self.contenders.iter().map(count).max().unwrap_or(0)
    }

    /// As text.
    pub fn to_json(&self) -> String {
        let contenders: Vec<_> = self
            .contenders
            .iter()
            .map(
                |entry| json!({"name": entry.name, "sealed": entry.sealed, "absent": entry.absent}),
            )
            .collect();
        let rows: Vec<_> = self.rows.iter().map(row_to_json).collect();
        let value = json!({
            "machine": self.machine,
            "seconds": self.seconds,
            "loss_percent": self.loss,
            "contenders": contenders,
            "rows": rows,
        });
        // A value made of strings and numbers can always be printed.
        serde_json::to_string_pretty(&value).unwrap_or_default() + "\n"
    }

    /// Reads a file that [`Self::to_json`] has made.
    pub fn read(path: &Path) -> Result<Self> {
        let text = std::fs::read_to_string(path);
        let text = text.with_context(|| format!("reading {}", path.display()))?;
        Self::parse(&text).with_context(|| format!("{} is no record of the lab", path.display()))
    }

    /// Reads several, as one run that was made in pieces.
    pub fn read_all(files: &[impl AsRef<Path>]) -> Result<Self> {
        let records = files.iter().map(|file| Self::read(file.as_ref()));
        let mut records = records.collect::<Result<Vec<_>>>()?.into_iter();
        let mut whole = records.next().context("no record")?;
        for piece in records {
            whole.append(piece)?;
        }
        Ok(whole)
    }

    /// Adds the rows of a record that was made in the same way.
    fn append(&mut self, piece: Self) -> Result<()> {
        for (what, same) in [
            ("machines", self.machine == piece.machine),
            ("lengths of loads", self.seconds == piece.seconds),
            ("losses", self.loss == piece.loss),
        ] {
            ensure!(same, "these records are of different {what}");
        }
        for entry in piece.contenders {
            if self.contenders.iter().all(|known| known.name != entry.name) {
                self.contenders.push(entry);
            }
        }
        self.rows.extend(piece.rows);
        Ok(())
    }

    fn parse(text: &str) -> Result<Self> {
        let value: Value = serde_json::from_str(text)?;
        let seconds = value["seconds"].as_u64().context("no seconds")?;
        Ok(Self {
            machine: string(&value["machine"])?,
            seconds: u32::try_from(seconds)?,
            loss: value["loss_percent"].as_f64().context("no loss_percent")?,
            contenders: list(&value["contenders"])?.iter().map(entry).collect::<Result<_>>()?,
            rows: list(&value["rows"])?.iter().map(row).collect::<Result<_>>()?,
        })
    }
}

fn row_to_json(row: &Row) -> Value {
    let figures: Map<_, _> =
        row.figures.iter().map(|(figure, value)| (figure.key().to_owned(), json!(value))).collect();
    json!({"contender": row.contender, "figures": figures, "problems": row.problems})
}

fn entry(value: &Value) -> Result<Entry> {
    Ok(Entry {
        name: string(&value["name"])?,
        sealed: value["sealed"].as_bool().context("no sealed")?,
        absent: value["absent"].as_str().map(str::to_owned),
    })
}

fn row(value: &Value) -> Result<Row> {
    let figures = value["figures"].as_object().context("no figures")?;
    let figure = |(key, value): (&String, &Value)| {
        let figure = Figure::keyed(key).with_context(|| format!("unknown figure {key}"))?;
        Ok((figure, value.as_f64().with_context(|| format!("{key} is no number"))?))
    };
    Ok(Row {
        contender: string(&value["contender"])?,
        figures: figures.iter().map(figure).collect::<Result<_>>()?,
        problems: list(&value["problems"])?.iter().map(string).collect::<Result<_>>()?,
    })
}

fn string(value: &Value) -> Result<String> {
    Ok(value.as_str().context("a text is missing")?.to_owned())
}

fn list(value: &Value) -> Result<&[Value]> {
    Ok(value.as_array().context("a list is missing")?.as_slice())
}

fn machine() -> String {
    let read = |path| std::fs::read_to_string(path).unwrap_or_default();
    let cpuinfo = read("/proc/cpuinfo");
    let models =
        || cpuinfo.lines().filter_map(|line| line.strip_prefix("model name")?.split(": ").nth(1));
    let kernel = read("/proc/sys/kernel/osrelease");
    // What follows the version is the name of a build.
    let kernel = kernel.trim().split('-').next().unwrap_or_default();
    let model = models().next().unwrap_or("unknown processor");
    format!("{} processors ({model}), Linux {}", models().count(), kernel)
}

#[cfg(test)]
pub mod tests {
    use super::*;

    /// A record with one row for each value of a figure.
    pub fn record(rows: &[(&str, f64)]) -> Record {
        let mut record = Record::new(5, 0.0);
        record.machine = "2 processors (fast & small), Linux 6".to_owned();
        for (name, value) in rows {
            if !record.contenders.iter().any(|entry| entry.name == *name) {
                let sealed = name.contains("sealed");
                record.contenders.push(Entry { name: (*name).to_owned(), sealed, absent: None });
            }
            let mut row = Row::new(name);
            Figure::ALL.into_iter().for_each(|figure| row.set(figure, *value));
            record.rows.push(row);
        }
        record
    }

    #[test]
    fn a_record_is_read_as_it_was_written() {
        let mut written = record(&[("bridge", 1.5), ("weave", 2.0), ("weave", 4.0)]);
        written.contenders.push(Entry {
            name: "tinc".to_owned(),
            sealed: true,
            absent: Some("not installed: tincd".to_owned()),
        });
        written.rows[1].attempt("ping", |_| anyhow::bail!("no answer"));
        written.rows[1].figures.remove(&Figure::Ping);
        written.rows[0].set(Figure::Tcp1, 20.0 / 3.0);
        let read = Record::parse(&written.to_json()).expect("what was written");
        assert_eq!(read, written);
        assert_eq!(read.median("weave", Figure::Ping), Some(4.0));
        assert_eq!(read.median("weave", Figure::Tcp1), Some(3.0));
        assert_eq!(read.median("tinc", Figure::Tcp1), None);
        assert_eq!(read.problems(), ["weave: ping: no answer"]);
        assert_eq!(read.rounds(), 2);
    }

    #[test]
    fn pieces_of_a_run_are_put_together() {
        let mut whole = record(&[("bridge", 1.0), ("weave", 2.0)]);
        whole.append(record(&[("weave", 4.0), ("tinc", 9.0)])).expect("made in the same way");
        let names: Vec<_> = whole.contenders.iter().map(|entry| entry.name.as_str()).collect();
        assert_eq!(names, ["bridge", "weave", "tinc"]);
        assert_eq!(whole.rounds(), 2);
        assert_eq!(whole.median("weave", Figure::Tcp1), Some(3.0));
        let before = whole.clone();
        for other in [
            Record { seconds: 1, ..record(&[]) },
            Record { loss: 0.1, ..record(&[]) },
            Record { machine: "another".to_owned(), ..record(&[]) },
        ] {
            let error = whole.append(other).expect_err("not comparable");
            assert!(error.to_string().starts_with("these records are of different "), "{error}");
        }
        assert_eq!(whole, before);
    }

    #[test]
    fn what_is_no_record_is_refused() {
        for text in [
            "",
            "[]",
            "{}",
            r#"{"machine":"x","seconds":1,"loss_percent":0,"contenders":[],"rows":[{}]}"#,
        ] {
            assert!(Record::parse(text).is_err(), "{text}");
        }
    }
}
