//! Which pod a container is of, as a runtime of Kubernetes says in `CNI_ARGS`.

/// The longest names (RFC 1123, sections 2.1 and 6.1.3.5).
const LONGEST_NAMESPACE: usize = 63;
const LONGEST_NAME: usize = 253;

/// Returns the pod as `namespace/name`; `None` if the runtime does not say, or says what no pod can
/// be called: the router has it for people to read.
pub(crate) fn pod(arguments: &str) -> Option<String> {
    let value = |key: &str| {
        let pairs = arguments.split(';').filter_map(|pair| pair.split_once('='));
        pairs.filter(|(name, _)| *name == key).map(|(_, value)| value).next_back()
    };
    let namespace = value("K8S_POD_NAMESPACE").filter(|name| is_name(name, LONGEST_NAMESPACE))?;
    let name = value("K8S_POD_NAME").filter(|name| is_name(name, LONGEST_NAME))?;
    Some(format!("{namespace}/{name}"))
}

fn is_name(text: &str, longest: usize) -> bool {
    let legal = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || "-.".contains(c);
    (1..=longest).contains(&text.len()) && text.chars().all(legal)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pod_is_named_by_its_namespace_and_name() {
        let said = "IgnoreUnknown=1;K8S_POD_NAMESPACE=default;K8S_POD_NAME=web-0;K8S_POD_UID=7";
        assert_eq!(pod(said).as_deref(), Some("default/web-0"));
        let long = format!("K8S_POD_NAMESPACE=a;K8S_POD_NAME={}", "x".repeat(LONGEST_NAME + 1));
        for other in [
            "",
            "K8S_POD_NAME=web-0",
            "K8S_POD_NAMESPACE=;K8S_POD_NAME=web-0",
            "K8S_POD_NAMESPACE=a;K8S_POD_NAME=b&namespace=false",
            "K8S_POD_NAMESPACE=a;K8S_POD_NAME=../../b",
            "K8S_POD_NAMESPACE=a;K8S_POD_NAME=b\nc",
            &long,
        ] {
            assert_eq!(pod(other), None, "{other:?}");
        }
    }
}
