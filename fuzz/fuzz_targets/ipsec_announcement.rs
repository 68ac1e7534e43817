//! Message 1 of the fast datapath, as a neighbour can send it: refused, or a command for the
//! kernel with the neighbour's number, which alone makes no link ready.
#![no_main]

use libfuzzer_sys::fuzz_target;
use weave_core::mesh::{PeerName, SessionKey};
use weave_fastdp::ipsec::{ANNOUNCEMENT_LEN, Announcement, KeyCommand, KeyExchange};

fuzz_target!(|data: &[u8]| {
    let (own, remote) = (PeerName::from_bytes([2; 6]), PeerName::from_bytes([4; 6]));
    let mut exchange = KeyExchange::new(own, remote, SessionKey([0xa0; 32]));
    let decoded = Announcement::decode(data);
    let command = exchange.handle_announcement(data);
    assert_eq!(decoded.is_ok(), command.is_ok());
    assert!(decoded.is_err() || data.len() == ANNOUNCEMENT_LEN);
    assert!(!exchange.is_ready());
    if let (Ok(announcement), Ok(KeyCommand::Send { spi, .. })) = (decoded, command) {
        assert_eq!(announcement.spi, spi);
        let encoded = announcement.encode();
        assert_eq!(encoded[..36], data[..36]);
        assert_eq!(Announcement::decode(&encoded), Ok(announcement));
    }
});
