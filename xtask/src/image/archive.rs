//! The archive: an OCI image layout in a tar, as `ctr images import` and other loaders read it.
//!
//! ```text
//!  oci-layout   index.json ──▶ manifest ──▶ config (what to run, labels)
//!                                     └───▶ layer (a tar, gzip)
//!  blobs/sha256/…  the three, each under its digest
//! ```

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io::Write as _;

use anyhow::Result;
use flate2::{Compression, GzBuilder};
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};
use tar::{Builder, EntryType};

use super::options::Target;
use super::source::Source;
use super::tree::{Tree, header};

pub const INDEX: &str = "application/vnd.oci.image.index.v1+json";
pub const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
pub const CONFIG: &str = "application/vnd.oci.image.config.v1+json";
pub const LAYER: &str = "application/vnd.oci.image.layer.v1.tar+gzip";

/// What an image says of itself.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Labels {
    architecture: &'static str,
    version: String,
    revision: String,
    created: String,
    time: u64,
}

impl Labels {
    pub fn new(target: &Target, source: &Source) -> Self {
        Self {
            architecture: target.architecture(),
            version: source.version.clone(),
            revision: source.revision.clone(),
            created: source.created(),
            time: source.time,
        }
    }

    /// The name under which a runtime finds it: of no registry, so that nobody else answers for it.
    pub fn reference(&self) -> String {
        format!("localhost/weave:{}", self.version)
    }

    /// When, as documents say it.
    pub fn created(&self) -> &str {
        &self.created
    }

    fn all(&self) -> BTreeMap<&'static str, &str> {
        BTreeMap::from([
            ("org.opencontainers.image.title", "weave"),
            (
                "org.opencontainers.image.description",
                "A virtual Ethernet switch stretched over many hosts: router and pod network",
            ),
            ("org.opencontainers.image.version", self.version.as_str()),
            ("org.opencontainers.image.revision", self.revision.as_str()),
            ("org.opencontainers.image.created", self.created.as_str()),
            ("org.opencontainers.image.licenses", "Apache-2.0"),
        ])
    }
}

/// Returns the archive.
pub fn pack(tree: &Tree, labels: &Labels) -> Result<Vec<u8>> {
    let layer = tree.layer(labels.time)?;
    let mut gzip = GzBuilder::new().mtime(0).write(Vec::new(), Compression::best());
    gzip.write_all(&layer)?;
    let compressed = gzip.finish()?;
    let config = serde_json::to_vec(&json!({
        "architecture": labels.architecture,
        "os": "linux",
        "created": labels.created,
        "config": {
            "Cmd": ["weave"],
            "Env": ["PATH=/usr/sbin:/usr/bin"],
            "WorkingDir": "/",
            "Labels": labels.all(),
        },
        "rootfs": { "type": "layers", "diff_ids": [digest(&layer)] },
        "history": [{ "created": labels.created, "created_by": "cargo xtask image" }],
    }))?;
    let manifest = serde_json::to_vec(&json!({
        "schemaVersion": 2,
        "mediaType": MANIFEST,
        "config": descriptor(CONFIG, &config),
        "layers": [descriptor(LAYER, &compressed)],
        "annotations": labels.all(),
    }))?;
    let mut entry = descriptor(MANIFEST, &manifest);
    entry["platform"] = json!({ "architecture": labels.architecture, "os": "linux" });
    entry["annotations"] = json!({
        "io.containerd.image.name": labels.reference(),
        "org.opencontainers.image.ref.name": labels.version,
    });
    let index = json!({ "schemaVersion": 2, "mediaType": INDEX, "manifests": [entry] });

    let mut files = BTreeMap::from([
        ("oci-layout".to_owned(), br#"{"imageLayoutVersion":"1.0.0"}"#.to_vec()),
        ("index.json".to_owned(), serde_json::to_vec(&index)?),
    ]);
    for blob in [config, manifest, compressed] {
        files.insert(format!("blobs/sha256/{}", hex(&blob)), blob);
    }
    let mut archive = Builder::new(Vec::new());
    for folder in ["blobs", "blobs/sha256"] {
        let mut header = header(EntryType::Directory, 0o755, labels.time);
        archive.append_data(&mut header, folder, std::io::empty())?;
    }
    for (path, content) in files {
        let mut header = header(EntryType::Regular, 0o644, labels.time);
        header.set_size(content.len() as u64);
        archive.append_data(&mut header, path, content.as_slice())?;
    }
    Ok(archive.into_inner()?)
}

fn descriptor(kind: &str, blob: &[u8]) -> Value {
    json!({ "mediaType": kind, "digest": digest(blob), "size": blob.len() })
}

/// As OCI writes it.
pub fn digest(blob: &[u8]) -> String {
    format!("sha256:{}", hex(blob))
}

/// The SHA-256 of something.
pub fn hex(blob: &[u8]) -> String {
    Sha256::digest(blob).iter().fold(String::new(), |mut text, byte| {
        // Writing to a string cannot fail.
        let _ = write!(text, "{byte:02x}");
        text
    })
}

#[cfg(test)]
mod tests {
    use super::super::proof;
    use super::*;

    fn tree(weave: &[u8]) -> Tree {
        let mut tree = Tree::default();
        tree.program("usr/bin/weave", weave.to_vec());
        tree.link("bin", "usr/bin");
        tree
    }

    fn labels() -> Labels {
        let source =
            Source { version: "1.2.3".to_owned(), revision: "abc".to_owned(), time: 86_400 };
        Labels::new(&Target::Aarch64, &source)
    }

    #[test]
    fn the_same_files_are_the_same_archive() {
        let archive = pack(&tree(b"weave"), &labels()).unwrap();
        assert_eq!(archive, pack(&tree(b"weave"), &labels()).unwrap());
        assert_ne!(archive, pack(&tree(b"waeve"), &labels()).unwrap());
        proof::is_sound(&archive).unwrap();
    }

    #[test]
    fn labels_are_in_manifest_and_config() {
        let archive = pack(&tree(b"weave"), &labels()).unwrap();
        let text = String::from_utf8_lossy(&archive);
        assert_eq!(text.matches(r#""org.opencontainers.image.version":"1.2.3""#).count(), 2);
        assert!(text.contains(r#""io.containerd.image.name":"localhost/weave:1.2.3""#));
        assert!(text.contains("1970-01-02T00:00:00Z") && text.contains(r#""arm64""#));
    }

    #[test]
    fn a_changed_byte_is_found() {
        let mut archive = pack(&tree(b"weave"), &labels()).unwrap();
        let config = br#""Cmd":["weave"]"#;
        let at = archive.windows(config.len()).position(|window| window == config).unwrap();
        archive[at + 9] = b'W';
        assert!(proof::is_sound(&archive).unwrap_err().to_string().contains("is not what"));
    }
}
