//! The connections of the report: those there are, those attempted, those refused.

use std::collections::BTreeMap;

use serde_json::Value;
use weave_core::mesh::{self, NameConflict, TargetReport, TargetState};
use weave_core::metric::Reading;
use weave_core::router::{self, LinkReport};
use weave_core::switch::MemberState;
use weave_core::time::Instant;

use super::Now;
use weave_api::report::Connection;

/// A connection that passed the handshake, with what its transport in use says of itself.
pub(super) fn connection(
    connection: &mesh::ConnectionReport,
    report: &router::Report,
) -> Connection {
    let link = report.links.get(&connection.id);
    let overlay = link.and_then(|link| link.in_use).unwrap_or("none");
    let encrypted = link.is_some_and(|link| link.encrypted);
    let sealed = match (report.mesh.encrypted, encrypted) {
        (false, _) => String::new(),
        (true, true) => format!("{:<11} ", "encrypted"),
        (true, false) => format!("{:<11} ", "unencrypted"),
    };
    let (peer, nickname) = (connection.peer, &connection.nickname);
    let mut attrs = link.map(|link| attributes(link, overlay)).unwrap_or_default();
    let round_trip = connection.round_trip.map(|time| time.as_secs_f64());
    if let Some(seconds) = round_trip {
        attrs.insert("rtt".to_owned(), Value::from(format!("{:.2}ms", seconds * 1000.0)));
    }
    Connection {
        address: connection.address.to_string(),
        outbound: connection.outbound,
        state: if connection.established { "established" } else { "pending" }.to_owned(),
        info: format!("{sealed}{overlay:<6} {peer}({nickname})"),
        attrs: Some(attrs),
        peer: peer.to_string(),
        round_trip_seconds: round_trip,
        counters: link.map(link_counters).unwrap_or_default(),
        itself: false,
    }
}

fn attributes(link: &LinkReport, overlay: &str) -> BTreeMap<String, Value> {
    let mut attributes = BTreeMap::from([("name".to_owned(), Value::from(overlay))]);
    let in_use = link.overlays.iter().find(|member| Some(member.name) == link.in_use);
    if let Some(status) = in_use.and_then(|member| member.status.as_ref()) {
        let mtu = status.mtu.map_or_else(|| Value::from("?"), Value::from);
        attributes.insert("mtu".to_owned(), mtu);
        if status.encrypted {
            attributes.insert("encrypted".to_owned(), Value::Bool(true));
        }
        for (name, text) in &status.attributes {
            attributes.insert((*name).to_owned(), Value::from(text.as_str()));
        }
    }
    let better = link.overlays.iter().take_while(|member| Some(member.name) != link.in_use);
    for member in better {
        let problem = match (&member.state, &member.status) {
            (MemberState::Gone { reason }, _) => Some(reason.as_str()),
            (_, Some(status)) => status.problem.as_deref(),
            (_, None) => None,
        };
        attributes.extend(problem.map(|text| (member.name.to_owned(), Value::from(text))));
    }
    attributes
}

fn link_counters(link: &LinkReport) -> BTreeMap<String, u64> {
    let of = |status: &weave_core::switch::LinkStatus| status.counters.clone();
    link.overlays
        .iter()
        .flat_map(|member| {
            let counters = member.status.as_ref().map(of).unwrap_or_default();
            let named =
                |counter: Reading| (format!("{}.{}", member.name, counter.key()), counter.value);
            counters.into_iter().map(named)
        })
        .collect()
}

/// A target that is not connected.
pub(super) fn attempt(target: &TargetReport, now: Now) -> Option<Connection> {
    let time = |until: Option<Instant>| match until {
        Some(until) => now.wall_time(until).status_text(),
        None => "never".to_owned(),
    };
    let (state, info) = match (target.state, &target.last_error) {
        (TargetState::Waiting { until }, None) => ("waiting", format!("until: {}", time(until))),
        (TargetState::Waiting { until }, Some(error)) => {
            ("failed", format!("{error}, retry: {}", time(until)))
        }
        (TargetState::Itself, error) => {
            ("failed", format!("{}, retry: never", error.as_deref().unwrap_or("it is this router")))
        }
        (TargetState::Attempting, None) => ("connecting", String::new()),
        (TargetState::Attempting, Some(error)) => ("retrying", error.clone()),
        (TargetState::Connected, _) => return None,
    };
    Some(Connection {
        address: target.address.clone(),
        outbound: true,
        state: state.to_owned(),
        info,
        itself: target.state == TargetState::Itself,
        ..Connection::default()
    })
}

/// A router that is refused since another one has its name.
pub(super) fn name_conflict(conflict: &NameConflict) -> Connection {
    Connection {
        address: conflict.refused.address.map(|address| address.to_string()).unwrap_or_default(),
        outbound: false,
        state: "failed".to_owned(),
        info: conflict.to_string(),
        ..Connection::default()
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, UNIX_EPOCH};

    use weave_core::mesh::Uid;

    use super::*;
    use crate::sys::local_time::LocalTime;
    use weave_api::report::Report;
    use weave_api::text;

    #[test]
    fn attempts_say_when_and_why() {
        let now = Now {
            router: Instant::since_origin(Duration::from_secs(100)),
            wall: UNIX_EPOCH + Duration::from_secs(1_000_000_000),
        };
        let at = |seconds| Instant::since_origin(Duration::from_secs(seconds));
        let target = |state, error: Option<&str>| TargetReport {
            address: "192.0.2.1:6783".to_owned(),
            direct: true,
            state,
            last_error: error.map(str::to_owned),
        };
        let shown = |state, error| {
            attempt(&target(state, error), now).map(|c| (c.state, c.info)).unwrap_or_default()
        };
        let waiting = |until| TargetState::Waiting { until };
        let later = LocalTime::at(now.wall + Duration::from_secs(5)).status_text();
        for (state, error, expected) in [
            (waiting(Some(at(105))), None, ("waiting", format!("until: {later}"))),
            (
                waiting(Some(at(105))),
                Some("refused"),
                ("failed", format!("refused, retry: {later}")),
            ),
            (waiting(None), Some("refused"), ("failed", "refused, retry: never".to_owned())),
            (TargetState::Attempting, None, ("connecting", String::new())),
            (TargetState::Attempting, Some("refused"), ("retrying", "refused".to_owned())),
            (TargetState::Connected, None, ("", String::new())),
            (TargetState::Itself, Some("x"), ("failed", "x, retry: never".to_owned())),
        ] {
            assert_eq!(shown(state, error), (expected.0.to_owned(), expected.1));
        }
    }

    #[test]
    fn a_name_conflict_is_one_line_among_the_connections() {
        let claimant = |nickname: &str, uid, address: Option<&str>| mesh::Claimant {
            nickname: nickname.to_owned(),
            uid: Uid(uid),
            address: address.map(|address| address.parse().unwrap()),
        };
        let shown = name_conflict(&NameConflict {
            name: "7a:9f:eb:b6:0c:6e".parse().unwrap(),
            kept: claimant("host1", 1, Some("192.0.2.1:6783")),
            refused: claimant("host2", 2, Some("192.0.2.2:40000")),
        });
        let mut report = Report::default();
        report.router.connections.push(shown);
        let text = text::connections(&report);
        let start =
            "<- 192.0.2.2:40000       failed      name collision: two routers say they are ";
        assert!(text.starts_with(start), "{text}");
        assert!(text.contains("host1 (UID 1, at 192.0.2.1:6783) keeps the name"), "{text}");
    }
}
