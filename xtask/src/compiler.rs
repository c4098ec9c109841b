//! The compiler of the kernel programs: one that has `core` for [`TARGET`], or can build it.

use std::{
    env, fmt, fs,
    os::unix::fs::symlink,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, Result};

use crate::{
    host, process,
    tool::{BPF_LINKER, BPF_LINKER_LLVM},
    workspace,
};

/// Little-endian eBPF.
pub const TARGET: &str = "bpfel-unknown-none";

/// A compiler whose LLVM is the one that bpf-linker is made for.
#[derive(Debug, PartialEq)]
pub struct Compiler {
    core: Core,
    sysroot: PathBuf,
    llvm: PathBuf,
}

/// Where a compiler gets `core` for eBPF from.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Core {
    /// A nightly of rustup builds it from its component `rust-src`.
    FromSource,
    /// Debian ships it, compiled.
    Shipped,
}

impl Compiler {
    /// The first of these that has `core`: rustup's nightly, the system's `/usr/bin/rustc`.
    pub fn find() -> Option<Self> {
        Self::choose([Self::nightly(), Self::system()])
    }

    /// Rustup's nightly, with or without `rust-src`.
    pub fn nightly() -> Option<Self> {
        let toolchains = process::answer(Command::new("rustup").args(["toolchain", "list", "-v"]))?;
        Self::new(Core::FromSource, nightly_sysroot(&toolchains)?)
    }

    /// The system's compiler, with or without `core` for eBPF.
    fn system() -> Option<Self> {
        let sysroot = process::answer(
            Command::new("/usr/bin/rustc")
                .args(["--print", "sysroot"])
                .env_remove("RUSTUP_TOOLCHAIN"),
        )?;
        Self::new(Core::Shipped, sysroot.trim_end().into())
    }

    fn new(core: Core, sysroot: PathBuf) -> Option<Self> {
        let libraries = process::answer(
            // cargo puts its own compiler's libraries before all others.
            Command::new("ldd")
                .arg(sysroot.join("bin/rustc"))
                .env_remove("LD_LIBRARY_PATH"),
        )?;
        let llvm = llvm_library(&libraries)?;
        (llvm_major(&llvm) == Some(BPF_LINKER_LLVM)).then_some(Self {
            core,
            sysroot,
            llvm,
        })
    }

    fn choose(candidates: [Option<Self>; 2]) -> Option<Self> {
        candidates.into_iter().flatten().find(Self::has_core)
    }

    fn has_core(&self) -> bool {
        let core = match self.core {
            Core::FromSource => "src/rust/library/core",
            Core::Shipped => TARGET,
        };
        self.sysroot.join("lib/rustlib").join(core).is_dir()
    }

    /// Whether `cargo clippy` works with this compiler.
    pub fn has_clippy(&self) -> bool {
        self.core == Core::FromSource && self.sysroot.join("bin/cargo-clippy").exists()
    }

    /// A cargo command about the kernel programs, in a target directory of its own.
    ///
    /// # Errors
    /// The directory with the LLVM for bpf-linker can't be made.
    pub fn cargo(&self, subcommand: &str) -> Result<Command> {
        let mut command = Command::new(match self.core {
            Core::FromSource => self.sysroot.join("bin/cargo"),
            Core::Shipped => workspace::cargo_program(),
        });
        for (name, _) in env::vars_os() {
            if name.to_str().is_some_and(is_about_another_compiler) {
                command.env_remove(name);
            }
        }
        // Subcommands, such as clippy, must be this toolchain's, not those of rustup's default.
        let path = host::path_with([BPF_LINKER.directory(), self.sysroot.join("bin")])?;
        command
            .current_dir(workspace::root())
            .args([
                subcommand,
                "--package=lb-ebpf",
                "--bins",
                "--features=kernel",
                "--profile=bpf",
            ])
            .args(["--target", TARGET, "--target-dir=target/ebpf"])
            .env("RUSTC", self.sysroot.join("bin/rustc"))
            .env("PATH", path)
            .env("LD_LIBRARY_PATH", self.llvm_directory()?);
        match self.core {
            Core::FromSource => command.arg("-Zbuild-std=core"),
            Core::Shipped => command.env("RUSTC_BOOTSTRAP", "1"),
        };
        Ok(command)
    }

