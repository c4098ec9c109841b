//! What goes wrong, one after the other.

use std::{
    fmt, fs,
    net::TcpStream,
    path::{Path, PathBuf},
    process,
    thread::sleep,
    time::Duration,
};

use anyhow::{Context, Result, ensure};
use clap::ValueEnum;
use nix::sys::signal::Signal;
use serde_json::Value;

use crate::{
    excuses::Excuse,
    scene::{Plan, Scene, flooded, list},
};

/// Something that goes wrong, or that operators do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, ValueEnum)]
pub enum Fault {
    /// The processes of a machine end, and are back.
    ProcessesEnd,
    /// A machine is off the network, and back.
    MachineUnplugged,
    /// A machine has another MAC address.
    MacChanges,
    /// The balancer's interface is down, and up again.
    InterfaceFlaps,
    /// The file gives a machine another weight.
    WeightChanges,
    /// The file unbinds a machine, and binds it again.
    MachineUnbound,
    /// The file has one virtual server more.
    VirtualServerAdded,
    /// The file is no YAML.
    BadSyntax,
    /// The file names a real server that isn't there.
    UnknownServer,
    /// The file has as much as the limits allow, and then more.
    LimitsReached,
    /// The daemon is killed.
    Killed,
    /// The daemon ends as it should.
    Terminated,
    /// SYNs without end, until sessions are evicted.
    Flood,
    /// The daemon is started with more maps than memory.
    MemoryShort,
    /// The daemon is started where no BPF file system is mounted.
    NoBpfFileSystem,
    /// The daemon is started where pins can't be written.
    ReadOnlyPins,
    /// The daemon is started with a monotonic clock that is a day ahead of the kernel's. (The time of day can't be set for it
    /// alone; nothing but what people read depends on that.)
    ClockAhead,
    /// The daemon is started with a monotonic clock that is behind the kernel's.
    ClockBehind,
}

