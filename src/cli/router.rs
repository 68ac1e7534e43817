//! `weave router`: the router itself, with the flags of the original (spec router.md,
//! section 11).

mod password;
mod values;

use std::ffi::OsString;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};

use clap::builder::NonEmptyStringValueParser;
use clap::{ArgAction, Args, Parser};
use weave_core::mesh::{DEFAULT_CONNECTION_LIMIT, DEFAULT_PORT, PeerName};
use weave_core::wire::MacAddress;
use weave_kube::{Companion, Launch};
use weave_sleeve::cipher::native::Suite;
use weave_sleeve::native::Capabilities;

use super::bridge_name;
use super::failure::Failure;
use super::output;
use super::remote;
use super::state_args::{StateArgs, absolute};
use super::targets;
use super::unsupported::UnsupportedFlags;
use crate::log::{self, LogLevel};
use crate::serve::{self, Readiness};
use values::{
    CaptureChoice, FirewallChoice, OptionalAddress, OptionalBridge, SleeveFormat, Subnets,
    TransportChoice, cipher, firewall, host, host_name_of_http, mtu, optional_address,
    optional_bridge, port, subnets,
};
use weave_node::{
    Bridge, Builder, Firewall, Http, IpamSettings, Node, Preference, TcpTransport, VERSION,
    host_name,
};

/// What `weave launch` of the original takes.
const DEFAULT_RANGE: &str = "10.32.0.0/12";

/// The port of the tcp transport, counted from that of the mesh; VXLAN has the one before.
const TCP_TRANSPORT: u16 = 2;

