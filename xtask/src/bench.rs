//! `cargo xtask bench`.
use anyhow::Result;
pub fn run(_arguments: &[&str]) -> Result<()> {
    anyhow::bail!("no benchmark yet")
}
