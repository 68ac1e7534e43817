//! Filters for the frames that the router sees of those that the kernel delivers: programs of the
//! kernel's packet filter (`Documentation/networking/filter.rst`).
//!
//! A program ends with the number of bytes of the packet that are passed on; zero drops it. Jumps
//! count the instructions in between, at most 255, so that a list is a chain of single steps.

#![allow(
    clippy::cast_possible_truncation,
    reason = "constants of the kernel are wider in libc than the fields they go to"
)]

use libc::sock_filter;
use weave_core::wire::MacAddress;

use crate::vni::Vni;

/// Passes the whole packet.
const ALL: u32 = u32::MAX;
const NOTHING: u32 = 0;

/// Length of the longest program that the kernel accepts (`BPF_MAXINSNS`).
const MAX_LEN: usize = 4096;
/// Upper bound of the number of instructions around a list.
const OVERHEAD: usize = 32;

/// Offset of ancillary data: the type of the packet (`SKF_AD_OFF + SKF_AD_PKTTYPE`).
const PACKET_TYPE: u32 = (-0x1000 + 4_i32) as u32;
/// Base of offsets from the network header (`SKF_NET_OFF`).
const NETWORK: u32 = -0x10_0000_i32 as u32;

const HOST: u32 = libc::PACKET_HOST as u32;

const LOAD_WORD: u16 = (libc::BPF_LD | libc::BPF_W | libc::BPF_ABS) as u16;
const LOAD_HALF: u16 = (libc::BPF_LD | libc::BPF_H | libc::BPF_ABS) as u16;
const LOAD_BYTE: u16 = (libc::BPF_LD | libc::BPF_B | libc::BPF_ABS) as u16;
const SHIFT_RIGHT: u16 = (libc::BPF_ALU | libc::BPF_RSH | libc::BPF_K) as u16;
const IF_EQUAL: u16 = (libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K) as u16;
const IF_ANY_BIT: u16 = (libc::BPF_JMP | libc::BPF_JSET | libc::BPF_K) as u16;
const RETURN: u16 = (libc::BPF_RET | libc::BPF_K) as u16;

/// The frames that the router wants to see of those that a device delivers to the bridge.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum Interest {
    /// Special frames and frames for groups.
    Groups,
    /// Also frames for stations that are not among these, since they have to be relayed.
    NotFor(Vec<MacAddress>),
    /// All frames.
    Everything,
}

/// Returns the program for the device of a tunnel.
pub(super) fn delivered(interest: &Interest) -> Vec<sock_filter> {
    let mut program = Program::default();
    let elsewhere = match interest {
        Interest::Everything => ALL,
        Interest::NotFor(stations) if 2 * stations.len() + OVERHEAD > MAX_LEN => ALL,
        Interest::NotFor(_) | Interest::Groups => {
            program.load(LOAD_BYTE, 0);
            program.end_if(IF_ANY_BIT, 1, ALL);
            // The destination of a special frame is zero. No station has such an address.
            program.load(LOAD_WORD, 0);
            program.end_if(IF_EQUAL, 0, ALL);
            match interest {
                Interest::NotFor(stations) => {
                    program.load(LOAD_WORD, 2);
                    for MacAddress([_, _, end @ ..]) in stations {
                        program.end_if(IF_EQUAL, u32::from_be_bytes(*end), NOTHING);
                    }
                    ALL
                }
                _ => NOTHING,
            }
        }
    };
    program.end(elsewhere);
    program.0
}

/// Returns the program for the underlay: VXLAN to these ports of this host for which there is no
/// device, which are frames that this peer relays, or that a neighbour relayed to it.
pub(super) fn undelivered(ports: &[u16], devices: &[Vni]) -> Vec<sock_filter> {
    let mut program = Program::default();
    if ports.is_empty() || 2 * (devices.len() + ports.len()) + OVERHEAD > MAX_LEN {
        program.end(NOTHING);
        return program.0;
    }
    program.load(LOAD_WORD, PACKET_TYPE);
    program.end_unless(HOST, NOTHING);
    // IPv4 without options, as kernels send VXLAN.
    program.load(LOAD_BYTE, NETWORK);
    program.end_unless(0x45, NOTHING);
    program.load(LOAD_BYTE, NETWORK + 9);
    program.end_unless(libc::IPPROTO_UDP as u32, NOTHING);
    // Fragments: more to come, or not the first.
    program.load(LOAD_HALF, NETWORK + 6);
    program.end_if(IF_ANY_BIT, 0x3fff, NOTHING);
    program.load(LOAD_BYTE, NETWORK + 28);
    program.0.push(jump(IF_ANY_BIT, 0x08, 1, 0));
    program.end(NOTHING);
    program.load(LOAD_WORD, NETWORK + 32);
    program.0.push(sock_filter { code: SHIFT_RIGHT, jt: 0, jf: 0, k: 8 });
    for vni in devices {
        program.end_if(IF_EQUAL, vni.get(), NOTHING);
    }
    program.load(LOAD_HALF, NETWORK + 22);
    for port in ports {
        program.end_if(IF_EQUAL, u32::from(*port), ALL);
    }
    program.end(NOTHING);
    program.0
}

#[derive(Default)]
struct Program(Vec<sock_filter>);

impl Program {
    fn load(&mut self, code: u16, offset: u32) {
        self.0.push(sock_filter { code, jt: 0, jf: 0, k: offset });
    }

    fn end(&mut self, bytes: u32) {
        self.0.push(sock_filter { code: RETURN, jt: 0, jf: 0, k: bytes });
    }