/// Checks what must hold while a fault lasts.
pub type Check<'a> = &'a mut dyn FnMut(&Scene<'_>) -> Result<()>;

impl Fault {
    /// Whether another daemon runs afterwards.
    pub const fn restarts(self) -> bool {
        matches!(
            self,
            Self::Killed
                | Self::Terminated
                | Self::MemoryShort
                | Self::NoBpfFileSystem
                | Self::ReadOnlyPins
                | Self::ClockAhead
                | Self::ClockBehind
        )
    }

    /// Whether bindings go, and their counters with them.
    pub fn unbinds(self) -> bool {
        self == Self::MachineUnbound
    }

    /// Whether it is why the daemon logs this error.
    pub fn explains(self, line: &str) -> bool {
        let is_refused = matches!(
            self,
            Self::BadSyntax | Self::UnknownServer | Self::LimitsReached
        );
        is_refused && line.contains("configuration not applied")
    }

    /// Whether it is why packets are dropped for this reason.
    pub fn drops(self, reason: &str) -> bool {
        self == Self::InterfaceFlaps && reason == "no_real_server"
    }

    /// Does it, waits until `lb` has noticed, checks what must hold while it lasts, and puts everything back.
    pub fn strike(self, scene: &mut Scene<'_>, check: Check<'_>) -> Result<()> {
        match self {
            Self::ProcessesEnd => {
                machine_dies(scene, check, Scene::stop_processes, Scene::start_processes)
            }
            Self::MachineUnplugged => machine_dies(
                scene,
                check,
                |scene, machine| scene.lab.unplug(scene.host(machine)),
                |scene, machine| scene.lab.plug_in(scene.host(machine)),
            ),
            Self::MacChanges => {
                let machine = scene.any_machine();
                let host = scene.host(machine);
                host.ip(&format!(
                    "link set dev eth0 address 02:00:00:00:01:{machine:02x}"
                ));
                check(scene)?;
                let own = host.mac().map(|byte| format!("{byte:02x}")).join(":");
                host.ip(&format!("link set dev eth0 address {own}"));
                Ok(())
            }
            Self::InterfaceFlaps => interface_flaps(scene),
            Self::WeightChanges => {
                let (machine, weight) = (scene.any_machine(), 2 + scene.random.below(4));
                change(scene, check, |plan| {
                    plan.weights[machine - 1] = Some(weight);
                })
            }
            Self::MachineUnbound => {
                let machine = scene.any_machine();
                change(scene, check, |plan| plan.weights[machine - 1] = None)
            }
            Self::VirtualServerAdded => {
                let added = scene.added();
                change(
                    scene,
                    &mut |scene| {
                        let report = scene.lab.client().http().get(added, 10);
                        ensure!(report.failures.is_empty(), "{:?}", report.failures);
                        check(scene)
                    },
                    |plan| plan.more_virtual_servers = 1,
                )
            }
            Self::BadSyntax => {
                scene.apply_in_vain(&(scene.config() + "virtual_servers: ["), "lb.yaml:")?;
                put_back(scene, check)
            }
            Self::UnknownServer => {
                let config = scene.config().replace("{server: web-1,", "{server: web-0,");
                scene.apply_in_vain(&config, "unknown real server")?;
                put_back(scene, check)
            }
            Self::LimitsReached => limits_reached(scene, check),
            Self::Killed => {
                scene.end(Signal::SIGKILL)?;
                check(scene)?;
                scene.start()
            }
            Self::Terminated => {
                scene.end(Signal::SIGTERM)?;
                check(scene)?;
                scene.start()
            }
            Self::Flood => flood(scene),
            Self::MemoryShort => {
                let group = MemoryGroup::new()?;
                let enter = format!("echo $$ > {}", group.processes().display());
                let config = scene.config();
                let config = config.replace("{sessions: 8000,", "{sessions: 16777216,");
                start_in_vain(scene, check, &enter, &config, "no memory for the map")
            }
            Self::NoBpfFileSystem => {
                // `lb` mounts one, has no pins there, and finds the interface taken.
                let words = "another XDP program is attached to eth0";
                let config = scene.config();
                start_in_vain(scene, check, "umount --lazy /sys/fs/bpf", &config, words)
            }
            Self::ReadOnlyPins => {
                let remount = "mount -o remount,bind,ro /sys/fs/bpf";
                let config = scene.config();
                start_in_vain(scene, check, remount, &config, "Read-only file system")
            }
            Self::ClockAhead => with_clock(scene, check, 86400.0),
            Self::ClockBehind => {
                let uptime = fs::read_to_string("/proc/uptime")?;
                let uptime: f64 = uptime.split(' ').next().unwrap_or_default().parse()?;
                // The kernel has no clocks that are below zero.
                with_clock(scene, check, -(uptime / 2.0).min(86400.0))
            }
        }
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let value = self.to_possible_value().expect("none is hidden");
        f.pad(value.get_name())
    }
}

fn machine_dies<'a>(
    scene: &mut Scene<'a>,
    check: Check<'_>,
    die: fn(&mut Scene<'a>, usize),
    heal: fn(&mut Scene<'a>, usize),
) -> Result<()> {
    let machine = scene.any_machine();
    let excuse = scene
        .traffic
        .excuse(&[Excuse::MachineDies(machine), Excuse::TablesChange]);
    die(scene, machine);
    scene.wait_until_down(machine)?;
    drop(excuse);
    check(scene)?;
    let _excuse = scene.traffic.excuse(&[Excuse::TablesChange]);
    heal(scene, machine);
    scene.wait_until_up()
}

fn interface_flaps(scene: &mut Scene<'_>) -> Result<()> {
    let _excuse = scene.traffic.excuse(&[Excuse::TablesChange]);
    let balancer = scene.lab.balancer();
    balancer.ip("link set dev eth0 down");
    let down = |status: &Value| {
        let mut all = list(&status["virtual_servers"]);
        all.all(|it| it["state"] == "down")
    };
    scene.running()?.wait_until("everything is down", down)?;
    sleep(Duration::from_millis(scene.random.below(1000) as u64));
    balancer.ip("link set dev eth0 up");
    scene.wait_until_up()
}

/// Applies another plan, and then the usual one.
fn change(scene: &mut Scene<'_>, check: Check<'_>, edit: impl FnOnce(&mut Plan)) -> Result<()> {
    let mut plan = Plan::USUAL;
    edit(&mut plan);
    scene.apply(plan)?;
    check(scene)?;
    scene.apply(Plan::USUAL)
}

/// After a file that was refused.
fn put_back(scene: &mut Scene<'_>, check: Check<'_>) -> Result<()> {
    check(scene)?;
    scene.apply(Plan::USUAL)
}

fn limits_reached(scene: &mut Scene<'_>, check: Check<'_>) -> Result<()> {
    let full = Plan {
        more_virtual_servers: Plan::MOST_VIRTUAL_SERVERS,
        more_real_servers: Plan::MOST_REAL_SERVERS,
        ..Plan::USUAL
    };
    let virtual_servers = Plan {
        more_virtual_servers: full.more_virtual_servers + 1,
        ..full.clone()
    };
    let real_servers = Plan {
        more_real_servers: full.more_real_servers + 1,
        ..full.clone()
    };
    scene.apply(full)?;
    for (plan, limit) in [
        (virtual_servers, "limits.virtual_servers"),
        (real_servers, "limits.real_servers"),
    ] {
        scene.apply_in_vain(&plan.config(scene.lab), limit)?;
    }
    put_back(scene, check)
}

/// Connects to a port where nobody listens, until sessions are evicted in number.
fn flood(scene: &Scene<'_>) -> Result<()> {
    const EVICTED: u64 = 2000;
    const ROUND: usize = 500;
    const MOST: usize = 100_000;
    let evicted = || -> Result<u64> {
        let status = scene.running()?.status()?;
        let evicted = status["session_table"]["evicted"].as_u64();
        evicted.context("no count of evicted sessions")
    };
    let enough = evicted()? + EVICTED;
    let targets: Vec<_> = flooded().collect();
    for (round, target) in targets.iter().cycle().enumerate() {
        if evicted()? >= enough {
            break;
        }
        ensure!(
            round * ROUND < MOST,
            "a flood of {MOST} SYNs fills no table"
        );
        scene.lab.client().run(|| {
            for _ in 0..ROUND {
                // It is refused; where a SYN is lost, the next one does.
                let _ = TcpStream::connect_timeout(target, Duration::from_millis(100));
            }
        });
    }
    Ok(())
}

/// The daemon ends. The next one, after a script in a mount namespace of its own, says these words and gives up; the one after
/// that starts.
fn start_in_vain(
    scene: &mut Scene<'_>,
    check: Check<'_>,
    script: &str,
    config: &str,
    words: &str,
) -> Result<()> {
    scene.end(Signal::SIGTERM)?;
    let script = format!(r#"{script} && exec "$@""#);
    scene.start_in_vain(
        &["unshare", "--mount", "sh", "-c", &script, "sh"],
        config,
        words,
    )?;
    check(scene)?;
    scene.start()
}

/// The daemon runs for a while in a time namespace (time_namespaces(7)): its clock jumps, and nobody else's.
fn with_clock(scene: &mut Scene<'_>, check: Check<'_>, seconds: f64) -> Result<()> {
    scene.end(Signal::SIGTERM)?;
    scene.start_by(&["unshare", "--time", "--monotonic", &format!("{seconds:.0}")])?;
    let clock = |pid: i32| fs::read_link(format!("/proc/{pid}/ns/time"));
    ensure!(
        clock(scene.running()?.pid())? != clock(process::id().cast_signed())?,
        "the daemon is in no time namespace of its own: this kernel's exec enters none"
    );
    check(scene)?;
    scene.end(Signal::SIGTERM)?;
    scene.start()
}

/// A control group whose processes have little memory. It is removed when this is dropped.
struct MemoryGroup(PathBuf);

impl MemoryGroup {
    /// Enough for the daemon, and not for a table of the largest size.
    const BYTES: &str = "67108864";

    /// As the kernel's cgroup-v1/memory.rst and cgroup-v2.rst say.
    fn new() -> Result<Self> {
        let name = format!("lb-soak-{}", process::id());
        let (root, limit) = if Path::new("/sys/fs/cgroup/memory").exists() {
            ("/sys/fs/cgroup/memory", "memory.limit_in_bytes")
        } else {
            ("/sys/fs/cgroup", "memory.max")
        };
        let group = Self(Path::new(root).join(name));
        fs::create_dir(&group.0)
            .and_then(|()| fs::write(group.0.join(limit), Self::BYTES))
            .with_context(|| format!("cannot limit memory by {}", group.0.display()))?;
        Ok(group)
    }

    fn processes(&self) -> PathBuf {
        self.0.join("cgroup.procs")
    }
}

impl Drop for MemoryGroup {
    fn drop(&mut self) {
        if let Err(error) = fs::remove_dir(&self.0) {
            eprintln!("cannot remove {}: {error}", self.0.display());
        }
    }
}
