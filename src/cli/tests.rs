//! Command lines as users and scripts write them.

use super::*;

fn parse(line: &str) -> Result<Command, String> {
    let words = line.split_whitespace().map(OsString::from).collect();
    match Cli::try_parse_from(modern_spelling(words)) {
        Ok(cli) => Ok(cli.command),
        Err(error) => Err(error.to_string()),
    }
}

/// Whether the router would start with this line; else why not.
fn router(line: &str) -> Result<(), String> {
    match parse(&format!("weave router {line}"))? {
        Command::Router(router) => router.check().map_err(|failure| match failure {
            Failure::Usage(text) => text,
            Failure::Failed(text) => format!("failed: {text}"),
        }),
        other => Err(format!("{other:?}")),
    }
}

#[test]
fn the_definition_is_sound() {
    use clap::CommandFactory as _;
    Cli::command().debug_assert();
}

#[test]
fn lines_of_launch_scripts() {
    for line in [
        "",
        "host1 host2:6783 192.0.2.1",
        "--port 6783 --nickname a --host-root=/host --weave-bridge weave host1",
        "--no-discovery --conn-limit=0 --trusted-subnets 10.0.0.0/8,192.168.0.0/16",
        "--no-discovery=false --port 1 --port 2",
        "--name 7a:9f:eb:b6:0c:6e --name ::1",
        "--http-addr= --status-addr 0.0.0.0:6782 --metrics-addr=/run/weave.sock",
        "--no-fastdp --no-dns --docker-api= --plugin=false --proxy=false --datapath datapath",
        "--no-dns --dns-domain x.local. --resolv-conf /etc/resolv.conf",
        "--ipalloc-range 10.2.0.0/16 --ipalloc-default-subnet 10.2.3.0/24 --ipalloc-init consensus=3",
        "-iprange 10.2.0.0/16 --ipalloc-init=observer --proc-path /proc",
        "--ipalloc-range= --expect-npc=false --awsvpc=0",
        "--plugin=false --plugin-socket /run/x --proxy=false -H unix:///run/y",
        "-port 6783",
        "--docker-bridge docker0 --firewall nftables",
        "--docker-bridge= --firewall=auto --mesh-open-to-containers --no-ip-forward",
        "--http-allowed-host weave.example,metrics.example",
        "--mtu 8916 --bufsz 16 --min-protocol-version 2 --log-level=debug",
        "--resume",
        "--port= --mtu=",
        "--no-bridged-fastdp --no-bridged-fastdp=false --capture datapath",
    ] {
        assert_eq!(router(line), Ok(()), "{line}");
    }
}

#[test]
fn wrong_lines_say_what_is_wrong() {
    for (line, expected) in [
        ("--ipalloc-range 10.2.0.1/16", "--ipalloc-range: 10.2.0.1/16 is not a subnet"),
        ("-iprange 10.2.0.0/31", "--ipalloc-range: 10.2.0.0/31 is too small"),
        ("--ipalloc-range= --ipalloc-init seed=::1", "--ipalloc-init: give --ipalloc-range"),
        ("--ipalloc-range 10.2.0.0/16 --ipalloc-init seed", "--ipalloc-init: seed needs"),
        ("--ipalloc-range 10.2.0.0/16 --ipalloc-default-subnet 10.3.0.0/24", "nothing of it is in"),
        ("--port 65534 --transport tcp", "--transport tcp needs the port 2 above --port"),
        (
            "--dns-domain x.local.",
            "--dns-domain: needs DNS (--no-dns does without), which is not supported yet",
        ),
        ("--expect-npc", "--expect-npc: needs network policy, which is not supported yet"),
        ("--plugin", "--plugin: needs the Docker plugin"),
        ("-H unix:///run/y", "-H: needs the Docker proxy"),
        ("--token abc", "no longer exists"),
        ("--resume host1", "--resume takes the peers"),
        ("--port 0", "port"),
        ("--port 65536", "port"),
        ("--name weave", "is not a peer name"),
        ("--name ::0", "not a name that a machine can have"),
        ("--name 01:02:03:04:05:06", "not a name that a machine can have"),
        ("--trusted-subnets 10.0.0.0", "is not a network"),
        ("--min-protocol-version 3", "min-protocol-version"),
        ("--conn-limit -1", "-1"),
        ("--log-level loud", "neither debug"),
        ("--http-addr 6784", "neither HOST:PORT"),
        ("--mtu 100", "not from 552"),
        ("--firewall ufw", "neither iptables-nft, iptables-legacy, nftables nor none"),
        ("--weave-bridge br+", "no name for an interface"),
        ("--weave-bridge a-name-that-is-too-long", "1 to 15 characters"),
        ("--no-discovery=maybe", "neither true nor false"),
        ("--nonsense", "--nonsense"),
        ("--password a --password-file b", "cannot be used with"),
        ("--password-file /no/such/file", "cannot read /no/such/file"),
    ] {
        let error = router(line).unwrap_err();
        assert!(error.contains(expected), "{line}: {error}");
    }
}

