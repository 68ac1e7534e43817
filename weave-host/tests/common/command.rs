//! Commands on the host of a test.

use std::process::Command;

/// Runs a line of words and returns what it printed.
pub fn run(line: &str) -> String {
    let mut words = line.split(' ');
    let output = Command::new(words.next().unwrap()).args(words).output().unwrap();
    assert!(output.status.success(), "{line}: {output:?}");
    String::from_utf8(output.stdout).unwrap()
}

/// Page faults of the programs that this process has run and waited for.
pub fn faults_of_programs() -> u64 {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap();
    let (_, rest) = stat.rsplit_once(')').unwrap();
    rest.split_whitespace().nth(8).unwrap().parse().unwrap()
}
