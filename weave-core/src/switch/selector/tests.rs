use std::collections::BTreeMap;
use std::sync::Mutex;
use std::time::Duration;

use super::*;
use crate::mesh::{ConnectionId, ConnectionUid, LinkRequest, PeerName};
use crate::switch::{Envelope, Forwarded, PrepareError, WorkerId};

/// A transport whose links do what the test wants.
struct Scripted {
    name: &'static str,
    shared: Arc<Mutex<Script>>,
}

#[derive(Default)]
struct Script {
    refuse: Option<&'static str>,
    events: VecDeque<LinkEvent>,
    timeout: Option<Instant>,
    /// What the link was told.
    calls: Vec<String>,
}

struct ScriptedLink(Arc<Mutex<Script>>);
struct ScriptedForwarder;

impl Overlay for Scripted {
    fn name(&self) -> &'static str {
        self.name
    }

    fn prepare(
        &mut self,
        _: Instant,
        _: &LinkRequest,
        _: Waker,
    ) -> Result<Box<dyn Link>, PrepareError> {
        match self.shared.lock().unwrap().refuse {
            Some(reason) => Err(PrepareError(reason.to_owned())),
            None => Ok(Box::new(ScriptedLink(self.shared.clone()))),
        }
    }
}

impl Link for ScriptedLink {
    fn confirm(&mut self, _: Instant) {
        self.0.lock().unwrap().calls.push("confirm".to_owned());
    }

    fn handle_control(&mut self, _: Instant, message: u8, data: &[u8]) {
        self.0.lock().unwrap().calls.push(format!("control {message} {data:?}"));
    }

    fn handle_timeout(&mut self, _: Instant) {
        let mut script = self.0.lock().unwrap();
        script.calls.push("timeout".to_owned());
        script.timeout = None;
    }

    fn poll_timeout(&self) -> Option<Instant> {
        self.0.lock().unwrap().timeout
    }

    fn poll_event(&mut self) -> Option<LinkEvent> {
        self.0.lock().unwrap().events.pop_front()
    }

    fn forwarder(&self) -> Arc<dyn Forwarder> {
        Arc::new(ScriptedForwarder)
    }

    fn status(&self) -> LinkStatus {
        LinkStatus::default()
    }
}

impl Forwarder for ScriptedForwarder {
    fn forward(&self, _: WorkerId, _: Envelope<'_>) -> Forwarded {
        Forwarded::Accepted
    }

    fn flush(&self, _: WorkerId) {}
}

struct Bench {
    fast: Arc<Mutex<Script>>,
    slow: Arc<Mutex<Script>>,
}

impl Bench {
    fn new() -> Self {
        Self { fast: Arc::default(), slow: Arc::default() }
    }

    fn prepare(&self, theirs: Option<&[&str]>) -> Result<Selector, String> {
        let mut overlays: Vec<Box<dyn Overlay>> = vec![
            Box::new(Scripted { name: "fastdp", shared: self.fast.clone() }),
            Box::new(Scripted { name: "sleeve", shared: self.slow.clone() }),
        ];
        let theirs = theirs.map(|names| names.iter().map(|&name| name.to_owned()).collect());
        Selector::prepare(at(0), &mut overlays, &request(theirs), &Waker::new(|| {}))
    }

    /// Both transports, the events of preparing already taken.
    fn both(&self) -> Selector {
        let mut selector = self.prepare(Some(&["fastdp", "sleeve"])).unwrap();
        assert_eq!(events(&mut selector), [in_use(None, "fastdp", "first choice")]);
        selector
    }
}

fn at(seconds: u64) -> Instant {
    Instant::since_origin(Duration::from_secs(seconds))
}

fn request(overlays: Option<Vec<String>>) -> LinkRequest {
    let peer = |n| PeerName::from_bytes([2, 0, 0, 0, 0, n]);
    LinkRequest {
        id: ConnectionId(1),
        own: peer(1),
        remote: peer(2),
        connection_uid: ConnectionUid(7),
        outbound: true,
        local_address: ([127, 0, 0, 1], 1).into(),
        remote_address: ([127, 0, 0, 1], 2).into(),
        session_key: None,
        overlays,
        remote_features: BTreeMap::new(),
    }
}

fn tell(script: &Mutex<Script>, selector: &mut Selector, event: LinkEvent) -> Vec<SelectorEvent> {
    script.lock().unwrap().events.push_back(event);
    selector.handle_wake();
    events(selector)
}

fn events(selector: &mut Selector) -> Vec<SelectorEvent> {
    std::iter::from_fn(|| selector.poll_event()).collect()
}

