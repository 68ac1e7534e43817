//! Which tests were tried again, and why: a retry that nobody sees hides a fault.

use std::fs;

use anyhow::{Context as _, Result};
use roxmltree::{Document, Node};

use crate::tools::root;

/// A test that failed and then passed.
#[derive(PartialEq, Eq, Debug)]
pub struct Retried {
    /// The name that `cargo nextest run -E 'test(=...)'` takes.
    pub test: String,
    /// What the first failure said.
    pub cause: String,
}

/// Removes the report of an earlier run of this profile of nextest.
pub fn forget(profile: &str) {
    // There may be none.
    let _ = fs::remove_file(report(profile));
}

/// Returns the tests that the last run of this profile of nextest tried again.
///
/// # Errors
/// There is no report, or it is none that nextest writes.
pub fn of(profile: &str) -> Result<Vec<Retried>> {
    let path = report(profile);
    let text = fs::read_to_string(&path).with_context(|| format!("reading {}", path.display()))?;
    parse(&text).with_context(|| format!("reading {}", path.display()))
}

fn report(profile: &str) -> std::path::PathBuf {
    root().join("target/nextest").join(profile).join("junit.xml")
}

fn parse(report: &str) -> Result<Vec<Retried>> {
    let document = Document::parse(report)?;
    let cases = document.descendants().filter(|node| node.has_tag_name("testcase"));
    let retried = cases.filter_map(|case| {
        let failure = case.children().find(|node| node.has_tag_name("flakyFailure"))?;
        let test = case.attribute("name").unwrap_or_default().to_owned();
        Some(Retried { test, cause: cause(&failure) })
    });
    Ok(retried.collect())
}

/// The line that says what is wrong.
fn cause(failure: &Node<'_, '_>) -> String {
    let message = failure.attribute("message").or_else(|| failure.attribute("type"));
    let text = message.unwrap_or_default();
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_test_that_passed_the_second_time_is_named_with_its_cause() {
        let report = r#"<?xml version="1.0" encoding="UTF-8"?>
            <testsuites name="nextest-run" tests="2" failures="0">
              <testsuite name="weave::system" tests="2">
                <testcase name="two_hosts::frames" classname="weave::system" time="3.1">
                  <flakyFailure time="9.0" message="thread 'x' panicked at a.rs:1:2
            no ping" type="test failure with exit code 101">...</flakyFailure>
                </testcase>
                <testcase name="line::help" classname="weave::system" time="0.1"/>
              </testsuite>
            </testsuites>"#;
        let expected = Retried {
            test: "two_hosts::frames".to_owned(),
            cause: "thread 'x' panicked at a.rs:1:2 no ping".to_owned(),
        };
        assert_eq!(parse(report).unwrap(), [expected]);
    }

    #[test]
    fn what_is_no_report_is_an_error() {
        assert!(parse("no report").is_err());
    }
}
