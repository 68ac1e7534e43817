//! What a device puts before a frame: it comes from a container, if in a roundabout way.
#![no_main]

use libfuzzer_sys::fuzz_target;
use weave_core::switch::Frame;
use weave_core::wire::complete_checksum;
use weave_sleeve::port::virtio::{Offload, decode, encode, split};

fuzz_target!(|read: &[u8]| {
    let Ok((offload, frame)) = split(read) else { return };
    let Offload { checksum, segmentation } = offload;
    let header = encode(&Frame { bytes: frame, checksum, segmentation });
    assert_eq!(decode(&header, frame.len()), Ok(offload));
    if let Some(request) = checksum {
        let mut frame = frame.to_vec();
        complete_checksum(&mut frame, request.start.into(), request.offset.into())
            .expect("the header was checked against the frame");
    }
});
