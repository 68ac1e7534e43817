//! What the kernel takes for the name of an interface.

/// `IFNAMSIZ` of the kernel, less the zero at the end.
const LONGEST: usize = 15;

/// Refuses what the kernel would refuse (`dev_valid_name`), or take for a pattern.
pub(super) fn parse(text: &str) -> Result<String, String> {
    // What rules of a firewall would read as a pattern or as the end of the name, too.
    let legal = |c: char| !c.is_whitespace() && !c.is_control() && !"/:%+*!\"'\\".contains(c);
    if text.is_empty() || text.len() > LONGEST {
        return Err(format!("a name has 1 to {LONGEST} characters"));
    }
    if [".", ".."].contains(&text) || text.starts_with('-') || !text.chars().all(legal) {
        return Err("no name for an interface".to_owned());
    }
    Ok(text.to_owned())
}
