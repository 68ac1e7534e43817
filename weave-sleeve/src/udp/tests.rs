use super::*;

fn loopback() -> UdpSockets {
    UdpSockets::bind(SocketAddr::from(([127, 0, 0, 1], 0)), 1).unwrap()
}

#[test]
fn sockets_that_send_never_receive() {
    let (a, b) = (loopback(), loopback());
    let sockets = b.send_sockets();
    let path = Path { local: a.address().ip(), remote: b.address(), gso: true };
    // Sources differ, so that a hash over them would not always choose the same socket.
    let senders: Vec<_> = (0..16).map(|_| loopback()).collect();
    for sender in senders.iter().chain([&a]) {
        let lost = |failure| panic!("{failure:?}");
        for channel in [Channel::DontFragment, Channel::Fragmentable] {
            sender.send(&sender.send_sockets(), channel, &path, b"one, two", &[0..3, 5..8], lost);
        }
    }
    let mut buffer = vec![0; 32 * 2000];
    let mut all = Vec::new();
    // On loopback a datagram has arrived when the call that sends it returns.
    loop {
        let mut received = [ReceivedBatch::default(); 32];
        let Ok(count) = b.receive(0, &mut buffer, &mut received) else { break };
        for (slot, arrived) in buffer.chunks(2000).zip(&received[..count]) {
            let datagrams = slot[..arrived.length].chunks(arrived.segment.max(1));
            all.extend(datagrams.map(|datagram| (datagram.to_vec(), arrived.from)));
        }
    }
    assert_eq!(all.len(), 17 * 4);
    let from_a: Vec<_> = all.iter().filter(|(_, from)| *from == Some(a.address())).collect();
    assert_eq!(from_a.len(), 4);
    assert_eq!((&from_a[0].0[..], &from_a[1].0[..]), (&b"one"[..], &b"two"[..]));
    for sockets in [&*sockets, b.special_sockets()] {
        for channel in [Channel::DontFragment, Channel::Fragmentable] {
            let socket = sockets.socket(channel);
            let none = sys::udp::receive(socket, &mut buffer, &mut [ReceivedBatch::default()]);
            assert_eq!(none.unwrap_err().kind(), io::ErrorKind::WouldBlock);
        }
    }
}

#[test]
fn datagrams_of_a_neighbour_stay_with_one_thread() {
    let b = UdpSockets::bind(SocketAddr::from(([127, 0, 0, 1], 0)), 3).unwrap();
    let taken = |thread| {
        let mut received = [ReceivedBatch::default(); 8];
        let mut buffer = vec![0; 8 * 2000];
        let count = b.receive(thread, &mut buffer, &mut received).unwrap_or(0);
        (0..count).map(|slot| buffer[slot * 2000..][..8].to_vec()).collect::<Vec<_>>()
    };
    // Sources differ, so that a hash over them would not always choose the same socket.
    let senders: Vec<_> = (0..4).map(|_| loopback()).collect();
    for last in 0..6_u8 {
        let legacy = vec![2, 0, 0, 0, 0, last, 0x55, 0x66];
        let native = vec![3, 0x77, 2, 0, 0, 0, 0, last];
        for sender in &senders {
            let path = Path { local: sender.address().ip(), remote: b.address(), gso: true };
            let lost = |failure| panic!("{failure:?}");
            for bytes in [&legacy, &native] {
                sender.send(
                    &sender.send_sockets(),
                    Channel::DontFragment,
                    &path,
                    bytes,
                    std::slice::from_ref(&(0..8)),
                    lost,
                );
            }
        }
        let own = usize::from(last) % 3;
        let expected: Vec<_> = (0..4).flat_map(|_| [legacy.clone(), native.clone()]).collect();
        assert_eq!(taken(own), expected);
        assert!(taken((own + 1) % 3).is_empty() && taken((own + 2) % 3).is_empty());
    }
    // A datagram too short for a name goes to the first socket.
    let path = Path { local: senders[0].address().ip(), remote: b.address(), gso: true };
    senders[0].send(
        &senders[0].send_sockets(),
        Channel::DontFragment,
        &path,
        b"abc",
        std::slice::from_ref(&(0..3)),
        |_| {},
    );
    assert_eq!(taken(0).len(), 1);
}

#[test]
fn batches_arrive_as_they_were_grouped() {
    let (a, b) = (loopback(), loopback());
    assert_eq!(b.offloads(), (true, true));
    let path = Path { local: a.address().ip(), remote: b.address(), gso: true };
    let bytes: Vec<u8> = (0..=255).cycle().take(60_000).collect();
    let lengths = [[1000; 5].as_slice(), &[400, 1000, 1000, 1200], &[300; 3]].concat();
    let mut end = 0;
    let datagrams: Vec<_> = lengths
        .iter()
        .map(|length| {
            end += length;
            end - length..end
        })
        .collect();
    let lost = |failure| panic!("{failure:?}");
    let stats = a.send(&a.send_sockets(), Channel::DontFragment, &path, &bytes, &datagrams, lost);
    let mut batches = BatchSizes::default();
    [6, 2, 2, 2].into_iter().for_each(|batch| batches.add(batch));
    assert_eq!(stats, SendStats { calls: 1, batches, in_batches: 12 });
    let mut received = [ReceivedBatch::default(); 32];
    let mut buffer = vec![0; 32 * 65_536];
    let count = b.receive(0, &mut buffer, &mut received).unwrap();
    let mut arrived = Vec::new();
    for (slot, message) in buffer.chunks(65_536).zip(&received[..count]) {
        arrived.extend(slot[..message.length].chunks(message.segment).map(<[u8]>::to_vec));
    }
    let sent: Vec<_> = datagrams.iter().map(|range| bytes[range.clone()].to_vec()).collect();
    assert_eq!(arrived, sent);
    assert!(count < sent.len(), "{count} messages");
}

