//! Addresses for containers: those of the router, or of another plugin, and the plugin
//! `weave-ipam` for those that want addresses alone (spec cni.md, section 4).

use serde_json::Value;
use weave_host::{BRIDGE_NAME, Cidr};

use crate::config::{Config, Ipam};
use crate::environment::{Command, Environment};
use crate::error::CniError;
use crate::holder::{holder, holder_of};
use crate::lease::{Lease, LeasedAddress};
use crate::pod::pod;
use crate::record::{Record, Records};
use crate::result::CniResult;
use crate::router::{ALLOCATE, EndOfUse};
use crate::runtime_request::{AddressRequest, RuntimeRequest};
use crate::version::CniVersion;
use crate::{Call, Plugin, note, other};

/// What was got, and what of it the attachment did not have before.
pub(crate) struct Allocation {
    pub(crate) lease: Lease,
    pub(crate) fresh: Vec<Cidr>,
}

/// Gets the addresses of the attachment.
pub(crate) fn take(
    call: &Call,
    config: &Config,
    request: &RuntimeRequest,
) -> Result<Allocation, CniError> {
    match &config.ipam {
        Ipam::Router { subnet, gateway, routes } => {
            let before = call.router.addresses(&holder_of(&call.environment), *subnet, ALLOCATE)?;
            let cidrs = if request.addresses.is_empty() {
                vec![allocate(call, *subnet)?]
            } else {
                claim(call, config, *subnet, &request.addresses, &before)?
            };
            let is_new = |cidr: &&Cidr| before.iter().all(|held| held.address() != cidr.address());
            let fresh = cidrs.iter().filter(is_new).copied().collect();
            let leased = |cidr| LeasedAddress { cidr, gateway: *gateway };
            let addresses = cidrs.into_iter().map(leased).collect();
            Ok(Allocation { lease: Lease { addresses, routes: routes.clone(), dns: None }, fresh })
        }
        Ipam::Other(name) => {
            let result = other::run(call, name, Command::Add, &call.environment.container)?;
            let lease = result.map_or_else(|| Ok(Lease::default()), |r| Lease::of_result(&r))?;
            if lease.addresses.is_empty() {
                return Err(CniError::new(CniError::REFUSED, format!("{name}: no address"), ""));
            }
            let fresh = lease.cidrs();
            Ok(Allocation { lease, fresh })
        }
    }
}

/// Returns how the end of the attachment is found out.
const fn end(plugin: Plugin) -> EndOfUse {
    match plugin {
        Plugin::Net => EndOfUse::Watched,
        Plugin::Ipam => EndOfUse::Announced,
    }
}

fn allocate(call: &Call, subnet: Option<Cidr>) -> Result<Cidr, CniError> {
    let pod = pod(&call.environment.arguments);
    call.router.allocate(&holder_of(&call.environment), subnet, end(call.plugin), pod.as_deref())
}

/// Returns the addresses that are asked for: all of them, or none.
fn claim(
    call: &Call,
    config: &Config,
    subnet: Option<Cidr>,
    request: &[AddressRequest],
    before: &[Cidr],
) -> Result<Vec<Cidr>, CniError> {
    let subnet = subnet.map_or_else(|| call.router.default_subnet(), Ok)?;
    let cidrs: Vec<Cidr> =
        request.iter().map(|address| address.within(subnet)).collect::<Result<_, _>>()?;
    let mut claimed = Vec::new();
    for cidr in &cidrs {
        let pod = pod(&call.environment.arguments);
        let holder = holder_of(&call.environment);
        if let Err(error) = call.router.claim(&holder, *cidr, end(call.plugin), pod.as_deref()) {
            undo(call, config, &claimed);
            return Err(error);
        }
        if before.iter().all(|held| held.address() != cidr.address()) {
            claimed.push(*cidr);
        }
    }
    Ok(cidrs)
}

/// Gives back what an ADD got that failed. Its error says more than one from here.
pub(crate) fn undo(call: &Call, config: &Config, fresh: &[Cidr]) {
    match &config.ipam {
        Ipam::Router { .. } => {
            for cidr in fresh {
                let _ = call.router.release_one(&holder_of(&call.environment), cidr.address());
            }
        }
        Ipam::Other(name) => {
            let _ = other::run(call, name, Command::Del, &call.environment.container);
        }
    }
}

/// Gets an address for the host, on the bridge.
pub(crate) fn take_for_host(call: &Call, config: &Config, holder: &str) -> Result<Cidr, CniError> {
    match &config.ipam {
        Ipam::Router { subnet, .. } => {
            call.router.allocate(holder, *subnet, EndOfUse::Announced, None)
        }
        Ipam::Other(name) => {
            // What a container asks for is not for the host.
            let environment = Environment { arguments: String::new(), ..call.environment.clone() };
            let input = without_requests(&call.input);
            let call = &Call { environment, input, ..call.clone() };
            let result = other::run(call, name, Command::Add, holder)?;
            result.map_or_else(|| Ok(Lease::default()), |r| Lease::of_result(&r))?.first()
        }
    }
}

