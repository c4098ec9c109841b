//! What holds, whatever happens.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
    thread::sleep,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail, ensure};
use lb_tests::{Daemon, Lab};
use serde_json::Value;

use crate::{
    faults::Fault,
    scene::{Scene, list},
};

/// After a flood sessions expire for a minute, and are counted until they are swept.
const PATIENCE: Duration = Duration::from_secs(90);
/// What a daemon may grow by: freed memory that the allocator keeps.
const MORE_MEMORY: u64 = 16;
/// Sockets of health checks that happen to be under way.
const MORE_FILES: usize = 24;

/// What was so before, and must be so again.
#[derive(Debug)]
pub struct Invariants {
    counters: BTreeMap<String, Counters>,
    drops: BTreeMap<String, u64>,
    pins: BTreeSet<PathBuf>,
    /// Megabytes and open files of the first daemon, when it was warm.
    daemon: (u64, usize),
    /// How much of the log has been read.
    log: usize,
}

/// Of a virtual server.
#[derive(Clone, Copy, Debug, Default)]
struct Counters {
    packets: u64,
    /// Those of real servers that are not bound any more.
    unbound: u64,
}

impl Invariants {
    /// What holds now, while all is well.
    pub fn new(scene: &Scene<'_>) -> Result<Self> {
        let daemon = scene.running()?;
        Ok(Self {
            counters: BTreeMap::new(),
            drops: BTreeMap::new(),
            pins: pins(scene.lab)?,
            daemon: (daemon.memory("RssAnon")?, daemon.open_files()?),
            log: 0,
        })
    }

    /// Checks everything, as far as it can be while this fault lasts.
    pub fn check(&mut self, scene: &Scene<'_>, fault: Option<Fault>) -> Result<()> {
        scene.traffic.wait_for_answers()?;
        self.read_log(scene.lab, fault)?;
        let now = pins(scene.lab)?;
        ensure!(
            now == self.pins,
            "pins changed: {:?}, and now {now:?}",
            self.pins
        );
        match scene.daemon() {
            Some(daemon) => self.ask(scene, daemon, fault),
            None => Ok(()),
        }
    }

    /// Waits until what the daemon says adds up: the last packets may be under way, and expired sessions not swept.
    fn ask(&mut self, scene: &Scene<'_>, daemon: &Daemon<'_>, fault: Option<Fault>) -> Result<()> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            // For a moment only: silent flows may move (`on_change`).
            let quiet = scene.traffic.pause();
            let (status, sessions) = (daemon.status()?, sessions(scene.lab)?);
            drop(quiet);
            let counters = self.add_up(&status, &sessions, fault);
            match counters.and_then(|it| self.measure(daemon).map(|()| it)) {
                Ok(counters) => {
                    self.counters = counters;
                    self.drops = drops(&status)?;
                    return Ok(());
                }
                Err(error) if Instant::now() > deadline => return Err(error),
                Err(_) => sleep(Duration::from_millis(200)),
            }
        }
    }

    fn read_log(&mut self, lab: &Lab, fault: Option<Fault>) -> Result<()> {
        let log = lab.log();
        // The last line may be half of one.
        let end = log.rfind('\n').map_or(0, |end| end + 1);
        for line in log[self.log..end].lines() {
            let is_bad = line.contains(" ERROR ") || line.contains("panicked");
            let is_explained = fault.is_some_and(|fault| fault.explains(line));
            ensure!(!is_bad || is_explained, "lb logged: {line}");
        }
        self.log = end;
        Ok(())
    }

    fn add_up(
        &self,
        status: &Value,
        sessions: &BTreeMap<String, u64>,
        fault: Option<Fault>,
    ) -> Result<BTreeMap<String, Counters>> {
        for (reason, count) in drops(status)? {
            let before = self.drops.get(&reason).copied().unwrap_or_default();
            let is_explained = fault.is_some_and(|fault| fault.drops(&reason));
            ensure!(
                count == before || count > before && is_explained,
                "drops for {reason}: {before}, and now {count}"
            );
        }
        let mut counters = BTreeMap::new();
        for virtual_server in list(&status["virtual_servers"]) {
            let name = virtual_server["name"].as_str().context("no name")?;
            let before = self.counters.get(name).copied().unwrap_or_default();
            let packets = number(&virtual_server["packets"])?;
            let bound = sum(virtual_server, |it| number(&it["packets"]))?;
            ensure!(
                packets >= before.packets && packets >= bound,
                "{name} has {packets} packets, had {}, and its real servers {bound}",
                before.packets
            );
            let unbound = packets - bound;
            ensure!(
                unbound == before.unbound || fault.is_some_and(Fault::unbinds),
                "{name} has {packets} packets: {bound} of its real servers and {unbound} of others, which were {}",
                before.unbound
            );

            let active = number(&virtual_server["sessions"]["active"])?;
            let of_servers = sum(virtual_server, |it| number(&it["sessions"]["active"]))?;
            let listed = sessions.get(name).copied().unwrap_or_default();
            ensure!(
                active == of_servers && active == listed,
                "{name} has {active} active sessions, its real servers {of_servers}, and the table {listed}"
            );
            counters.insert(name.to_owned(), Counters { packets, unbound });
        }
        Ok(counters)
    }

    fn measure(&self, daemon: &Daemon<'_>) -> Result<()> {
        let (memory, files) = self.daemon;
        let (memory_now, files_now) = (daemon.memory("RssAnon")?, daemon.open_files()?);
        ensure!(
            memory_now <= memory + MORE_MEMORY && files_now <= files + MORE_FILES,
            "the daemon has grown from {memory} MB and {files} files to {memory_now} MB and {files_now} files"
        );
        Ok(())
    }
}

/// Active sessions in the table, by virtual server.
fn sessions(lab: &Lab) -> Result<BTreeMap<String, u64>> {
    let output = lab.lb("sessions --json --socket {socket}")?;
    let document: Value =
        serde_json::from_slice(&output.stdout).context("lb sessions --json printed no JSON")?;
    let mut counts = BTreeMap::new();
    for session in list(&document["sessions"]).filter(|it| it["state"] != "closing") {
        let name = session["virtual_server"].as_str().context("no name")?;
        *counts.entry(name.to_owned()).or_default() += 1;
    }
    Ok(counts)
}

fn drops(status: &Value) -> Result<BTreeMap<String, u64>> {
    let drops = status["drops"].as_object().context("no drops")?;
    drops
        .iter()
        .map(|(reason, count)| Ok((reason.clone(), number(count)?)))
        .collect()
}

/// Of a virtual server's real servers.
fn sum(virtual_server: &Value, value: impl Fn(&Value) -> Result<u64>) -> Result<u64> {
    list(&virtual_server["real_servers"]).map(value).sum()
}

fn number(value: &Value) -> Result<u64> {
    match value.as_u64() {
        Some(number) => Ok(number),
        None => bail!("{value} is no count"),
    }
}

/// Everything below the pin path.
fn pins(lab: &Lab) -> Result<BTreeSet<PathBuf>> {
    fn add(directory: &Path, all: &mut BTreeSet<PathBuf>) -> Result<()> {
        for entry in fs::read_dir(directory)? {
            let entry = entry?;
            if entry.file_type()?.is_dir() {
                add(&entry.path(), all)?;
            }
            all.insert(entry.path());
        }
        Ok(())
    }

    let mut all = BTreeSet::new();
    add(&lab.pin_path(), &mut all)?;
    Ok(all)
}
