//! Routers on the loopback of the machine. Real time passes, but nobody sleeps: the tests wait for
//! what their transport is told, or poll the report between turns of the runtime.

use std::future::Future;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::Arc;

use tokio::task::spawn_blocking;
use tokio::time::timeout;

use super::*;
use crate::mesh::{Config, PeerName, TargetState, Uid};
use crate::switch::{NullOverlay, Overlay, Switch};

/// Longer than anything here takes on a busy machine.
const PATIENCE: Duration = Duration::from_secs(60);

fn router(number: u64, clock: TokioClock) -> Router {
    let name = PeerName::from_u64(number).unwrap();
    let mut config = Config::new(name, Uid(number));
    config.discovery = false;
    let switch = Arc::new(Switch::new(name, 1));
    let overlays: Vec<Box<dyn Overlay>> = vec![Box::new(NullOverlay)];
    let seed = [u8::try_from(number).unwrap(); 32];
    Router::new(config, switch, overlays, seed, clock.now())
}

fn loopback() -> Settings {
    Settings { listen: ([127, 0, 0, 1], 0).into(), ..Settings::default() }
}

fn node(number: u64) -> Handle {
    let clock = TokioClock::start();
    start(router(number, clock), loopback(), clock).unwrap()
}

/// Polls the report until it is as it should be.
async fn until(handle: &Handle, mut done: impl FnMut(&Report) -> bool) {
    wait(async {
        while !done(&handle.report().await.unwrap()) {
            tokio::task::yield_now().await;
        }
    })
    .await;
}

async fn wait<T>(what: impl Future<Output = T>) -> T {
    timeout(PATIENCE, what).await.expect("in time")
}

fn established(report: &Report) -> usize {
    report.mesh.connections.iter().filter(|connection| connection.established).count()
}

#[tokio::test]
async fn routers_connect_by_address_and_by_name() {
    let (one, two, three) = (node(1), node(2), node(3));
    let port = one.address().port();
    two.connect(vec![format!("127.0.0.1:{port}")], false).await.unwrap().unwrap();
    three.connect(vec![format!("localhost:{port}")], false).await.unwrap().unwrap();
    until(&one, |report| established(report) == 2).await;
    for handle in [&one, &two, &three] {
        until(handle, |report| report.mesh.unicast_routes.len() == 3).await;
    }
}

#[tokio::test]
async fn a_router_that_is_shut_down_resets_its_connections() {
    let (one, two) = (node(1), node(2));
    two.connect(vec![one.address().to_string()], false).await.unwrap().unwrap();
    until(&two, |report| established(report) == 1).await;
    wait(one.shut_down()).await;
    until(&two, |report| report.mesh.connections.is_empty()).await;
    assert_eq!(one.report().await.err(), Some(Stopped));
    assert!(TcpStream::connect(one.address()).is_err(), "nobody listens");
    // Asking again does no harm.
    wait(one.shut_down()).await;
}

#[tokio::test]
async fn the_last_handle_takes_the_router_along() {
    let (one, two) = (node(1), node(2));
    two.connect(vec![one.address().to_string()], false).await.unwrap().unwrap();
    until(&two, |report| established(report) == 1).await;
    drop(one);
    until(&two, |report| report.mesh.connections.is_empty()).await;
}

#[tokio::test]
async fn a_dial_that_fails_is_told_and_tried_again() {
    let (one, two) = (node(1), node(2));
    let address = one.address();
    wait(one.shut_down()).await;
    two.connect(vec![address.to_string()], false).await.unwrap().unwrap();
    until(&two, |report| {
        report.mesh.targets.iter().any(|target| {
            matches!(target.state, TargetState::Waiting { until: Some(_) })
                && target.last_error.as_ref().is_some_and(|error| error.contains("refused"))
        })
    })
    .await;
    let clock = TokioClock::start();
    let settings = Settings { listen: address, ..Settings::default() };
    let again = start(router(1, clock), settings, clock).unwrap();
    until(&again, |report| established(report) == 1).await;
}

#[tokio::test]
async fn a_name_that_does_not_exist_is_told() {
    let one = node(1);
    one.connect(vec!["no-such-host.invalid:1".to_owned()], false).await.unwrap().unwrap();
    until(&one, |report| report.mesh.targets.iter().any(|target| target.last_error.is_some()))
        .await;
}

#[tokio::test]
async fn a_neighbour_on_ipv4_is_shown_so_by_a_router_on_ipv6() {
    let clock = TokioClock::start();
    let settings = Settings { listen: "[::]:0".parse().unwrap(), ..Settings::default() };
    let one = start(router(1, clock), settings, clock).unwrap();
    let two = node(2);
    let target = format!("127.0.0.1:{}", one.address().port());
    two.connect(vec![target], false).await.unwrap().unwrap();
    until(&one, |report| established(report) == 1).await;
    let address = one.report().await.unwrap().mesh.connections[0].address;
    assert_eq!(address.ip(), std::net::Ipv4Addr::LOCALHOST);
}

