//! Interfaces that go: the kernel tells at once, and most often a container ended.

use std::future::pending;

use tokio::io::unix::AsyncFd;
use weave_rtnl::{Event, Group, Monitor};

use crate::sys::readiness::{Readable, watch};

/// Tells when interfaces of the host are gone.
pub(crate) struct LinkWatch(Option<AsyncFd<Readable>>);

impl LinkWatch {
    /// Watches the network namespace of this thread. Where the kernel does not tell, nothing is
    /// ever gone: whoever uses this looks from time to time as well.
    pub(crate) fn open() -> Self {
        let watched = Monitor::open(&[Group::Links])
            .map_err(|error| error.to_string())
            .and_then(|monitor| watch(monitor).map_err(|error| error.to_string()));
        if let Err(error) = &watched {
            tracing::debug!("the kernel does not tell of interfaces: {error}");
        }
        Self(watched.ok())
    }

    /// Waits until an interface is gone, or may be: the kernel leaves events out when there are too
    /// many.
    pub(crate) async fn gone(&mut self) {
        let Some(watched) = &mut self.0 else { return pending().await };
        loop {
            let Ok(mut ready) = watched.readable_mut().await else { return pending().await };
            let mut is_gone = false;
            loop {
                match ready.get_inner_mut().0.poll_event() {
                    Ok(Some(Event::LinkGone(_) | Event::Lost)) => is_gone = true,
                    Ok(Some(_)) => {}
                    Ok(None) => break,
                    Err(error) => {
                        tracing::debug!("the kernel tells no more of interfaces: {error}");
                        self.0 = None;
                        return;
                    }
                }
            }
            ready.clear_ready();
            if is_gone {
                return;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::time::timeout;
    use weave_testbed::{Namespace, run};

    use super::*;

    fn ip(line: &str) {
        let arguments: Vec<&str> = line.split(' ').collect();
        run("ip", &arguments).unwrap();
    }

    #[test]
    fn an_interface_that_goes_is_told_of() {
        let namespace = Namespace::new("link-watch").unwrap();
        let watched = namespace.enter(|| {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            runtime.unwrap().block_on(async {
                let mut watch = LinkWatch::open();
                ip("link add one type veth peer name other");
                ip("link set one up");
                let early = timeout(Duration::from_millis(1), watch.gone()).await;
                ip("link del other");
                (early.is_err(), timeout(Duration::from_secs(30), watch.gone()).await.is_ok())
            })
        });
        assert_eq!(watched.unwrap(), (true, true));
    }
}