fn without_requests(input: &[u8]) -> Vec<u8> {
    match serde_json::from_slice(input) {
        Ok(Value::Object(mut config)) => {
            for key in ["runtimeConfig", "args"] {
                config.remove(key);
            }
            Value::Object(config).to_string().into_bytes()
        }
        // It was read before, and is an object.
        _ => input.to_vec(),
    }
}

/// Gives back what the container has by this attachment, or notes that it is still to be given back
/// if the router is away: the interface is gone, so the runtime need not come again.
pub(crate) fn give_back(call: &Call, config: &Config, record: &Record) -> Result<(), CniError> {
    if let Ipam::Other(name) = &config.ipam {
        return other::run(call, name, Command::Del, &record.container).map(drop);
    }
    let owed = Records::owed(&call.state);
    match release(call, config, record) {
        Ok(()) => {
            owed.forget(&record.container, &record.interface);
            pay(call, config);
            Ok(())
        }
        Err(error) if error.code == CniError::TRY_AGAIN => {
            note(format_args!("{}: {}; it is given back later", error.msg, error.details));
            match (owed.keep(record), call.plugin) {
                (Err(error), Plugin::Ipam) => Err(error),
                // The router looks itself for the interface.
                (Err(error), Plugin::Net) => {
                    note(error.details);
                    Ok(())
                }
                (Ok(()), _) => Ok(()),
            }
        }
        Err(error) => Err(error),
    }
}

fn release(call: &Call, config: &Config, record: &Record) -> Result<(), CniError> {
    let router = &call.router;
    let Record { container, interface, addresses } = record;
    let holder = holder(container, interface);
    let others = Records::of(&call.state, &config.name).others(record);
    // Earlier versions, like Weave Net, had one holder for all interfaces of a container.
    let shared = |cidr: &&Cidr| {
        let mut kept = others.iter().flat_map(|other| &other.addresses);
        kept.any(|kept| kept.address() == cidr.address())
    };
    let own = || addresses.iter().filter(|cidr| !shared(cidr));
    if holder == *container && !others.is_empty() && !addresses.is_empty() {
        return own().try_for_each(|cidr| router.release_one(container, cidr.address()).map(drop));
    }
    if router.release(&holder)? || holder == *container {
        return Ok(());
    }
    own().try_for_each(|cidr| router.release_one(container, cidr.address()).map(drop))
}

/// Gives back what could not be given back before. What still cannot be stays noted.
pub(crate) fn pay(call: &Call, config: &Config) {
    let owed = Records::owed(&call.state);
    for record in owed.all() {
        if let Err(error) = release(call, config, &record) {
            note(format_args!("{}: {}", error.msg, error.details));
            return;
        }
        owed.forget(&record.container, &record.interface);
    }
}

/// Makes sure that nobody else can get what the container has.
pub(crate) fn confirm(call: &Call, config: &Config, addresses: &[Cidr]) -> Result<(), CniError> {
    if let Ipam::Other(name) = &config.ipam {
        let container = &call.environment.container;
        return other::run(call, name, Command::Check, container).map(drop);
    }
    let purpose = "unable to look up IP addresses";
    let container = &call.environment.container;
    for cidr in addresses {
        let held = |holder: &str| -> Result<bool, CniError> {
            let held = call.router.addresses(holder, Some(cidr.masked()), purpose)?;
            Ok(held.iter().any(|held| held.address() == cidr.address()))
        };
        let holder = holder_of(&call.environment);
        // Earlier versions, like Weave Net, had one holder for all interfaces of a container.
        if !held(&holder)? && (holder == *container || !held(container)?) {
            return Err(CniError::changed(format!(
                "the router does not keep {cidr} for the container"
            )));
        }
    }
    Ok(())
}

/// Checks whether addresses can be had.
pub(crate) fn available(call: &Call, config: &Config) -> Result<(), CniError> {
    match &config.ipam {
        Ipam::Router { .. } => {
            // Beside another plugin, the bridge of the configuration is that plugin's.
            let bridge = if call.plugin == Plugin::Net { &config.bridge } else { BRIDGE_NAME };
            call.router.ready(true, bridge, &call.state)
        }
        Ipam::Other(name) => other::run(call, name, Command::Status, "").map(drop),
    }
}

