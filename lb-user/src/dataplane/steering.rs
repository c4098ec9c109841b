//! Health checks by the data path: the programs that give their packets to real servers, and the answers back.
//!
//! Nothing of it is pinned: it goes with the process.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
};

use aya::{
    Ebpf, EbpfError, EbpfLoader,
    maps::{HashMap, Map, MapData, MapError},
    programs::{
        LinkOrder, ProgramError, SchedClassifier, TcAttachType,
        tc::{SchedClassifierLinkId, TcAttachOptions},
    },
    util::KernelVersion,
};
use lb_common::{Address, RealServer};
use tracing::warn;

use super::Array;

const OBJECT: &[u8] = aya::include_bytes_aligned!(env!("LB_STEERING_OBJECT"));

/// Why checks can't be steered.
#[derive(Debug, thiserror::Error)]
pub enum SteeringError {
    /// The kernel has no TCX.
    #[error("health checks by the data path need Linux 6.6 or later: give the checks `via: real`")]
    TooOld,
    /// The object file or a map.
    #[error("can't load the steering of health checks")]
    Object(#[from] EbpfError),
    /// The kernel refuses a program.
    #[error("can't load the steering of health checks")]
    Load(#[from] ProgramError),
    /// A program can't be attached.
    #[error("can't attach the steering of health checks to {interface}")]
    Attach {
        /// Where.
        interface: String,
        /// Why not.
        source: ProgramError,
    },
    /// A map.
    #[error("can't use the map of the steering of health checks")]
    Map(#[from] MapError),
    /// A map can't be mapped into memory.
    #[error("can't map the paths of health checks into memory")]
    Memory(#[from] std::io::Error),
}

/// The programs, and what they read.
pub struct SteeringPrograms {
    ebpf: Ebpf,
    paths: Array<RealServer>,
    checked_vips: HashMap<MapData, [u8; 16], u8>,
    vips: BTreeSet<IpAddr>,
    /// Where answers are collected, by name.
    collecting: BTreeMap<String, Collecting>,
}

struct Collecting {
    ifindex: u32,
    /// `None`: it can't be done there, as the log says.
    link: Option<SchedClassifierLinkId>,
}

impl SteeringPrograms {
    /// Whether this kernel has links of tc programs (TCX), which go with the process: filters would stay.
    ///
    /// # Errors
    /// [`SteeringError::TooOld`].
    pub fn require_kernel() -> Result<(), SteeringError> {
        let is_old = |version| version < KernelVersion::new(6, 6, 0);
        if KernelVersion::current().is_ok_and(is_old) {
            return Err(SteeringError::TooOld);
        }
        Ok(())
    }

    /// Loads the programs, for this many paths. `outer` is the index of the host's device that leads to the namespace that
    /// checks are sent in, and `echo_identifier` that of their echo requests.
    ///
    /// # Errors
    /// Those of the kernel.
    pub fn load(outer: u32, echo_identifier: u16, paths: u32) -> Result<Self, SteeringError> {
        let mut ebpf = EbpfLoader::new()
            .override_global("DEVICE", &outer, true)
            .override_global("ECHO_IDENTIFIER", &echo_identifier, true)
            .map_max_entries("paths", paths)
            .load(OBJECT)?;
        // They hold the maps from then on.
        for (_, program) in ebpf.programs_mut() {
            let program: &mut SchedClassifier = program.try_into()?;
            program.load()?;
        }
        let Some(Map::Array(map)) = ebpf.take_map("paths") else {
            unreachable!("the object has the map");
        };
        let vips = ebpf.take_map("checked_vips").expect("the object has it");
        Ok(Self {
            ebpf,
            paths: Array::map(map.fd(), paths)?,
            checked_vips: vips.try_into()?,
            vips: BTreeSet::new(),
            collecting: BTreeMap::new(),
        })
    }

    /// Labels what leaves by this device of the calling thread's network namespace.
    ///
    /// # Errors
    /// Those of the kernel.
    pub fn label(&mut self, inner: &str) -> Result<(), SteeringError> {
        self.attach("label", inner, TcAttachType::Egress).map(drop)
    }

    /// Steers what comes out of this device of the host.
    ///
    /// # Errors
    /// Those of the kernel.
    pub fn steer(&mut self, outer: &str) -> Result<(), SteeringError> {
        self.attach("steer", outer, TcAttachType::Ingress).map(drop)
    }

    fn attach(
        &mut self,
        program: &'static str,
        interface: &str,
        direction: TcAttachType,
    ) -> Result<SchedClassifierLinkId, SteeringError> {
        let failed = |source| SteeringError::Attach {
            interface: interface.to_owned(),
            source,
        };
        // Others may say that a packet is theirs; these leave alone what isn't.
        let options = TcAttachOptions::TcxOrder(LinkOrder::first());
        let program = self.classifier(program);
        let link = program.attach_with_options(interface, direction, options);
        link.map_err(failed)
    }

    fn classifier(&mut self, name: &str) -> &mut SchedClassifier {
        let program = self.ebpf.program_mut(name);
        let program = program.expect("the object has the program");
        program.try_into().expect("a tc program")
    }

    /// Makes an index lead to a real server.
    pub fn set_path(&self, index: u32, server: RealServer) {
        self.paths.set(index, server);
    }

    /// Collects answers from these VIPs and no others.
    ///
    /// # Errors
    /// Those of the kernel: there are too many.
    pub fn set_vips(&mut self, vips: BTreeSet<IpAddr>) -> Result<(), SteeringError> {
        let key = |vip: IpAddr| bytemuck::cast(Address::from(vip));
        let gone: Vec<_> = self.vips.difference(&vips).copied().collect();
        for vip in gone {
            self.checked_vips.remove(&key(vip))?;
            self.vips.remove(&vip);
        }
        for vip in vips {
            if !self.vips.contains(&vip) {
                self.checked_vips.insert(key(vip), 1, 0)?;
                self.vips.insert(vip);
            }
        }
        Ok(())
    }

    /// Collects answers that come to these interfaces, names with indexes, and to no others. Where that isn't possible the log
    /// says so, once.
    pub fn collect_from(&mut self, interfaces: BTreeMap<String, u32>) {
        let before = std::mem::take(&mut self.collecting);
        for (name, Collecting { ifindex, link }) in before {
            if interfaces.get(&name) == Some(&ifindex) {
                self.collecting.insert(name, Collecting { ifindex, link });
            } else if let Some(link) = link {
                // It has gone with its interface, perhaps.
                let _ = self.classifier("collect").detach(link);
            }
        }
        for (name, ifindex) in interfaces {
            if self.collecting.contains_key(&name) {
                continue;
            }
            let link = self.attach("collect", &name, TcAttachType::Ingress);
            let link = link.map_err(|error| warn!("{:#}", anyhow::Error::from(error)));
            let link = link.ok();
            self.collecting.insert(name, Collecting { ifindex, link });
        }
    }
}
