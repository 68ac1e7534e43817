//! Where the runtime of a host looks for plugins and for networks. It does not tell; the common
//! distributions of Kubernetes are known by the folders they have.

use std::fs;
use std::io;
use std::path::{Component, Path, PathBuf};

use super::list::CHAINED;

/// As many as the kernel follows.
const MOST_LINKS: usize = 40;

/// Two folders, as they are seen from here.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Folders {
    /// Where the file system of the host is seen.
    pub root: PathBuf,
    /// Where the runtime looks for plugins.
    pub bin: PathBuf,
    /// Where it looks for networks.
    pub conf: PathBuf,
}

/// Folders as the host knows them, where somebody says so.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct Wanted {
    /// For plugins.
    pub bin: Option<PathBuf>,
    /// For networks.
    pub conf: Option<PathBuf>,
}

impl Folders {
    /// Finds the folders of the host whose file system is at `root`.
    pub fn find(root: &Path, wanted: &Wanted) -> Self {
        let layout = choose(LAYOUTS.map(|layout| (layout, layout.seen(root))));
        let here = |wanted: &Option<PathBuf>, usual: &str| {
            // A variable of the environment that is set to nothing says nothing.
            let said = wanted.as_deref().filter(|path| !path.as_os_str().is_empty());
            let path = said.unwrap_or(Path::new(usual));
            resolve(root, path).unwrap_or_else(|_| on_host(root, path))
        };
        Self {
            root: root.to_owned(),
            bin: here(&wanted.bin, layout.bin),
            conf: here(&wanted.conf, layout.conf),
        }
    }

    /// Makes those that are not there. Their parents have to be: what is not of this host is not
    /// to come about on it.
    ///
    /// # Errors
    /// The system refuses, with the folder.
    pub fn create(&self) -> io::Result<()> {
        for folder in [&self.bin, &self.conf] {
            fs::create_dir_all(folder).map_err(|error| {
                io::Error::new(error.kind(), format!("cannot make {}: {error}", folder.display()))
            })?;
        }
        Ok(())
    }
}

/// The folders of a distribution.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Layout {
    bin: &'static str,
    conf: &'static str,
    /// What has to be there for a host to be of this distribution.
    sign: Sign,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Sign {
    /// The folder for plugins.
    Bin,
    /// Both.
    Both,
    /// None: it is what runtimes do by themselves.
    Nothing,
}

/// The most particular first.
const LAYOUTS: [Layout; 5] = [
    // k3s, releases since October 2024.
    Layout {
        bin: "/var/lib/rancher/k3s/data/cni",
        conf: "/var/lib/rancher/k3s/agent/etc/cni/net.d",
        sign: Sign::Bin,
    },
    // k3s before. Without its own network it left both to containerd, which has those at the end.
    Layout {
        bin: "/var/lib/rancher/k3s/data/current/bin",
        conf: "/var/lib/rancher/k3s/agent/etc/cni/net.d",
        sign: Sign::Both,
    },
    // MicroK8s.
    Layout {
        bin: "/var/snap/microk8s/current/opt/cni/bin",
        conf: "/var/snap/microk8s/current/args/cni-network",
        sign: Sign::Both,
    },
    // Container-Optimized OS of GKE, where /opt cannot be written.
    Layout { bin: "/home/kubernetes/bin", conf: "/etc/cni/net.d", sign: Sign::Bin },
    // containerd and CRI-O by default: kubeadm, RKE2, k0s, Talos, most others.
    Layout { bin: "/opt/cni/bin", conf: "/etc/cni/net.d", sign: Sign::Nothing },
];

/// What a host has of a layout.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
struct Seen {
    bin: bool,
    conf: bool,
    /// The plugin for host ports, which comes with the distribution.
    portmap: bool,
}

impl Layout {
    fn seen(self, root: &Path) -> Seen {
        let bin = resolve(root, Path::new(self.bin));
        Seen {
            bin: bin.as_ref().is_ok_and(|path| path.is_dir()),
            conf: resolve(root, Path::new(self.conf)).is_ok_and(|path| path.is_dir()),
            // It may be a link that leads somewhere on the host only.
            portmap: bin.is_ok_and(|path| path.join(CHAINED[0]).symlink_metadata().is_ok()),
        }
    }

    fn fits(self, seen: Seen) -> bool {
        match self.sign {
            Sign::Bin => seen.bin,
            Sign::Both => seen.bin && seen.conf,
            Sign::Nothing => true,
        }
    }
}

/// The first that fits and has the stock plugins, or else the first that fits.
fn choose(layouts: [(Layout, Seen); LAYOUTS.len()]) -> Layout {
    let fitting = || layouts.iter().filter(|(layout, seen)| layout.fits(*seen));
    let found = fitting().find(|(_, seen)| seen.portmap).or_else(|| fitting().next());
    found.map_or(LAYOUTS[LAYOUTS.len() - 1], |(layout, _)| *layout)
}

/// A path of the host, seen from here.
fn on_host(root: &Path, path: &Path) -> PathBuf {
    root.join(path.strip_prefix("/").unwrap_or(path))
}