/// Arguments of `weave router`.
#[derive(Debug, Args)]
#[command(after_help = UnsupportedFlags::HELP)]
pub(super) struct Router {
    /// Address to listen on.
    #[arg(
        long,
        value_name = "ADDRESS",
        default_value_t = IpAddr::V4(Ipv4Addr::UNSPECIFIED),
        value_parser = host
    )]
    host: IpAddr,
    /// TCP and UDP port of the mesh.
    #[arg(long, env = "WEAVE_PORT", default_value_t = DEFAULT_PORT, value_parser = port)]
    port: u16,
    /// Name of this peer, like 7a:9f:eb:b6:0c:6e; made from the machine's ids by default.
    #[arg(long)]
    name: Option<PeerName>,
    /// What people call this peer; the host name by default.
    #[arg(long)]
    nickname: Option<String>,
    /// Encrypt, with this password, the same for all peers; better in a file, or in the
    /// environment variable WEAVE_PASSWORD.
    #[arg(long, conflicts_with = "password_file", value_parser = NonEmptyStringValueParser::new())]
    password: Option<String>,
    /// Where the password is that was given in one of the ways above (see `secret`).
    #[arg(long, hide = true, value_name = "NUMBER")]
    #[arg(value_parser = clap::value_parser!(i32).range(3..))]
    password_fd: Option<i32>,
    /// Read the password from the first line of this file.
    #[arg(long, value_name = "FILE")]
    password_file: Option<PathBuf>,
    /// Networks between whose hosts frames are not encrypted, comma-separated.
    #[arg(long, value_name = "CIDR,...", value_parser = subnets, default_value = "")]
    trusted_subnets: Subnets,
    /// Most connections; 0 for no limit.
    #[arg(long, value_name = "NUMBER", default_value_t = DEFAULT_CONNECTION_LIMIT)]
    conn_limit: usize,
    /// Connect to the given peers only, not to those they know.
    #[arg(long, num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    #[arg(default_value_t = false, value_parser = weave_api::parse_bool, action = ArgAction::Set)]
    no_discovery: bool,
    /// Accepted for compatibility; this router speaks version 2 alone.
    #[arg(long = "min-protocol-version", value_name = "VERSION", default_value_t = 1)]
    #[arg(value_parser = clap::value_parser!(u8).range(1..=2))]
    _min_protocol_version: u8,
    /// Connect to the peers of the last time, whatever they were. Without this flag they are
    /// used when no peers are given.
    #[arg(long, num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    #[arg(default_value_t = false, value_parser = weave_api::parse_bool, action = ArgAction::Set)]
    resume: bool,
    /// debug, info, warning or error.
    #[arg(long, value_name = "LEVEL", default_value = "info")]
    log_level: LogLevel,
    /// Size of the kernel's buffer for captured frames, in MiB; for --capture pcap.
    #[arg(long, value_name = "MIB", default_value_t = 8)]
    #[arg(value_parser = clap::value_parser!(u16).range(1..=1024))]
    bufsz: u16,
    /// Largest packet of containers, in bytes; 0 to go by the network below.
    #[arg(long, value_name = "BYTES", env = "WEAVE_MTU", default_value_t = 0)]
    #[arg(value_parser = mtu)]
    mtu: u32,
    /// Name of the bridge.
    #[arg(long, value_name = "NAME", default_value = weave_host::BRIDGE_NAME)]
    #[arg(value_parser = bridge_name::parse)]
    weave_bridge: String,
    /// The bridge of Docker, kept apart from ours.
    #[arg(long, value_name = "NAME", value_parser = optional_bridge)]
    docker_bridge: Option<OptionalBridge>,
    /// Let containers reach the ports of the mesh, on this host and through it. Without a
    /// password, a container that reaches them becomes a peer and sees all frames.
    #[arg(long, num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    #[arg(default_value_t = false, value_parser = weave_api::parse_bool, action = ArgAction::Set)]
    mesh_open_to_containers: bool,
    /// Leave net.ipv4.ip_forward as it is. Without this flag it is switched on when the host gets
    /// an address on the bridge: containers would have no way out by it otherwise.
    #[arg(long, num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    #[arg(default_value_t = false, value_parser = weave_api::parse_bool, action = ArgAction::Set)]
    no_ip_forward: bool,
    /// Where firewall rules are kept: iptables-nft, iptables-legacy, nftables or none. By
    /// default where those of the host are.
    #[arg(long, value_name = "NAME", default_value = "auto", value_parser = firewall)]
    firewall: FirewallChoice,
    /// Carry all frames in user space, not by VXLAN in the kernel where that is possible.
    #[arg(long, num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    #[arg(default_value_t = false, value_parser = weave_api::parse_bool, action = ArgAction::Set)]
    no_fastdp: bool,
    /// Plug containers into a datapath of Open vSwitch itself, in place of a bridge that is joined
    /// to one.
    #[arg(long, num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    #[arg(default_value_t = false, value_parser = weave_api::parse_bool, action = ArgAction::Set)]
    no_bridged_fastdp: bool,
    /// How frames get from the bridge to the router.
    #[arg(long, value_enum, default_value_t = CaptureChoice::Auto)]
    capture: CaptureChoice,
    /// Write every frame that passes between bridge and router to this file, in pcap format, for
    /// looking for faults. It grows without end.
    #[arg(long, value_name = "FILE", value_parser = absolute)]
    capture_file: Option<PathBuf>,
    /// How datagrams are made for routers that know both ways.
    #[arg(long, value_enum, default_value_t = SleeveFormat::Native)]
    sleeve_format: SleeveFormat,
    /// Further transport, used with peers that no other one reaches and that have it too.
    #[arg(long, value_enum, value_name = "NAME")]
    transport: Option<TransportChoice>,
    /// What to seal with in the native format, the best first: aes128gcm, chacha20poly1305.
    /// By default both, in the order that suits the processor.
    #[arg(long, value_name = "NAME,...", value_delimiter = ',', value_parser = cipher)]
    sleeve_ciphers: Vec<Suite>,
    /// The addresses that peers share out among containers, like 10.32.0.0/12, the same for all
    /// peers. `weave launch` takes 10.32.0.0/12 by default; nothing means not to allocate any.
    #[arg(long, value_name = "CIDR")]
    ipalloc_range: Option<String>,
    /// Where addresses come from if no subnet is named; the whole range by default.
    #[arg(long, value_name = "CIDR", default_value = "")]
    ipalloc_default_subnet: String,
    /// Who makes the first division of the range: consensus, consensus=PEERS with the number of
    /// peers at the start, seed=NAME,NAME,... with the names of all of them, or observer to leave
    /// it to others.
    #[arg(long, value_name = "MODE", default_value = "")]
    ipalloc_init: String,
    /// Where the process tree of the host is mounted.
    #[arg(long, default_value = "/proc", value_name = "PATH")]
    proc_path: PathBuf,
    /// Address for control: HOST:PORT, or the absolute path of a Unix socket; empty for none. By
    /// default what WEAVE_HTTP_ADDR says, or 127.0.0.1:6784.
    #[arg(long, value_name = "ADDRESS", value_parser = optional_address)]
    http_addr: Option<OptionalAddress>,
    /// Address for status and metrics.
    #[arg(long, value_name = "ADDRESS", env = "WEAVE_STATUS_ADDR")]
    #[arg(default_value = "127.0.0.1:6782", value_parser = optional_address)]
    status_addr: OptionalAddress,
    /// Address for metrics alone.
    #[arg(long, value_name = "ADDRESS", default_value = "", value_parser = optional_address)]
    metrics_addr: OptionalAddress,
    /// Names by which HTTP clients call this host, comma-separated, besides its host name, its
    /// nickname, localhost and all addresses: what is asked by another name is refused, as it may
    /// come from a web page.
    #[arg(long, value_name = "NAME,...", value_delimiter = ',', value_parser = host_name_of_http)]
    http_allowed_host: Vec<String>,
    /// Where the file system of the host is mounted.
    #[arg(long, value_name = "PATH", default_value = "/")]
    host_root: OsString,
    /// Print the name this peer would have, and exit.
    #[arg(long)]
    print_peer_name: bool,
    /// Print the version, and exit.
    #[arg(long)]
    version: bool,
    /// `weave launch` reads our standard output.
    #[arg(long, hide = true)]
    tell_launcher: bool,
    #[command(flatten)]
    state: StateArgs,
    #[command(flatten)]
    unsupported: UnsupportedFlags,
    /// Peers to connect to: addresses or host names, each with an optional port. If none are
    /// given, those of the last time.
    #[arg(value_name = "PEER")]
    peers: Vec<String>,
}

