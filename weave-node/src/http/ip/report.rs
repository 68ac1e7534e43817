//! The section of the allocator in the report.

use std::net::Ipv4Addr;

use weave_api::report::{
    self, ClaimedCidr, IpamConflict, IpamEntry, IpamHolder, IpamStatus, PaxosStatus, PendingClaim,
};
use weave_ipam::Subnet;
use weave_ipam::allocator::{self, Conflict, Entry, Report, Vote};

use crate::http::Control;
use crate::ipam::{Holder, Ipam};

/// Fills it, if this router has an allocator.
pub(super) fn fill<C: Control>(control: &C, report: &mut report::Report) {
    let status = |ipam: &Ipam| IpamStatus {
        holders: ipam.holders().iter().map(holder).collect(),
        ..section(&ipam.report(), ipam.default_subnet())
    };
    report.ipam = control.ipam().map(status);
}

fn holder(holder: &Holder) -> IpamHolder {
    IpamHolder {
        holder: holder.name.clone(),
        addresses: holder.cidrs.iter().map(ToString::to_string).collect(),
        presence: holder.presence.text().to_owned(),
        label: holder.label.as_ref().map(ToString::to_string).unwrap_or_default(),
    }
}

fn section(report: &Report, default_subnet: Subnet) -> IpamStatus {
    let paxos = |vote| match vote {
        Vote::Observing => PaxosStatus::default(),
        Vote::Electing { known, quorum } => {
            PaxosStatus { elector: true, known_nodes: known, quorum }
        }
    };
    let entry = |entry: &Entry| IpamEntry {
        token: Ipv4Addr::from_bits(entry.range.start).to_string(),
        size: entry.range.size(),
        peer: entry.peer.to_string(),
        nickname: entry.nickname.clone(),
        is_known_peer: entry.is_known,
        version: entry.version,
    };
    let claim = |claim: &allocator::PendingClaim| PendingClaim {
        ident: claim.holder.clone(),
        cidr: ClaimedCidr {
            addr: claim.cidr.address().to_string(),
            prefix_len: claim.cidr.prefix(),
        },
    };
    let conflict = |conflict: &Conflict| IpamConflict {
        peer: conflict.peer.to_string(),
        nickname: conflict.nickname.clone(),
        text: conflict.text.clone(),
        count: conflict.count,
    };
    IpamStatus {
        paxos: report.awaiting.map(paxos),
        range: report.universe.to_string(),
        range_size: report.universe.range().size(),
        active: report.active,
        default_subnet: default_subnet.to_string(),
        entries: report.entries.iter().map(entry).collect(),
        pending_claims: report.pending_claims.iter().map(claim).collect(),
        settling: report.is_settling,
        conflicts: report.conflicts.iter().map(conflict).collect(),
        holders: Vec::new(),
        pending_allocates: report.pending_allocations.iter().map(ToString::to_string).collect(),
    }
}