pub(crate) fn add(call: &Call) -> Result<Value, CniError> {
    let config = Config::parse(&call.input, Plugin::Ipam)?;
    let request = RuntimeRequest::of(&config, Plugin::Ipam, &call.environment.arguments)?;
    let mut noted = PendingRecord::begin(call, &config)?;
    let taken = noted.unless_failed(take(call, &config, &request))?;
    noted.record.addresses = taken.lease.cidrs();
    if let Err(error) = noted.records.keep(&noted.record) {
        undo(call, &config, &taken.fresh);
        return noted.unless_failed(Err(error));
    }
    let Lease { addresses, routes, dns } = taken.lease;
    Ok(CniResult { addresses, routes, dns, ..CniResult::default() }.object(config.version))
}

/// The note of an attachment that is being made.
pub(crate) struct PendingRecord {
    pub(crate) records: Records,
    pub(crate) record: Record,
    is_new: bool,
}

impl PendingRecord {
    /// First the note, then what it is of: whatever interrupts us leaves nothing unnoted. Where it
    /// cannot be written, nothing is begun.
    pub(crate) fn begin(call: &Call, config: &Config) -> Result<Self, CniError> {
        let (container, interface) = (&call.environment.container, &call.environment.interface);
        // What an earlier attachment of this name owes is from now on what this one has.
        Records::owed(&call.state).forget(container, interface);
        let records = Records::of(&call.state, &config.name);
        let known = records.get(container, interface);
        let is_new = known.is_none();
        let record = known.unwrap_or_else(|| Record::new(container, interface));
        if is_new {
            records.keep(&record)?;
        }
        Ok(Self { records, record, is_new })
    }

    /// Forgets the note with what failed, unless there was one before.
    pub(crate) fn unless_failed<T>(&self, result: Result<T, CniError>) -> Result<T, CniError> {
        if result.is_err() && self.is_new {
            self.records.forget(&self.record.container, &self.record.interface);
        }
        result
    }
}

/// Unlike the original's, it can be repeated.
pub(crate) fn del(call: &Call) -> Result<(), CniError> {
    let config = Config::parse(&call.input, Plugin::Ipam)?;
    let (container, interface) = (&call.environment.container, &call.environment.interface);
    let records = Records::of(&call.state, &config.name);
    let known = records.get(container, interface);
    give_back(call, &config, &known.unwrap_or_else(|| Record::new(container, interface)))?;
    records.forget(container, interface);
    Ok(())
}

pub(crate) fn check(call: &Call) -> Result<(), CniError> {
    let config = Config::parse(&call.input, Plugin::Ipam)?;
    let previous = previous(&config)?;
    confirm(call, &config, &Lease::of_result(previous)?.cidrs())
}

pub(crate) fn status(call: &Call) -> Result<(), CniError> {
    let config = Config::parse(&call.input, Plugin::Ipam)?;
    RuntimeRequest::of(&config, Plugin::Ipam, "")?;
    available(call, &config)
}

/// Gives back the addresses of this network's containers that are gone, and removes what they
/// left on the host. What fails does not keep the rest from going.
pub(crate) fn gc(call: &Call) -> Result<(), CniError> {
    let config = Config::parse(&call.input, call.plugin)?;
    let valid = config.valid.as_ref().ok_or_else(|| {
        CniError::config("cni.dev/valid-attachments is missing: nothing is collected")
    })?;
    let records = Records::of(&call.state, &config.name);
    let mut result = match &config.ipam {
        Ipam::Router { .. } => Ok(()),
        Ipam::Other(name) => other::run(call, name, Command::Gc, "").map(drop),
    };
    for record in records.all() {
        let Record { container, interface, .. } = &record;
        if valid.iter().any(|(id, name)| (id, name) == (container, interface)) {
            continue;
        }
        match collect(call, &config, &record) {
            Ok(()) => records.forget(container, interface),
            Err(error) => result = result.and(Err(error)),
        }
    }
    pay(call, &config);
    result
}

/// Collects what ended without DEL; what another IPAM plugin gave out, that plugin collects.
fn collect(call: &Call, config: &Config, record: &Record) -> Result<(), CniError> {
    weave_host::remove_port_of(&holder(&record.container, &record.interface))
        .map_err(|error| CniError::host("unable to remove the interface", &error))?;
    match config.ipam {
        Ipam::Router { .. } => give_back(call, config, record),
        Ipam::Other(_) => Ok(()),
    }
}

/// Returns what ADD answered.
pub(crate) fn previous(config: &Config) -> Result<&Value, CniError> {
    if config.version < CniVersion::V040 {
        let details = "CHECK is of version 0.4.0 and later";
        return Err(CniError::new(CniError::VERSION, "CHECK is not supported", details));
    }
    config.previous.as_ref().ok_or_else(|| CniError::config("prevResult is missing"))
}