/// A router whose arguments come from elsewhere.
#[derive(Debug, Parser)]
#[command(disable_version_flag = true, args_override_self = true)]
struct Alone {
    #[command(flatten)]
    router: Router,
}

/// What the flags come to.
struct Settings {
    builder: Builder,
    /// The addresses for containers, if there are to be any.
    range: Option<weave_ipam::Subnet>,
    bridge: String,
    /// Of the files of the state.
    prefix: PathBuf,
    /// Whether the password can be guessed.
    is_guessable: bool,
}

impl Router {
    pub(super) fn run(self) -> Result<(), Failure> {
        let tell_launcher = self.tell_launcher;
        let result = self.start(None);
        if let (true, Err(failure)) = (tell_launcher, &result) {
            // Once it was ready, nobody reads this any more.
            output::print(&format!("{}\n", failure.text()));
        }
        result
    }

    /// Runs the router of a node of Kubernetes.
    pub(super) fn run_in_cluster(launch: Launch) -> Result<(), Failure> {
        let name = std::iter::once("weave kube".into());
        match Alone::try_parse_from(name.chain(launch.arguments)) {
            Ok(alone) => alone.router.start(Some(launch.companion)),
            Err(error) => Err(Failure::of_arguments(&error)),
        }
    }

    fn start(self, companion: Option<Companion>) -> Result<(), Failure> {
        if self.version {
            output::print(&format!("weave {VERSION}\n"));
            return Ok(());
        }
        if self.print_peer_name {
            let derive = || -> Result<_, Failure> {
                let host_root = Path::new(&self.host_root);
                Ok(weave_node::derive_peer_name(&self.weave_bridge, host_root)?)
            };
            let name = self.name.map_or_else(derive, Ok)?;
            output::print(&format!("{name}\n"));
            return Ok(());
        }
        let notes = self.unsupported.check()?;
        let launched = self.tell_launcher;
        let readiness = Readiness::new(launched);
        let log_level = self.log_level;
        if launched {
            // Nothing that happens to the terminal of the launcher concerns us. It fails for the
            // leader of a group, which has no terminal to lose if it is the leader of a session.
            let _ = nix::unistd::setsid();
        }
        let password_fd = self.password_fd;
        let settings = self.settings(launched)?;
        if let Some(number) = password_fd {
            // Nobody needs to find it there later. It was readable a moment ago.
            let _ = nix::unistd::close(number);
        }
        if launched {
            // All paths are absolute by now; whatever we stand on can be unmounted.
            let _ = std::env::set_current_dir("/");
        }
        log::start(log_level);
        // The password is not among them: it moved to a place of its own.
        let options: Vec<_> =
            std::env::args_os().skip(2).map(|o| o.to_string_lossy().into_owned()).collect();
        tracing::info!("Command line options: [{}]", options.join(" "));
        for note in notes {
            tracing::warn!("{note}");
        }
        if settings.is_guessable {
            tracing::warn!(
                "the password can be guessed: anybody who records one connection can try passwords at \
                 leisure, and this one is short or made of few characters or words; take a random \
                 one on all peers, such as that of `openssl rand -base64 18`"
            );
        }
        Ok(serve::run(settings.builder, &settings.prefix, &readiness, companion)?)
    }