#[tokio::test]
async fn reports_have_the_round_trip_time_that_was_measured() {
    let time = Duration::from_micros(250);
    let clock = TokioClock::start();
    let settings = Settings { round_trip: |_| Some(Duration::from_micros(250)), ..loopback() };
    let one = start(router(1, clock), settings, clock).unwrap();
    let two = node(2);
    two.connect(vec![one.address().to_string()], false).await.unwrap().unwrap();
    until(&one, |report| established(report) == 1).await;
    until(&two, |report| established(report) == 1).await;
    let shown = |report: Report| report.mesh.connections[0].round_trip;
    assert_eq!(shown(one.report().await.unwrap()), Some(time));
    assert_eq!(shown(two.report().await.unwrap()), None);
}

#[tokio::test]
async fn bad_targets_are_refused_and_good_ones_used() {
    let one = node(1);
    let targets = vec!["127.0.0.1:1".to_owned(), "not a host:x:y".to_owned()];
    let errors = one.connect(targets, false).await.unwrap().unwrap_err();
    assert_eq!(errors.len(), 1);
    assert_eq!(one.report().await.unwrap().mesh.direct_peers, ["127.0.0.1:1"]);
    one.forget(vec!["127.0.0.1:1".to_owned()]).await.unwrap();
    assert!(one.report().await.unwrap().mesh.direct_peers.is_empty());
}

#[tokio::test]
async fn a_second_router_cannot_have_the_same_address() {
    let one = node(1);
    let clock = TokioClock::start();
    let settings = Settings { listen: one.address(), ..Settings::default() };
    let error = start(router(2, clock), settings, clock).unwrap_err();
    assert_eq!(error.kind(), std::io::ErrorKind::AddrInUse);
}

#[tokio::test]
async fn what_is_no_router_is_hung_up_on() {
    let one = node(1);
    let address = one.address();
    let stranger = spawn_blocking(move || {
        let mut stranger = TcpStream::connect(address).unwrap();
        stranger.write_all(b"GET / HTTP/1.1\r\n\r\n").unwrap();
        let mut heard = Vec::new();
        (stranger.read_to_end(&mut heard).is_err(), heard)
    });
    let (reset, heard) = wait(stranger).await.unwrap();
    // The header that every router sends at once may be overtaken by the reset.
    assert!(reset || heard.starts_with(b"weave"), "{heard:?}");
    assert_eq!(one.report().await.unwrap().mesh.connections.len(), 0);
}

#[tokio::test]
async fn a_flood_does_not_starve_others() {
    let (one, two) = (node(1), node(2));
    // A correct header, no password, and then a first message that never ends.
    let mut flood = TcpStream::connect(one.address()).unwrap();
    flood.write_all(b"weave\x01\x02\x00").unwrap();
    flood.write_all(&10_000_000u32.to_be_bytes()).unwrap();
    let flooding = std::thread::spawn(move || {
        let zeros = vec![0; 1 << 20];
        while flood.write_all(&zeros).is_ok() {}
    });
    two.connect(vec![one.address().to_string()], false).await.unwrap().unwrap();
    until(&one, |report| established(report) == 1).await;
    // Its connection is reset, if it has not been already.
    wait(one.shut_down()).await;
    flooding.join().unwrap();
}

#[tokio::test]
async fn a_crowd_at_the_door_does_not_keep_others_out() {
    let one = node(1);
    let address = one.address();
    let over = Arc::new(std::sync::atomic::AtomicBool::new(false));
    let crowd: Vec<_> = (0..2)
        .map(|_| {
            let over = Arc::clone(&over);
            std::thread::spawn(move || {
                let mut open = std::collections::VecDeque::new();
                while !over.load(std::sync::atomic::Ordering::Relaxed) {
                    let Ok(mut stream) = TcpStream::connect(address) else { continue };
                    // If it was reset already, the better.
                    let _unsent = stream.write_all(b"GET / HTTP/1.1\r\n\r\n");
                    open.push_back(stream);
                    open.drain(..open.len().saturating_sub(50));
                }
            })
        })
        .collect();
    until(&one, |report| report.mesh.counters.turned_away > 200).await;

    let clock = TokioClock::start();
    let settings = Settings { listen: ([127, 0, 0, 2], 0).into(), ..Settings::default() };
    let two = start(router(2, clock), settings, clock).unwrap();
    let before = one.report().await.unwrap().mesh.counters.handshakes_failed;
    two.connect(vec![address.to_string()], false).await.unwrap().unwrap();
    until(&one, |report| established(report) == 1).await;
    let during = one.report().await.unwrap().mesh.counters.handshakes_failed - before;
    over.store(true, std::sync::atomic::Ordering::Relaxed);
    crowd.into_iter().for_each(|thread| thread.join().unwrap());
    // Twenty are let in in a second: had it waited behind the crowd, there would be hundreds.
    assert!(during < 20, "{during}");
}
