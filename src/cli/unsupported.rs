//! What the original has and this version does not: one line for each.
//!
//! A flag that changes nothing as long as its part is missing is accepted, so that launch
//! scripts keep working; one whose effect somebody would miss is refused.

use clap::parser::ValueSource;
use clap::{Arg, ArgAction, ArgMatches, Args, Command, FromArgMatches};

use super::failure::Failure;

/// A flag of the original.
struct Flag {
    name: &'static str,
    /// Whether it takes a value; else it is true or false.
    value: bool,
    effect: Effect,
}

/// What a missing flag means to who gives it.
enum Effect {
    /// Nothing: it asks for what is so anyway.
    Fulfilled,
    /// A line in the log.
    Noted(&'static str),
    /// Refused, unless it says false or nothing; the part it belongs to.
    Refused(&'static str),
    /// Refused like that, unless its part was switched off by another flag.
    Part(Part),
}

/// A part that can be switched off.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Part {
    Dns,
    Plugin,
    Proxy,
}

impl Part {
    const fn name(self) -> &'static str {
        match self {
            Self::Dns => "DNS (--no-dns does without)",
            Self::Plugin => "the Docker plugin (--plugin=false does without)",
            Self::Proxy => "the Docker proxy (--proxy=false does without)",
        }
    }
}

const fn switch(name: &'static str, effect: Effect) -> Flag {
    Flag { name, value: false, effect }
}

const fn value(name: &'static str, effect: Effect) -> Flag {
    Flag { name, value: true, effect }
}

const DISCOVERY: Effect = Effect::Refused("the discovery service, which no longer exists");
const PLUGIN: Effect = Effect::Part(Part::Plugin);
const PROXY: Effect = Effect::Part(Part::Proxy);
const DNS: Effect = Effect::Part(Part::Dns);

const FLAGS: &[Flag] = &[
    switch("no-dns", Effect::Fulfilled),
    switch("no-restart", Effect::Fulfilled),
    switch("no-default-ipalloc", Effect::Fulfilled),
    switch("no-rewrite-hosts", Effect::Fulfilled),
    switch("without-dns", Effect::Fulfilled),
    switch("no-multicast-route", Effect::Fulfilled),
    value(
        "datapath",
        Effect::Noted("the kernel datapath has a name that follows from that of the bridge"),
    ),
    value("docker-api", Effect::Noted("this version does not use Docker")),
    switch("no-masq-local", Effect::Noted("it takes the ranges of address allocation")),
    switch("pkt-debug", Effect::Noted("single packets are not logged in this version")),
    switch("expect-npc", Effect::Refused("network policy")),
    switch("awsvpc", Effect::Refused("AWS-VPC routing")),
    value("profile", Effect::Refused("profiling")),
    value("dns-domain", DNS),
    value("dns-listen-address", DNS),
    value("dns-ttl", DNS),
    value("dns-fallback-timeout", DNS),
    value("resolv-conf", DNS),
    switch("plugin", PLUGIN),
    switch("plugin-v2", PLUGIN),
    switch("plugin-v2-multicast", PLUGIN),
    value("plugin-socket", PLUGIN),
    value("plugin-mesh-socket", PLUGIN),
    switch("proxy", PROXY),
    value("H", PROXY),
    value("hostname-from-label", PROXY),
    value("hostname-match", PROXY),
    value("hostname-replacement", PROXY),
    switch("rewrite-inspect", PROXY),
    switch("tls", PROXY),
    switch("tlsverify", PROXY),
    value("tlscacert", PROXY),
    value("tlscert", PROXY),
    value("tlskey", PROXY),
    value("token", DISCOVERY),
    value("peer-discovery-url", DISCOVERY),
    value("advertise-address", DISCOVERY),
];

/// The flags of the original that were given and are not there.
#[derive(Debug, Default)]
pub(super) struct UnsupportedFlags {
    /// Name and value, `true` or `false` for switches.
    given: Vec<(&'static str, String)>,
}

impl UnsupportedFlags {
    /// For the end of the help text.
    pub(super) const HELP: &'static str = "\
Flags of Weave Net 2.x that are accepted and change nothing: --no-dns, --no-restart, --no-default-ipalloc, --no-rewrite-hosts, --without-dns,
--no-multicast-route, --plugin=false, --proxy=false, --awsvpc=false,
--expect-npc=false; with a note in the log: --datapath, --docker-api, --no-masq-local,
--pkt-debug.
Not in this version, and refused: --dns-* and --resolv-conf, unless with --no-dns;
--plugin*; --proxy, -H, --hostname-*, --tls*; --expect-npc; --awsvpc; --profile; --token.";