    /// Whether it is only asked to print something.
    pub(super) const fn only_prints(&self) -> bool {
        self.version || self.print_peer_name
    }

    /// Checks without starting anything, that no network of this host is hidden behind the range
    /// for containers: one that was chosen is no more than warned of.
    pub(super) fn check(self) -> Result<(), Failure> {
        self.unsupported.check()?;
        let chosen = self.ipalloc_range.is_some();
        let settings = self.settings(true)?;
        let hidden = settings.range.map(|range| weave_node::hidden_route(range, &settings.bridge));
        match hidden.transpose()?.flatten() {
            None => Ok(()),
            Some(text) if chosen => {
                output::complain(&format!("weave: {text}"));
                Ok(())
            }
            Some(text) => Err(Failure::failed(format!(
                "{text}: choose another with --ipalloc-range, the same on all hosts"
            ))),
        }
    }

    /// The file that a launched router logs to by default.
    pub(super) fn log_file(&self) -> PathBuf {
        weave_node::log_file(&self.state.db_prefix)
    }

    fn settings(self, launched: bool) -> Result<Settings, Failure> {
        if self.resume && !self.peers.is_empty() {
            return Err(Failure::usage("--resume takes the peers of the last time: give none"));
        }
        targets::check(&self.peers)?;
        if let Some(name) = self.name.filter(|name| !names_a_machine(*name)) {
            return Err(Failure::usage(format!(
                "--name {name}: not a name that a machine can have"
            )));
        }
        if self.capture == CaptureChoice::None && self.capture_file.is_some() {
            return Err(Failure::usage("--capture-file: with --capture none there is no port"));
        }
        if self.capture == CaptureChoice::Datapath && self.no_fastdp {
            return Err(Failure::usage(
                "--capture datapath carries frames in the kernel, and --no-fastdp forbids it",
            ));
        }
        let ipam = self.ipam(launched)?;
        let range = ipam.as_ref().map(|ipam| ipam.range);
        let password = self.password()?;
        let http = self.http()?;
        let tcp = self.tcp_address()?;
        let mut builder = Node::builder()
            .listen(SocketAddr::new(self.host, self.port))
            .nickname(self.nickname.clone().unwrap_or_else(host_name))
            .trusted_subnets(self.trusted_subnets.0.clone())
            .connection_limit((self.conn_limit != 0).then_some(self.conn_limit))
            .discovery(!self.no_discovery)
            .sleeve(self.capabilities())
            .bridge(self.bridge())
            .http(http);
        if let Some(address) = tcp {
            builder = builder.overlay_at(Preference::Last, TcpTransport::new(address));
        }
        if let Some(name) = self.name {
            builder = builder.name(name);
        }
        let mut is_guessable = false;
        if let Some(password) = password {
            is_guessable = weave_node::is_guessable(password.as_bytes());
            builder = builder.password(password);
        }
        if let Some(ipam) = ipam {
            builder = builder.ipam_settings(ipam);
        }
        builder = if self.resume { builder.resume() } else { builder.peers(self.peers) };
        let (bridge, prefix) = (self.weave_bridge, self.state.db_prefix);
        Ok(Settings { builder, range, bridge, prefix, is_guessable })
    }

    /// Where the tcp transport listens, if it is wanted.
    fn tcp_address(&self) -> Result<Option<SocketAddr>, Failure> {
        let Some(TransportChoice::Tcp) = self.transport else { return Ok(None) };
        match self.port.checked_add(TCP_TRANSPORT) {
            Some(port) => Ok(Some(SocketAddr::new(self.host, port))),
            None => Err(Failure::usage(format!(
                "--transport tcp needs the port {TCP_TRANSPORT} above --port: give a lower --port"
            ))),
        }
    }

