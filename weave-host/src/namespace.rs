//! Network namespaces: finding that of a container, and working in it.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::sched::{CloneFlags, setns};
use sha2::{Digest, Sha256};

use weave_rtnl::Client;

use crate::error::HostError;
use crate::names::CONTAINER_INTERFACE;

/// An open network namespace.
#[derive(Debug)]
pub struct Namespace {
    target: String,
    file: File,
    /// The number by which the kernel tells namespaces apart while they live.
    inode: u64,
}

impl Namespace {
    /// Finds the namespace of a container by process id, by the name it has in `ip netns`, or
    /// by path. `proc` is where the process tree of the host is mounted, mostly `/proc`.
    ///
    /// # Errors
    /// If there is none, or if it is the one the caller is in.
    pub fn find(target: &str, proc: &Path) -> Result<Self, HostError> {
        let path = if target.contains('/') {
            PathBuf::from(target)
        } else if !target.is_empty() && target.bytes().all(|b| b.is_ascii_digit()) {
            proc.join(target).join("ns/net")
        } else {
            Path::new("/run/netns").join(target)
        };
        let none = || HostError::NoNamespace { target: target.to_owned(), path: path.clone() };
        let failed = |source| HostError::File { path: path.clone(), source };
        let place = Place::find(&path).map_err(|source| match source.raw_os_error() {
            // Links that lead in a circle, and paths through what is no folder, lead nowhere as
            // well.
            Some(libc::ENOENT | libc::ENOTDIR | libc::ELOOP) => none(),
            _ => failed(source),
        })?;
        let own = Path::new("/proc/thread-self/ns/net");
        let host =
            Place::find(own).map_err(|source| HostError::File { path: own.to_owned(), source })?;
        if place.device != host.device {
            // A name whose bind mount is gone is an empty file on another file system.
            return Err(none());
        }
        if place.inode == host.inode {
            return Err(HostError::HostNamespace { target: target.to_owned() });
        }
        let file = place.open().map_err(failed)?;
        Ok(Self { target: target.to_owned(), file, inode: place.inode })
    }

    /// Returns what the user called it.
    pub fn target(&self) -> &str {
        &self.target
    }

    /// Seven characters that no other living namespace has.
    ///
    /// The original took the first seven characters of the container's id, or its process id;
    /// the former collide, the latter can be given to another process while the interface
    /// lives. Namespace numbers start at 0xf0000000, so base 36 takes seven digits.
    pub fn id(&self) -> String {
        seven_digits(self.inode)
    }

    /// Returns the same for one interface in it; those of other names than usual share one by the
    /// odds of one to 78 thousand million.
    pub(crate) fn port_id(&self, interface: &str) -> String {
        if interface == CONTAINER_INTERFACE {
            return self.id();
        }
        let hash = Sha256::digest(format!("{}/{interface}", self.inode));
        seven_digits(hash.iter().take(8).fold(0, |value, byte| value << 8 | u64::from(*byte)))
    }

    /// Opens a socket that stays in this namespace.
    pub(crate) fn client(&self) -> Result<Client, HostError> {
        self.visit(|| Ok(Client::open()?))
    }

    /// Runs `work` in this namespace: opens sockets, which stay there, or changes settings in
    /// `/proc/sys/net`, which are those of the thread's namespace.
    pub(crate) fn visit<T>(
        &self,
        work: impl FnOnce() -> Result<T, HostError>,
    ) -> Result<T, HostError> {
        let visit = Visit::begin(self.file.as_fd())?;
        let result = work();
        drop(visit);
        result
    }
}

/// What a path leads to, found without opening it: opening a queue waits for its other end to be
/// opened, and opening some devices starts them.
struct Place {
    file: File,
    device: u64,
    inode: u64,
}

impl Place {
    fn find(path: &Path) -> io::Result<Self> {
        let file = File::options().read(true).custom_flags(libc::O_PATH).open(path)?;
        let metadata = file.metadata()?;
        Ok(Self { device: metadata.dev(), inode: metadata.ino(), file })
    }

    /// Opens the very same file, whatever the path leads to by now.
    fn open(&self) -> io::Result<File> {
        File::open(format!("/proc/thread-self/fd/{}", self.file.as_raw_fd()))
    }
}

/// Returns the last seven digits of a number in base 36.
fn seven_digits(mut rest: u64) -> String {
    const DIGITS: &[u8; 36] = b"0123456789abcdefghijklmnopqrstuvwxyz";
    let mut digits = [b'0'; 7];
    for digit in digits.iter_mut().rev() {
        // The remainder is below 36.
        *digit = DIGITS[usize::try_from(rest % 36).unwrap_or(0)];
        rest /= 36;
    }
    digits.iter().copied().map(char::from).collect()
}