    fn end_if(&mut self, condition: u16, operand: u32, bytes: u32) {
        self.0.push(jump(condition, operand, 0, 1));
        self.end(bytes);
    }

    fn end_unless(&mut self, value: u32, bytes: u32) {
        self.0.push(jump(IF_EQUAL, value, 1, 0));
        self.end(bytes);
    }
}

const fn jump(code: u16, operand: u32, if_so: u8, if_not: u8) -> sock_filter {
    sock_filter { code, jt: if_so, jf: if_not, k: operand }
}

#[cfg(test)]
mod tests {
    use weave_core::mesh::ShortId;

    use super::*;

    /// Returns how much a program passes of a packet of this type, whose network header is at
    /// `network`.
    fn run(program: &[sock_filter], packet: &[u8], kind: u32, network: usize) -> u32 {
        let (mut at, mut accumulator) = (0, 0);
        loop {
            let sock_filter { code, jt, jf, k } = program[at];
            at += 1;
            let load = |length: usize| {
                if k == PACKET_TYPE {
                    return Some(kind);
                }
                let start = match k.checked_sub(NETWORK) {
                    Some(offset) if offset < 0x1000 => network + offset as usize,
                    _ => k as usize,
                };
                let bytes = packet.get(start..start + length)?;
                Some(bytes.iter().fold(0, |number, byte| number << 8 | u32::from(*byte)))
            };
            let loaded = match code {
                LOAD_WORD => load(4),
                LOAD_HALF => load(2),
                LOAD_BYTE => load(1),
                _ => Some(accumulator),
            };
            // A load beyond the packet ends the program.
            let Some(loaded) = loaded else { return NOTHING };
            accumulator = loaded;
            let jump = |condition| usize::from(if condition { jt } else { jf });
            match code {
                SHIFT_RIGHT => accumulator >>= k,
                IF_EQUAL => at += jump(accumulator == k),
                IF_ANY_BIT => at += jump(accumulator & k != 0),
                RETURN => return k,
                _ => {}
            }
        }
    }

    fn frame(destination: [u8; 6]) -> Vec<u8> {
        let source = if destination == [0; 6] { [0; 6] } else { [2, 0xcc, 0, 0, 0, 1] };
        [&destination[..], &source, &[8, 0], &[0; 40]].concat()
    }

    #[test]
    fn the_router_sees_what_it_needs() {
        let here = [2, 0xaa, 1, 2, 3, 4];
        let elsewhere = [2, 0xaa, 1, 2, 3, 5];
        let groups = Interest::Groups;
        let not_here = Interest::NotFor(vec![MacAddress([2, 0xaa, 9, 9, 9, 9]), MacAddress(here)]);
        let too_many = Interest::NotFor(vec![MacAddress(here); MAX_LEN]);
        for (interest, for_here, for_elsewhere) in [
            (&groups, NOTHING, NOTHING),
            (&not_here, NOTHING, ALL),
            (&too_many, ALL, ALL),
            (&Interest::Everything, ALL, ALL),
        ] {
            let program = delivered(interest);
            assert!(program.len() <= MAX_LEN);
            let seen = |destination| run(&program, &frame(destination), HOST, 14);
            assert_eq!((seen(here), seen(elsewhere)), (for_here, for_elsewhere), "{interest:?}");
            for special in [[0; 6], [0xff; 6], [1, 0, 0x5e, 0, 0, 1]] {
                assert_eq!(seen(special), ALL);
            }
        }
    }

    fn packet(port: u16, vni: Vni) -> Vec<u8> {
        let mut packet = vec![0; 14];
        packet.extend([0x45, 0, 0, 90, 0, 0, 0x40, 0, 64, 17, 0, 0, 10, 0, 0, 1, 10, 0, 0, 2]);
        packet.extend([0xc0, 0, 0, 0, 0, 70, 0, 0]);
        packet[36..38].copy_from_slice(&port.to_be_bytes());
        packet.extend([8, 0, 0, 0]);
        packet.extend((vni.get() << 8).to_be_bytes());
        packet.extend([0; 54]);
        packet
    }

    #[test]
    fn packets_without_a_device_are_received() {
        let vni = |source, destination| Vni {
            source: ShortId::new(source).unwrap(),
            destination: ShortId::new(destination).unwrap(),
        };
        let program = undelivered(&[6784, 7000], &[vni(2, 1), vni(3, 1)]);
        let seen = |packet: &[u8]| run(&program, packet, HOST, 14);
        assert_eq!(seen(&packet(6784, vni(2, 1))), NOTHING, "there is a device");
        for (port, vni, expected) in [
            (6784, vni(2, 3), ALL),
            (7000, vni(4, 1), ALL),
            (6784, vni(1, 2), ALL),
            (6783, vni(2, 3), NOTHING),
        ] {
            assert_eq!(seen(&packet(port, vni)), expected, "{port} {vni}");
        }
        let relayed = packet(6784, vni(2, 3));
        assert_eq!(run(&program, &relayed, libc::PACKET_OTHERHOST as u32, 14), NOTHING);
        for (place, value) in [(14, 0x46), (23, 6), (20, 0x20), (21, 1), (42, 0)] {
            let mut other = relayed.clone();
            other[place] = value;
            assert_eq!(seen(&other), NOTHING, "{place}");
        }
        assert_eq!(seen(&relayed[..40]), NOTHING);
        assert_eq!(run(&undelivered(&[], &[]), &relayed, HOST, 14), NOTHING);
    }
}
