//! The stream of the tcp overlay in clear: greetings, then records.

#![no_main]

use libfuzzer_sys::fuzz_target;
use weave_tcp::wire::{
    ACCEPTOR_GREETING_LEN, AcceptorGreeting, Content, DIALLER_GREETING_LEN, DiallerGreeting,
    LENGTH_LEN, decode_length,
};

fuzz_target!(|bytes: &[u8]| {
    if let Some(greeting) = bytes.first_chunk::<DIALLER_GREETING_LEN>()
        && let Ok(decoded) = DiallerGreeting::decode(greeting)
    {
        assert_eq!(&decoded.encode(), greeting);
    }
    if let Some(greeting) = bytes.first_chunk::<ACCEPTOR_GREETING_LEN>()
        && let Ok(decoded) = AcceptorGreeting::decode(greeting)
    {
        assert_eq!(&decoded.encode(), greeting);
    }
    let mut rest = bytes;
    while let Some((length, after)) = rest.split_first_chunk::<LENGTH_LEN>() {
        let Ok(length) = decode_length(*length) else { return };
        let Some((body, next)) = after.split_at_checked(length) else { return };
        let Ok(content) = Content::decode(body) else { return };
        let mut again = Vec::new();
        content.encode(&mut again);
        // What is not used of an offload is not kept.
        assert_eq!(again.len(), body.len());
        let mut twice = Vec::new();
        Content::decode(&again).expect("what was encoded").encode(&mut twice);
        assert_eq!(again, twice);
        rest = next;
    }
});
