//! The Debian package: installed, upgraded while it forwards, removed. In a copy of this machine's file system, of which nothing
//! stays.

use std::{
    fs,
    io::{BufRead, BufReader},
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    process::{Child, Command, Output, Stdio},
    sync::atomic::{AtomicBool, Ordering},
    thread,
    time::{Duration, Instant},
};

use lb_tests::Lab;
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};

use crate::support::{SHOP, StopAtEnd, VIP, assert_nobody_answers, lab, serve_http};

/// A machine whose file system is this one's as long as nobody writes, on the lab's balancer.
struct Machine<'a> {
    lab: &'a Lab,
    root: PathBuf,
    /// It has the mounts, and they end with it.
    holder: Child,
}

impl<'a> Machine<'a> {
    fn new(lab: &'a Lab) -> Self {
        let directory = lab.directory();
        let script = r#"
            set -e
            cd "$0"
            mount -t tmpfs tmpfs .
            cd "$0"
            mkdir upper work root
            mount -t overlay -o lowerdir=/,upperdir=upper,workdir=work overlay root
            for there in proc sys dev; do mount --rbind /$there root/$there; done
            mount -t bpf bpf root/sys/fs/bpf
            echo ready
            exec sleep 120
        "#;
        let machine = directory.join("machine");
        fs::create_dir(&machine).unwrap();
        let mut command = Command::new("unshare");
        command
            .args(["--mount", "--propagation=private", "sh", "-c", script])
            .arg(&machine)
            .stdout(Stdio::piped());
        let mut holder = command.spawn().unwrap();
        let mut line = String::new();
        let stdout = holder.stdout.take().unwrap();
        BufReader::new(stdout).read_line(&mut line).unwrap();
        assert_eq!(line, "ready\n");
        Self {
            lab,
            root: machine.join("root"),
            holder,
        }
    }

    fn command(&self, program: &str) -> Command {
        let mut command = Command::new("nsenter");
        command
            .arg(format!("--mount=/proc/{}/ns/mnt", self.holder.id()))
            .arg("chroot")
            .args([self.root.as_path(), Path::new(program)]);
        command
    }

    /// A file of this machine, as those outside see it.
    fn file(&self, path: &str) -> PathBuf {
        let root = self.root.strip_prefix("/").unwrap();
        Path::new(&format!("/proc/{}/root", self.holder.id()))
            .join(root)
            .join(path)
    }

    fn run(&self, program: &str, arguments: &[&str]) -> Output {
        let mut command = self.command(program);
        self.lab.balancer().output(command.args(arguments)).unwrap()
    }

    #[track_caller]
    fn succeeds(&self, program: &str, arguments: &[&str]) -> String {
        let Output {
            status,
            stdout,
            stderr,
        } = self.run(program, arguments);
        let [stdout, stderr] = [stdout, stderr].map(|it| String::from_utf8(it).unwrap());
        assert!(
            status.success(),
            "{program} {arguments:?}: {stdout}{stderr}"
        );
        stdout
    }

    /// As the unit does.
    fn start_daemon(&self) -> DaemonThere {
        let mut command = self.command("/usr/bin/lb");
        command.args(["run", "--config", "/etc/lb/lb.yaml"]);
        let daemon = DaemonThere(self.lab.balancer().spawn(&mut command).unwrap());
        let deadline = Instant::now() + Duration::from_secs(20);
        while !self.run("/usr/bin/lb", &["status"]).status.success() {
            assert!(Instant::now() < deadline, "no daemon answers");
            thread::sleep(Duration::from_millis(20));
        }
        daemon
    }
}

impl Drop for Machine<'_> {
    fn drop(&mut self) {
        let _ = self.holder.kill();
        let _ = self.holder.wait();
    }
}

struct DaemonThere(Child);

impl DaemonThere {
    fn terminate(mut self) {
        kill(Pid::from_raw(self.0.id() as i32), Signal::SIGTERM).unwrap();
        assert!(self.0.wait().unwrap().success());
    }
}

impl Drop for DaemonThere {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// The package under test, or one like it of another version.
fn package() -> PathBuf {
    let path = std::env::var_os("LB_PACKAGE");
    path.expect("LB_PACKAGE names the package: `cargo xtask test` makes one")
        .into()
}

#[test]
fn a_package_is_installed_upgraded_while_it_forwards_and_removed() {
    let lab = lab(2);
    let _servers = serve_http(&lab, &[80]);
    let machine = Machine::new(&lab);
    let dpkg = |arguments: &[&str]| machine.succeeds("dpkg", arguments);
    fs::copy(package(), machine.file("lb.deb")).unwrap();
    dpkg(&["--install", "--no-triggers", "/lb.deb"]);
    machine.succeeds("lb", &["check", "/etc/lb/lb.yaml"]);
    for file in [
        "usr/lib/systemd/system/lb.service",
        "usr/share/man/man1/lb-status.1",
        "usr/share/bash-completion/completions/lb",
        "usr/share/doc/lb/examples/l2dsr.yaml",
        "usr/share/doc/lb/grafana/lb.json",
        "usr/share/doc/lb/prometheus/lb.rules.yml",
    ] {
        assert!(machine.file(file).exists(), "no {file}");
    }

    let own = [lab.pin_path(), lab.socket()].map(|path| path.display().to_string());
    let config = lab
        .config(SHOP)
        .replace(&own[0], "/sys/fs/bpf/lb")
        .replace(&own[1], "/run/lb/lb.sock");
    let config_file = machine.file("etc/lb/lb.yaml");
    fs::write(&config_file, &config).unwrap();
    let daemon = machine.start_daemon();
    let get = || lab.client().http().parallel(4).get((VIP, 80), 100);
    get().assert_all_succeeded();

    let done = AtomicBool::new(false);
    let (failures, daemon) = thread::scope(|scope| {
        let stop = StopAtEnd(&done);
        let requests = scope.spawn(|| {
            let mut failures = Vec::new();
            while !done.load(Ordering::Relaxed) {
                failures.extend(get().failures);
            }
            failures
        });
        let newer = r#"
            set -e
            dpkg-deb --raw-extract /lb.deb /newer
            sed -i 's/^Version: .*/Version: 99/' /newer/DEBIAN/control
            dpkg-deb --root-owner-group --build /newer /newer.deb
        "#;
        machine.succeeds("sh", &["-c", newer]);
        dpkg(&["--install", "--no-triggers", "/newer.deb"]);
        assert!(
            machine
                .succeeds("dpkg", &["--status", "lb"])
                .contains("Version: 99")
        );
        daemon.terminate();
        let daemon = machine.start_daemon();
        drop(stop);
        (requests.join().unwrap(), daemon)
    });
    assert_eq!(failures, Vec::<String>::new());
    assert_eq!(fs::read_to_string(&config_file).unwrap(), config);
    let mode = fs::metadata(&config_file).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o640);

    dpkg(&["--remove", "--no-triggers", "lb"]);
    drop(daemon);
    assert_nobody_answers(&lab, (VIP, 80));
    assert!(!machine.file("usr/bin/lb").exists());
    assert!(!machine.file("sys/fs/bpf/lb").exists());
    assert!(config_file.exists());
    dpkg(&["--purge", "--no-triggers", "lb"]);
    assert!(!config_file.exists());
}
