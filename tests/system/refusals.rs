//! What each command says to a wrong use (exit code 2) and when something fails (1): one line, and
//! nothing is changed.

use std::fs;
use std::process::Command;

use anyhow::Result;
use weave_testbed::{Host, Lab};

const BINARY: &str = env!("CARGO_BIN_EXE_weave");

/// Runs `program` with the arguments of a line; a blank within an argument is written `~`.
fn refused(host: &Host, program: &[&str], code: i32, line: &str) -> Result<String> {
    let mut command: Command = host.namespace.command(program[0]);
    command.args(&program[1..]).env("WEAVE_DB_PREFIX", host.database());
    command.args(line.split_whitespace().map(|word| word.replace('~', " ")));
    let output = command.output()?;
    let complaint = String::from_utf8_lossy(&output.stderr);
    // A router in the foreground logs there, too.
    let lines: Vec<_> = complaint
        .lines()
        .filter(|line| !line.starts_with("INFO: ") && !line.starts_with("WARN: "))
        .collect();
    assert_eq!(output.status.code(), Some(code), "weave {line}: {complaint}");
    assert!(lines.len() == 1 && lines[0].starts_with("weave: "), "weave {line}: {complaint}");
    assert!(output.stdout.is_empty(), "weave {line}");
    Ok(lines[0].to_owned())
}

#[test]
fn every_refusal_is_one_line() -> Result<()> {
    let lab = Lab::new(BINARY)?;
    let host = lab.host("h1")?;
    let container = host.bare_container("c1")?;
    let before = host.namespace.ip("-o link show")?;
    for (code, line, reason) in [
        (2, "", "say what to do"),
        (2, "nonsense", "there is no command"),
        (2, "--nonsense", "--nonsense"),
        (2, "launch --nonsense", "--nonsense"),
        (2, "launch --port", "--port"),
        (2, "launch --port 99999", "1 to 65535"),
        (2, "launch --host nowhere", "nowhere"),
        (2, "launch --host ::", "IPv4 only"),
        (2, "router --host ::1", "IPv4 only"),
        (2, "launch bad::name", "bad::name"),
        (2, "launch a~b", "neither an address nor a host name"),
        (2, "launch --name x", "--name"),
        (2, "launch --resume host1", "--resume"),
        (2, "launch --weave-bridge a/b", "no name for an interface"),
        (2, "launch --weave-bridge=", "1 to 15 characters"),
        (2, "launch --mtu 1", "552"),
        (2, "launch --trusted-subnets x", "is not a network"),
        (2, "launch --http-addr x", "neither HOST:PORT"),
        (2, "launch --http-allowed-host a:1", "not a host name"),
        (2, "launch fd00::1", "IPv4 only"),
        (2, "launch host1 [fd00::1]:6783", "IPv4 only"),
        (2, "router fd00::1", "IPv4 only"),
        (2, "connect [fd00::1]", "IPv4 only"),
        (2, "launch --capture nothing", "nothing"),
        (2, "launch --capture none --capture-file x", "there is no port"),
        (2, "launch --password=", "--password"),
        (2, "launch --password x --password-file y", "cannot be used with"),
        (2, "launch --password-file /dev/null", "there is no password"),
        (2, "launch --ipalloc-range 10.2.0.1/16", "not a subnet"),
        (2, "launch --ipalloc-range 127.0.0.0/16", "are for each host itself"),
        (2, "launch --ipalloc-range 0.0.0.0/4", "no container can have"),
        (2, "router bad::name", "bad::name"),
        (2, "router --nonsense", "--nonsense"),
        (2, "router --resume host1", "--resume"),
        (2, "stop extra", "extra"),
        (2, "stop --nonsense", "--nonsense"),
        (2, "reset extra", "extra"),
        (2, "reset --weave-bridge a~b", "no name for an interface"),
        (2, "attach", "CONTAINER"),
        (2, "attach 10.32.0.1/12", "say which container"),
        (2, "attach 10.32.0.1 OWN", "10.32.0.1"),
        (2, "attach 10.32.0.1/33 OWN", "10.32.0.1/33"),
        (2, "attach 10.32.0.0/12 OWN", "10.32.0.0/12"),
        (2, "attach --weave-bridge .. 10.32.0.1/12 OWN", "no name for an interface"),
        (2, "detach", "CONTAINER"),
        (2, "detach 10.32.0.1/12", "say which container"),
        (2, "detach --nonsense OWN", "--nonsense"),
        (2, "connect", "PEER"),
        (2, "connect bad::name", "bad::name"),
        (2, "connect a~b", "neither an address nor a host name"),
        (2, "connect --http-addr x host1", "neither HOST:PORT"),
        (2, "forget", "PEER"),
        (2, "forget bad::name", "bad::name"),
        (2, "forget a~b", "neither an address nor a host name"),
        (2, "status nonsense", "nonsense"),
        (2, "status --output yaml", "yaml"),
        (2, "status --http-addr x", "neither HOST:PORT"),
        (2, "report -f {{", "unclosed action"),
        (2, "version extra", "extra"),
        (1, "stop", "no router is running"),
        (1, "status", "Have you launched it?"),
        (1, "status peers", "Have you launched it?"),
        (1, "report", "Have you launched it?"),
        (1, "connect host1", "Have you launched it?"),
        (1, "forget host1", "Have you launched it?"),
        (1, "attach OWN", "Have you launched it?"),
        (1, "prime", "Have you launched it?"),
        (1, "rmpeer x", "Have you launched it?"),
        (1, "attach 10.32.0.1/12 OWN", "start the router first"),
        (1, "attach 10.32.0.1/12 nobody", "there is no network namespace of \"nobody\""),
        (1, "detach nobody", "there is no network namespace of \"nobody\""),
        (1, "launch --password-file /no/such", "cannot read /no/such"),
        (1, "expose", "Have you launched it?"),
        (1, "hide", "Have you launched it?"),
        (1, "dns-lookup x", "not supported yet"),
        (1, "run", "has been removed"),
    ] {
        let line = line.replace("OWN", container.namespace.name());
        let complaint = refused(&host, &[BINARY], code, &line)?;
        assert!(complaint.contains(reason), "weave {line}: {complaint}");
    }
    let left: Vec<_> = fs::read_dir(host.directory())?.collect();
    assert!(left.is_empty(), "{left:?}");
    assert_eq!(host.namespace.ip("-o link show")?, before);
    lab.finish()
}

