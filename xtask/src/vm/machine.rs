//! One run of the machine: the command line of qemu, what comes out of it, how it ends.

use std::fs::{self, DirBuilder};
use std::io::{Read, Write};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use super::initrd::initrd;
use super::kernel::Kernel;
use super::options::{Options, Processors};
use super::{folder, shared_folder};

/// Short beside the seconds that a start takes.
const INTERVAL: Duration = Duration::from_millis(50);

/// Lines of the console that are shown when the machine did not get as far as the command's end.
const CONSOLE_LINES: usize = 40;

/// A machine that is about to start.
pub struct Machine {
    command: Command,
    limit: Duration,
    files: Files,
}

impl Machine {
    /// Prepares everything but the process.
    pub fn new(kernel: &Kernel, options: &Options, command: &[String]) -> Result<Self> {
        fs::create_dir_all(shared_folder())?;
        let files = Files::new()?;
        fs::write(files.initrd(), initrd(kernel, command)?)?;
        let command = qemu(kernel, options, &files)?;
        Ok(Self { command, limit: options.limit, files })
    }

    /// Runs it to its end and returns the exit status of the command.
    pub fn run(mut self) -> Result<u8> {
        let mut qemu = self.command.spawn().context("starting qemu-system-x86_64")?;
        let output = copy(qemu.stdout.take(), std::io::stdout());
        let errors = copy(qemu.stderr.take(), std::io::stderr());
        let ended = wait(&mut qemu, self.limit);
        for copy in [output, errors].into_iter().flatten() {
            // A copy ends with the process; what it could not write has nowhere to go.
            let _ = copy.join();
        }
        ended?;
        let status = fs::read_to_string(self.files.status()).unwrap_or_default();
        match status.trim().parse() {
            Ok(status) => Ok(status),
            Err(_) => bail!(
                "the machine stopped before the command ended; the end of its console:\n{}",
                self.files.end_of_console()
            ),
        }
    }
}

/// The command line. Each device is there because the scripts in the archive use it.
fn qemu(kernel: &Kernel, options: &Options, files: &Files) -> Result<Command> {
    let path = |path: &Path| -> Result<String> {
        let text = path.to_str().with_context(|| format!("{} is no text", path.display()))?;
        // A comma ends a value on this command line, unless it is doubled.
        Ok(text.replace(',', ",,"))
    };
    // qemu ends with the thread that starts it, also if that is killed.
    let mut command = Command::new("setpriv");
    command.args(["--pdeathsig", "KILL", "qemu-system-x86_64", "-nodefaults", "-no-user-config"]);
    command.args(["-display", "none", "-no-reboot"]);
    command.args(match options.processors {
        Processors::Emulated => ["-accel", "tcg,thread=multi", "-cpu", "max"],
        Processors::Counted => ["-accel", "tcg,thread=single", "-cpu", "max"],
        Processors::Kvm => ["-accel", "kvm", "-cpu", "host"],
    });
    let mut count = thread::available_parallelism()?.get();
    if options.processors == Processors::Counted {
        count = 1;
        command.args(["-icount", "shift=0,align=off,sleep=off"]);
    }
    command.args(["-smp", &count.to_string(), "-m", &options.memory.to_string()]);
    command.arg("-kernel").arg(kernel.image()).arg("-initrd").arg(files.initrd());
    // A machine that panics ends, instead of waiting for somebody to look at it. The kernel counts
    // the ticks of a timer when it starts, and does not go on if emulation on busy processors lets
    // too few of them through.
    let kernel_options = "console=ttyS0 quiet panic=-1 oops=panic mitigations=off no_timer_check";
    command.args(["-append", kernel_options]);
    command.args(["-chardev", &format!("file,id=console,path={}", path(&files.console())?)]);
    command.args(["-serial", "chardev:console"]);
    command.args(["-device", "virtio-serial-pci"]);
    // The numbers are known to the scripts. The first two files are pipes to this process.
    for (number, file) in
        [(1, "/dev/stdout".to_owned()), (2, "/dev/stderr".to_owned()), (3, path(&files.status())?)]
    {
        command.args(["-chardev", &format!("file,id=port{number},path={file}")]);
        command.args(["-device", &format!("virtserialport,nr={number},chardev=port{number}")]);
    }
    let shared = path(&shared_folder())?;
    for share in
        ["path=/,mount_tag=host,readonly=on".to_owned(), format!("path={shared},mount_tag=shared")]
    {
        command.arg("-virtfs");
        command.arg(format!("local,security_model=none,multidevs=remap,{share}"));
    }
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    Ok(command)
}

/// Passes on what the machine prints, as it comes.
fn copy(
    from: Option<impl Read + Send + 'static>,
    mut to: impl Write + Send + 'static,
) -> Option<JoinHandle<()>> {
    let mut from = from?;
    Some(thread::spawn(move || {
        let mut buffer = [0; 4096];
        while let Ok(length @ 1..) = from.read(&mut buffer) {
            // Whoever read our output may be gone; the machine goes on all the same.
            let _ = to.write_all(&buffer[..length]).and_then(|()| to.flush());
        }
    }))
}

fn wait(qemu: &mut Child, limit: Duration) -> Result<()> {
    let deadline = Instant::now() + limit;
    loop {
        if qemu.try_wait()?.is_some() {
            return Ok(());
        }
        if Instant::now() > deadline {
            qemu.kill()?;
            qemu.wait()?;
            bail!("the machine was stopped after {} s (--limit)", limit.as_secs());
        }
        thread::sleep(INTERVAL);
    }
}

/// The files of one run, which name this process and are removed with this value.
struct Files {
    folder: PathBuf,
}

impl Files {
    fn new() -> Result<Self> {
        remove_leftovers();
        let folder = folder().join(format!("run-{}", std::process::id()));
        // The archive has the caller's environment in it.
        DirBuilder::new()
            .mode(0o700)
            .create(&folder)
            .with_context(|| format!("making {}", folder.display()))?;
        Ok(Self { folder })
    }

    fn initrd(&self) -> PathBuf {
        self.folder.join("initrd")
    }

    fn console(&self) -> PathBuf {
        self.folder.join("console")
    }

    fn status(&self) -> PathBuf {
        self.folder.join("status")
    }

    fn end_of_console(&self) -> String {
        let console = fs::read(self.console()).unwrap_or_default();
        let console = String::from_utf8_lossy(&console);
        let lines: Vec<&str> = console.lines().collect();
        lines[lines.len().saturating_sub(CONSOLE_LINES)..].join("\n")
    }
}

impl Drop for Files {
    fn drop(&mut self) {
        // What stays is removed by the next run.
        let _ = fs::remove_dir_all(&self.folder);
    }
}

/// Removes the files of runs that were killed.
fn remove_leftovers() {
    for entry in fs::read_dir(folder()).into_iter().flatten().flatten() {
        let name = entry.file_name();
        let Some(owner) = name.to_str().and_then(|name| name.strip_prefix("run-")) else {
            continue;
        };
        if !Path::new("/proc").join(owner).exists() {
            let _ = fs::remove_dir_all(entry.path());
        }
    }
}
