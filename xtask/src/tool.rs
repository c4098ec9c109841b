//! Programs from crates.io, pinned, each installed into a directory of its own below `target/tools`.

use std::{path::PathBuf, process::Command};

use anyhow::Result;

use crate::{process, workspace};

/// A program from crates.io at one version.
pub struct Tool {
    name: &'static str,
    version: &'static str,
}

/// Links the eBPF object by way of the LLVM inside rustc, which must be [`BPF_LINKER_LLVM`].
pub const BPF_LINKER: Tool = Tool {
    name: "bpf-linker",
    version: "0.10.3",
};

/// The major version of LLVM that [`BPF_LINKER`] is made for.
pub const BPF_LINKER_LLVM: u32 = 22;

/// Checks licences, duplicates and sources of the dependencies.
pub const CARGO_DENY: Tool = Tool {
    name: "cargo-deny",
    version: "0.20.2",
};

impl Tool {
    fn root(&self) -> PathBuf {
        let Self { name, version } = self;
        workspace::target().join(format!("tools/{name}-{version}"))
    }

    /// The directory that holds the program.
    pub fn directory(&self) -> PathBuf {
        self.root().join("bin")
    }

    /// The program.
    pub fn program(&self) -> PathBuf {
        self.directory().join(self.name)
    }

    /// Installs the program unless it is there.
    ///
    /// # Errors
    /// cargo can't build it, or can't reach crates.io.
    pub fn install(&self) -> Result<()> {
        if self.program().exists() {
            return Ok(());
        }
        let Self { name, version } = self;
        println!("installing {name} {version} from crates.io (some minutes, once)");
        process::run(
            Command::new(workspace::cargo_program())
                .args(["install", "--quiet", "--locked", "--no-track", "--root"])
                .arg(self.root())
                .arg(format!("{name}@{version}")),
        )
    }
}
