//! Under which name the router keeps the addresses of an attachment.

use weave_host::Cidr;

use crate::environment::Environment;

/// The interface that runtimes give every container, as its first.
const FIRST_INTERFACE: &str = "eth0";

/// Returns the holder of one interface of a container.
///
/// Weave Net knows only containers: one that is attached twice gets one address for both
/// interfaces, and the first DEL frees it. So each further interface is a holder of its own, while
/// `eth0` keeps the name that scripts ask for and that routers of Weave Net have stored.
pub(crate) fn holder(container: &str, interface: &str) -> String {
    if interface == FIRST_INTERFACE {
        container.to_owned()
    } else {
        format!("{container}@{interface}")
    }
}

/// Returns the holder that a call is about.
pub(crate) fn holder_of(environment: &Environment) -> String {
    holder(&environment.container, &environment.interface)
}

/// Returns the path of a holder in the router's interface, and of a network or address of it.
pub(crate) fn path(holder: &str, place: Option<Cidr>) -> String {
    let mut path = format!("/ip/{}", escaped(holder));
    if let Some(cidr) = place {
        path += &format!("/{cidr}");
    }
    path
}

/// Escapes a name: that of an interface can have nearly any character in it (RFC 3986, section
/// 2.1).
pub(crate) fn escaped(text: &str) -> String {
    let mut escaped = String::new();
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-_.~@".contains(&byte) {
            escaped.push(char::from(byte));
        } else {
            escaped += &format!("%{byte:02X}");
        }
    }
    escaped
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_interface_is_a_holder_of_its_own() {
        assert_eq!(holder("3f2a", "eth0"), "3f2a");
        assert_eq!(holder("3f2a", "net1"), "3f2a@net1");
        assert_eq!(path(&holder("3f2a", "a?#é"), None), "/ip/3f2a@a%3F%23%C3%A9");
        let cidr = "10.32.0.5/12".parse().unwrap();
        assert_eq!(path("3f2a", Some(cidr)), "/ip/3f2a/10.32.0.5/12");
    }
}