fn in_use(from: Option<&'static str>, to: &'static str, reason: &str) -> SelectorEvent {
    SelectorEvent::InUse { from, to, reason: reason.to_owned() }
}

fn failed(reason: &str) -> LinkEvent {
    LinkEvent::Failed(reason.to_owned())
}

fn calls(script: &Mutex<Script>) -> Vec<String> {
    std::mem::take(&mut script.lock().unwrap().calls)
}

#[test]
fn the_first_to_be_established_is_used_until_a_better_one_is() {
    let bench = Bench::new();
    let mut selector = bench.both();
    assert_eq!(selector.forwarders().len(), 2);
    assert_eq!(
        tell(&bench.slow, &mut selector, LinkEvent::Established),
        [SelectorEvent::Established, in_use(Some("fastdp"), "sleeve", "sleeve is established")]
    );
    assert_eq!(selector.forwarders().len(), 1, "what is not established is no fall-back");
    assert_eq!(
        tell(&bench.fast, &mut selector, LinkEvent::Established),
        [in_use(Some("sleeve"), "fastdp", "fastdp is established")]
    );
    assert_eq!(selector.in_use(), Some("fastdp"));
    assert_eq!(selector.forwarders().len(), 2);
}

#[test]
fn a_held_transport_gives_way_and_comes_back() {
    let bench = Bench::new();
    let mut selector = bench.both();
    tell(&bench.fast, &mut selector, LinkEvent::Established);
    tell(&bench.slow, &mut selector, LinkEvent::Established);
    for _ in 0..3 {
        assert_eq!(
            tell(&bench.fast, &mut selector, LinkEvent::Healthy(false)),
            [in_use(Some("fastdp"), "sleeve", "fastdp lost contact")]
        );
        assert_eq!(selector.report()[0].state, MemberState::Held);
        assert_eq!(tell(&bench.fast, &mut selector, LinkEvent::Healthy(false)), []);
        assert_eq!(
            tell(&bench.fast, &mut selector, LinkEvent::Healthy(true)),
            [in_use(Some("sleeve"), "fastdp", "fastdp gets frames through again")]
        );
    }
}

#[test]
fn a_failed_transport_is_gone_for_good() {
    let bench = Bench::new();
    let mut selector = bench.both();
    tell(&bench.fast, &mut selector, LinkEvent::Established);
    tell(&bench.slow, &mut selector, LinkEvent::Established);
    assert_eq!(
        tell(&bench.fast, &mut selector, failed("no such port")),
        [in_use(Some("fastdp"), "sleeve", "fastdp failed: no such port")]
    );
    assert_eq!(tell(&bench.fast, &mut selector, LinkEvent::Healthy(true)), []);
    assert_eq!(selector.report()[0].state, MemberState::Gone { reason: "no such port".to_owned() });
    assert_eq!(
        tell(&bench.slow, &mut selector, failed("silence")),
        [SelectorEvent::Failed(
            "no working forwarders: fastdp: no such port; sleeve: silence".to_owned()
        )]
    );
    assert!(selector.forwarders().is_empty());
    assert_eq!(selector.in_use(), None);
}

#[test]
fn a_reserve_that_fails_changes_nothing_but_is_told() {
    let bench = Bench::new();
    let mut selector = bench.both();
    tell(&bench.fast, &mut selector, LinkEvent::Established);
    assert_eq!(
        tell(&bench.slow, &mut selector, failed("silence")),
        [SelectorEvent::Lost { name: "sleeve", reason: "silence".to_owned() }]
    );
    assert_eq!(selector.in_use(), Some("fastdp"));
    assert_eq!(
        tell(&bench.fast, &mut selector, LinkEvent::Healthy(false)),
        [SelectorEvent::Failed(
            "no working forwarders: fastdp lost contact; sleeve: silence".to_owned()
        )]
    );
    // Too late: the connection has been given up.
    assert_eq!(tell(&bench.fast, &mut selector, LinkEvent::Healthy(true)), []);
}

#[test]
fn a_transport_held_before_it_was_established_stays_held() {
    let bench = Bench::new();
    let mut selector = bench.both();
    assert_eq!(
        tell(&bench.fast, &mut selector, LinkEvent::Healthy(false)),
        [in_use(Some("fastdp"), "sleeve", "fastdp lost contact")]
    );
    assert_eq!(
        tell(&bench.fast, &mut selector, LinkEvent::Established),
        [SelectorEvent::Established]
    );
    assert_eq!(selector.in_use(), Some("sleeve"));
}

#[test]
fn established_is_told_once() {
    let bench = Bench::new();
    let mut selector = bench.both();
    assert_eq!(
        tell(&bench.fast, &mut selector, LinkEvent::Established),
        [SelectorEvent::Established]
    );
    assert_eq!(tell(&bench.fast, &mut selector, LinkEvent::Established), []);
    assert_eq!(tell(&bench.slow, &mut selector, LinkEvent::Established), []);
}