#[test]
fn a_password_file_is_one_line() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("password");
    let line = format!("--password-file {}", file.display());
    std::fs::write(&file, "secret\n").unwrap();
    assert_eq!(router(&line), Ok(()));
    std::fs::write(&file, "\nsecret\n").unwrap();
    assert!(router(&line).unwrap_err().contains("there is no password in"));
    std::fs::write(&file, "x".repeat(5000)).unwrap();
    assert!(router(&line).unwrap_err().contains("too long"));
}

#[test]
fn the_other_commands() {
    for line in [
        "weave --local launch --log-file x host1",
        "weave stop",
        "weave reset --force",
        "weave attach 10.32.0.1/12 fd00::1/64 1234",
        "weave detach name",
        "weave expose 10.32.0.1/12 -h host.weave.local --without-masquerade",
        "weave expose",
        "weave hide net:10.32.0.0/12",
        "weave setup-cni --bin-dir /opt/cni/bin --hairpin-mode=false",
        "weave connect --replace host1",
        "weave forget host1 host2",
        "weave status",
        "weave status connections --output json",
        "weave report -f {{.Version}}",
        "weave version",
    ] {
        let command = parse(line);
        assert!(!matches!(command, Err(_) | Ok(Command::Other(_))), "{line}: {command:?}");
    }
    for line in ["weave", "weave status nonsense", "weave connect", "weave forget", "weave attach"]
    {
        assert!(parse(line).is_err(), "{line}");
    }
}

#[test]
fn commands_of_the_original_are_answered() {
    for (name, expected) in [
        ("env", "not supported yet"),
        ("dns-add", "needs DNS, which is not supported yet"),
        ("run", "has been removed as of weave version 2.0"),
        ("launch-router", "use `weave launch`"),
    ] {
        let line = format!("weave {name} --some-flag value");
        assert!(matches!(parse(&line), Ok(Command::Other(_))), "{line}");
        match unsupported::run(name) {
            Err(Failure::Failed(text)) => assert!(text.contains(expected), "{text}"),
            other => panic!("{name}: {other:?}"),
        }
    }
    assert!(matches!(unsupported::run("nonsense"), Err(Failure::Usage(_))));
    assert!(unsupported::run("setup").is_ok());
}

#[test]
fn containers_and_addresses() {
    let words = |line: &str| line.split(' ').map(str::to_owned).collect::<Vec<_>>();
    for line in [
        "10.32.0.1/12 ip:10.33.0.1/16 1234",
        "1234 10.32.0.1/12 fd00::1/64",
        "net:10.32.0.0/12 net:default 1234",
    ] {
        let line = words(line);
        let (addresses, container) = address_spec::split(&line).unwrap();
        assert_eq!((addresses.len(), container), (2, "1234"));
    }
    let path = words("10.32.0.1/12 /proc/1/ns/net");
    assert_eq!(address_spec::split(&path).unwrap().1, "/proc/1/ns/net");
    for line in [
        "10.32.0.1/12",
        "10.32.0.1 1234",
        "10.32.0.0/12 1234",
        "net:10.32.0.1/12 1234",
        "net:nonsense 1234",
        "name 1234",
    ] {
        assert!(matches!(address_spec::split(&words(line)), Err(Failure::Usage(_))), "{line}");
    }
}
