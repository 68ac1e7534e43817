//! The inside of native datagrams: records put together again are what they were taken from, and
//! pieces become super-frames that can be cut.
#![no_main]

use libfuzzer_sys::fuzz_target;
use weave_core::switch::Frame;
use weave_sleeve::native::{Form, Records};
use weave_port::offload::{Piece, Rejoiner, Segments};

fuzz_target!(|input: &[u8]| {
    let mut again = Vec::new();
    let mut failed = false;
    let mut rejoiner = Rejoiner::new();
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
        if let Form::Piece { headers, size, offset } = record.form {
            let (headers, segment) = record.bytes.split_at(headers.into());
            let piece = Piece { headers, segment, size: size.get(), offset };
            let _ = rejoiner.push((), piece, &mut each);
        }
    }
    rejoiner.flush(&mut each);
    assert!(payload <= input.len(), "nothing is made up");
    assert!(failed || again == input);
});
