//! `cargo xtask dist`: a Debian package (Debian policy manual; deb(5)).

use std::{
    fs::{self, Permissions},
    io,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, Result, ensure};

use crate::{build, process, workspace};

/// Directories of shells' completions, and the names of the files there.
const COMPLETIONS: [(&str, &str); 3] = [
    ("bash", "usr/share/bash-completion/completions/lb"),
    ("zsh", "usr/share/zsh/vendor-completions/_lb"),
    ("fish", "usr/share/fish/vendor_completions.d/lb.fish"),
];
const MAINTAINER: &str = "the lb developers <lb@localhost>";

/// Builds everything and makes the package.
///
/// # Errors
/// A build fails, or there is no dpkg-deb.
pub fn run() -> Result<()> {
    build::run()?;
    let package = package()?;
    println!("{}", package.display());
    Ok(())
}

/// Makes the package of the binary that was built last: `target/debian/lb_VERSION_ARCHITECTURE.deb`.
///
/// # Errors
/// There is no dpkg-deb, or the disk is full.
pub fn package() -> Result<PathBuf> {
    let out = workspace::target().join("debian");
    let root = out.join("lb");
    match fs::remove_dir_all(&root) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            return Err(error).with_context(|| format!("cannot remove {}", root.display()));
        }
        _ => {}
    }
    let binary = root.join("usr/bin/lb");
    install(&workspace::binary(), &binary, 0o755)?;
    let deploy = workspace::root().join("deploy");
    install(&deploy.join("lb.yaml"), &root.join("etc/lb/lb.yaml"), 0o640)?;
    install_all(
        &deploy.join("systemd"),
        &root.join("usr/lib/systemd/system"),
        0o644,
    )?;
    let documents = root.join("usr/share/doc/lb");
    install_all(&deploy.join("examples"), &documents.join("examples"), 0o644)?;
    for directory in ["grafana", "prometheus"] {
        install_all(&deploy.join(directory), &documents.join(directory), 0o644)?;
    }
    for document in ["README.md", "ARCHITECTURE.md"] {
        install(
            &workspace::root().join(document),
            &documents.join(document),
            0o644,
        )?;
    }
    write(&documents.join("copyright"), &copyright()?, 0o644)?;
    let manual = root.join("usr/share/man/man1");
    fs::create_dir_all(&manual)?;
    process::run(Command::new(&binary).arg("man").arg(&manual))?;
    for (shell, path) in COMPLETIONS {
        let script = process::answer(Command::new(&binary).args(["completions", shell]));
        let script = script.with_context(|| format!("lb can't print completions for {shell}"))?;
        write(&root.join(path), &script, 0o644)?;
    }
    for script in ["postinst", "prerm", "postrm"] {
        let from = deploy.join("debian").join(script);
        install(&from, &root.join("DEBIAN").join(script), 0o755)?;
    }
    write(&root.join("DEBIAN/conffiles"), "/etc/lb/lb.yaml\n", 0o644)?;
    let architecture = process::answer(Command::new("dpkg").arg("--print-architecture"));
    let architecture = architecture.context("no dpkg here: a package is made on Debian")?;
    let architecture = architecture.trim();
    let control = control(architecture, &glibc(&binary)?, size(&root)?);
    write(&root.join("DEBIAN/control"), &control, 0o644)?;
    let package = out.join(format!(
        "lb_{}_{architecture}.deb",
        env!("CARGO_PKG_VERSION")
    ));
    let mut build = Command::new("dpkg-deb");
    build
        .args(["--root-owner-group", "--build"])
        .args([&root, &package]);
    process::run_quietly(&mut build)?;
    Ok(package)
}

fn control(architecture: &str, glibc: &str, kibibytes: u64) -> String {
    let version = env!("CARGO_PKG_VERSION");
    format!(
        "Package: lb\n\
         Version: {version}\n\
         Architecture: {architecture}\n\
         Maintainer: {MAINTAINER}\n\
         Section: net\n\
         Priority: optional\n\
         Depends: libc6 (>= {glibc}), libgcc-s1\n\
         Recommends: bpftool\n\
         Installed-Size: {kibibytes}\n\
         Description: XDP layer-4 load balancer\n\
         \x20Forwards packets for virtual IP addresses to real servers at line rate, by L2 DSR\n\
         \x20(MAC rewrite) or L3 DSR (IP-in-IP), and checks the real servers' health. It is\n\
         \x20started with `systemctl enable --now lb` when /etc/lb/lb.yaml has been written.\n"
    )
}

/// The newest version of glibc that the binary has a symbol of. Its name is in the binary's string table.
fn glibc(binary: &Path) -> Result<String> {
    let bytes = fs::read(binary)?;
    let names = bytes.split(|&byte| byte == 0);
    let versions = names.filter_map(|name| {
        let version = str::from_utf8(name).ok()?.strip_prefix("GLIBC_")?;
        let (major, minor) = version.split_once('.')?;
        Some((major.parse::<u32>().ok()?, minor.parse::<u32>().ok()?))
    });
    let (major, minor) = versions
        .max()
        .with_context(|| format!("{} has no symbol of glibc", binary.display()))?;
    Ok(format!("{major}.{minor}"))
}

/// The licences of the daemon, and that of the kernel programs inside it.
fn copyright() -> Result<String> {
    let mut text = "Format: https://www.debian.org/doc/packaging-manuals/copyright-format/1.0/\n\
         Upstream-Name: lb\n\n\
         Files: *\nCopyright: the lb developers\nLicense: Apache-2.0 or MIT\n\n\
         Files: lb-ebpf/*\nCopyright: the lb developers\nLicense: MIT or GPL-2.0-only\n"
        .to_owned();
    for (licence, file) in [
        ("Apache-2.0", "LICENSE-APACHE"),
        ("MIT", "LICENSE-MIT"),
        ("GPL-2.0-only", "LICENSE-GPL"),
    ] {
        text += &format!("\nLicense: {licence}\n");
        for line in fs::read_to_string(workspace::root().join(file))?.lines() {
            // An empty line ends a paragraph.
            let line = if line.trim().is_empty() { "." } else { line };
            text += &format!(" {line}\n");
        }
    }
    Ok(text)
}

/// KiB of all files below a directory.
fn size(directory: &Path) -> Result<u64> {
    let output = process::answer(
        Command::new("du")
            .args(["-sk", "--apparent-size"])
            .arg(directory),
    );
    let output = output.context("du failed")?;
    let kibibytes = output
        .split_whitespace()
        .next()
        .and_then(|it| it.parse().ok());
    kibibytes.context("du printed no number")
}

fn install_all(from: &Path, to: &Path, mode: u32) -> Result<()> {
    for entry in fs::read_dir(from).with_context(|| format!("cannot list {}", from.display()))? {
        let path = entry?.path();
        let name = path.file_name().expect("an entry has a name");
        install(&path, &to.join(name), mode)?;
    }
    ensure!(to.exists(), "nothing in {}", from.display());
    Ok(())
}

fn install(from: &Path, to: &Path, mode: u32) -> Result<()> {
    let content = fs::read(from).with_context(|| format!("cannot read {}", from.display()))?;
    write(to, content, mode)
}

fn write(to: &Path, content: impl AsRef<[u8]>, mode: u32) -> Result<()> {
    let written = || {
        fs::create_dir_all(to.parent().expect("a file is in a directory"))?;
        fs::write(to, content)?;
        fs::set_permissions(to, Permissions::from_mode(mode))
    };
    written().with_context(|| format!("cannot write {}", to.display()))
}
