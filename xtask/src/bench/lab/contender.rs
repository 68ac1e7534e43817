//! The ways to join two containers: the rows of the table.

use std::path::Path;
use std::process::Command;

use super::rival::Rival;
use super::vswitch;

/// One row.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Contender {
    /// Its name on the command line and in the table.
    pub name: &'static str,
    /// Whether nobody on the underlay can read the frames. The lab proves it.
    pub sealed: bool,
    /// What joins the hosts.
    pub way: Way,
}

/// What joins the hosts.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Way {
    /// No overlay: the underlay is a port of the bridges. The upper limit of this machine.
    Bridge,
    /// The kernel's VXLAN.
    Vxlan {
        /// On hosts that track connections, as those with Docker, Kubernetes or `weave expose` do.
        tracked: bool,
    },
    /// The kernel's Open vSwitch, by its own daemons.
    OpenVSwitch {
        /// Containers are ports of a bridge that is joined to the switch by a pair of devices,
        /// instead of ports of the switch.
        bridged: bool,
    },
    /// Our router, with these flags of `weave launch`.
    Weave(&'static [&'static str]),
    /// Another router with the flags of ours, given with `--router`.
    Other,
    /// A program that somebody else made.
    Rival(Rival),
}

/// Has our router use the kernel's Open vSwitch.
const DATAPATH: &str = "--capture=datapath";

/// Containers are ports of the datapath, without a bridge before it.
const FLAT: &str = "--no-bridged-fastdp";

/// The fast datapath by VXLAN devices, also where Open vSwitch is there.
const TAP: &str = "--capture=tap";

const fn plain(name: &'static str, way: Way) -> Contender {
    Contender { name, sealed: false, way }
}

const fn sealed(name: &'static str, way: Way) -> Contender {
    Contender { name, sealed: true, way }
}

/// All there are, in the order of the table. A mode of our router is one line: a name and flags;
/// those that are sealed are given a password.
pub const CONTENDERS: &[Contender] = &[
    plain("bridge", Way::Bridge),
    plain("vxlan", Way::Vxlan { tracked: false }),
    plain("vxlan-tracked", Way::Vxlan { tracked: true }),
    plain("openvswitch", Way::OpenVSwitch { bridged: false }),
    plain("weave-datapath-flat", Way::Weave(&[DATAPATH, FLAT])),
    plain("openvswitch-bridged", Way::OpenVSwitch { bridged: true }),
    plain("weave-datapath", Way::Weave(&[DATAPATH])),
    plain("weave-fastdp", Way::Weave(&[TAP])),
    plain("weave-legacy", Way::Weave(&["--no-fastdp", "--sleeve-format=legacy"])),
    sealed("weave-legacy-sealed", Way::Weave(&["--sleeve-format=legacy"])),
    plain("weave", Way::Weave(&["--no-fastdp"])),
    sealed("weave-sealed", Way::Weave(&[])),
    sealed("weave-aes", Way::Weave(&["--sleeve-format=native", "--sleeve-ciphers=aes128gcm"])),
    sealed(
        "weave-chacha",
        Way::Weave(&["--sleeve-format=native", "--sleeve-ciphers=chacha20poly1305"]),
    ),
    plain("other", Way::Other),
    sealed("other-sealed", Way::Other),
    sealed("wireguard-go", Way::Rival(Rival::WireguardGo)),
    sealed("boringtun", Way::Rival(Rival::Boringtun)),
    plain("vpncloud", Way::Rival(Rival::Vpncloud { algorithm: "plain" })),
    sealed("vpncloud-chacha", Way::Rival(Rival::Vpncloud { algorithm: "chacha20" })),
    sealed("vpncloud-aes", Way::Rival(Rival::Vpncloud { algorithm: "aes128" })),
    sealed("tinc", Way::Rival(Rival::Tinc)),
    sealed("nebula", Way::Rival(Rival::Nebula)),
    sealed("n2n", Way::Rival(Rival::N2n)),
];

/// The contender of this name.
pub fn named(name: &str) -> Option<Contender> {
    CONTENDERS.iter().copied().find(|contender| contender.name == name)
}

impl Contender {
    /// Whether frames between the hosts shall stay in the kernel.
    pub fn has_fastdp(&self) -> bool {
        matches!(self.way, Way::Weave([DATAPATH | TAP, ..]))
    }

    /// Whether both hosts have a datapath of Open vSwitch, whose flows can be watched.
    pub fn has_flows(&self) -> bool {
        matches!(self.way, Way::OpenVSwitch { .. } | Way::Weave([DATAPATH, ..]))
    }

    /// Why it cannot be measured on this machine, or with this router; as short as a cell of a
    /// table.
    pub fn absent(&self, weave: &Path) -> Option<String> {
        match self.way {
            Way::Rival(rival) => rival.missing(),
            Way::OpenVSwitch { .. } => vswitch::missing(),
            Way::Weave([DATAPATH, ..]) => vswitch::datapath_missing(),
            Way::Weave(flags) => refuses(weave, flags).then(|| "not in this router".to_owned()),
            _ => None,
        }
    }
}

/// Whether our router knows one of these flags not. One that does not run at all knows every flag:
/// that it does not run is told when it is started.
fn refuses(weave: &Path, flags: &[&str]) -> bool {
    // Flags are judged from left to right, and the last one ends that before anything is done.
    let output = Command::new(weave).arg("router").args(flags).arg("--help").output();
    output.is_ok_and(|output| !output.status.success())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_unique() {
        for contender in CONTENDERS {
            assert_eq!(named(contender.name), Some(*contender));
        }
        assert_eq!(named("nobody"), None);
    }

    #[test]
    fn a_router_is_asked_for_the_flags_of_a_mode() {
        assert!(refuses(Path::new("/bin/false"), &["--no-such-flag"]));
        assert!(!refuses(Path::new("/bin/true"), &["--some-flag"]));
    }
}