    /// A directory with this compiler's LLVM and no other: bpf-linker takes the first
    /// `libLLVM*` that it meets, and a system's library directory may hold several.
    fn llvm_directory(&self) -> Result<PathBuf> {
        let directory = workspace::target().join("tools/llvm");
        let link = directory.join("libLLVM.so");
        if fs::read_link(&link).is_ok_and(|library| library == self.llvm) {
            return Ok(directory);
        }
        let _ = fs::remove_file(&link);
        fs::create_dir_all(&directory)
            .and_then(|()| symlink(&self.llvm, &link))
            .with_context(|| {
                format!("cannot link {} to {}", link.display(), self.llvm.display())
            })?;
        Ok(directory)
    }
}

impl fmt::Display for Compiler {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let core = match self.core {
            Core::FromSource => "core built from rust-src",
            Core::Shipped => "core shipped with it",
        };
        write!(
            f,
            "{}, {core}, LLVM {}",
            self.sysroot.join("bin/rustc").display(),
            self.llvm.display()
        )
    }
}

/// The nightly that moves (not one of a date) in what `rustup toolchain list -v` prints: on each
/// line a name, perhaps remarks in parentheses, and a path.
fn nightly_sysroot(toolchains: &str) -> Option<PathBuf> {
    toolchains
        .lines()
        .filter(|line| {
            line.strip_prefix("nightly-")
                .is_some_and(|rest| !rest.starts_with(|c: char| c.is_ascii_digit()))
        })
        .find_map(|line| Some(line[line.find('/')?..].into()))
}

/// The LLVM library in what `ldd` prints: `libLLVM.so.22.1 => /lib/x86_64-linux-gnu/libLLVM.so.22.1 (0x…)`.
fn llvm_library(libraries: &str) -> Option<PathBuf> {
    let line = libraries
        .lines()
        .map(str::trim_start)
        .find(|line| line.starts_with("libLLVM"))?;
    let (_, found) = line.split_once(" => ")?;
    let (path, _address) = found.rsplit_once(" (")?;
    Some(path.into())
}

/// 22 of `libLLVM.so.22.1`, `libLLVM.so.22.1-rust-1.95.0-stable` or `libLLVM-22.so.1`.
fn llvm_major(library: &Path) -> Option<u32> {
    library
        .file_name()?
        .to_str()?
        .split(|c: char| !c.is_ascii_digit())
        .find(|digits| !digits.is_empty())?
        .parse()
        .ok()
}

