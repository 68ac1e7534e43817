//! What is proven of an archive before anybody gets it.

use std::collections::BTreeMap;
use std::io::Read as _;
use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context as _, Result, ensure};
use flate2::read::GzDecoder;
use serde_json::Value;

use super::archive::{CONFIG, LAYER, MANIFEST, digest};
use super::tree::Tree;
use crate::tools::output_of_both;

/// Programs of the image, and what their answer to `--version` begins with.
const PROGRAMS: [(&str, &str); 6] = [
    ("weave", "weave "),
    ("nft", "nftables "),
    ("iptables-nft", "iptables "),
    ("iptables-legacy", "iptables "),
    ("ip6tables-nft-save", "ip6tables-nft-save "),
    ("ip6tables-legacy-restore", "ip6tables-restore "),
];

/// Fails unless it is an OCI layout in which everything is what its digest says.
pub fn is_sound(archive: &[u8]) -> Result<()> {
    let mut files = BTreeMap::new();
    for entry in tar::Archive::new(archive).entries()? {
        let mut entry = entry?;
        let mut content = Vec::new();
        entry.read_to_end(&mut content)?;
        files.insert(entry.path()?.into_owned(), content);
    }
    let json = |path: &str| -> Result<Value> {
        let content = files.get(&PathBuf::from(path)).with_context(|| format!("no {path}"))?;
        serde_json::from_slice(content).with_context(|| path.to_owned())
    };
    let blob = |descriptor: &Value, kind: &str| -> Result<&Vec<u8>> {
        ensure!(descriptor["mediaType"] == kind, "{descriptor} is no {kind}");
        let named = descriptor["digest"].as_str().context("no digest")?;
        let name = named.strip_prefix("sha256:").context("another digest than sha256")?;
        let path = PathBuf::from("blobs/sha256").join(name);
        let blob = files.get(&path).with_context(|| format!("no {}", path.display()))?;
        ensure!(digest(blob) == named, "{} is not what its name says", path.display());
        ensure!(descriptor["size"] == blob.len(), "{} has another size", path.display());
        Ok(blob)
    };
    ensure!(json("oci-layout")?["imageLayoutVersion"] == "1.0.0", "another version of the layout");
    let index = json("index.json")?;
    let images = index["manifests"].as_array().context("an index of nothing")?;
    for image in images {
        let manifest: Value = serde_json::from_slice(blob(image, MANIFEST)?)?;
        let config: Value = serde_json::from_slice(blob(&manifest["config"], CONFIG)?)?;
        ensure!(config["architecture"] == image["platform"]["architecture"], "two architectures");
        let layers = manifest["layers"].as_array().context("no layers")?;
        let unpacked = config["rootfs"]["diff_ids"].as_array().context("no diff_ids")?;
        ensure!(layers.len() == unpacked.len(), "as many layers as diff_ids there are not");
        for (layer, expected) in layers.iter().zip(unpacked) {
            let mut content = Vec::new();
            GzDecoder::new(blob(layer, LAYER)?.as_slice()).read_to_end(&mut content)?;
            ensure!(*expected == digest(&content), "{expected} is not what the layer is");
        }
    }
    ensure!(!images.is_empty(), "an index of nothing");
    Ok(())
}

/// Runs its programs where nothing else is.
pub fn runs(tree: &Tree) -> Result<()> {
    let folder = tempfile::tempdir().context("a folder to unpack the image")?;
    tree.unpack(folder.path())?;
    for (program, begins) in PROGRAMS {
        // Without privileges, too: in a user namespace of its own.
        let mut command = Command::new("unshare");
        command.args(["--map-root-user", "--user", "--root"]).arg(folder.path());
        command.env_clear().env("PATH", "/usr/sbin:/usr/bin");
        let answer = output_of_both(command.args([program, "--version"]))
            .with_context(|| format!("{program} does not run in the image"))?;
        ensure!(answer.starts_with(begins), "{program} --version says: {answer}");
    }
    Ok(())
}