#[test]
fn without_gso_datagrams_are_sent_one_by_one() {
    let (a, b) = (loopback(), loopback());
    let path = Path { local: a.address().ip(), remote: b.address(), gso: true };
    let sockets = a.send_sockets();
    let SocketAddr::V4(to) = path.remote else { panic!("bound to IPv4") };
    let route =
        SendRoute { socket: sockets.socket(Channel::DontFragment), from: path.source(), to };
    let datagrams: Vec<_> = (0..10).map(|i| i * 100..(i + 1) * 100).collect();
    let bytes = vec![7; 1000];
    // As if the first batch had been refused.
    let mut lost = |failure| panic!("{failure:?}");
    let mut batches = BatchSizes::default();
    a.send_one_by_one(&route, &bytes, &datagrams, &mut batches, &mut lost);
    assert!(!a.offloads().0);
    a.send(&a.send_sockets(), Channel::DontFragment, &path, &bytes, &datagrams, lost);
    let mut received = [ReceivedBatch::default(); 32];
    let mut buffer = vec![0; 32 * 2000];
    let count = b.receive(0, &mut buffer, &mut received).unwrap();
    let arrived: usize = received[..count].iter().map(|arrived| arrived.length / 100).sum();
    assert_eq!(arrived, 20);

    // A missing route says nothing about batches.
    let (a, to) = (loopback(), SocketAddrV4::new(Ipv4Addr::BROADCAST, 9));
    let sockets = a.send_sockets();
    let route = SendRoute { socket: sockets.socket(Channel::DontFragment), from: None, to };
    let mut lost = 0;
    let mut none = BatchSizes::default();
    a.send_one_by_one(&route, &bytes, &datagrams, &mut none, &mut |_| lost += 1);
    assert_eq!(none, BatchSizes::default());
    assert_eq!((lost, a.offloads().0), (10, true));
}

#[test]
fn drops_at_a_full_receiver_are_counted() {
    let (a, b) = (loopback(), loopback());
    let path = Path { local: a.address().ip(), remote: b.address(), gso: true };
    let bytes = vec![7; 60_000];
    let all = 0..bytes.len();
    assert_eq!(b.dropped(), 0);
    let mut sent = 0;
    // The buffer has twice its nominal size.
    for _ in 0..2 * BUFFER_SIZE / bytes.len() + 100 {
        let one = std::slice::from_ref(&all);
        let lost = |failure| panic!("{failure:?}");
        a.send(&a.send_sockets(), Channel::DontFragment, &path, &bytes, one, lost);
        sent += 1;
    }
    let (mut taken, mut buffer) = (0, vec![0; 65_536]);
    while b.receive(0, &mut buffer, &mut [ReceivedBatch::default()]).is_ok() {
        taken += 1;
    }
    assert!(b.dropped() > 0);
    assert_eq!(taken + b.dropped(), sent);
}

#[test]
fn grouping_follows_the_rules_of_the_kernel() {
    let grouped = |datagrams: &[Range<usize>], longest| {
        let mut batches = vec![GsoBatch::default(); 8];
        let count = group(datagrams, longest, &mut batches);
        batches.truncate(count);
        batches.into_iter().map(|batch| (batch.bytes, batch.count)).collect::<Vec<_>>()
    };
    assert_eq!(grouped(&[0..10, 10..20, 20..25, 25..35], 64), [(0..25, 3), (25..35, 1)]);
    assert_eq!(grouped(&[0..10, 10..22], 64), [(0..10, 1), (10..22, 1)]);
    assert_eq!(grouped(&[0..10, 11..21], 64), [(0..10, 1), (11..21, 1)]);
    assert_eq!(grouped(&[0..10, 10..20, 20..30], 2), [(0..20, 2), (20..30, 1)]);
    assert_eq!(grouped(&[0..10, 10..10, 10..20], 64).len(), 3);
    assert_eq!(grouped(&[0..40_000, 40_000..70_000], 64).len(), 2);
    assert_eq!(grouped(&vec![0..10; 20], 1).len(), 8);
}

#[test]
fn a_second_router_on_the_port_gets_an_error() {
    let first = loopback();
    let error = UdpSockets::bind(first.address(), 1).unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::AddrInUse);
}

#[test]
fn only_oversized_datagrams_are_lost() {
    let (a, b) = (loopback(), loopback());
    let path = Path { local: a.address().ip(), remote: b.address(), gso: true };
    let bytes = vec![7; 66_000];
    let mut lost = Vec::new();
    let datagrams = [0..100, 0..66_000, 0..200];
    a.send(&a.send_sockets(), Channel::DontFragment, &path, &bytes, &datagrams, |failure| {
        lost.push(failure)
    });
    assert_eq!(lost, [SendFailure::TooBig]);
    let mut received = [ReceivedBatch::default(); 4];
    assert_eq!(b.receive(0, &mut vec![0; 4 * 1000], &mut received).unwrap(), 2);
    assert_eq!((received[0].length, received[1].length), (100, 200));
    assert!(UdpSockets::path_mtu(&path).unwrap() >= 65_535);
}
