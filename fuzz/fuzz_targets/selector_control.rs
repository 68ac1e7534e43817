//! What a neighbour's transports say over the mesh connection.
#![no_main]

use std::collections::BTreeMap;

use libfuzzer_sys::fuzz_target;
use weave_core::mesh::{ConnectionId, ConnectionUid, Control, LinkRequest, PeerName};
use weave_core::switch::{NullOverlay, Overlay, Selector, Waker};
use weave_core::time::Instant;

fuzz_target!(|message: &[u8]| {
    let request = LinkRequest {
        id: ConnectionId(1),
        own: PeerName::from_bytes([2, 0, 0, 0, 0, 1]),
        remote: PeerName::from_bytes([2, 0, 0, 0, 0, 2]),
        connection_uid: ConnectionUid(7),
        outbound: true,
        local_address: ([127, 0, 0, 1], 1).into(),
        remote_address: ([127, 0, 0, 1], 2).into(),
        session_key: None,
        overlays: Some(vec!["null".to_owned()]),
        remote_features: BTreeMap::new(),
    };
    let mut overlays: Vec<Box<dyn Overlay>> = vec![Box::new(NullOverlay)];
    let waker = Waker::new(|| {});
    let now = Instant::ORIGIN;
    let mut selector = Selector::prepare(now, &mut overlays, &request, &waker).unwrap();
    selector.confirm(now);
    selector.handle_control(now, &Control::Switched(message.to_vec().into()));
    if let [tag, data @ ..] = message {
        let control = Control::Legacy { message: *tag, data: data.to_vec().into() };
        selector.handle_control(now, &control);
    }
    assert_eq!(selector.in_use(), Some("null"));
});
