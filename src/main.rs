//! The `weave` command.
fn main() {}
