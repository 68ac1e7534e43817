//! Images for pods, made on the spot: there is no registry.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};
use serde_json::json;

use super::Options;
use crate::namespace::{finish, path_text, run};

/// What holds the namespaces of a pod.
pub(super) const PAUSE: &str = "registry.k8s.io/pause:cluster";
/// The servers and clients of upstream's own tests, with a shell. The name is the one by which the
/// tests of the version of Kubernetes in `tests/cluster/kubernetes` ask for it, so that other
/// clusters can fetch it.
pub const AGNHOST: &str = "registry.k8s.io/e2e-test-images/agnhost:2.66.1";
/// The DNS server of clusters.
pub const COREDNS: &str = "registry.k8s.io/coredns/coredns:cluster";

/// As the first process of a pod it has to take signals and to reap.
const SLEEP: &str = "trap 'exit 0' TERM INT; while :; do sleep 3600 & wait $!; done";

/// What a container gets.
struct Image<'a> {
    name: &'a str,
    reference: &'a str,
    /// Programs put into `/`, besides busybox.
    programs: Vec<PathBuf>,
    entrypoint: &'a [&'a str],
    arguments: &'a [&'a str],
}

/// Makes the archives of all images in this folder.
pub(super) fn make_all(folder: &Path, options: &Options) -> Result<()> {
    let sleep = ["/bin/busybox", "sh", "-c", SLEEP];
    let pause = Image {
        name: "pause",
        reference: PAUSE,
        programs: Vec::new(),
        entrypoint: &[],
        arguments: &sleep,
    };
    make(folder, &pause)?;
    for (name, reference, entrypoint, arguments) in [
        ("agnhost", AGNHOST, ["/agnhost"], &["pause"][..]),
        ("coredns", COREDNS, ["/coredns"], &[]),
    ] {
        // A folder of programs given by the caller may lack what only tests need.
        let Some(program) = options.program(name) else { continue };
        let entrypoint = &entrypoint;
        make(folder, &Image { name, reference, programs: vec![program], entrypoint, arguments })?;
    }
    Ok(())
}

/// The archives that were made.
pub(super) fn all(folder: &Path) -> Result<Vec<PathBuf>> {
    let paths = fs::read_dir(folder)?.map(|entry| Ok(entry?.path()));
    let paths: Vec<PathBuf> = paths.collect::<Result<_>>()?;
    Ok(paths.into_iter().filter(|path| path.extension().is_some_and(|end| end == "tar")).collect())
}

/// An archive as `docker save` writes it, with one layer.
fn make(folder: &Path, image: &Image<'_>) -> Result<()> {
    let work = folder.join(image.name);
    let root = work.join("root");
    for directory in ["bin", "dev", "etc", "proc", "root", "run", "sys", "tmp", "usr/bin", "var"] {
        fs::create_dir_all(root.join(directory))?;
    }
    let busybox = "/bin/busybox";
    fs::copy(busybox, root.join("bin/busybox")).context("busybox-static is missing")?;
    for applet in run(busybox, &["--list"])?.lines().filter(|applet| *applet != "busybox") {
        symlink("busybox", root.join("bin").join(applet))?;
    }
    for program in &image.programs {
        fs::copy(program, root.join(program.file_name().context("a program without a name")?))?;
    }
    tar(&root, &work.join("layer.tar"), &["."])?;
    fs::remove_dir_all(&root)?;
    let sum = run("sha256sum", &[path_text(&work.join("layer.tar"))?])?;
    let digest = sum.split(' ').next().unwrap_or_default();
    let architecture = if cfg!(target_arch = "aarch64") { "arm64" } else { "amd64" };
    let config = json!({
        "architecture": architecture,
        "os": "linux",
        "config": {
            "Entrypoint": image.entrypoint, "Cmd": image.arguments,
            "Env": ["PATH=/bin:/usr/bin:/sbin:/usr/sbin"],
        },
        "rootfs": { "type": "layers", "diff_ids": [format!("sha256:{digest}")] },
    });
    let manifest = json!([{
        "Config": "config.json", "RepoTags": [image.reference], "Layers": ["layer.tar"],
    }]);
    fs::write(work.join("config.json"), config.to_string())?;
    fs::write(work.join("manifest.json"), manifest.to_string())?;
    let archive = folder.join(format!("{}.tar", image.name));
    tar(&work, &archive, &["config.json", "layer.tar", "manifest.json"])?;
    Ok(fs::remove_dir_all(&work)?)
}

fn tar(folder: &Path, archive: &Path, members: &[&str]) -> Result<()> {
    let mut command = Command::new("tar");
    command.args(["--owner=0", "--group=0", "--numeric-owner", "-C"]).arg(folder);
    command.arg("-cf").arg(archive).args(members);
    finish("tar", command.output()).map(drop)
}