    /// The lines to log.
    pub(super) fn check(&self) -> Result<Vec<String>, Failure> {
        let is = |name: &str, text: &str| self.given.iter().any(|(n, v)| *n == name && v == text);
        let off = |part: Part| match part {
            Part::Dns => is("no-dns", "true"),
            Part::Plugin => is("plugin", "false"),
            Part::Proxy => is("proxy", "false"),
        };
        let mut notes = Vec::new();
        for (name, value) in &self.given {
            let Some(flag) = FLAGS.iter().find(|flag| flag.name == *name) else { continue };
            let asks = !value.is_empty() && value != "false";
            let part = match flag.effect {
                Effect::Noted(note) if asks => {
                    notes.push(format!("--{name} has no effect: {note}"));
                    continue;
                }
                Effect::Refused(part) if asks => part,
                Effect::Part(part) if asks && !off(part) => part.name(),
                _ => continue,
            };
            let dashes = if name.len() == 1 { "-" } else { "--" };
            return Err(Failure::usage(format!(
                "{dashes}{name}: needs {part}, which is not supported yet"
            )));
        }
        Ok(notes)
    }
}

impl Args for UnsupportedFlags {
    fn augment_args(command: Command) -> Command {
        command.args(FLAGS.iter().map(|flag| {
            let arg = Arg::new(flag.name).hide(true).action(ArgAction::Set);
            let arg = match (flag.name.len(), flag.name.chars().next()) {
                (1, Some(letter)) => arg.short(letter),
                _ => arg.long(flag.name),
            };
            if flag.value {
                return arg.num_args(1);
            }
            let parse = |text: &str| weave_api::parse_bool(text).map(|on| on.to_string());
            arg.num_args(0..=1)
                .require_equals(true)
                .default_missing_value("true")
                .value_parser(parse)
        }))
    }

    fn augment_args_for_update(command: Command) -> Command {
        Self::augment_args(command)
    }
}

impl FromArgMatches for UnsupportedFlags {
    fn from_arg_matches(matches: &ArgMatches) -> Result<Self, clap::Error> {
        let given = FLAGS.iter().filter_map(|flag| {
            let given = matches.value_source(flag.name) == Some(ValueSource::CommandLine);
            let value = matches.get_one::<String>(flag.name).filter(|_| given)?;
            Some((flag.name, value.clone()))
        });
        Ok(Self { given: given.collect() })
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), clap::Error> {
        *self = Self::from_arg_matches(matches)?;
        Ok(())
    }
}

/// What became of a command of the original.
enum Fate {
    /// Needs this, which is not supported yet.
    Missing(&'static str),
    /// It was removed before the original ended; what to do instead.
    Removed(&'static str),
    /// It has nothing to do.
    Needless(&'static str),
}

const ATTACH: Fate = Fate::Removed("start the container yourself and use `weave attach`");
const LAUNCH: Fate = Fate::Removed("use `weave launch`");
const STOP: Fate = Fate::Removed("use `weave stop`");

const COMMANDS: &[(&str, Fate)] = &[
    ("dns-add", Fate::Missing("DNS")),
    ("dns-remove", Fate::Missing("DNS")),
    ("dns-lookup", Fate::Missing("DNS")),
    ("dns-args", Fate::Missing("DNS")),
    ("env", Fate::Missing("the Docker proxy")),
    ("config", Fate::Missing("the Docker proxy")),
    ("attach-bridge", Fate::Missing("the joining of other bridges")),
    ("bridge-type", Fate::Missing("a choice of bridge types")),
    ("docker-bridge-ip", Fate::Missing("the use of Docker")),
    ("setup", Fate::Needless("there are no images to fetch")),
    ("run", ATTACH),
    ("start", ATTACH),
    ("restart", ATTACH),
    ("launch-router", LAUNCH),
    ("launch-proxy", LAUNCH),
    ("launch-plugin", LAUNCH),
    ("stop-router", STOP),
    ("stop-proxy", STOP),
    ("stop-plugin", STOP),
];

/// Says why there is no such command.
pub(super) fn run(name: &str) -> Result<(), Failure> {
    let Some((_, fate)) = COMMANDS.iter().find(|(command, _)| *command == name) else {
        return Err(Failure::usage(format!(
            "there is no command {name:?}; `weave help` lists the commands"
        )));
    };
    match fate {
        Fate::Missing(part) => {
            Err(Failure::failed(format!("`weave {name}` needs {part}, which is not supported yet")))
        }
        Fate::Removed(instead) => Err(Failure::failed(format!(
            "The `weave {name}` command has been removed as of weave version 2.0: {instead}"
        ))),
        Fate::Needless(reason) => {
            super::output::complain(&format!("`weave {name}` has nothing to do: {reason}"));
            Ok(())
        }
    }
}