/// Whether a variable of the environment could make cargo use another compiler, other flags or
/// other directories than asked: all of cargo's and rustup's but where they keep and fetch things.
fn is_about_another_compiler(variable: &str) -> bool {
    const HARMLESS: [&str; 7] = [
        "CARGO_HOME",
        "CARGO_HTTP_",
        "CARGO_NET_",
        "CARGO_REGISTR",
        "CARGO_SOURCE_",
        "CARGO_TERM_",
        "RUSTUP_HOME",
    ];
    (variable.starts_with("CARGO") || variable.starts_with("RUST"))
        && !HARMLESS.iter().any(|prefix| variable.starts_with(prefix))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn compiler(core: Core, sysroot: &Path) -> Compiler {
        Compiler {
            core,
            sysroot: sysroot.into(),
            llvm: "/lib/libLLVM.so.22.1".into(),
        }
    }

    fn sysroot_with(directory: &str) -> tempfile::TempDir {
        let sysroot = tempfile::tempdir().unwrap();
        fs::create_dir_all(sysroot.path().join("lib/rustlib").join(directory)).unwrap();
        sysroot
    }

    #[test]
    fn a_nightly_with_source_comes_before_the_system() {
        let nightly = sysroot_with("src/rust/library/core");
        let system = sysroot_with(TARGET);
        let candidates = || {
            [
                Some(compiler(Core::FromSource, nightly.path())),
                Some(compiler(Core::Shipped, system.path())),
            ]
        };
        assert_eq!(Compiler::choose(candidates()), candidates()[0]);
    }

    #[test]
    fn a_nightly_without_source_is_passed_over() {
        let nightly = sysroot_with("etc");
        let system = sysroot_with(TARGET);
        let chosen = Compiler::choose([
            Some(compiler(Core::FromSource, nightly.path())),
            Some(compiler(Core::Shipped, system.path())),
        ]);
        assert_eq!(chosen, Some(compiler(Core::Shipped, system.path())));
    }

    #[test]
    fn nothing_is_chosen_where_nobody_has_core() {
        let bare = sysroot_with("x86_64-unknown-linux-gnu");
        let chosen = Compiler::choose([None, Some(compiler(Core::Shipped, bare.path()))]);
        assert_eq!(chosen, None);
    }

    #[test]
    fn the_moving_nightly_is_found_among_toolchains() {
        let toolchains = "\
            stable-x86_64-unknown-linux-gnu (active, default) /home/a/.rustup/toolchains/stable\n\
            nightly-2024-01-01-x86_64-unknown-linux-gnu /home/a/.rustup/toolchains/dated\n\
            nightly-x86_64-unknown-linux-gnu /home/a b/.rustup/toolchains/nightly\n";
        let found = nightly_sysroot(toolchains);
        assert_eq!(found, Some("/home/a b/.rustup/toolchains/nightly".into()));
        assert_eq!(
            nightly_sysroot("stable-x86_64-unknown-linux-gnu (default) /s\n"),
            None
        );
    }

    #[test]
    fn the_llvm_that_rustc_loads_is_read_from_ldd() {
        let libraries = "\
            \tlinux-vdso.so.1 (0x00007f7560890000)\n\
            \tlibrustc_driver-ea0e99b3.so => /lib/x86_64-linux-gnu/librustc_driver-ea0e99b3.so (0x00007f75)\n\
            \tlibLLVM.so.22.1 => /lib/x86_64-linux-gnu/libLLVM.so.22.1 (0x00007f75)\n";
        let llvm = llvm_library(libraries);
        assert_eq!(llvm, Some("/lib/x86_64-linux-gnu/libLLVM.so.22.1".into()));
        assert_eq!(llvm_library("\tstatically linked\n"), None);
        assert_eq!(llvm_library("\tlibLLVM.so.22.1 => not found\n"), None);
    }

    #[test]
    fn the_major_version_of_llvm_is_read_from_its_name() {
        for (library, major) in [
            ("/lib/x86_64-linux-gnu/libLLVM.so.22.1", Some(22)),
            ("/t/lib/libLLVM.so.22.1-rust-1.95.0-stable", Some(22)),
            ("/lib/libLLVM-14.so.1", Some(14)),
            ("/lib/libLLVM.so", None),
        ] {
            assert_eq!(llvm_major(Path::new(library)), major, "{library}");
        }
    }

    #[test]
    fn what_leads_to_another_compiler_is_scrubbed() {
        for variable in [
            "RUSTC_WRAPPER",
            "RUSTFLAGS",
            "RUSTUP_TOOLCHAIN",
            "CARGO_TARGET_DIR",
            "CARGO",
        ] {
            assert!(is_about_another_compiler(variable), "{variable}");
        }
        for variable in [
            "CARGO_HOME",
            "CARGO_NET_OFFLINE",
            "CARGO_TERM_COLOR",
            "RUSTUP_HOME",
            "PATH",
        ] {
            assert!(!is_about_another_compiler(variable), "{variable}");
        }
    }
}
