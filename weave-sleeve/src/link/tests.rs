use weave_core::mtu::DEFAULT_FLOOR;

use super::*;

const UID: ConnectionUid = ConnectionUid(0x9d3f_7fd4_70d6_6909);

fn at(milliseconds: u64) -> Instant {
    Instant::since_origin(Duration::from_millis(milliseconds))
}

fn address(host: u8) -> SocketAddr {
    SocketAddr::from(([10, 0, 0, host], 6783))
}

fn machine(remote: Option<SocketAddr>) -> LinkMachine {
    LinkMachine::new(UID, remote, PathMtu::new(62, DEFAULT_FLOOR))
}

fn sent(machine: &mut LinkMachine) -> Vec<SpecialFrame> {
    std::iter::from_fn(|| machine.poll_transmit()).collect()
}

fn events(machine: &mut LinkMachine) -> Vec<LinkEvent> {
    std::iter::from_fn(|| machine.poll_event()).collect()
}

fn heartbeat(uid: ConnectionUid) -> Vec<u8> {
    let mut frame = Vec::new();
    SpecialFrame::Heartbeat(uid).emit(&mut frame);
    frame
}

fn control(message: u8, data: &[u8]) -> LinkEvent {
    LinkEvent::Control { message, data: data.to_vec() }
}

/// Two links in virtual time, over a path that loses only what is too big for it.
struct Pair {
    sides: [LinkMachine; 2],
    now: Instant,
    path_mtu: usize,
    /// Packets above this size are silently dropped.
    hole: usize,
    established: [bool; 2],
}

impl Pair {
    fn new(path_mtu: usize) -> Self {
        let mut sides = [machine(Some(address(2))), machine(None)];
        sides.iter_mut().for_each(|side| side.confirm(at(0)));
        Self { sides, now: at(0), path_mtu, hole: usize::MAX, established: [false; 2] }
    }

    fn settle(&mut self) {
        let mut busy = true;
        while std::mem::take(&mut busy) {
            for index in 0..2 {
                let from = address(u8::try_from(index).unwrap() + 1);
                while let Some(special) = self.sides[index].poll_transmit() {
                    busy = true;
                    let mut frame = Vec::new();
                    special.emit(&mut frame);
                    assert!(is_special(&frame));
                    let packet = frame.len() + 62 - 14;
                    if special.channel() == Channel::DontFragment && packet > self.path_mtu {
                        self.sides[index].handle_too_big(self.now, self.path_mtu);
                    } else if packet.min(self.path_mtu) <= self.hole {
                        self.sides[1 - index].handle_special(self.now, from, &frame);
                    }
                }
                while let Some(event) = self.sides[index].poll_event() {
                    busy = true;
                    match event {
                        LinkEvent::Control { message, data } => {
                            self.sides[1 - index].handle_control(self.now, message, &data);
                        }
                        LinkEvent::Established => self.established[index] = true,
                        LinkEvent::Failed(reason) => panic!("{reason}"),
                        LinkEvent::Healthy(_) => panic!("never said"),
                    }
                }
            }
        }
    }

    fn run(&mut self, until: Instant) {
        self.settle();
        while let Some(due) = self.sides.iter().filter_map(LinkMachine::poll_timeout).min()
            && due <= until
        {
            self.now = due;
            self.sides.iter_mut().for_each(|side| side.handle_timeout(due));
            self.settle();
        }
    }
}

#[test]
fn two_sides_establish_and_stay() {
    let mut pair = Pair::new(1500);
    pair.settle();
    assert_eq!(pair.established, [true, true]);
    pair.run(at(3_600_000));
    for side in &pair.sides {
        assert!(side.stack_fragments());
        assert_eq!(side.path_mtu().mtu(), 1438);
    }
    assert_eq!(pair.sides[1].remote(), Some(address(1)));
}

