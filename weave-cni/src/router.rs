//! What the plugin asks of the router (spec ipam.md, section 17; cni.md, section 9).

use std::net::IpAddr;
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use weave_api::client::{Answer, Client, ClientError, block_on};
use weave_api::{Address, ErrorCode};
use weave_host::{Cidr, Layout, detect_layout};

use crate::error::CniError;
use crate::holder::{escaped, path};
use crate::{away, note};

/// Where routers listen.
const PORT: u16 = 6784;
/// How long a router may be away: as long as a rollout takes to start another one whose image is
/// there. Afterwards the runtime tries again.
const AWAY: Duration = Duration::from_secs(10);
/// How long it may look for an address: other peers may have to be asked. A runtime asks again.
const ANSWER: Duration = Duration::from_secs(60);
/// How long it may take to give an address back, which waits for nothing but its disk.
const RELEASE: Duration = Duration::from_secs(5);
/// Between two attempts.
const PAUSE: Duration = Duration::from_millis(50);

/// What users look for in the log of their runtime.
pub(crate) const ALLOCATE: &str = "unable to allocate IP address";

/// How the router learns that a holder has ended, if the runtime does not say so.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum EndOfUse {
    /// From its interface, on whose port the holder is noted: it is gone.
    Watched,
    /// Not at all: it has no interface of ours.
    Announced,
}

impl EndOfUse {
    /// Returns the query that says so, and which pod the holder is of.
    fn query(self, pod: Option<&str>) -> String {
        let end = (self == Self::Watched).then(|| "namespace=true".to_owned());
        let label = pod.map(|pod| format!("label={}", escaped(pod)));
        let parts: Vec<_> = end.into_iter().chain(label).collect();
        if parts.is_empty() { String::new() } else { format!("?{}", parts.join("&")) }
    }
}

/// The router of this host.
#[derive(Clone, Debug)]
pub struct Router {
    address: Address,
    away: Duration,
    answer: Duration,
}

impl Router {
    /// At an address as `WEAVE_HTTP_ADDR` has it, `HOST[:PORT]` or the absolute path of a socket;
    /// where routers usually are if there is none.
    ///
    /// # Errors
    /// If it is none.
    pub fn at(text: Option<&str>) -> Result<Self, CniError> {
        let wrong = |text: &str| {
            let msg = format!("invalid WEAVE_HTTP_ADDR: {text:?}");
            CniError::new(CniError::ENVIRONMENT, msg, "")
        };
        let address = match text.filter(|text| !text.is_empty()) {
            None => Address::Tcp { host: "127.0.0.1".to_owned(), port: PORT },
            Some(path) if path.starts_with('/') => Address::Unix(path.into()),
            Some(text) => {
                let after = text.rsplit(']').next().unwrap_or(text);
                match after.rsplit_once(':') {
                    Some((_, port)) if port.parse::<u16>().is_err() => return Err(wrong(text)),
                    Some(_) => text.parse().map_err(|_| wrong(text))?,
                    None => format!("{text}:{PORT}").parse().map_err(|_| wrong(text))?,
                }
            }
        };
        Ok(Self { address, away: AWAY, answer: ANSWER })
    }

    /// Does not wait for a router that is away.
    #[must_use]
    pub fn without_patience(self) -> Self {
        Self { away: Duration::ZERO, ..self }
    }

    /// Returns an address for a holder; the same again if it has one.
    pub(crate) fn allocate(
        &self,
        holder: &str,
        subnet: Option<Cidr>,
        end: EndOfUse,
        pod: Option<&str>,
    ) -> Result<Cidr, CniError> {
        let text = self.ask("POST", &(path(holder, subnet) + &end.query(pod)), ALLOCATE)?;
        text.trim().parse().map_err(|_| {
            // The router stops: it says "cancelled".
            self.try_again(ALLOCATE, &format!("the router said {text:?}"))
        })
    }

    /// This address for a holder; one that it has already is fine.
    pub(crate) fn claim(
        &self,
        holder: &str,
        cidr: Cidr,
        end: EndOfUse,
        pod: Option<&str>,
    ) -> Result<(), CniError> {
        self.ask("PUT", &(path(holder, Some(cidr)) + &end.query(pod)), ALLOCATE).map(drop)
    }

    /// Returns the network that addresses are from, unless another is named.
    pub(crate) fn default_subnet(&self) -> Result<Cidr, CniError> {
        let text = self.ask("GET", "/ipinfo/defaultsubnet", ALLOCATE)?;
        Cidr::network(text.trim())
            .map_err(|_| self.try_again(ALLOCATE, &format!("the router said {text:?}")))
    }

