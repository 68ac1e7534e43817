//! The list of what is in the image: SPDX 2.3, as JSON. It is a file of the image, so that it goes
//! where the image goes.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Context as _, Result};
use serde_json::{Value, json};

use super::archive::Labels;
use super::options::Target;
use super::programs::Package;
use super::source::Source;

/// A crate that is linked into the binaries.
struct Crate {
    name: String,
    version: String,
    licence: Option<String>,
    is_ours: bool,
}

/// Returns the document; `metadata` is what cargo knows of the workspace.
pub fn document(
    metadata: &Value,
    labels: &Labels,
    packages: &BTreeSet<Package>,
    target: &Target,
    source: &Source,
) -> Result<String> {
    let crates = linked(metadata, "weave")?;
    let architecture = target.architecture();
    let mut parts = vec![json!({
        "SPDXID": "SPDXRef-image",
        "name": "weave-image",
        "versionInfo": source.version,
        "downloadLocation": "NOASSERTION",
        "licenseDeclared": "Apache-2.0",
        "primaryPackagePurpose": "CONTAINER",
    })];
    for Crate { name, version, licence, is_ours } in crates {
        let url = format!("pkg:cargo/{name}@{version}");
        let from = if is_ours {
            "NOASSERTION".to_owned()
        } else {
            format!("https://crates.io/crates/{name}")
        };
        parts.push(part("cargo", &name, &version, licence.as_deref(), &from, &url));
    }
    for Package { name, version } in packages {
        let url = format!("pkg:deb/debian/{name}@{version}?arch={architecture}");
        parts.push(part("deb", name, version, None, "NOASSERTION", &url));
    }
    let contained = parts[1..].iter().map(|part| relation("SPDXRef-image", "CONTAINS", part));
    let mut relations = vec![relation("SPDXRef-DOCUMENT", "DESCRIBES", &parts[0])];
    relations.extend(contained);
    let name = format!("weave-{}-{architecture}", source.version);
    let document = json!({
        "spdxVersion": "SPDX-2.3",
        "dataLicense": "CC0-1.0",
        "SPDXID": "SPDXRef-DOCUMENT",
        "documentNamespace": format!("https://spdx.org/spdxdocs/{name}-{}", source.revision),
        "name": name,
        "creationInfo": { "created": labels.created(), "creators": ["Tool: cargo xtask image"] },
        "packages": parts,
        "relationships": relations,
    });
    Ok(serde_json::to_string_pretty(&document)? + "\n")
}

fn part(
    kind: &str,
    name: &str,
    version: &str,
    licence: Option<&str>,
    from: &str,
    url: &str,
) -> Value {
    // Letters, digits, dots and hyphens are all there may be.
    let id: String = format!("SPDXRef-{kind}-{name}-{version}")
        .chars()
        .map(|c| if c.is_ascii_alphanumeric() || c == '.' { c } else { '-' })
        .collect();
    json!({
        "SPDXID": id,
        "name": name,
        "versionInfo": version,
        "downloadLocation": from,
        "licenseDeclared": licence.unwrap_or("NOASSERTION"),
        "externalRefs": [{
            "referenceCategory": "PACKAGE-MANAGER",
            "referenceType": "purl",
            "referenceLocator": url,
        }],
    })
}

fn relation(from: &str, kind: &str, to: &Value) -> Value {
    json!({
        "spdxElementId": from,
        "relationshipType": kind,
        "relatedSpdxElement": to["SPDXID"],
    })
}

/// The crates that a package needs at run time, itself among them.
fn linked(metadata: &Value, package: &str) -> Result<Vec<Crate>> {
    let list = |value: &Value| value.as_array().cloned().unwrap_or_default();
    let by_id = |list: Vec<Value>| -> BTreeMap<String, Value> {
        let id = |value: &Value| value["id"].as_str().unwrap_or_default().to_owned();
        list.into_iter().map(|value| (id(&value), value)).collect()
    };
    let packages = by_id(list(&metadata["packages"]));
    let nodes = by_id(list(&metadata["resolve"]["nodes"]));
    let is_ours = |value: &Value| value["source"].is_null();
    let first = packages.iter().find(|(_, value)| value["name"] == package && is_ours(value));
    let mut waiting = vec![first.with_context(|| format!("no package {package}"))?.0.clone()];
    let mut seen = BTreeSet::new();
    while let Some(id) = waiting.pop() {
        if !seen.insert(id.clone()) {
            continue;
        }
        let node = nodes.get(&id).with_context(|| format!("{id} is not resolved"))?;
        for dependency in list(&node["deps"]) {
            // Neither for building nor for tests.
            let is_linked =
                list(&dependency["dep_kinds"]).iter().any(|kind| kind["kind"].is_null());
            if is_linked && let Some(id) = dependency["pkg"].as_str() {
                waiting.push(id.to_owned());
            }
        }
    }
    let mut crates = Vec::new();
    for id in seen {
        let package = packages.get(&id).with_context(|| format!("{id} is no package"))?;
        let text = |key: &str| package[key].as_str().map(str::to_owned);
        crates.push(Crate {
            name: text("name").context("no name")?,
            version: text("version").context("no version")?,
            licence: text("license"),
            is_ours: is_ours(package),
        });
    }
    crates.sort_by(|one, other| (&one.name, &one.version).cmp(&(&other.name, &other.version)));
    Ok(crates)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_linked_is_listed_and_what_only_builds_is_not() {
        let package = |name: &str, source: Option<&str>| json!({ "id": name, "name": name, "version": "1.0.0", "source": source });
        let needs = |name: &str, kind: Option<&str>| json!({ "pkg": name, "dep_kinds": [{ "kind": kind }] });
        let metadata = json!({
            "packages": [
                package("weave", None), package("serde", Some("registry")),
                package("cc", Some("registry")), package("proptest", Some("registry")),
            ],
            "resolve": { "nodes": [
                { "id": "weave", "deps": [needs("serde", None), needs("cc", Some("build"))] },
                { "id": "serde", "deps": [needs("weave", None), needs("proptest", Some("dev"))] },
                { "id": "cc", "deps": [] },
                { "id": "proptest", "deps": [] },
            ] },
        });
        let crates = linked(&metadata, "weave").unwrap();
        let names: Vec<_> =
            crates.iter().map(|found| (found.name.as_str(), found.is_ours)).collect();
        assert_eq!(names, [("serde", false), ("weave", true)]);
    }
}