#[test]
fn heartbeats_slow_down_once_acknowledged() {
    let mut link = machine(Some(address(2)));
    assert_eq!(link.poll_timeout(), None);
    link.confirm(at(0));
    assert_eq!(sent(&mut link), [SpecialFrame::Heartbeat(UID)]);
    let mut now = 0;
    for pause in [20, 40, 80, 160, 320, 500, 500] {
        now += pause;
        assert_eq!(link.poll_timeout(), Some(at(now)));
        link.handle_timeout(at(now));
        assert_eq!(sent(&mut link), [SpecialFrame::Heartbeat(UID)]);
    }
    link.handle_control(at(2000), 1, &[]);
    assert_eq!(events(&mut link), [LinkEvent::Established]);
    assert_eq!(
        sent(&mut link),
        [SpecialFrame::FragmentationTest, SpecialFrame::MtuTest(Probe::Discovery)]
    );
    assert_eq!(link.poll_timeout(), Some(at(12_000)));

    link.handle_control(at(2100), 1, &[]);
    assert_eq!(events(&mut link), [], "established once");
    assert_eq!(link.poll_timeout(), Some(at(12_000)), "and the timer stays");
}

#[test]
fn silence_for_a_minute_fails_the_link() {
    let mut link = machine(Some(address(2)));
    link.confirm(at(0));
    link.handle_special(at(30_000), address(2), &heartbeat(UID));
    link.handle_special(at(40_000), address(2), &heartbeat(ConnectionUid(1)));
    link.handle_timeout(at(89_999));
    assert_eq!(events(&mut link), [control(1, &[])]);
    link.handle_timeout(at(90_000));
    let reason = "timed out waiting for UDP heartbeat".to_owned();
    assert_eq!(events(&mut link), [LinkEvent::Failed(reason)]);
    assert_eq!(sent(&mut link), []);
    assert_eq!(link.poll_timeout(), None);
    link.handle_special(at(90_001), address(2), &heartbeat(UID));
    link.handle_control(at(90_001), 1, &[]);
    assert_eq!((events(&mut link), sent(&mut link)), (vec![], vec![]));
}

#[test]
fn only_a_heartbeat_of_this_connection_sets_the_address() {
    let mut link = machine(None);
    link.handle_special(at(0), address(7), &heartbeat(UID));
    assert_eq!(link.remote(), None, "not before it is confirmed");
    link.confirm(at(0));
    assert_eq!(sent(&mut link), []);
    for frame in [heartbeat(ConnectionUid(1)), vec![0; 1000], vec![0; 60_001], vec![0; 14]] {
        link.handle_special(at(1), address(7), &frame);
        assert_eq!(link.remote(), None);
    }
    link.handle_special(at(2), address(7), &heartbeat(UID));
    assert_eq!(link.remote(), Some(address(7)));
    assert_eq!(sent(&mut link), [SpecialFrame::Heartbeat(UID)]);
    link.handle_special(at(3), address(8), &heartbeat(UID));
    assert_eq!(link.remote(), Some(address(8)));
    link.handle_special(at(4), address(9), &[0; 1000]);
    assert_eq!(link.remote(), Some(address(8)));
}

#[test]
fn tests_are_answered_by_their_length() {
    let mut link = machine(Some(address(2)));
    link.confirm(at(0));
    for (length, expected) in [
        (60_001, Some(control(2, &[]))),
        (60_000, Some(control(3, &59_986_u16.to_be_bytes()))),
        (1452, Some(control(3, &1438_u16.to_be_bytes()))),
        (14, Some(control(3, &[0, 0]))),
        (13, None),
        (0, None),
    ] {
        link.handle_special(at(1), address(2), &vec![0; length]);
        assert_eq!(events(&mut link).first(), expected.as_ref(), "{length}");
    }
    let mut damaged = vec![0; 60_001];
    damaged[40_000] = 1;
    link.handle_special(at(1), address(2), &damaged);
    assert_eq!(events(&mut link), []);
}

#[test]
fn fragmentation_is_tested_periodically() {
    let mut pair = Pair::new(1500);
    pair.run(at(299_999));
    assert!(pair.sides[0].stack_fragments());
    pair.sides[0].handle_special(at(299_999), address(2), &heartbeat(UID));
    pair.sides[0].handle_timeout(at(300_000));
    assert!(!pair.sides[0].stack_fragments(), "until the neighbour answers");
    assert!(sent(&mut pair.sides[0]).contains(&SpecialFrame::FragmentationTest));
    pair.sides[0].handle_control(at(300_001), 2, &[]);
    assert!(pair.sides[0].stack_fragments());
}

