//! Routers that must not talk to each other, and say why.
//!
//! ```text
//!  h1 (one password) ===== h2 (another, or none)
//! ```

use anyhow::Result;
use weave_testbed::RouterOptions;

use crate::{SOON, lab};

/// Both routers log `texts`, stay apart, and keep running; neither says a password.
fn refuse(first: RouterOptions, second: RouterOptions, texts: [&str; 2]) -> Result<()> {
    let lab = lab()?;
    let [h1, h2] = lab.hosts()?;
    let wire = lab.wire(&h1, &h2, 1500)?;
    let mut r1 = h1.router(first)?;
    let mut r2 = h2.router(second.peer(wire.a()))?;
    r1.wait_log(texts[0], SOON)?;
    r2.wait_log(texts[1], SOON)?;
    for router in [&mut r1, &mut r2] {
        assert!(router.is_running());
        router.wait_established(0, SOON)?;
        let everything = format!("{}{}", router.log(), router.report()?);
        assert!(
            !everything.contains("hunter2") && !everything.contains("swordfish"),
            "{everything}"
        );
    }
    lab.finish()
}

#[test]
fn another_password() -> Result<()> {
    let [first, second] = ["hunter2", "swordfish"].map(|text| RouterOptions::new().password(text));
    refuse(first, second, ["password", "password"])
}

#[test]
fn plain_dials_encrypted() -> Result<()> {
    let encrypted = RouterOptions::new().password("hunter2");
    refuse(encrypted, RouterOptions::new(), ["encrypt", "encrypt"])
}

#[test]
fn encrypted_dials_plain() -> Result<()> {
    let encrypted = RouterOptions::new().password("hunter2");
    refuse(RouterOptions::new(), encrypted, ["encrypt", "encrypt"])
}

#[test]
fn a_password_in_a_file() -> Result<()> {
    let lab = lab()?;
    let [h1, h2] = lab.hosts()?;
    let wire = lab.wire(&h1, &h2, 1500)?;
    let file = lab.directory().join("password");
    std::fs::write(&file, "hunter2\n")?;
    let argument = format!("--password-file={}", file.display());
    let r1 = h1.router(RouterOptions::new().argument(&argument))?;
    let r2 = h2.router(RouterOptions::new().password("hunter2").peer(wire.a()))?;
    for router in [&r1, &r2] {
        router.wait_established(1, SOON)?;
        let command_line = std::fs::read(format!("/proc/{}/cmdline", router.pid()))?;
        let shown = String::from_utf8_lossy(&command_line).contains("hunter2");
        assert!(!shown && !router.log().contains("hunter2"), "{}", router.log());
    }
    lab.finish()
}

/// One line that contains `text`, status 2, and nothing was started.
fn refuse_password(
    host: &weave_testbed::Host,
    line: &[&str],
    variable: &str,
    text: &str,
) -> Result<()> {
    let mut command = host.namespace.command(env!("CARGO_BIN_EXE_weave"));
    command.env("WEAVE_DB_PREFIX", host.database()).env("WEAVE_PASSWORD", variable);
    if variable == "unset" {
        command.env_remove("WEAVE_PASSWORD");
    }
    let before = std::fs::read_dir(host.directory())?.count();
    let output = command.args(line).output()?;
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(2), "{line:?}: {said}");
    assert_eq!(said.lines().count(), 1, "{said}");
    assert!(said.contains(text), "{line:?}: {said}");
    assert_eq!(std::fs::read_dir(host.directory())?.count(), before, "nothing was changed");
    Ok(())
}

#[test]
fn an_empty_password_is_refused() -> Result<()> {
    let lab = lab()?;
    let host = lab.host("h1")?;
    let empty = lab.directory().join("empty");
    std::fs::write(&empty, "")?;
    let file = format!("--password-file={}", empty.display());
    for command in ["router", "launch"] {
        refuse_password(&host, &[command], "", "WEAVE_PASSWORD is empty")?;
        refuse_password(&host, &[command, "--password", ""], "unset", "--password is empty")?;
        refuse_password(&host, &[command, "--password="], "unset", "--password is empty")?;
        refuse_password(&host, &[command, &file], "unset", "there is no password in")?;
        let nothing = "--password-file=/dev/null";
        refuse_password(&host, &[command, nothing], "unset", "there is no password in /dev/null")?;
    }
    lab.finish()
}

#[test]
fn a_password_that_can_be_guessed_is_warned_of() -> Result<()> {
    let lab = lab()?;
    let [h1, h2] = lab.hosts()?;
    let bad = h1.router(RouterOptions::new().password("hunter2"))?;
    let good = h2.router(RouterOptions::new().password("3q2+7wAAAAD/rb7vZk9nUA"))?;
    assert!(bad.log().contains("the password can be guessed"), "{}", bad.log());
    assert!(!bad.log().contains("hunter2"), "{}", bad.log());
    assert!(!good.log().contains("can be guessed"), "{}", good.log());
    lab.finish()
}