#[test]
fn a_router_is_not_disturbed_by_refusals() -> Result<()> {
    let lab = Lab::new(BINARY)?;
    let host = lab.host("h1")?;
    let container = host.bare_container("c1")?;
    host.weave("launch 192.0.2.1")?;
    for (code, line, reason) in [
        (1, "launch", "a router is running already"),
        (1, "router", "a router is running already"),
        (2, "connect bad::name", "bad::name"),
        (2, "connect --replace bad::name", "bad::name"),
        (2, "forget a~b", "neither an address nor a host name"),
        (1, "status dns", "DNS"),
        (1, "launch --port 7000", "a router is running already"),
        (1, "launch --db-prefix OTHER", "cannot listen for HTTP control on 127.0.0.1:6784"),
    ] {
        let line = line.replace("OTHER", &lab.directory().join("other").display().to_string());
        let complaint = refused(&host, &[BINARY], code, &line)?;
        assert!(complaint.contains(reason), "weave {line}: {complaint}");
    }
    // By somebody who may do nothing.
    let nobody =
        ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", "--inh-caps=-all", BINARY];
    for line in ["launch", "router", "stop", "reset", "attach 10.32.0.1/12 OWN", "detach OWN"] {
        let line = line.replace("OWN", container.namespace.name());
        let complaint = refused(&host, &nobody, 1, &line)?;
        let refusals = complaint.to_lowercase().matches("permi").count();
        assert_eq!(refusals, 1, "weave {line}: {complaint}");
    }
    assert_eq!(host.weave("status targets")?, "192.0.2.1\n");
    host.weave("stop")?;
    lab.finish()
}

#[test]
fn a_state_of_a_newer_program_is_left_alone() -> Result<()> {
    let lab = Lab::new(BINARY)?;
    let host = lab.host("h1")?;
    let mut file = host.database().into_os_string();
    file.push("data.redb");
    {
        let database = redb::Database::create(&file)?;
        let transaction = database.begin_write()?;
        let table = redb::TableDefinition::<&str, &[u8]>::new("top");
        transaction.open_table(table)?.insert("version", b"2".as_slice())?;
        transaction.commit()?;
    }
    for command in ["launch", "router"] {
        let complaint = refused(&host, &[BINARY], 1, command)?;
        let name = file.to_string_lossy();
        assert!(complaint.contains(&format!("{name} was written by a newer weave")), "{complaint}");
        assert!(complaint.contains("use that version, or another --db-prefix"), "{complaint}");
    }
    lab.finish()
}

/// The addresses in it might be given out twice.
#[test]
fn a_damaged_state_is_left_alone() -> Result<()> {
    let lab = Lab::new(BINARY)?;
    let host = lab.host("h1")?;
    let mut file = host.database().into_os_string();
    file.push("data.redb");
    for damage in ["", "garbage"] {
        fs::write(&file, damage)?;
        for command in ["launch", "router"] {
            let complaint = refused(&host, &[BINARY], 1, command)?;
            let name = file.to_string_lossy();
            assert!(complaint.contains(&format!("{name} is damaged (")), "{complaint}");
            assert!(complaint.contains("move it away"), "{complaint}");
            assert_eq!(fs::read_to_string(&file)?, damage);
        }
    }
    assert!(!host.namespace.ip("-o link show")?.contains("weave"), "a bridge was made");
    lab.finish()
}
