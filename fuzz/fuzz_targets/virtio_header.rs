//! What a device puts before a frame: it comes from a container, if in a roundabout way.
#![no_main]

use libfuzzer_sys::fuzz_target;
use weave_core::switch::Frame;
use weave_core::wire::EtherType;
use weave_core::wire::complete_checksum;
use weave_core::wire::vlan::{TAG_LEN, Tag};
use weave_port::virtio::{Offload, decode, encode, frame, frame_with_tag};

fuzz_target!(|read: &[u8]| {
    let Ok(made) = frame(read) else { return };
    let Frame { bytes, checksum, segmentation } = made;
    assert_eq!(decode(&encode(&made), bytes.len()), Ok(Offload { checksum, segmentation }));
    let tag = Tag { kind: EtherType::VLAN, control: 5 };
    if let Ok(tagged) = frame_with_tag(&mut read.to_vec(), Some(tag)) {
        assert_eq!(tagged.bytes.len(), bytes.len() + TAG_LEN);
    }
    if let Some(request) = checksum {
        let mut frame = bytes.to_vec();
        complete_checksum(&mut frame, request.start.into(), request.offset.into())
            .expect("the header was checked against the frame");
    }
});
