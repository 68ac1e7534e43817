//! What the runtime says in variables of the environment.

use crate::error::CniError;

/// What is to be done.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Command {
    /// Give a container an interface.
    Add,
    /// Take it away.
    Del,
    /// See whether it is as it was left.
    Check,
    /// Tell whether containers can be added.
    Status,
    /// Take away what belongs to no container any more.
    Gc,
    /// Tell the versions that are spoken.
    Version,
}

impl Command {
    /// As it is written.
    pub(crate) const fn text(self) -> &'static str {
        match self {
            Self::Add => "ADD",
            Self::Del => "DEL",
            Self::Check => "CHECK",
            Self::Status => "STATUS",
            Self::Gc => "GC",
            Self::Version => "VERSION",
        }
    }

    fn parse(text: &str) -> Option<Self> {
        [Self::Add, Self::Del, Self::Check, Self::Status, Self::Gc, Self::Version]
            .into_iter()
            .find(|command| command.text() == text)
    }
}

/// The variables, checked.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Environment {
    /// `CNI_COMMAND`.
    pub command: Command,
    /// `CNI_CONTAINERID`; empty where no container is meant.
    pub container: String,
    /// `CNI_NETNS`; empty where the namespace is gone or not meant.
    pub netns: String,
    /// `CNI_IFNAME`; empty where no interface is meant.
    pub interface: String,
    /// `CNI_PATH`.
    pub path: String,
    /// `CNI_ARGS`.
    pub arguments: String,
}

/// `IFNAMSIZ` of the kernel, less the zero at the end.
const LONGEST_INTERFACE: usize = 15;
/// Runtimes take 64 hexadecimal digits; this fits the name of a file.
const LONGEST_CONTAINER: usize = 200;

impl Environment {
    /// Reads them by `variable`.
    ///
    /// # Errors
    /// If one that the command needs is missing, or makes no sense.
    pub fn read(variable: impl Fn(&str) -> Option<String>) -> Result<Self, CniError> {
        let wrong = |msg: String| CniError::new(CniError::ENVIRONMENT, msg, "");
        let text = |name: &str| variable(name).unwrap_or_default();
        let command = text("CNI_COMMAND");
        let command = Command::parse(&command)
            .ok_or_else(|| wrong(format!("unknown CNI_COMMAND: {command:?}")))?;
        let needed: &[&str] = match command {
            Command::Add | Command::Check => {
                &["CNI_CONTAINERID", "CNI_NETNS", "CNI_IFNAME", "CNI_PATH"]
            }
            Command::Del => &["CNI_CONTAINERID", "CNI_IFNAME", "CNI_PATH"],
            Command::Status | Command::Gc | Command::Version => &[],
        };
        let missing: Vec<_> = needed.iter().filter(|name| text(name).is_empty()).copied().collect();
        if !missing.is_empty() {
            return Err(wrong(format!("required variables missing: {}", missing.join(", "))));
        }
        let this = Self {
            command,
            container: text("CNI_CONTAINERID"),
            netns: text("CNI_NETNS"),
            interface: text("CNI_IFNAME"),
            path: text("CNI_PATH"),
            arguments: text("CNI_ARGS"),
        };
        // Where they are not needed, runtimes leave in them what they like.
        if needed.is_empty() {
            return Ok(Self { container: String::new(), interface: String::new(), ..this });
        }
        if !is_name(&this.container) || this.container.len() > LONGEST_CONTAINER {
            return Err(wrong(format!("invalid CNI_CONTAINERID: {:?}", this.container)));
        }
        if !is_interface(&this.interface) {
            return Err(wrong(format!("invalid CNI_IFNAME: {:?}", this.interface)));
        }
        Ok(this)
    }
}

/// Names of containers and networks: `[a-zA-Z0-9][a-zA-Z0-9_.-]*`.
pub(crate) fn is_name(text: &str) -> bool {
    text.starts_with(|c: char| c.is_ascii_alphanumeric())
        && text.chars().all(|c| c.is_ascii_alphanumeric() || "_.-".contains(c))
}

/// Returns whether the kernel takes it for the name of an interface (`dev_valid_name`).
pub(crate) fn is_interface(text: &str) -> bool {
    let legal = |c: char| !c.is_whitespace() && !c.is_control() && !"/:%".contains(c);
    (1..=LONGEST_INTERFACE).contains(&text.len())
        && ![".", ".."].contains(&text)
        && text.chars().all(legal)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(line: &str) -> Result<Environment, CniError> {
        let pairs: Vec<_> = line.split(' ').filter_map(|pair| pair.split_once('=')).collect();
        Environment::read(|name| {
            let name = name.strip_prefix("CNI_")?;
            Some(pairs.iter().find(|(key, _)| *key == name)?.1.to_owned())
        })
    }

    #[test]
    fn what_a_command_needs_must_be_there() {
        let whole = "COMMAND=ADD CONTAINERID=a1 NETNS=/x IFNAME=eth0 PATH=/p";
        assert_eq!(read(whole).unwrap().interface, "eth0");
        assert_eq!(read("COMMAND=DEL CONTAINERID=a1 IFNAME=eth0 PATH=/p").unwrap().netns, "");
        assert_eq!(read("COMMAND=GC CONTAINERID=/").unwrap().container, "");
        for (line, msg) in [
            ("", "unknown CNI_COMMAND: \"\""),
            ("COMMAND=RUN", "unknown CNI_COMMAND: \"RUN\""),
            (
                "COMMAND=ADD",
                "required variables missing: CNI_CONTAINERID, CNI_NETNS, CNI_IFNAME, CNI_PATH",
            ),
            ("COMMAND=DEL CONTAINERID=a", "required variables missing: CNI_IFNAME, CNI_PATH"),
            ("COMMAND=DEL CONTAINERID=../x IFNAME=e PATH=/p", "invalid CNI_CONTAINERID: \"../x\""),
            ("COMMAND=DEL CONTAINERID=x IFNAME=a/b PATH=/p", "invalid CNI_IFNAME: \"a/b\""),
            (
                "COMMAND=DEL CONTAINERID=x IFNAME=0123456789abcdef PATH=/p",
                "invalid CNI_IFNAME: \"0123456789abcdef\"",
            ),
        ] {
            let error = read(line).unwrap_err();
            assert_eq!((error.code, error.msg.as_str()), (4, msg), "{line}");
        }
    }
}