    /// Returns the addresses of a holder, of those in the subnet.
    /// `purpose` is what the failure is told of.
    pub(crate) fn addresses(
        &self,
        holder: &str,
        subnet: Option<Cidr>,
        purpose: &str,
    ) -> Result<Vec<Cidr>, CniError> {
        let text = self.ask("GET", &path(holder, subnet), purpose)?;
        Ok(text.split_whitespace().filter_map(|text| text.parse().ok()).collect())
    }

    /// Gives back all addresses of a holder, and says whether it had any.
    pub(crate) fn release(&self, holder: &str) -> Result<bool, CniError> {
        self.give_back(&path(holder, None))
    }

    /// Gives back one address of a holder, and says whether it had that.
    pub(crate) fn release_one(&self, holder: &str, address: IpAddr) -> Result<bool, CniError> {
        let path = format!("{}/{address}", path(holder, None));
        self.give_back(&path)
    }

    /// Says whether there was anything to give back. A router that is away is not waited for: it is
    /// told later.
    fn give_back(&self, path: &str) -> Result<bool, CniError> {
        let this = Self { away: Duration::ZERO, answer: RELEASE, ..self.clone() };
        let msg = "unable to release IP address";
        match this.answer("DELETE", path, msg)? {
            // It was given back before.
            Answer { code: Some(ErrorCode::NotHeld), .. } => Ok(false),
            answer => accepted(answer, msg).map(|_| true),
        }
    }

    /// Gives the host an address on the bridge.
    pub(crate) fn expose(&self, cidr: Cidr) -> Result<(), CniError> {
        self.ask("POST", &format!("/expose/{cidr}"), "unable to expose the host").map(drop)
    }

    /// Checks that it is there, and gives out addresses if `addresses` are wanted of it. One that
    /// is away counts as there for a while, if it was in this boot: its `bridge` is.
    pub(crate) fn ready(
        &self,
        addresses: bool,
        bridge: &str,
        state: &Path,
    ) -> Result<(), CniError> {
        let path = if addresses { "/ipinfo/defaultsubnet" } else { "/status" };
        let this = self.clone().without_patience();
        let error = match this.ask("GET", path, "the weave router is not ready") {
            Ok(_) => {
                away::note_answer(state);
                return Ok(());
            }
            Err(error) => error,
        };
        let is_away = error.code == CniError::TRY_AGAIN;
        let error = CniError { code: CniError::NOT_AVAILABLE, ..error };
        if !is_away {
            return Err(error);
        }
        let was_there = detect_layout(bridge).is_ok_and(|layout| layout != Layout::None);
        match away::note_silence(state) {
            Ok(false) if was_there => {
                note(format_args!("{}: it may be about to start anew", error.details));
                Ok(())
            }
            Ok(_) => Err(error),
            Err(cause) => {
                note(format_args!("for how long the router is away cannot be noted: {cause}"));
                Err(error)
            }
        }
    }

    fn ask(&self, method: &str, path: &str, msg: &str) -> Result<String, CniError> {
        accepted(self.answer(method, path, msg)?, msg)
    }

    /// Asks, until the router is back if it is away: everything that is asked can be asked twice.
    fn answer(&self, method: &str, path: &str, msg: &str) -> Result<Answer, CniError> {
        let deadline = Instant::now() + self.away;
        let client = Client::new(self.address.clone()).patience(self.answer);
        let result = block_on(async {
            loop {
                match client.request(method, path).await {
                    Ok(Answer { status: 408 | 503, text, .. }) => break Err(text),
                    Ok(answer) => break Ok(answer),
                    // What a router that is just starting anew looks like.
                    Err(ClientError::NotRunning { .. } | ClientError::Broken { .. })
                        if Instant::now() < deadline =>
                    {
                        // Nothing else runs in this thread.
                        thread::sleep(PAUSE);
                    }
                    Err(
                        ClientError::NotRunning { cause, .. } | ClientError::Broken { cause, .. },
                    ) => break Err(cause),
                    Err(error) => break Err(error.to_string()),
                }
            }
        });
        let result = result.map_err(|error| self.try_again(msg, &error.to_string()))?;
        result.map_err(|why| self.try_again(msg, why.trim()))
    }

    fn try_again(&self, msg: &str, why: &str) -> CniError {
        let address = &self.address;
        let details =
            format!("no answer from the weave router at {address}: {why}; is it running?");
        CniError::new(CniError::TRY_AGAIN, msg, details)
    }
}

/// The text of a router that did as it was asked.
fn accepted(answer: Answer, msg: &str) -> Result<String, CniError> {
    match answer {
        Answer { status: 200..=299, text, .. } => Ok(text),
        Answer { text, .. } => Err(CniError::new(CniError::REFUSED, msg, text.trim())),
    }
}
