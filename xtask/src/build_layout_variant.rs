//! `cargo xtask build-layout-variant`: a debug build of `lb` whose maps have another layout, for the tests of upgrades.

use anyhow::Result;

use crate::{build_ebpf, process, workspace};

/// Builds `target/debug/lb-layout-variant`.
///
/// # Errors
/// A build fails.
pub fn run() -> Result<()> {
    let feature = "--features=layout-variant";
    build_ebpf::build(&[feature], &workspace::objects().join("layout-variant"))?;
    let binary = ["--package=lb-user", "--bin=lb-layout-variant", feature];
    process::run(workspace::cargo("build").args(binary))
}
