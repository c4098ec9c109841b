//! The file system of a machine, in its memory (kernel: Documentation/filesystems/ramfs-rootfs-initramfs.rst): programs with the
//! libraries that they are linked to, the kernel's modules, and a script that runs the tests.

use std::{
    fs::{self, File, Permissions},
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use super::kernel::Files;
use crate::{host, process, workspace};

/// Those of the lab's switch and cables, each after those that it needs.
const MODULES: [&str; 4] = ["llc", "stp", "bridge", "veth"];

/// How the script's last line begins, before its exit status. Nothing else prints it at the beginning of a line.
pub const RESULT: &str = "the tests ended with status ";

/// What was built for this.
pub struct Binaries {
    lb: PathBuf,
    packets: PathBuf,
    lab: PathBuf,
}

impl Binaries {
    /// Debug builds: the kernel's side is the same.
    ///
    /// # Errors
    /// A build fails.
    pub fn build() -> Result<Self> {
        process::run(workspace::cargo("build").arg("--package=lb-user"))?;
        let mut tests = workspace::cargo("test");
        tests
            .args(["--package=lb-tests", "--test=packets", "--test=lab"])
            .args(["--no-run", "--message-format=json-render-diagnostics"])
            .stderr(Stdio::inherit());
        let messages = tests.output().context("cannot start cargo")?;
        ensure!(messages.status.success(), "the tests can't be built");
        let messages = String::from_utf8_lossy(&messages.stdout);
        let test = |name: &str| {
            executable(&messages, name).with_context(|| format!("cargo built no test {name}"))
        };
        Ok(Self {
            lb: workspace::target().join("debug/lb"),
            packets: test("packets")?,
            lab: test("lab")?,
        })
    }
}

/// The executable of a test, of what cargo tells in JSON.
fn executable(messages: &str, test: &str) -> Option<PathBuf> {
    let mut messages = messages
        .lines()
        .filter_map(|line| serde_json::from_str::<Value>(line).ok());
    messages.find_map(|message| {
        let is_it = message["target"]["name"] == test;
        message["executable"]
            .as_str()
            .filter(|_| is_it)
            .map(PathBuf::from)
    })
}

/// Makes the image that runs these tests: its file.
///
/// # Errors
/// A program or a module is missing, or the disk is full.
pub fn make(files: &Files, binaries: &Binaries, tests: &str) -> Result<PathBuf> {
    let root = files.directory.join("root");
    if root.exists() {
        fs::remove_dir_all(&root)?;
    }
    for directory in ["bin", "dev", "modules", "proc", "run", "sys", "tmp"] {
        fs::create_dir_all(root.join(directory))?;
    }
    for program in ["busybox", "ip"] {
        let path = host::find_program(program).with_context(|| format!("no {program} here"))?;
        add(&root, &path, program)?;
    }
    let Binaries { lb, packets, lab } = binaries;
    for (program, path) in [("lb", lb), ("packets", packets), ("lab", lab)] {
        add(&root, path, program)?;
    }
    for module in MODULES {
        let is_it = |file: &str| {
            file.strip_prefix(module)
                .is_some_and(|it| it.starts_with(".ko"))
        };
        let file = files.find(is_it)?;
        let name = file.file_name().context("a module has a name")?;
        fs::copy(&file, root.join("modules").join(name))?;
    }
    let example = workspace::root().join("deploy/examples/demo.yaml");
    fs::copy(example, root.join("lb.yaml"))?;
    let init = root.join("init");
    fs::write(&init, script(tests))?;
    fs::set_permissions(&init, Permissions::from_mode(0o755))?;
    pack(&root, &files.directory.join("image.cpio"))
}

/// The first process.
fn script(tests: &str) -> String {
    let modules = MODULES.join(" ");
    format!(
        "#!/bin/busybox sh
        /bin/busybox --install -s /bin
        export PATH=/bin LB_BINARY=/bin/lb LB_TEST_PATIENCE=180 LB_TEST_FRAMES=200
        mount -t proc proc /proc
        mount -t sysfs sys /sys
        mount -t devtmpfs dev /dev
        mount -t bpf bpf /sys/fs/bpf
        mount -t tmpfs run /run
        [ ! -e /modules/veth.ko.xz ] || unxz /modules/*.xz
        for module in {modules}; do insmod /modules/$module.ko; done
        ip link set lo up
        (set -ex
        {tests})
        status=$?
        dmesg -n 1
        echo; echo \"{RESULT}$status\"
        poweroff -f
        "
    )
}

/// Adds a program as `bin/NAME`, without what is for debuggers, and the libraries that it is linked to.
fn add(root: &Path, program: &Path, name: &str) -> Result<()> {
    let to = root.join("bin").join(name);
    process::run_quietly(
        Command::new("strip")
            .arg("--strip-debug")
            .arg("-o")
            .args([&to, program]),
    )?;
    // It fails for a program without any.
    let libraries = process::answer(Command::new("ldd").arg(program)).unwrap_or_default();
    for library in libraries
        .split_whitespace()
        .filter_map(|it| it.strip_prefix('/'))
    {
        let to = root.join(library);
        fs::create_dir_all(to.parent().context("a file is in a directory")?)?;
        fs::copy(Path::new("/").join(library), to)?;
    }
    Ok(())
}

fn pack(root: &Path, image: &Path) -> Result<PathBuf> {
    let names = process::answer(Command::new("find").arg(".").current_dir(root));
    let list = root.with_extension("list");
    fs::write(&list, names.context("find failed")?)?;
    process::run(
        Command::new(host::find_program("busybox").context("no busybox here")?)
            .args(["cpio", "-o", "-H", "newc"])
            .current_dir(root)
            .stdin(File::open(&list)?)
            .stdout(File::create(image)?)
            .stderr(Stdio::null()),
    )?;
    Ok(image.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cargo_tells_where_a_test_is() {
        let messages = r#"{"reason":"compiler-artifact","target":{"name":"lb"},"executable":"/t/lb"}
            {"reason":"compiler-artifact","target":{"name":"lab"},"executable":null}
            {"reason":"compiler-artifact","target":{"name":"lab"},"executable":"/t/lab-1"}
            {"reason":"build-finished","success":true}"#;
        assert_eq!(executable(messages, "lab"), Some("/t/lab-1".into()));
        assert_eq!(executable(messages, "packets"), None);
    }
}
