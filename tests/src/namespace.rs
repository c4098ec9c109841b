//! Network namespaces, by their names below `/run/netns`.

use std::{
    fs::{self, File},
    io::{self, Write},
    panic::resume_unwind,
    path::Path,
    process::{Child, Command, Output, Stdio},
    thread,
};

use anyhow::{Context, Result, ensure};
use nix::sched::{CloneFlags, setns};

/// Where `ip netns` keeps namespaces.
pub(crate) const DIRECTORY: &str = "/run/netns";

/// A named network namespace. Only its network is its own: files, pins and sockets in the file system
/// are those of the host (`ip netns exec` would hide the pins behind a fresh `/sys`).
#[derive(Debug)]
pub struct Namespace {
    name: String,
    handle: File,
}

impl Namespace {
    /// The namespace that `ip netns add NAME` made.
    pub fn open(name: impl Into<String>) -> Result<Self> {
        let name = name.into();
        let handle = File::open(Path::new(DIRECTORY).join(&name))
            .with_context(|| format!("no network namespace {name}"))?;
        Ok(Self { name, handle })
    }

    /// Its name, as `ip -n` takes it.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Runs `work` on a thread inside the namespace. Sockets opened there stay in the namespace, and
    /// can be used outside.
    pub fn run<T: Send>(&self, work: impl FnOnce() -> T + Send) -> T {
        let inside = || {
            setns(&self.handle, CloneFlags::CLONE_NEWNET)
                .unwrap_or_else(|error| panic!("cannot enter {}: {error}", self.name));
            work()
        };
        thread::scope(|scope| scope.spawn(inside).join())
            .unwrap_or_else(|panic| resume_unwind(panic))
    }

    /// Starts a process inside the namespace.
    pub fn spawn(&self, command: &mut Command) -> io::Result<Child> {
        self.run(|| command.spawn())
    }

    /// Runs a process inside the namespace to its end.
    pub fn output(&self, command: &mut Command) -> io::Result<Output> {
        self.run(|| command.output())
    }

    /// Runs `ip ARGUMENTS` here and returns what it printed. Panics if it fails.
    pub fn ip(&self, arguments: &str) -> String {
        let mut command = Command::new("ip");
        command
            .args(["-n", &self.name])
            .args(arguments.split_whitespace());
        let output = command.output().expect("ip (iproute2) is installed");
        assert!(
            output.status.success(),
            "ip -n {} {arguments}: {}",
            self.name,
            String::from_utf8_lossy(&output.stderr)
        );
        String::from_utf8(output.stdout).expect("ip prints UTF-8")
    }

    /// Writes sysctls, each a path below `/proc/sys/net` and its value.
    pub fn sysctls(&self, settings: &[(&str, &str)]) -> Result<()> {
        self.run(|| {
            settings.iter().try_for_each(|(key, value)| {
                let path = Path::new("/proc/sys/net").join(key);
                fs::write(&path, value).with_context(|| format!("cannot write {}", path.display()))
            })
        })
    }

    /// How often TCP here had to send a segment again (RFC 1213, tcpRetransSegs).
    pub fn tcp_retransmissions(&self) -> u64 {
        let table = self
            .run(|| fs::read_to_string("/proc/thread-self/net/snmp"))
            .expect("/proc is mounted");
        let mut rows = table.lines().filter(|line| line.starts_with("Tcp:"));
        let (names, values) = (rows.next().unwrap_or(""), rows.next().unwrap_or(""));
        names
            .split_whitespace()
            .zip(values.split_whitespace())
            .find_map(|(name, value)| {
                (name == "RetransSegs")
                    .then(|| value.parse().ok())
                    .flatten()
            })
            .expect("the kernel counts RetransSegs")
    }
}

/// Runs a batch of `ip` commands, in a namespace or on the host.
pub(crate) fn ip_batch(
    namespace: Option<&Namespace>,
    commands: impl IntoIterator<Item = String>,
) -> Result<()> {
    let commands: String = commands.into_iter().map(|command| command + "\n").collect();
    let mut command = Command::new("ip");
    if let Some(namespace) = namespace {
        command.args(["-n", &namespace.name]);
    }
    let mut child = command
        .args(["-batch", "-"])
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .context("cannot run ip: install iproute2")?;
    let mut stdin = child.stdin.take().expect("stdin is piped");
    // If ip stops at a bad line, its message says more than a broken pipe.
    let _ = stdin.write_all(commands.as_bytes());
    drop(stdin);
    let output = child.wait_with_output()?;
    ensure!(
        output.status.success(),
        "ip failed: {} in:\n{commands}",
        String::from_utf8_lossy(&output.stderr).trim(),
    );
    Ok(())
}
