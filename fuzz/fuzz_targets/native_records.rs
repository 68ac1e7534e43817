//! The contents of native datagrams: records written again give the same bytes, and
//! segments become super-frames that can be segmented again.
#![no_main]

use libfuzzer_sys::fuzz_target;
use weave_core::switch::Frame;
use weave_port::offload::{Reassembler, Segment, Segments};
use weave_sleeve::native::{Form, Records};

fuzz_target!(|input: &[u8]| {
    let mut again = Vec::new();
    let mut failed = false;
    let mut reassembler = Reassembler::new();
    let mut payload = 0;
    let mut each = |(), frame: Frame<'_>| {
        let segments = Segments::new(frame).expect("what is joined is as marked");
        for index in 0..segments.count() {
            let mut place = vec![0; segments.frame_len(index)];
            segments.write(index, &mut place);
        }
        payload += frame.bytes.len();
    };
    for record in Records::new(input) {
        assert!(!failed, "nothing comes after an error");
        let Ok(record) = record else {
            failed = true;
            continue;
        };
        let end = again.len();
        again.resize(end + record.buffer_len(), 0);
        assert_eq!(record.emit(&mut again[end..]), Some(record.buffer_len()));
        if let Form::Segment { headers, size, offset } = record.form {
            let (headers, payload) = record.bytes.split_at(headers.into());
            let segment = Segment { headers, payload, size: size.get(), offset };
            let _ = reassembler.push((), segment, &mut each);
        }
    }
    reassembler.flush(&mut each);
    assert!(payload <= input.len(), "nothing is made up");
    assert!(failed || again == input);
});
