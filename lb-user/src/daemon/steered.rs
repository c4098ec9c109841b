//! Health checks by the data path: each real server's path, and the thread that sends them there.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap, VecDeque},
    net::IpAddr,
};

use anyhow::{Context, Result};
use lb_common::RealServer;
use tokio::sync::watch;

use super::send_if_new;
use crate::{
    config::Forward,
    control::{desired::Link, reconcile::real_server},
    dataplane::SteeringPrograms,
    health::{self, Checks, Outcomes, SteeredThread},
};

/// Whom a path leads to: the real server's name and address, and how packets are forwarded to it.
pub type PathTo = (String, IpAddr, Forward);

/// Checks that are steered.
pub struct Steered {
    checks: watch::Sender<Checks>,
    programs: SteeringPrograms,
    /// Each path's index, and what is there.
    paths: HashMap<PathTo, (u32, RealServer)>,
    /// That which was in use last comes last: a check may still be on its way there.
    free: VecDeque<u32>,
}

/// Why there is no index for a path.
#[derive(Debug, thiserror::Error)]
#[error("there are too many paths: raise limits.real_servers")]
pub struct TooManyPaths;

impl Steered {
    /// Makes the place that they are sent from, for so many paths.
    ///
    /// # Errors
    /// Those of the kernel: no veth devices.
    pub fn start(thread: &SteeredThread, outcomes: Outcomes, paths: u32) -> Result<Self> {
        SteeringPrograms::require_kernel()?;
        let identifier = getrandom::u32().context("can't get a random number")? as u16;
        let (checks, receiver) = watch::channel(Checks::new());
        let (mut programs, device) = thread.run(receiver, outcomes, identifier, move |device| {
            let mut programs = SteeringPrograms::load(device.ifindex, identifier, paths)?;
            programs.label(health::INNER)?;
            anyhow::Ok((programs, device.clone()))
        })?;
        programs.steer(&device.name)?;
        Ok(Self {
            checks,
            programs,
            paths: HashMap::new(),
            // A packet without a mark has no path.
            free: (1..paths).collect(),
        })
    }

    /// Goes on with these paths and no others.
    pub fn keep(&mut self, paths: &BTreeSet<PathTo>) {
        let gone = self.paths.extract_if(|path, _| !paths.contains(path));
        self.free.extend(gone.map(|(_, (index, _))| index));
    }

    /// The index of a path. One that leads elsewhere than before has another index.
    ///
    /// # Errors
    /// [`TooManyPaths`].
    pub fn path(&mut self, to: &PathTo, link: &Link) -> Result<u32, TooManyPaths> {
        let (name, address, _) = to;
        let entry = real_server(name, *address, link);
        let before = self.paths.get(to).copied();
        if let Some((index, same)) = before
            && same == entry
        {
            return Ok(index);
        }
        let index = self.free.pop_front().ok_or(TooManyPaths)?;
        self.programs.set_path(index, entry);
        self.paths.insert(to.clone(), (index, entry));
        self.free.extend(before.map(|(index, _)| index));
        Ok(index)
    }

    /// Sends these checks and no others; their answers come from VIPs to these interfaces, by name with their indexes.
    ///
    /// # Errors
    /// The kernel's.
    pub fn send(&mut self, checks: Checks, interfaces: BTreeMap<String, u32>) -> Result<()> {
        let vips = checks.keys().map(|check| check.destination()).collect();
        self.programs.set_vips(vips)?;
        self.programs.collect_from(interfaces);
        send_if_new(&self.checks, checks);
        Ok(())
    }
}
