//! Addresses for containers: those of the router, or of another plugin, and the plugin
//! `weave-ipam` for those that want addresses alone (spec cni.md, section 4).

use serde_json::Value;
use weave_host::Cidr;

use crate::config::{Config, Ipam};
use crate::environment::Command;
use crate::error::CniError;
use crate::lease::{Lease, Leased};
use crate::record::{Record, Records};
use crate::result::CniResult;
use crate::router::ALLOCATE;
use crate::version::CniVersion;
use crate::{Call, Plugin, note, other};

/// What was got, and whether the container did not have it before.
pub(crate) struct Taken {
    pub(crate) lease: Lease,
    pub(crate) fresh: bool,
}

/// Gets an address for `id`, a container mostly.
pub(crate) fn take(call: &Call, config: &Config, id: &str) -> Result<Taken, CniError> {
    match &config.ipam {
        Ipam::Router { subnet, gateway, routes } => {
            let fresh = call.router.addresses(id, *subnet, ALLOCATE)?.is_empty();
            let cidr = call.router.allocate(id, *subnet)?;
            let addresses = vec![Leased { cidr, gateway: *gateway }];
            Ok(Taken { lease: Lease { addresses, routes: routes.clone(), dns: None }, fresh })
        }
        Ipam::Other(name) => {
            let result = other::run(call, name, Command::Add, id)?;
            let lease = result.map_or_else(|| Ok(Lease::default()), |r| Lease::of_result(&r))?;
            if lease.addresses.is_empty() {
                return Err(CniError::new(CniError::REFUSED, format!("{name}: no address"), ""));
            }
            Ok(Taken { lease, fresh: true })
        }
    }
}

/// Gives back what the container has by this attachment. What it has by others stays: for the router they
/// are all of one container.
pub(crate) fn give_back(call: &Call, config: &Config, record: &Record) -> Result<(), CniError> {
    let id = &record.container;
    if let Ipam::Other(name) = &config.ipam {
        return other::run(call, name, Command::Del, id).map(drop);
    }
    let others = Records::of(&call.state, &config.name).others(record);
    if others.is_empty() {
        return call.router.release(id);
    }
    // One of which no address is noted may have any of them. The last attachment gives back all.
    if others.iter().any(|other| other.addresses.is_empty()) {
        return Ok(());
    }
    let shared = |cidr: &&Cidr| {
        let mut kept = others.iter().flat_map(|other| &other.addresses);
        kept.any(|kept| kept.address() == cidr.address())
    };
    let mut own = record.addresses.iter().filter(|cidr| !shared(cidr));
    own.try_for_each(|cidr| call.router.release_one(id, cidr.address()))
}

/// Makes sure that nobody else can get what the container has.
pub(crate) fn confirm(call: &Call, config: &Config, addresses: &[Cidr]) -> Result<(), CniError> {
    let id = &call.environment.container;
    match &config.ipam {
        Ipam::Router { subnet, .. } => {
            let purpose = "unable to look up IP addresses";
            let held = call.router.addresses(id, *subnet, purpose)?;
            match addresses.iter().find(|cidr| !held.contains(cidr)) {
                None => Ok(()),
                Some(cidr) => Err(CniError::changed(format!(
                    "the router does not keep {cidr} for the container"
                ))),
            }
        }
        Ipam::Other(name) => other::run(call, name, Command::Check, id).map(drop),
    }
}

/// Whether addresses can be had.
pub(crate) fn available(call: &Call, config: &Config) -> Result<(), CniError> {
    match &config.ipam {
        Ipam::Router { .. } => call.router.ready(true),
        Ipam::Other(name) => other::run(call, name, Command::Status, "").map(drop),
    }
}

pub(crate) fn add(call: &Call) -> Result<Value, CniError> {
    let config = Config::parse(&call.input, Plugin::Ipam)?;
    let (container, interface) = (&call.environment.container, &call.environment.interface);
    let records = Records::of(&call.state, &config.name);
    let known = records.get(container, interface);
    let mut record = known.unwrap_or_else(|| Record::new(container, interface));
    records.keep(&record);
    let lease = take(call, &config, container)?.lease;
    record.addresses = lease.cidrs();
    records.keep(&record);
    let Lease { addresses, routes, dns } = lease;
    Ok(CniResult { interfaces: None, addresses, routes, dns }.object(config.version))
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
    available(call, &Config::parse(&call.input, Plugin::Ipam)?)
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
        let Record { container, interface, host_end, .. } = &record;
        if valid.iter().any(|(id, name)| (id, name) == (container, interface)) {
            continue;
        }
        let lives = valid.iter().any(|(id, _)| id == container);
        if !host_end.is_empty()
            && let Err(error) = weave_host::remove_host_end(host_end)
        {
            note(format_args!("{host_end} is not removed: {error}"));
        }
        let own = matches!(config.ipam, Ipam::Router { .. });
        match if own && !lives { give_back(call, &config, &record) } else { Ok(()) } {
            Ok(()) => records.forget(container, interface),
            Err(error) => result = result.and(Err(error)),
        }
    }
    result
}

/// What ADD answered.
pub(crate) fn previous(config: &Config) -> Result<&Value, CniError> {
    if config.version < CniVersion::V040 {
        let details = "CHECK is of version 0.4.0 and later";
        return Err(CniError::new(CniError::VERSION, "CHECK is not supported", details));
    }
    config.previous.as_ref().ok_or_else(|| CniError::config("prevResult is missing"))
}