/// Follows the links of a path of the host as the host does: absolute ones start at its root, and
/// none leads out of it. What is not there stays as it is named.
///
/// # Errors
/// More links than the kernel follows, or the system refuses.
pub(super) fn resolve(root: &Path, path: &Path) -> io::Result<PathBuf> {
    let mut ahead: Vec<_> = parts(path);
    let mut done = root.to_owned();
    let mut links = 0;
    while let Some(part) = ahead.pop() {
        if part == Path::new("..") {
            if done != root {
                done.pop();
            }
            continue;
        }
        let next = done.join(&part);
        match fs::read_link(&next) {
            Ok(target) => {
                links += 1;
                if links > MOST_LINKS {
                    let text = format!("too many links in {}", path.display());
                    return Err(io::Error::other(text));
                }
                if target.is_absolute() {
                    root.clone_into(&mut done);
                }
                ahead.append(&mut parts(&target));
            }
            // No link, or not there.
            Err(error)
                if matches!(
                    error.kind(),
                    io::ErrorKind::InvalidInput | io::ErrorKind::NotFound
                ) =>
            {
                done = next;
            }
            Err(error) => return Err(error),
        }
    }
    Ok(done)
}

/// The last first.
fn parts(path: &Path) -> Vec<PathBuf> {
    let named = |part: Component<'_>| match part {
        Component::Normal(_) | Component::ParentDir => Some(PathBuf::from(part.as_os_str())),
        Component::Prefix(_) | Component::RootDir | Component::CurDir => None,
    };
    path.components().rev().filter_map(named).collect()
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    /// A host with these folders, and with files in those that end so.
    fn host(paths: &[&str]) -> tempfile::TempDir {
        let root = tempfile::tempdir().unwrap();
        for path in paths {
            let path = on_host(root.path(), Path::new(path));
            if path.ends_with(CHAINED[0]) {
                fs::create_dir_all(path.parent().unwrap()).unwrap();
                fs::write(path, "").unwrap();
            } else {
                fs::create_dir_all(path).unwrap();
            }
        }
        root
    }

    fn found(paths: &[&str]) -> (String, String) {
        let root = host(paths);
        let folders = Folders::find(root.path(), &Wanted::default());
        let name = |path: &Path| {
            Path::new("/").join(path.strip_prefix(root.path()).unwrap()).display().to_string()
        };
        (name(&folders.bin), name(&folders.conf))
    }

    #[test]
    fn distributions_are_known_by_their_folders() {
        let usual = ("/opt/cni/bin", "/etc/cni/net.d");
        let k3s_conf = "/var/lib/rancher/k3s/agent/etc/cni/net.d";
        for (name, paths, expected) in [
            ("nothing yet", &[][..], usual),
            ("kubeadm", &["/opt/cni/bin/portmap", "/etc/cni/net.d"], usual),
            (
                "the places of others, made by mounting them",
                &["/opt/cni/bin", "/var/lib/rancher/k3s", "/var/snap/microk8s"],
                usual,
            ),
            (
                "k3s",
                &["/opt/cni/bin", "/var/lib/rancher/k3s/data/cni/portmap"],
                ("/var/lib/rancher/k3s/data/cni", k3s_conf),
            ),
            (
                "k3s before",
                &["/var/lib/rancher/k3s/data/current/bin/portmap", k3s_conf, "/etc/cni/net.d"],
                ("/var/lib/rancher/k3s/data/current/bin", k3s_conf),
            ),
            (
                "k3s before, without its network",
                &["/var/lib/rancher/k3s/data/current/bin/portmap"],
                usual,
            ),
            (
                "MicroK8s",
                &[
                    "/var/snap/microk8s/current/opt/cni/bin/portmap",
                    "/var/snap/microk8s/current/args/cni-network",
                ],
                (
                    "/var/snap/microk8s/current/opt/cni/bin",
                    "/var/snap/microk8s/current/args/cni-network",
                ),
            ),
            ("GKE", &["/home/kubernetes/bin/portmap"], ("/home/kubernetes/bin", usual.1)),
            ("stock plugins decide", &["/home/kubernetes/bin", "/opt/cni/bin/portmap"], usual),
        ] {
            let (bin, conf) = found(paths);
            assert_eq!((bin.as_str(), conf.as_str()), expected, "{name}");
        }
    }

    #[test]
    fn what_somebody_says_counts() {
        let root = host(&["/home/kubernetes/bin/portmap"]);
        let wanted = Wanted { bin: Some("/usr/libexec/cni".into()), conf: None };
        let folders = Folders::find(root.path(), &wanted);
        assert_eq!(folders.bin, root.path().join("usr/libexec/cni"));
        assert_eq!(folders.conf, root.path().join("etc/cni/net.d"));
        folders.create().unwrap();
        assert!(folders.bin.is_dir() && folders.conf.is_dir());
    }

    #[test]
    fn links_are_those_of_the_host() {
        let root = host(&["/data/1/bin"]);
        let link = |from: &str, to: &str| symlink(to, root.path().join(from)).unwrap();
        link("current", "/data/1");
        link("up", "../../../data");
        link("loop", "loop");
        let at = |path: &str| resolve(root.path(), Path::new(path));
        assert_eq!(at("/current/bin").unwrap(), root.path().join("data/1/bin"));
        assert_eq!(at("/up/1/../2").unwrap(), root.path().join("data/2"), "it stays inside");
        assert_eq!(at("/../../etc").unwrap(), root.path().join("etc"));
        assert!(at("/loop").unwrap_err().to_string().contains("too many links"));
    }
}
