//! Anything a neighbour, the kernel and the clock can do to a link, in any order. Each step is a
//! byte that says what, two of a number, and for frames and messages so many bytes.
#![no_main]

use std::net::SocketAddr;
use std::time::Duration;

use libfuzzer_sys::fuzz_target;
use weave_core::mesh::ConnectionUid;
use weave_core::mtu::{DEFAULT_FLOOR, PathMtu, SMALLEST_MTU, UNKNOWN_MTU};
use weave_core::switch::LinkEvent;
use weave_core::time::Instant;
use weave_sleeve::link::{Counts, LinkMachine, is_special};

fuzz_target!(|input: &[u8]| {
    let address = |host| SocketAddr::from(([10, 0, 0, host], 6783));
    let Some((first, mut rest)) = input.split_first() else { return };
    let remote = (first & 1 == 0).then(|| address(1));
    let uid = ConnectionUid(0x0101_0101_0101_0101);
    let link = LinkMachine::new(uid, remote, PathMtu::new(62, DEFAULT_FLOOR));
    let mut link = if first & 2 == 0 { link } else { link.with_counts() };
    let mut counts = Counts::default();
    let mut now = Instant::ORIGIN;
    let (mut established, mut failed) = (0, 0);
    while let Some(([what, high, low], next)) = rest.split_first_chunk() {
        rest = next;
        let number = u16::from_be_bytes([*high, *low]);
        counts.sent += u64::from(*high);
        counts.in_batches += u64::from(*low);
        counts.opened += u64::from(number);
        link.set_counts(counts);
        match what % 8 {
            0 => link.confirm(now),
            1 => {
                let (data, next) = rest.split_at(rest.len().min(usize::from(*high)));
                rest = next;
                link.handle_control(now, *low, data);
            }
            2 => {
                let (frame, next) = rest.split_at(rest.len().min(usize::from(number)));
                rest = next;
                link.handle_special(now, address(*low), frame);
            }
            3 => link.handle_special(now, address(*low), &vec![0; usize::from(number)]),
            4 => {
                let heartbeat = [&[0; 14][..], &[1; 8]].concat();
                link.handle_special(now, address(*low), &heartbeat);
            }
            5 => link.handle_too_big(now, usize::from(number)),
            6 => {
                now += Duration::from_millis(number.into());
                link.handle_timeout(now);
            }
            _ => {
                now = link.poll_timeout().map_or(now, |due| now.max(due));
                // Timers that are overdue together fire one after the other.
                let overdue = |link: &LinkMachine| link.poll_timeout().is_some_and(|at| at <= now);
                for _ in 0..4 {
                    if overdue(&link) {
                        link.handle_timeout(now);
                    }
                }
                assert!(!overdue(&link), "no endless loop");
            }
        }
        while let Some(special) = link.poll_transmit() {
            assert!(link.remote().is_some());
            assert_eq!(failed, 0);
            let mut frame = Vec::new();
            special.emit(&mut frame);
            assert!(is_special(&frame) && frame.len() <= UNKNOWN_MTU + 14);
        }
        let mut events = 0;
        while let Some(event) = link.poll_event() {
            events += 1;
            match event {
                LinkEvent::Established => established += 1,
                LinkEvent::Failed(_) => failed += 1,
                LinkEvent::Control { data, .. } => assert!(data.len() <= 24),
                LinkEvent::Healthy(_) => unreachable!("never said"),
            }
        }
        assert!(link.uses_gso() == link.gso_loss().is_none());
        assert!(events <= 3 && established <= 1 && failed <= 1);
        assert!((SMALLEST_MTU..=UNKNOWN_MTU).contains(&link.path_mtu().mtu()));
        assert!(failed == 0 || link.poll_timeout().is_none());
    }
});
