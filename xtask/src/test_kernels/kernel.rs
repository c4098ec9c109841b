//! Debian's kernels, by apt, whichever release this host has: nothing of it is changed.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, Result};

use crate::{process, workspace};

/// The kernel for machines that are emulated: it has few drivers, and is small.
const META_PACKAGE: &str = "linux-image-cloud-amd64";
const KEYRING: &str = "/usr/share/keyrings/debian-archive-keyring.gpg";

/// A kernel, and what is run on it.
pub struct Kernel {
    /// The first two numbers.
    pub version: &'static str,
    /// The release of Debian that has it.
    pub suite: &'static str,
    /// Lines of shell.
    pub tests: &'static str,
}

/// A kernel's package on the disk.
pub struct Files {
    /// Where all is that belongs to this kernel.
    pub directory: PathBuf,
    /// What is in the package.
    pub package: PathBuf,
}

impl Kernel {
    /// Fetches its newest package, unless that is here.
    ///
    /// # Errors
    /// apt can't reach Debian's archive or doesn't trust what is there, or the disk is full.
    pub fn fetch(&self) -> Result<Files> {
        let directory = workspace::target().join("kernels").join(self.suite);
        let apt = Apt::new(&directory, self.suite)?;
        process::run_quietly(apt.command("apt-get").arg("update"))?;
        let meta = process::answer(apt.command("apt-cache").args(["show", META_PACKAGE]));
        let name = meta.as_deref().and_then(dependency);
        let name = name.with_context(|| format!("{} has no {META_PACKAGE}", self.suite))?;
        let package = directory.join(name);
        if !package.exists() {
            println!("fetching {name}");
            process::run_quietly(
                apt.command("apt-get")
                    .args(["download", name])
                    .current_dir(&directory),
            )?;
            let archive = find(&directory, |file| {
                file.starts_with(&format!("{name}_")) && file.ends_with(".deb")
            });
            let archive = archive.with_context(|| format!("apt-get downloaded no {name}"))?;
            // Under another name until it is complete.
            let unpacked = package.with_extension("unpacked");
            process::run_quietly(
                Command::new("dpkg-deb")
                    .arg("--extract")
                    .args([&archive, &unpacked]),
            )?;
            fs::rename(&unpacked, &package)?;
            fs::remove_file(archive)?;
        }
        Ok(Files { directory, package })
    }
}

impl Files {
    /// The file of the package with this name, wherever it is.
    ///
    /// # Errors
    /// There is none.
    pub fn find(&self, is_it: impl Fn(&str) -> bool) -> Result<PathBuf> {
        find(&self.package, is_it)
            .with_context(|| format!("{} lacks a file", self.package.display()))
    }
}

/// Of what `apt-cache show` prints of a package that stands for another: the other.
fn dependency(shown: &str) -> Option<&str> {
    let depends = shown.lines().find_map(|it| it.strip_prefix("Depends: "))?;
    depends.split([' ', ',']).next()
}

fn find(directory: &Path, is_it: impl Fn(&str) -> bool) -> Option<PathBuf> {
    let mut directories = vec![directory.to_owned()];
    while let Some(directory) = directories.pop() {
        for entry in fs::read_dir(directory).ok()?.flatten() {
            if entry.file_type().is_ok_and(|it| it.is_dir()) {
                directories.push(entry.path());
            } else if entry.file_name().to_str().is_some_and(&is_it) {
                return Some(entry.path());
            }
        }
    }
    None
}

/// apt with lists and packages of its own, of one release. It checks signatures as ever.
struct Apt {
    options: Vec<String>,
}

impl Apt {
    fn new(directory: &Path, suite: &str) -> Result<Self> {
        let directory = directory.join("apt");
        for part in ["state/lists/partial", "cache/archives/partial"] {
            fs::create_dir_all(directory.join(part))
                .with_context(|| format!("cannot make {}", directory.display()))?;
        }
        let source = format!("deb [signed-by={KEYRING}] {} {suite} main\n", mirror()?);
        fs::write(directory.join("sources.list"), source)?;
        fs::write(directory.join("status"), "")?;
        let of = |key: &str, file: &str| format!("{key}={}", directory.join(file).display());
        Ok(Self {
            options: vec![
                of("Dir::State", "state"),
                of("Dir::State::status", "status"),
                of("Dir::Cache", "cache"),
                of("Dir::Etc::SourceList", "sources.list"),
                "Dir::Etc::SourceParts=/dev/null".to_owned(),
                // Who may read the project's directory: `_apt` may not, everywhere.
                "APT::Sandbox::User=root".to_owned(),
            ],
        })
    }

    fn command(&self, program: &str) -> Command {
        let mut command = Command::new(program);
        for option in &self.options {
            command.args(["-o", option]);
        }
        command
    }
}

/// Where this host has its Debian from.
fn mirror() -> Result<String> {
    let archives = process::answer(Command::new("apt-get").args([
        "indextargets",
        "--format=$(REPO_URI)",
        "Identifier: Packages",
        "Origin: Debian",
        "Label: Debian",
    ]));
    let first = archives.as_deref().and_then(|it| it.lines().next());
    Ok(first
        .context("apt knows no Debian: run this on Debian, after `apt-get update`")?
        .to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_package_behind_another_is_found() {
        let shown = "Package: linux-image-cloud-amd64\n\
                     Depends: linux-image-6.1.0-50-cloud-amd64 (= 6.1.176-1)\nSection: kernel\n";
        assert_eq!(dependency(shown), Some("linux-image-6.1.0-50-cloud-amd64"));
        assert_eq!(dependency("Package: other\n"), None);
    }
}
