//! `cargo xtask setup`: what building and testing need, installed where it is missing.

use std::process::Command;

use anyhow::{Context, Result};

use crate::{
    compiler::Compiler,
    host, process,
    tool::{BPF_LINKER, BPF_LINKER_LLVM},
};

/// Debian's compiler with `core` for eBPF.
const COMPILER_PACKAGES: [&str; 2] = ["rustc-web", "libstd-rust-web-dev-bpf"];

/// Programs that the lab runs or tells people to run, and their Debian packages.
const LAB_PROGRAMS: [(&str, &str); 3] =
    [("ip", "iproute2"), ("bpftool", "bpftool"), ("curl", "curl")];

/// Installs everything and prints what is used.
///
/// # Errors
/// Something is missing and can't be installed; the message says what to do.
pub fn run() -> Result<()> {
    let compiler = compiler()?;
    lab_programs()?;
    println!("eBPF compiler  {compiler}");
    println!("eBPF linker    {}", BPF_LINKER.program().display());
    for (program, _) in LAB_PROGRAMS {
        if let Some(path) = host::find_program(program) {
            println!("{program:<14} {}", path.display());
        }
    }
    Ok(())
}

/// The compiler of the kernel programs, installed if need be, with its linker.
///
/// # Errors
/// See [`run`].
pub fn compiler() -> Result<Compiler> {
    let compiler = match Compiler::find() {
        Some(compiler) => compiler,
        None => install_compiler()?,
    };
    BPF_LINKER.install()?;
    Ok(compiler)
}

fn install_compiler() -> Result<Compiler> {
    if Compiler::nightly().is_some() {
        println!("installing rust-src for rustup's nightly");
        // Bounded: where rustup's server can't be reached, Debian's packages are next.
        let mut rustup = Command::new("timeout");
        rustup
            .args(["60", "rustup", "component", "add"])
            .args(["rust-src", "--toolchain=nightly"]);
        match process::answer(&mut rustup).and_then(|_| Compiler::find()) {
            Some(compiler) => return Ok(compiler),
            None => println!("rustup can't install rust-src"),
        }
    }
    if host::can_install_packages() {
        host::install_packages(&COMPILER_PACKAGES)?;
    }
    Compiler::find().with_context(|| {
        format!(
            "no compiler with LLVM {BPF_LINKER_LLVM} has `core` for eBPF; run, on Debian as root: \
             apt-get install {}; elsewhere: rustup toolchain install nightly --component rust-src",
            COMPILER_PACKAGES.join(" ")
        )
    })
}

/// Installs the programs of the lab that are missing, or says what to install.
///
/// # Errors
/// apt-get fails.
pub fn lab_programs() -> Result<()> {
    programs("the lab", &LAB_PROGRAMS)
}

/// Installs those of these programs (each with its Debian package) that are missing, or says what to install.
///
/// # Errors
/// apt-get fails.
pub fn programs(purpose: &str, needed: &[(&str, &'static str)]) -> Result<()> {
    let missing: Vec<_> = needed
        .iter()
        .filter(|(program, _)| host::find_program(program).is_none())
        .map(|&(_, package)| package)
        .collect();
    if missing.is_empty() {
        return Ok(());
    }
    if host::can_install_packages() {
        return host::install_packages(&missing);
    }
    println!(
        "{purpose} needs more programs; on Debian as root: apt-get install {}",
        missing.join(" ")
    );
    Ok(())
}
