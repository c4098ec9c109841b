//! Where things are in the repository, and its cargo.

use std::{
    env,
    path::{Path, PathBuf},
    process::Command,
};

/// The repository.
pub fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .expect("xtask is a directory of the repository")
}

/// Where everything that is built or installed goes.
pub fn target() -> PathBuf {
    root().join("target")
}

/// Where `lb-user/build.rs` finds the kernel programs for `lb`.
pub fn objects() -> PathBuf {
    target().join("bpf")
}

/// The daemon.
pub fn binary() -> PathBuf {
    target().join("release/lb")
}

/// The program of the cargo that runs this xtask.
pub fn cargo_program() -> PathBuf {
    env::var_os("CARGO").map_or_else(|| "cargo".into(), PathBuf::from)
}

/// A command of that cargo, in the repository and its `target/`.
pub fn cargo(subcommand: &str) -> Command {
    let mut command = Command::new(cargo_program());
    command
        .arg(subcommand)
        .current_dir(root())
        .env("CARGO_TARGET_DIR", target());
    command
}
