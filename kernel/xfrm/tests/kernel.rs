//! Requests to a real kernel that work without ESP: SPIs and policies.
#![allow(clippy::unwrap_used, reason = "in a test a panic is the answer")]

use std::net::Ipv4Addr;

use nix::sched::{CloneFlags, unshare};
use weave_xfrm::{AeadKey, Client, Errno, Mark, Path, Policy, Reqid, Socket, Spi, State};

const PATH: Path =
    Path { source: Ipv4Addr::new(192, 0, 2, 1), destination: Ipv4Addr::new(192, 0, 2, 2) };
const MARK: Mark = Mark { value: 0x20000, mask: 0x20000 };
const OURS: Reqid = Reqid(0x6784);

/// Returns a client in a network namespace that ends with the thread of the test.
fn client() -> Client<Socket> {
    unshare(CloneFlags::CLONE_NEWNET).unwrap();
    Client::open().unwrap()
}

#[test]
fn spis_are_allocated_and_deleted_with_their_states() {
    let mut client = client();
    let spi = client.allocate_spi(PATH, OURS).unwrap();
    let other = client.allocate_spi(PATH, OURS).unwrap();
    assert!(spi.get() >= 0x100 && spi != other);
    let mut states = client.states().unwrap();
    states.sort_by_key(|state| state.spi != Some(spi));
    let told: Vec<_> = states.iter().map(|state| (state.path, state.spi, state.reqid)).collect();
    assert_eq!(told, [(PATH, Some(spi), OURS), (PATH, Some(other), OURS)]);
    assert!(client.delete_state(PATH, spi).unwrap());
    assert!(!client.delete_state(PATH, spi).unwrap());
    assert_eq!(client.states().unwrap().len(), 1);
}

#[test]
fn policies_are_replaced_and_deleted() {
    let mut client = client();
    assert_eq!(client.policy(PATH, MARK).unwrap(), None);
    for number in [0x1234, 0x5678] {
        let spi = Spi::new(number).unwrap();
        client.put_policy(&Policy { path: PATH, mark: MARK, spi, reqid: OURS }).unwrap();
        let policy = client.policy(PATH, MARK).unwrap().unwrap();
        assert_eq!((policy.path, policy.mark, policy.udp), (Some(PATH), Some(MARK), true));
        let template = policy.template.unwrap();
        assert_eq!((template.spi, template.reqid), (Some(spi), OURS));
        assert_eq!(client.policies().unwrap(), [policy]);
    }
    assert!(client.delete_policy(PATH, MARK).unwrap());
    assert!(!client.delete_policy(PATH, MARK).unwrap());
    assert_eq!(client.policies().unwrap(), []);
}

/// The state is added if the kernel has ESP; otherwise the error says what is missing.
#[test]
fn a_state_is_added_or_refused_with_a_reason() {
    let mut client = client();
    let spi = client.allocate_spi(PATH, OURS).unwrap();
    let key = AeadKey::new([7; 36]);
    match client.update_state(&State { path: PATH, spi, reqid: OURS, key }) {
        Ok(()) => {
            let states = client.states().unwrap();
            assert!(states.iter().any(|state| state.spi == Some(spi) && state.aes_gcm));
        }
        Err(error) => {
            let reason = error.errno();
            let missing = [Errno::ENOENT, Errno::ENOSYS, Errno::EPROTONOSUPPORT];
            assert!(missing.map(Some).contains(&reason), "{error}");
        }
    }
}