#[test]
fn a_transport_that_cannot_be_prepared_keeps_its_index() {
    let bench = Bench::new();
    bench.fast.lock().unwrap().refuse = Some("no datapath");
    let mut selector = bench.prepare(Some(&["sleeve", "fastdp"])).unwrap();
    assert_eq!(
        events(&mut selector),
        [
            SelectorEvent::Lost { name: "fastdp", reason: "no datapath".to_owned() },
            in_use(None, "sleeve", "first choice"),
        ]
    );
    let control = LinkEvent::Control { message: 3, data: vec![5, 6] };
    assert_eq!(
        tell(&bench.slow, &mut selector, control),
        [SelectorEvent::Control(Control::Switched(Bytes::from_static(&[1, 3, 5, 6])))]
    );
}

#[test]
fn nothing_in_common_or_nothing_that_works_is_an_error() {
    let bench = Bench::new();
    let error = |theirs| bench.prepare(theirs).err();
    assert_eq!(error(Some(&["awsvpc"])), Some("no overlays in common".to_owned()));
    assert_eq!(error(Some(&[])), Some("no overlays in common".to_owned()));
    bench.slow.lock().unwrap().refuse = Some("no socket");
    let expected = Some("no working forwarders: sleeve: no socket".to_owned());
    assert_eq!(error(Some(&["sleeve"])), expected);
    assert_eq!(error(None), expected);
}

#[test]
fn control_messages_go_to_the_transport_with_that_index() {
    let bench = Bench::new();
    let mut selector = bench.both();
    let mut say = |bytes: &'static [u8]| {
        selector.handle_control(at(1), &Control::Switched(Bytes::from_static(bytes)));
        (calls(&bench.fast), calls(&bench.slow))
    };
    let none = Vec::<String>::new();
    assert_eq!(say(&[0, 9, 1]), (vec!["control 9 [1]".to_owned()], none.clone()));
    assert_eq!(say(&[1, 2]), (none.clone(), vec!["control 2 []".to_owned()]));
    for bad in [&[][..], &[0], &[2, 1], &[255, 1, 1]] {
        assert_eq!(say(bad), (none.clone(), none.clone()), "{bad:?}");
    }
    let legacy = Control::Legacy { message: 1, data: Bytes::new() };
    selector.handle_control(at(1), &legacy);
    assert_eq!((calls(&bench.fast), calls(&bench.slow)), (none.clone(), none.clone()));
    tell(&bench.fast, &mut selector, failed("gone"));
    selector.handle_control(at(1), &Control::Switched(Bytes::from_static(&[0, 1])));
    assert_eq!(calls(&bench.fast), none);
}

#[test]
fn an_old_peer_has_sleeve_alone_and_its_own_tags() {
    let bench = Bench::new();
    let mut selector = bench.prepare(None).unwrap();
    assert_eq!(events(&mut selector), [in_use(None, "sleeve", "first choice")]);
    selector.confirm(at(1));
    let control = Control::Legacy { message: 2, data: Bytes::from_static(&[1]) };
    selector.handle_control(at(1), &control);
    selector.handle_control(at(1), &Control::Switched(Bytes::from_static(&[0, 1])));
    assert_eq!(calls(&bench.slow), ["confirm", "control 2 [1]"]);
    let say = |message| LinkEvent::Control { message, data: vec![7] };
    assert_eq!(
        tell(&bench.slow, &mut selector, say(3)),
        [SelectorEvent::Control(Control::Legacy { message: 3, data: Bytes::from_static(&[7]) })]
    );
    assert_eq!(tell(&bench.slow, &mut selector, say(4)), [], "tag 4 is gossip");
    assert_eq!(tell(&bench.slow, &mut selector, say(0)), [], "tag 0 is a heartbeat");
}

#[test]
fn each_link_has_its_own_time() {
    let bench = Bench::new();
    let mut selector = bench.both();
    selector.confirm(at(0));
    assert_eq!(
        (calls(&bench.fast), calls(&bench.slow)),
        (vec!["confirm".into()], vec!["confirm".into()])
    );
    bench.fast.lock().unwrap().timeout = Some(at(5));
    bench.slow.lock().unwrap().timeout = Some(at(3));
    assert_eq!(selector.poll_timeout(), Some(at(3)));
    selector.handle_timeout(at(3));
    assert_eq!((calls(&bench.fast), calls(&bench.slow)), (vec![], vec!["timeout".to_owned()]));
    assert_eq!(selector.poll_timeout(), Some(at(5)));
}