#[test]
fn fragments_are_tested_when_the_path_shrinks() {
    let mut pair = Pair::new(1500);
    pair.run(at(1000));
    let side = &mut pair.sides[0];
    assert!(side.stack_fragments());
    side.handle_too_big(at(1000), 1300);
    assert!(!side.stack_fragments(), "those that the kernel made for 1500 bytes may vanish");
    assert!(sent(side).contains(&SpecialFrame::FragmentationTest));
    side.handle_control(at(1001), 2, &[]);
    side.handle_too_big(at(1002), 1300);
    side.handle_too_big(at(1003), 1400);
    assert!(side.stack_fragments(), "they were seen to arrive on such a path");
}

#[test]
fn a_black_hole_takes_fragments_only_until_it_is_found() {
    let mut pair = Pair::new(1500);
    pair.run(at(1000));
    // That includes the fragments that the kernel makes.
    pair.hole = 1300;
    pair.run(at(120_000));
    for side in &pair.sides {
        assert!(side.path_mtu().mtu() <= 1300 - 62 && !side.stack_fragments());
    }
}

#[test]
fn a_flood_of_tests_does_not_pile_up() {
    let mut link = machine(Some(address(2)));
    link.confirm(at(0));
    for _ in 0..10_000 {
        link.handle_special(at(1), address(2), &[0; 100]);
    }
    assert_eq!(events(&mut link).len(), MAX_EVENTS);
}

#[test]
fn established_before_any_heartbeat_came() {
    let mut link = machine(None);
    link.confirm(at(0));
    link.handle_control(at(1), 1, &[]);
    assert_eq!(sent(&mut link), []);
    while let Some(due) = link.poll_timeout() {
        link.handle_timeout(due);
        assert!(link.poll_timeout().is_none_or(|next| next > due), "no endless loop");
    }
}

#[test]
fn malformed_messages_are_ignored() {
    let mut link = machine(Some(address(2)));
    link.confirm(at(0));
    sent(&mut link);
    for (message, data) in [(0, &[][..]), (3, &[]), (3, &[5]), (4, &[1]), (255, &[0; 9])] {
        link.handle_control(at(1), message, data);
    }
    assert_eq!((events(&mut link), sent(&mut link)), (vec![], vec![]));
}

#[test]
fn counts_requests_are_answered() {
    let question = |uid, number| {
        let mut frame = Vec::new();
        SpecialFrame::CountsRequest(uid, number).emit(&mut frame);
        assert!(is_special(&frame) && frame.len() == 30);
        frame
    };
    let mut link = machine(Some(address(2))).with_counts();
    link.confirm(at(0));
    let (opened, unopened) = (0x0102, 0x0304);
    link.set_counts(Counts { opened, unopened, ..Counts::default() });
    link.handle_special(at(1), address(2), &question(ConnectionUid(1), 5));
    assert!(events(&mut link).is_empty(), "of another connection");
    link.handle_special(at(1), address(2), &question(UID, 5));
    let answer = [5_u64, opened, unopened].map(u64::to_be_bytes);
    assert_eq!(events(&mut link), [control(4, answer.as_flattened())]);

    // Weave Net takes a counts request for an MTU test and never sends one.
    let mut link = machine(Some(address(2)));
    link.confirm(at(0));
    link.handle_special(at(1), address(2), &question(UID, 5));
    assert_eq!(events(&mut link), [control(3, &[0, 16])]);
    link.handle_control(at(2), 4, answer.as_flattened());
    assert_eq!(link.poll_gso_change(), None);
}

#[test]
fn counts_requests_begin_when_the_neighbour_receives() {
    let mut link = machine(Some(address(2))).with_counts();
    link.confirm(at(0));
    let asks = |link: &mut LinkMachine| {
        let questions =
            sent(link).into_iter().filter(|it| matches!(it, SpecialFrame::CountsRequest(..)));
        questions.collect::<Vec<_>>()
    };
    link.handle_timeout(at(0));
    assert_eq!(asks(&mut link), []);
    link.handle_control(at(5), message::ESTABLISHED, &[]);
    assert_eq!(link.poll_timeout(), Some(at(5)));
    link.handle_timeout(at(5));
    assert_eq!(asks(&mut link), [SpecialFrame::CountsRequest(UID, 1)]);
    for short in 0..24 {
        link.handle_control(at(6), message::COUNTS_REPLY, &[0; 24][..short]);
    }
    link.handle_too_many_forged();
    assert_eq!(link.poll_timeout(), None);
}