impl AsFd for Namespace {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }
}

/// Runs `work` in the namespace of the caller.
pub(crate) fn run_here<T>(
    work: impl FnOnce(&mut Client) -> Result<T, HostError>,
) -> Result<T, HostError> {
    work(&mut Client::open()?)
}

/// The thread's stay in another namespace, until this is dropped.
struct Visit {
    /// Where it comes from.
    own: File,
}

impl Visit {
    fn begin(namespace: BorrowedFd<'_>) -> Result<Self, HostError> {
        let path = Path::new("/proc/thread-self/ns/net");
        let own =
            File::open(path).map_err(|source| HostError::File { path: path.to_owned(), source })?;
        let refused = |errno: Errno| {
            HostError::kernel("enter the network namespace", "namespaces", errno.into())
        };
        // To enter the own one changes nothing, and shows that the way back will be open.
        setns(&own, CloneFlags::CLONE_NEWNET).map_err(refused)?;
        setns(namespace, CloneFlags::CLONE_NEWNET).map_err(refused)?;
        Ok(Self { own })
    }
}

impl Drop for Visit {
    fn drop(&mut self) {
        if let Err(errno) = setns(&self.own, CloneFlags::CLONE_NEWNET) {
            // Whatever this thread did next would be done to a container.
            tracing::error!(%errno, "no way back from the network namespace of a container");
            std::process::abort();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_fit_an_interface_name_and_differ() {
        let namespace = |inode| Namespace {
            target: "test".to_owned(),
            file: File::open("/proc/self/ns/net").unwrap(),
            inode,
        };
        let first = namespace(0xf000_0000).id();
        assert_eq!(first.len(), 7);
        assert_ne!(first, namespace(0xf000_0001).id());
        assert_eq!(namespace(u64::from(u32::MAX)).id(), "1z141z3");
        let other = namespace(0xf000_0000).port_id("eth0");
        assert_eq!(other.len(), 7);
        assert!(other != first && other != namespace(0xf000_0001).port_id("eth0"));
    }

    #[test]
    fn the_own_namespace_and_no_namespace_are_refused() {
        let proc = Path::new("/proc");
        let own = std::process::id().to_string();
        assert!(matches!(Namespace::find(&own, proc), Err(HostError::HostNamespace { .. })));
        for nothing in ["0", "", "no-such-namespace", "/no/such/file"] {
            let error = Namespace::find(nothing, proc).unwrap_err();
            assert!(!error.to_string().is_empty(), "{nothing}");
        }
        assert!(matches!(Namespace::find("/dev/null", proc), Err(HostError::NoNamespace { .. })));
    }

    #[test]
    fn what_is_no_namespace_is_refused_without_opening_it() {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        // Opened, it would wait for ever: nobody writes into it.
        nix::unistd::mkfifo(&path("queue"), nix::sys::stat::Mode::S_IRWXU).unwrap();
        std::os::unix::fs::symlink(path("circle"), path("circle")).unwrap();
        std::fs::write(path("file"), "").unwrap();
        let below = path("file").join("below").display().to_string();
        let in_folder =
            ["queue", "circle", "file", ""].map(|name| path(name).display().to_string());
        let paths = ["/dev/tty", "/proc/self/mem", "/proc/kmsg"].map(str::to_owned);
        for path in paths.into_iter().chain(in_folder).chain([below]) {
            let found = Namespace::find(&path, Path::new("/proc"));
            assert!(matches!(found, Err(HostError::NoNamespace { .. })), "{path}: {found:?}");
        }
    }

    #[test]
    fn a_visit_ends_where_it_began() {
        let own = || std::fs::read_link("/proc/thread-self/ns/net").unwrap();
        let other = std::thread::spawn(|| {
            nix::sched::unshare(CloneFlags::CLONE_NEWNET).expect("needs root");
            File::open("/proc/thread-self/ns/net").unwrap()
        });
        let file = other.join().unwrap();
        let namespace = Namespace { target: "test".to_owned(), file, inode: 1 };
        let before = own();
        let inside = namespace.visit(|| Ok(own())).unwrap();
        assert_ne!(inside, before);
        assert_eq!(own(), before);
        let panicked = std::panic::catch_unwind(|| namespace.visit::<()>(|| panic!("in a visit")));
        assert!(panicked.is_err());
        assert_eq!(own(), before);
    }
}
