//! What the tests are about: the image and the manifest that a user would take.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};

use crate::image;
use crate::tools::{output, root};

/// Files of the product.
pub struct Product {
    /// The image, as an archive.
    pub archive: PathBuf,
    /// What is applied to a cluster.
    pub manifest: PathBuf,
}

/// Makes the image, of these binaries if they are given, and lets the program in it print its manifest.
pub fn make(binaries: Option<&Path>) -> Result<Product> {
    let folder = root().join("target/cluster/product");
    fs::create_dir_all(&folder)?;
    let (archive, manifest) = (folder.join("weave.tar"), folder.join("weave-net.yaml"));
    let weave = image::make_here(binaries, &archive)?;
    let text = output(Command::new(weave).args(["kube", "manifest"]))?;
    fs::write(&manifest, text).with_context(|| format!("writing {}", manifest.display()))?;
    Ok(Product { archive, manifest })
}
