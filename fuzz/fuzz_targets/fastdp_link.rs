//! Anything a neighbour, the kernel and the clock can do to a link of the fast datapath, in any
//! order. Each step is a byte that says what, two of a number, and for frames and messages so many
//! bytes.
#![no_main]

use std::time::Duration;

use libfuzzer_sys::fuzz_target;
use weave_core::mesh::ConnectionUid;
use weave_core::switch::{Addresses, LinkEvent};
use weave_core::time::Instant;
use weave_fastdp::control_message::ReceiveStatus;
use weave_fastdp::heartbeat::{self, Special};
use weave_fastdp::ipsec::IpsecError;
use weave_fastdp::{LinkMachine, Transmit, Vni};

fuzz_target!(|input: &[u8]| {
    let Some((first, mut rest)) = input.split_first() else { return };
    let uid = ConnectionUid(0x0101_0101_0101_0101);
    let mut link = LinkMachine::new(uid, 1376, first & 1 == 0);
    let mut now = Instant::ORIGIN;
    let (mut established, mut failed, mut healthy) = (0, 0, true);
    while let Some(([what, high, low], next)) = rest.split_first_chunk() {
        rest = next;
        let number = u16::from_be_bytes([*high, *low]);
        if let Some(vni) = Vni::new(u32::from(number) << 8 | u32::from(*what)) {
            assert_eq!(vni.reversed().reversed(), vni);
        }
        match what % 7 {
            0 => link.confirm(now),
            1 => {
                let (data, next) = rest.split_at(rest.len().min(usize::from(*high)));
                rest = next;
                assert!(
                    ReceiveStatus::decode(data).is_ok_and(|s| data == [s.encode()])
                        || data.len() != 1
                        || data[0] > 2
                );
                link.handle_control(now, *low, data);
            }
            2 => {
                let (frame, next) = rest.split_at(rest.len().min(usize::from(number)));
                rest = next;
                let fine = link.handle_special(now, frame).is_ok();
                assert!(!fine || Addresses::of(frame).is_some_and(Addresses::is_special));
            }
            3 => {
                let mut frame = Vec::new();
                match low % 2 {
                    0 => heartbeat::heartbeat(uid, number, &mut frame),
                    _ => heartbeat::probe(uid, &mut frame),
                }
                let _ = link.handle_special(now, &frame);
            }
            4 => {
                now += Duration::from_millis(number.into());
                link.handle_timeout(now);
            }
            5 => link.fail(&IpsecError::ThreadEnded.into()),
            _ => {
                now = link.poll_timeout().map_or(now, |due| now.max(due));
                for _ in 0..3 {
                    if link.poll_timeout().is_some_and(|at| at <= now) {
                        link.handle_timeout(now);
                    }
                }
                assert!(link.poll_timeout().is_none_or(|at| at > now), "no endless loop");
            }
        }
        while let Some(transmit) = link.poll_transmit() {
            let mut frame = Vec::new();
            let expected = match transmit {
                Transmit::Heartbeat { length } => {
                    heartbeat::heartbeat(uid, length, &mut frame);
                    Special::Heartbeat
                }
                Transmit::Probe => {
                    heartbeat::probe(uid, &mut frame);
                    Special::Probe
                }
            };
            assert_eq!(heartbeat::decode(&frame, uid), Ok(expected));
        }
        while let Some(event) = link.poll_event() {
            match event {
                LinkEvent::Established => established += 1,
                LinkEvent::Failed(_) => failed += 1,
                LinkEvent::Control { data, .. } => assert!(data.len() <= 1),
                LinkEvent::Healthy(now) => {
                    assert_ne!(std::mem::replace(&mut healthy, now), now);
                }
            }
        }
        assert!(established <= 1 && failed <= 1);
        assert_eq!(link.may_offload(), established == 1 && healthy && failed == 0);
        assert!(failed == 0 || link.poll_timeout().is_none());
    }
});
