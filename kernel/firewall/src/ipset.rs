//! Sets for rules of iptables (`-m set --match-set NAME src`).

use std::collections::BTreeSet;
use std::fmt::Write as _;

use crate::error::FirewallError;
use crate::program::Program;

/// `IPSET_MAXNAMELEN` of the kernel, less the zero at the end.
const LONGEST_NAME: usize = 31;
/// End of the name of the set that takes the place of another.
const NEXT: &str = "~";

/// A set, with all that is in it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Set {
    /// Its name: 30 characters at most.
    pub name: String,
    /// Its type, e.g. `hash:ip` or `hash:ip,port`.
    pub kind: String,
    /// Whether its addresses are of IPv6.
    pub ipv6: bool,
    /// What is in it.
    pub elements: BTreeSet<String>,
}

/// The program `ipset`.
#[derive(Clone, Debug)]
pub struct Ipset(Program);

impl Ipset {
    /// Finds the program.
    ///
    /// # Errors
    /// Fails if it is not there.
    pub fn open() -> Result<Self, FirewallError> {
        Program::find("ipset").map(Self).ok_or(FirewallError::NoProgram { program: "ipset" })
    }

    /// Makes a set hold these elements and no others. Rules that match it see the old ones or the
    /// new ones.
    ///
    /// # Errors
    /// Fails if a name or an element is malformed, or if the program fails.
    pub fn replace(&self, set: &Set) -> Result<(), FirewallError> {
        self.restore(&replacement(set)?)
    }

    /// Adds elements to a set; those that are there are fine.
    ///
    /// # Errors
    /// Fails if a name or an element is malformed, or if the program fails.
    pub fn add(&self, set: &str, elements: &[String]) -> Result<(), FirewallError> {
        self.restore(&lines("add", set, elements.iter())?)
    }

    /// Deletes elements from a set; those that are not there are fine.
    ///
    /// # Errors
    /// Fails if a name or an element is malformed, or if the program fails.
    pub fn delete(&self, set: &str, elements: &[String]) -> Result<(), FirewallError> {
        self.restore(&lines("del", set, elements.iter())?)
    }

    /// Destroys a set that no rule matches, and returns whether it was there.
    ///
    /// # Errors
    /// Fails if the program fails.
    pub fn destroy(&self, set: &str) -> Result<bool, FirewallError> {
        // An argument, and no line of a script: `#` and quotes are characters like others.
        let good = set.chars().all(|c| c.is_ascii_graphic()) && !set.starts_with('-');
        if set.is_empty() || !good {
            let what = "the name of a set";
            return Err(FirewallError::Misuse { what, text: set.to_owned() });
        }
        match self.0.run(&["destroy", set], "") {
            Ok(_) => Ok(true),
            Err(FirewallError::Program { complaint, .. })
                if complaint.contains("does not exist") =>
            {
                Ok(false)
            }
            Err(error) => Err(error),
        }
    }

    /// Returns the names of all sets.
    ///
    /// # Errors
    /// Fails if the program fails.
    pub fn names(&self) -> Result<Vec<String>, FirewallError> {
        Ok(self.0.run(&["list", "-n"], "")?.lines().map(str::to_owned).collect())
    }

    fn restore(&self, text: &str) -> Result<(), FirewallError> {
        self.0.run(&["restore"], text).map(drop)
    }
}

fn replacement(set: &Set) -> Result<String, FirewallError> {
    let name = word(&set.name, "the name of a set")?;
    if name.len() + NEXT.len() > LONGEST_NAME {
        let what = "the name of a set";
        return Err(FirewallError::Misuse { what, text: name.to_owned() });
    }
    let kind = word(&set.kind, "the type of a set")?;
    let family = if set.ipv6 { "inet6" } else { "inet" };
    let next = format!("{name}{NEXT}");
    let mut text = String::new();
    for one in [name, &next] {
        // Writing to a String cannot fail.
        let _ = writeln!(text, "create {one} {kind} family {family} -exist");
    }
    // An earlier attempt may have left it with something in it.
    let _ = writeln!(text, "flush {next}");
    text.push_str(&lines("add", &next, set.elements.iter())?);
    let _ = writeln!(text, "swap {next} {name}\ndestroy {next}");
    Ok(text)
}

fn lines<'a>(
    command: &str,
    set: &str,
    elements: impl Iterator<Item = &'a String>,
) -> Result<String, FirewallError> {
    let set = word(set, "the name of a set")?;
    let mut text = String::new();
    for element in elements {
        let _ = writeln!(text, "{command} {set} {} -exist", word(element, "an element of a set")?);
    }
    Ok(text)
}

/// Checks that this is a word that the program reads as one, and not as an option.
fn word<'a>(text: &'a str, what: &'static str) -> Result<&'a str, FirewallError> {
    let good = |c: char| c.is_ascii_graphic() && !"\"'#".contains(c);
    if !text.is_empty() && !text.starts_with('-') && text.chars().all(good) {
        Ok(text)
    } else {
        Err(FirewallError::Misuse { what, text: text.to_owned() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_set_is_replaced_at_once() {
        let set = Set {
            name: "weave-pods".to_owned(),
            kind: "hash:ip".to_owned(),
            ipv6: false,
            elements: ["10.32.0.7".to_owned()].into(),
        };
        assert_eq!(
            replacement(&set).unwrap(),
            "create weave-pods hash:ip family inet -exist\n\
             create weave-pods~ hash:ip family inet -exist\n\
             flush weave-pods~\n\
             add weave-pods~ 10.32.0.7 -exist\n\
             swap weave-pods~ weave-pods\n\
             destroy weave-pods~\n"
        );
        assert!(replacement(&Set { name: "n".repeat(31), ..set.clone() }).is_err());
        for element in ["", "-exist", "10.0.0.1 10.0.0.2", "a\nb"] {
            let elements = [element.to_owned()].into();
            let error = replacement(&Set { elements, ..set.clone() });
            assert!(matches!(error, Err(FirewallError::Misuse { .. })), "{element:?}");
        }
    }
}
