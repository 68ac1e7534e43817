//! Network devices that exchange Ethernet frames with a user-space switch.
//!
//! ```text
//!   bridge ── device ── Capture ──▶ Frame: bytes, unfinished checksum, segmentation ──▶ switch
//!   bridge ── device ◀── Inject ◀── Coalescer: frames of a flow joined to one ◀── switch
//! ```
//!
//! * [`TapPort`] is a TAP device, itself a port of the bridge.
//! * [`PacketPort`] is a packet socket on the far end of a veth pair.
//! * [`MemoryPort`] is for tests: the test takes the place of the bridge.
//! * [`FaultyPort`] loses and damages the frames of another port; [`RecordedPort`] writes them to a
//!   pcap file.
//! * [`offload`] does what a network card would: segmentation, coalescing and checksums, as pure
//!   functions on slices.
//! * [`virtio`] is the header in which the kernel hands over unfinished frames.
//! * [`sys`] has the system calls that transports share with the ports.
//!
//! # Example
//!
//! ```
//! use weave_port::{MemoryPort, More, Port as _};
//!
//! let (mut port, bridge) = MemoryPort::new()?;
//! let mut capture = port.capture()?;
//! let mut injector = port.injector()?;
//!
//! // Every frame that the bridge sends is sent back to it.
//! bridge.send(&[0xff; 60]);
//! let more = capture.capture(&mut |frame| injector.inject(frame))?;
//! injector.flush();
//! assert_eq!(more, More::No);
//!
//! let mut frame = Vec::new();
//! assert!(bridge.receive(std::time::Duration::from_secs(1), &mut frame));
//! assert_eq!(frame, [0xff; 60]);
//! # Ok::<(), std::io::Error>(())
//! ```
//!
//! The frames, their marks and the trait [`Inject`](weave_core::switch::Inject) are those of
//! [`weave_core::switch`].

#![deny(unsafe_code)]

pub mod offload;
#[allow(unsafe_code, reason = "system calls")]
pub mod sys;

mod counters;
mod fault;
mod memory;
mod packet;
mod pcap;
mod port;
mod super_frame_writer;
mod tap;

pub use counters::PortCounters;
pub use fault::{Faults, FaultyPort};
pub use memory::{MemoryHost, MemoryPort};
pub use packet::PacketPort;
pub use pcap::{PcapWriter, RecordedPort};
pub use port::{Capture, More, Port};
pub use sys::tap::Offloads;
pub use tap::TapPort;
pub use weave_core::switch::virtio;
