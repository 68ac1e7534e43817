//! The CNI plugin, called as `weave-net` or `weave-ipam`.

use std::process::ExitCode;

fn main() -> ExitCode {
    weave_cni::main()
}
