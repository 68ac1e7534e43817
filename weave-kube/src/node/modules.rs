//! Modules of the kernel that nothing asks for by itself. All others (bridges, veth, VXLAN, Open
//! vSwitch, matches of iptables) the kernel loads when they are used.

use std::ffi::CString;
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

use nix::kmod::{ModuleInitFlags, finit_module};

/// Where the manifest mounts them.
const MODULES: &str = "/lib/modules";

/// The kernel unpacks the module, since Linux 5.17 (`MODULE_INIT_COMPRESSED_FILE` of
/// `linux/module.h`).
const COMPRESSED: i32 = 4;

/// Loads a module with those it needs.
///
/// # Errors
/// There is none for the running kernel, or the kernel refuses it.
pub(super) fn load(name: &str) -> io::Result<()> {
    let release = fs::read_to_string("/proc/sys/kernel/osrelease")?;
    let folder = Path::new(MODULES).join(release.trim());
    let list = fs::read_to_string(folder.join("modules.dep"))?;
    let Some(files) = plan(&list, name) else {
        let text = format!("no module {name} for Linux {}", release.trim());
        return Err(io::Error::new(io::ErrorKind::NotFound, text));
    };
    files.iter().try_for_each(|file| insert(&folder.join(file)))
}

fn insert(path: &Path) -> io::Result<()> {
    let is_plain = path.extension().is_some_and(|extension| extension == "ko");
    let flags = if is_plain { 0 } else { COMPRESSED };
    let flags = ModuleInitFlags::from_bits_retain(flags.cast_unsigned());
    match finit_module(File::open(path)?, &CString::default(), flags) {
        Ok(()) | Err(nix::Error::EEXIST) => Ok(()),
        Err(error) => Err(io::Error::other(format!("{}: {error}", path.display()))),
    }
}

/// The files to load, in order. A line of `modules.dep` is a file and those it needs, each of which
/// may need those after it.
fn plan(list: &str, name: &str) -> Option<Vec<PathBuf>> {
    list.lines().find_map(|line| {
        let (file, needs) = line.split_once(':')?;
        (module(file) == module(name)).then(|| {
            let needs = needs.split_whitespace().rev();
            needs.chain(std::iter::once(file)).map(PathBuf::from).collect()
        })
    })
}

/// The name of the module in a file: `-` and `_` are the same.
fn module(file: &str) -> String {
    let name = file.rsplit('/').next().unwrap_or(file);
    name.split('.').next().unwrap_or(name).replace('-', "_")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_module_needs_comes_before_it() {
        let list = "kernel/net/llc/llc.ko.xz:\n\
                    kernel/net/bridge/br_netfilter.ko.xz: kernel/net/bridge/bridge.ko.xz \
                    kernel/net/802/stp.ko.xz kernel/net/llc/llc.ko.xz\n\
                    kernel/net/openvswitch/vport-vxlan.ko.xz:\n\
                    a line of something else\n";
        let files = |name: &str| {
            let plan = plan(list, name)?;
            Some(plan.iter().map(|file| module(&file.display().to_string())).collect::<Vec<_>>())
        };
        assert_eq!(files("br_netfilter").unwrap(), ["llc", "stp", "bridge", "br_netfilter"]);
        assert_eq!(files("vport_vxlan").unwrap(), ["vport_vxlan"]);
        assert_eq!(files("netfilter"), None);
    }
}
