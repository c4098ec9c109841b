//! `cargo xtask test-kernels`: the programs, packet tests and real clients on Debian's kernels, each in a machine that QEMU emulates.

mod image;
mod kernel;
mod machine;

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};

use self::{image::Binaries, kernel::Kernel};
use crate::{build_ebpf, setup};

/// What boots, and their Debian packages.
const PROGRAMS: [(&str, &str); 3] = [
    ("qemu-system-x86_64", "qemu-system-x86"),
    ("busybox", "busybox-static"),
    ("ip", "iproute2"),
];

/// Too few for a test is hardly ever noticed: a debug build on an emulated processor with others beside it.
const PATIENCE: Duration = Duration::from_secs(1200);

/// The kernels, oldest first. What is run there is shell, and fails with its first command that does.
const KERNELS: [Kernel; 3] = [
    Kernel {
        version: "5.10",
        suite: "bullseye",
        tests: "
            refuses() { ! $* > /tmp/refused 2>&1 && grep 'this kernel is too old' /tmp/refused; }
            refuses lb run --config /lb.yaml
            refuses lb decap --interface lo
            [ -z \"$(ls -A /sys/fs/bpf)\" ]
        ",
    },
    Kernel {
        version: "6.1",
        suite: "bookworm",
        tests: "
            packets verifier --nocapture
            packets kernel:: --skip sessions::
            packets trace::
            lab a_real_server_serves_with_and_without_a_tunnel
        ",
    },
    Kernel {
        version: "6.12",
        suite: "trixie",
        tests: "
            packets verifier --nocapture
            packets kernel:: --skip sessions::
            packets trace::
            lab a_real_server_serves_with_and_without_a_tunnel
            lab half_open_checks_reach_no_application_and_leave_no_connection
        ",
    },
];

/// Builds the tests and runs them on each kernel, or on that of the version `filter`.
///
/// # Errors
/// Something can't be installed or built; or on a kernel something fails, which the console tells.
pub fn run(filter: Option<&str>) -> Result<()> {
    ensure!(
        cfg!(target_arch = "x86_64"),
        "the kernels are those of x86-64, and this processor is another"
    );
    setup::programs("test-kernels", &PROGRAMS)?;
    build_ebpf::run()?;
    let binaries = Binaries::build()?;
    let chosen = |kernel: &&Kernel| filter.is_none_or(|filter| kernel.version == filter);
    let kernels: Vec<_> = KERNELS.iter().filter(chosen).collect();
    ensure!(
        !kernels.is_empty(),
        "there are {}",
        KERNELS.map(|it| it.version).join(", ")
    );
    for kernel in kernels {
        let start = Instant::now();
        let files = kernel.fetch()?;
        let image = image::make(&files, &binaries, kernel.tests)?;
        machine::run(&files, &image, PATIENCE)?;
        let seconds = start.elapsed().as_secs();
        println!("Linux {} passed in {seconds} s", kernel.version);
    }
    Ok(())
}
