//! Health checks by the data path: each real server's path, and the thread that sends them there.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    net::IpAddr,
};

use anyhow::{Context, Result};
use tokio::sync::watch;

use super::send_if_new;
use crate::{
    config::Forward,
    control::{desired::Link, reconcile::real_server},
    dataplane::Steering,
    health::{self, Checks, Outcomes},
};

/// A path: the real server's name and address, and how packets are forwarded to it.
pub type Path = (String, IpAddr, Forward);

/// Checks that are steered.
pub struct Steered {
    checks: watch::Sender<Checks>,
    steering: Steering,
    indexes: HashMap<Path, u32>,
    free: BTreeSet<u32>,
}

/// Why there is no index for a path.
#[derive(Debug, thiserror::Error)]
#[error("there are too many paths: raise limits.real_servers")]
pub struct TooManyPaths;

impl Steered {
    /// Makes the place that they are sent from, for so many paths.
    ///
    /// # Errors
    /// Those of the kernel: not root, no veth devices.
    pub fn start(outcomes: Outcomes, paths: u32) -> Result<Self> {
        let identifier = getrandom::u32().context("can't get a random number")? as u16;
        let (checks, receiver) = watch::channel(Checks::new());
        let (mut steering, device) =
            health::run_steered(receiver, outcomes, identifier, move |device| {
                let mut steering = Steering::load(device.ifindex, identifier, paths)?;
                steering.label(health::INNER)?;
                anyhow::Ok((steering, device.clone()))
            })?;
        steering.steer(&device.name)?;
        Ok(Self {
            checks,
            steering,
            indexes: HashMap::new(),
            // A packet without a mark has no path.
            free: (1..paths).collect(),
        })
    }

    /// Goes on with these paths and no others.
    pub fn keep(&mut self, paths: &BTreeSet<Path>) {
        let gone = self.indexes.extract_if(|path, _| !paths.contains(path));
        self.free.extend(gone.map(|(_, index)| index));
    }

    /// The index of a path, which leads there from now on.
    ///
    /// # Errors
    /// [`TooManyPaths`].
    pub fn path(&mut self, path: &Path, link: &Link) -> Result<u32, TooManyPaths> {
        let index = match self.indexes.get(path) {
            Some(&index) => index,
            None => {
                let free = self.free.pop_first().ok_or(TooManyPaths)?;
                self.indexes.insert(path.clone(), free);
                free
            }
        };
        let (name, address, _) = path;
        self.steering
            .set_path(index, real_server(name, *address, link));
        Ok(index)
    }

    /// Sends these checks and no others; their answers come from VIPs to these interfaces, by name with their indexes.
    ///
    /// # Errors
    /// The kernel's.
    pub fn send(&mut self, checks: Checks, interfaces: BTreeMap<String, u32>) -> Result<()> {
        let vips = checks.keys().map(|check| check.destination()).collect();
        self.steering.set_vips(vips)?;
        self.steering.collect_from(interfaces);
        send_if_new(&self.checks, checks);
        Ok(())
    }
}
