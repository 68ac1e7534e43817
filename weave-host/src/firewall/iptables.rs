//! The rules of a policy in the chains of iptables (spec router.md, section 7), in the words in
//! which `iptables -S` prints them.

use weave_firewall::iptables::{Chain, Place, RANDOM_FULLY, Shared, Table};

use super::policy::{Policy, RuleNames, VxlanSenders};

pub(super) fn tables(policy: &Policy) -> Vec<Table> {
    let bridge = &policy.bridge;
    let names = RuleNames::of(bridge);
    let masquerade = format!("MASQUERADE{RANDOM_FULLY}");
    let accept = |network: &String| format!("-d {network} -j ACCEPT");
    let translate = |network: &String| {
        [
            format!("-s {network} -d 224.0.0.0/4 -j RETURN"),
            format!("! -s {network} -d {network} -j {masquerade}"),
            format!("-s {network} ! -d {network} -j {masquerade}"),
        ]
    };
    // The original spares answers. There are none to that port: what begins there is dropped.
    let guard = policy.control_port.map(|port| {
        let comment = &names.guard;
        format!(
            "-d 127.0.0.1/32 -p tcp -m tcp --dport {port} -m addrtype ! --src-type LOCAL \
             -m comment --comment \"{comment}\" -j DROP"
        )
    });
    let Closed { input, mut forward } = closed(policy, &names);
    let [inside, expose, out, answers] = accepted(bridge, &names);
    let senders = policy.vxlan.iter().flat_map(|senders| &senders.ports).map(|port| {
        format!(
            "-p udp -m udp --dport {port} -m comment --comment \"{}\" -j {}",
            names.senders, names.vxlan
        )
    });
    let input = guard.into_iter().chain(input).chain(senders).collect();
    let accepts = policy.networks().iter().map(accept).collect();
    let mut own = vec![Chain { name: names.expose, rules: accepts }];
    let mut gone = Vec::new();
    match &policy.vxlan {
        Some(VxlanSenders { neighbours, .. }) => {
            let let_through = neighbours.iter().map(|address| format!("-s {address}/32 -j RETURN"));
            let rules = let_through.chain(["-j DROP".to_owned()]).collect();
            own.push(Chain { name: names.vxlan, rules });
        }
        None => gone.push(names.vxlan),
    }
    forward.extend(
        policy
            .docker
            .iter()
            .filter(|name| *name != bridge)
            .map(|name| format!("-i {name} -o {bridge} -j DROP")),
    );
    forward.extend([inside, expose, out]);
    // Version 2.6.3 of the original closed all ports of 127.0.0.1.
    let all_closed = "-d 127.0.0.1/32 -p tcp -m addrtype ! --src-type LOCAL \
                      -m conntrack ! --ctstate RELATED,ESTABLISHED -j DROP";
    let mut unwanted = vec![("INPUT", all_closed.to_owned())];
    if policy.routed {
        forward.push(answers);
    } else {
        unwanted.push(("FORWARD", answers));
    }
    let to_nat = vec![format!("-j {}", names.nat)];
    let translated = policy.masqueraded().iter().flat_map(translate).collect();
    vec![
        Table {
            name: "filter",
            own,
            gone,
            shared: shared(input, forward),
            unwanted,
            comments: vec![names.guard, names.closed, names.senders],
        },
        Table {
            name: "nat",
            own: vec![Chain { name: names.nat, rules: translated }],
            shared: vec![Shared { chain: "POSTROUTING", rules: to_nat, place: Place::Last }],
            ..Table::default()
        },
    ]
}

fn shared(input: Vec<String>, forward: Vec<String>) -> Vec<Shared> {
    vec![
        Shared { chain: "FORWARD", rules: forward, place: Place::InOrder },
        Shared { chain: "INPUT", rules: input, place: Place::First },
    ]
}

/// Nothing is exposed or masqueraded by IPv6, so there are only shared chains.
pub(super) fn tables_ipv6(policy: &Policy) -> Vec<Table> {
    let names = RuleNames::of(&policy.bridge);
    let Closed { input, forward } = closed(policy, &names);
    vec![Table {
        name: "filter",
        shared: shared(input, forward),
        comments: vec![names.closed],
        ..Table::default()
    }]
}

/// Returns what a router of this bridge may have left, with whatever bridge of Docker.
pub(super) fn leftovers(bridge: &str) -> Vec<Table> {
    let names = RuleNames::of(bridge);
    let chain = |name: &String| Chain { name: name.clone(), rules: Vec::new() };
    let mut forward = accepted(bridge, &names).to_vec();
    forward.push(format!("-i * -o {bridge} -j DROP"));
    let to_nat = vec![format!("-j {}", names.nat)];
    vec![
        Table {
            name: "filter",
            own: vec![chain(&names.expose), chain(&names.vxlan)],
            shared: shared(Vec::new(), forward),
            comments: vec![names.guard, names.closed, names.senders],
            ..Table::default()
        },
        Table {
            name: "nat",
            own: vec![chain(&names.nat)],
            shared: vec![Shared { chain: "POSTROUTING", rules: to_nat, place: Place::Last }],
            ..Table::default()
        },
    ]
}

/// Returns the same of IPv6.
pub(super) fn leftovers_ipv6(bridge: &str) -> Vec<Table> {
    leftovers(bridge)
        .into_iter()
        .filter(|table| table.name == "filter")
        .map(|table| Table { own: Vec::new(), ..table })
        .collect()
}

/// The rules that close ports to containers. What goes from one container to another is theirs.
struct Closed {
    input: Vec<String>,
    forward: Vec<String>,
}

fn closed(policy: &Policy, names: &RuleNames) -> Closed {
    let rules = |out: bool| {
        let rule = |(bridge, protocol, port): (&str, &str, u16)| {
            let out = if out { format!("! -o {bridge} ") } else { String::new() };
            format!(
                "-i {bridge} {out}-p {protocol} -m {protocol} --dport {port} \
                 -m comment --comment \"{}\" -j DROP",
                names.closed
            )
        };
        policy.closed.list().map(rule).collect()
    };
    Closed { input: rules(false), forward: rules(true) }
}

/// Returns what passes the bridge: from container to container, to what is exposed, from containers
/// elsewhere, and the answers.
fn accepted(bridge: &str, names: &RuleNames) -> [String; 4] {
    [
        format!("-i {bridge} -o {bridge} -j ACCEPT"),
        format!("-o {bridge} -j {}", names.expose),
        format!("-i {bridge} ! -o {bridge} -j ACCEPT"),
        format!("-o {bridge} -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT"),
    ]
}

#[cfg(test)]
mod tests;