    fn bridge(&self) -> Bridge {
        let mut firewall = Firewall::default()
            .mesh_open_to_containers(self.mesh_open_to_containers)
            .ip_forward(!self.no_ip_forward);
        if let Some(backend) = self.firewall.0 {
            firewall = firewall.backend(backend);
        }
        if let Some(OptionalBridge(Some(name))) = &self.docker_bridge {
            firewall = firewall.docker_bridge(name);
        }
        if let Ok(Some(address)) = self.tcp_address() {
            firewall = firewall.close(address.port());
        }
        let mut bridge = Bridge::named(&self.weave_bridge)
            .capture(self.capture.into())
            .capture_buffer(usize::from(self.bufsz) << 20)
            .fast_datapath(!self.no_fastdp)
            .beside_datapath(!self.no_bridged_fastdp)
            .host_paths(&self.proc_path, Path::new("/").join(&self.host_root))
            .firewall(firewall);
        if self.mtu != 0 {
            bridge = bridge.mtu(self.mtu);
        }
        if let Some(path) = &self.capture_file {
            bridge = bridge.capture_file(path);
        }
        bridge
    }

    fn capabilities(&self) -> Capabilities {
        match self.sleeve_format {
            SleeveFormat::Legacy => Capabilities::Legacy,
            SleeveFormat::Native if self.sleeve_ciphers.is_empty() => Capabilities::default(),
            SleeveFormat::Native => Capabilities::Native { ciphers: self.sleeve_ciphers.clone() },
        }
    }

    fn http(&self) -> Result<Http, Failure> {
        let control = match &self.http_addr {
            Some(OptionalAddress(address)) => address.clone(),
            None => Some(remote::default_address()?),
        };
        let mut http = Http::default().allowed_hosts(self.http_allowed_host.iter().cloned());
        if let Some(address) = control {
            http = http.control(address);
        }
        if let Some(address) = &self.status_addr.0 {
            http = http.status(address.clone());
        }
        if let Some(address) = &self.metrics_addr.0 {
            http = http.metrics(address.clone());
        }
        Ok(http)
    }

    /// `weave launch` has a range of its own if none is given.
    fn ipam(&self, launched: bool) -> Result<Option<IpamSettings>, Failure> {
        let Self { ipalloc_range, ipalloc_default_subnet, ipalloc_init, .. } = self;
        let range = match (ipalloc_range.as_deref(), launched) {
            (Some(range), _) => range,
            (None, true) => DEFAULT_RANGE,
            (None, false) => "",
        };
        if range.is_empty() {
            for (flag, value) in
                [("default-subnet", ipalloc_default_subnet), ("init", ipalloc_init)]
            {
                if !value.is_empty() {
                    let text = format!("--ipalloc-{flag}: give --ipalloc-range as well");
                    return Err(Failure::usage(text));
                }
            }
            return Ok(None);
        }
        let subnet = |flag: &str, text: &str| {
            let subnet = text.parse::<weave_ipam::Subnet>();
            subnet.map_err(|error| Failure::usage(format!("--ipalloc-{flag}: {error}")))
        };
        let range = IpamSettings::range(range)
            .map_err(|error| Failure::usage(format!("--ipalloc-range: {error}")))?;
        let default_subnet = match ipalloc_default_subnet.as_str() {
            "" => range,
            text => subnet("default-subnet", text)?,
        };
        if !range.range().overlaps(default_subnet.range()) {
            return Err(Failure::usage(format!(
                "--ipalloc-default-subnet {default_subnet}: nothing of it is in --ipalloc-range \
                 {range}"
            )));
        }
        let origin = weave_node::origin(ipalloc_init)
            .map_err(|error| Failure::usage(format!("--ipalloc-init: {error}")))?;
        Ok(Some(IpamSettings { range, default_subnet, origin }))
    }
}

/// The name becomes the Ethernet address of the bridge, so that it must be one of a station.
fn names_a_machine(name: PeerName) -> bool {
    name != PeerName::UNKNOWN && !MacAddress(name.to_bytes()).is_multicast()
}
