//! What somebody sees who listens on the underlay.
//!
//! ```text
//!  c1 --- h1 ==(tcpdump)== h2 --- c2
//! ```

use anyhow::Result;
use weave_testbed::{Capture, Captured, RouterOptions};

use crate::{SOON, lab};

/// Nothing that ciphertext could contain by chance.
const NEEDLE: &[u8] = b"the cat sat on the mat and nobody saw it";

/// Everything on the underlay from before the first router starts until the needle has crossed, in
/// a datagram and in the nickname of a router.
fn listen(options: &RouterOptions) -> Result<Captured> {
    let lab = lab()?;
    let [h1, h2] = lab.hosts()?;
    let wire = lab.wire(&h1, &h2, 1500)?;
    let capture = Capture::start(&lab, &h2.namespace, wire.device_b(), "")?;
    let r1 = h1.router(options.clone())?;
    let nickname = String::from_utf8_lossy(NEEDLE).into_owned();
    let r2 =
        h2.router(options.clone().argument("--nickname").argument(&nickname).peer(wire.a()))?;
    r1.wait_established(1, SOON)?;
    r2.wait_established(1, SOON)?;
    let c1 = h1.container("c1", "10.32.0.1/12")?;
    let c2 = h2.container("c2", "10.32.0.2/12")?;
    c1.wait_ping("10.32.0.2", SOON)?;
    let receiver = c2.udp(7000)?;
    receiver.set_read_timeout(Some(SOON))?;
    c1.udp(0)?.send_to(NEEDLE, ("10.32.0.2", 7000))?;
    let mut buffer = [0; 64];
    let length = receiver.recv(&mut buffer)?;
    assert_eq!(&buffer[..length], NEEDLE);
    let captured = capture.finish()?;
    let (udp, other) = (
        captured.count("udp.port == 6783")?,
        captured.count(
            "ip && !(udp.port == 6783 || tcp.port == 6783 || icmp || igmp) && ip.flags.mf == 0",
        )?,
    );
    assert!(udp > 3, "{udp} datagrams of the overlay");
    assert_eq!(other, 0, "packets that are neither the mesh nor the overlay");
    lab.finish()?;
    Ok(captured)
}

#[test]
fn plain_shows_the_frames() -> Result<()> {
    // The proof that the next test would see something.
    let captured = listen(&RouterOptions::sleeve())?;
    assert!(captured.contains(NEEDLE));
    Ok(())
}

#[test]
fn encrypted_shows_nothing() -> Result<()> {
    let captured = listen(&RouterOptions::sleeve().password("hunter2"))?;
    assert!(!captured.contains(NEEDLE));
    assert!(!captured.contains(b"hunter2"));
    Ok(())
}
