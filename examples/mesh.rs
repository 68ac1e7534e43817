//! A mesh of one's own: three programs find each other over TCP and gossip a small data set.
//!
//! ```text
//!   ada ◀──TCP── bob ◀──TCP── cyd        each says where it is; soon all know all
//! ```
//!
//! Run with `cargo run --example mesh`. What to copy: the [`Places`] channel,
//! which is all that your own data needs, and `start`, which is all that a mesh needs. Nothing is
//! switched here, hence the overlay that carries nothing.

use std::any::Any;
use std::collections::BTreeMap;
use std::error::Error;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use weave_core::driver::{self, Handle, Settings, TokioClock};
use weave_core::mesh::gossip::{Channel, Data, GossipError, Outbox};
use weave_core::mesh::{Config, PeerName, Uid};
use weave_core::router::Router;
use weave_core::switch::{NullOverlay, Overlay, Switch};
use weave_core::time::Instant;

/// Every peer of the mesh that takes part uses the same name for the conversation.
const CHANNEL: &str = "places";

/// Who is where. Entries are only ever added, so that it does not matter in which order news
/// come in: any two copies can be merged.
#[derive(Clone, Default)]
struct Places(BTreeMap<String, String>);

impl Data for Places {
    fn merge(&self, newer: &dyn Data) -> Arc<dyn Data> {
        let mut merged = self.clone();
        // Data on one channel is of one type.
        if let Some(newer) = (newer as &dyn Any).downcast_ref::<Self>() {
            merged.0.extend(newer.0.clone());
        }
        Arc::new(merged)
    }

    fn encode(&self) -> Vec<Bytes> {
        let lines: String = self.0.iter().map(|(who, at)| format!("{who}={at}\n")).collect();
        vec![lines.into()]
    }
}

impl Places {
    /// What comes in is from outside: look at it closely, and say what is wrong.
    fn decode(payload: &[u8]) -> Result<Self, GossipError> {
        let text = std::str::from_utf8(payload)
            .map_err(|error| GossipError::Content(error.to_string()))?;
        let pairs = text.lines().map(|line| match line.split_once('=') {
            Some((who, at)) if line.len() < 100 => Ok((who.to_owned(), at.to_owned())),
            _ => Err(GossipError::Content(format!("not a place: {line:.100}"))),
        });
        pairs.collect::<Result<_, _>>().map(Self)
    }
}

/// The part of the conversation that one peer has. The data is shared with the rest of the
/// program.
struct PlacesChannel(Arc<Mutex<Places>>);

impl Channel for PlacesChannel {
    fn handle_gossip(
        &mut self,
        _now: Instant,
        payload: &[u8],
        _out: &mut Outbox,
    ) -> Result<Option<Arc<dyn Data>>, GossipError> {
        let mut news = Places::decode(payload)?;
        let mut known = self.0.lock().expect("nobody panics while holding it");
        news.0.retain(|who, at| known.0.get(who) != Some(at));
        known.0.extend(news.0.clone());
        // What is new to us may be new to others; what is not is passed on no further.
        Ok((!news.0.is_empty()).then(|| Arc::new(news) as _))
    }

    fn handle_broadcast(
        &mut self,
        now: Instant,
        _source: PeerName,
        payload: &[u8],
        out: &mut Outbox,
    ) -> Result<Option<Arc<dyn Data>>, GossipError> {
        self.handle_gossip(now, payload, out)
    }

    fn handle_unicast(
        &mut self,
        _now: Instant,
        _source: PeerName,
        _payload: &[u8],
        _out: &mut Outbox,
    ) -> Result<(), GossipError> {
        Err(GossipError::Content("nothing is unicast on this channel".to_owned()))
    }

    /// New neighbours get all of it.
    fn complete_state(&mut self, _now: Instant) -> Option<Arc<dyn Data>> {
        Some(Arc::new(self.0.lock().expect("nobody panics while holding it").clone()))
    }
}

/// One member of the mesh, on a port of the loopback that the kernel chooses.
async fn start(
    number: u64,
    nickname: &str,
) -> Result<(Handle, Arc<Mutex<Places>>), Box<dyn Error>> {
    let clock = TokioClock::start();
    let name = PeerName::from_u64(number).ok_or("peer names have 48 bits")?;
    // In earnest: a random number.
    let mut config = Config::new(name, Uid(number));
    config.nickname = nickname.to_owned();
    // The ports differ, so peers could not guess them from each other's addresses.
    config.discovery = false;
    let switch = Arc::new(Switch::new(name, 0));
    let overlays: Vec<Box<dyn Overlay>> = vec![Box::new(NullOverlay)];
    // In earnest: 32 bytes from the system's random source.
    let seed = [u8::try_from(number)?; 32];
    let router = Router::new(config, switch, overlays, seed, clock.now());
    let settings = Settings { listen: ([127, 0, 0, 1], 0).into(), ..Settings::default() };
    let handle = driver::start(router, settings, clock)?;

    let places = Arc::new(Mutex::new(Places::default()));
    let channel = PlacesChannel(places.clone());
    handle
        .with(|router, now| router.update(now, |mesh| mesh.add_channel(CHANNEL, Box::new(channel))))
        .await?;
    Ok((handle, places))
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn Error>> {
    let (ada, ada_knows) = start(1, "ada").await?;
    let (bob, bob_knows) = start(2, "bob").await?;
    let (cyd, cyd_knows) = start(3, "cyd").await?;
    bob.connect(vec![ada.address().to_string()], false).await?.map_err(|e| format!("{e:?}"))?;
    cyd.connect(vec![bob.address().to_string()], false).await?.map_err(|e| format!("{e:?}"))?;

    let everyone =
        [("ada", &ada, &ada_knows), ("bob", &bob, &bob_knows), ("cyd", &cyd, &cyd_knows)];
    for ((who, handle, knows), at) in everyone.into_iter().zip(["London", "Rome", "Oslo"]) {
        let news = Places([(who.to_owned(), at.to_owned())].into());
        knows.lock().expect("nobody panics while holding it").0.extend(news.0.clone());
        let news = Arc::new(news);
        handle
            .with(|router, now| router.update(now, |mesh| mesh.gossip(now, CHANNEL, news)))
            .await?;
    }
    for (who, handle, knows) in everyone {
        loop {
            let places = knows.lock().expect("nobody panics while holding it").0.clone();
            if places.len() == everyone.len() {
                show(&format!("{who} knows {places:?}"));
                break;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        let peers = handle.report().await?.mesh.peers.len();
        show(&format!("{who} is in a mesh of {peers} peers"));
    }
    for (_, handle, _) in everyone {
        handle.shut_down().await;
    }
    Ok(())
}

#[expect(clippy::print_stdout, reason = "this is what an example is for")]
fn show(line: &str) {
    println!("{line}");
}
