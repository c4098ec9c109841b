//! The decapsulator of one interface.

use anyhow::{Result, anyhow};
use ipnet::IpNet;
use tracing::warn;

use super::maps::{self, Maps};
use crate::{
    config::Interface,
    dataplane::{Attachments, Object, PinError, Pins, Program, pins::Lock},
    net::View,
};

/// A program in the kernel, and what goes with it. When this is dropped, the program stays attached.
pub struct Decapsulator {
    interface: Interface,
    program: Program,
    maps: Maps,
    attachments: Attachments,
    is_present: bool,
    pins: Pins,
    _lock: Lock,
}

impl Decapsulator {
    /// Puts a new program in the place of the one that is pinned, if any, and keeps its counters.
    pub fn start(
        pins: Pins,
        interface: &Interface,
        from: &[IpNet],
        network: &View,
    ) -> Result<Self> {
        pins.create()?;
        let lock = lock(&pins, &interface.name)?;
        let mut program = Object::DECAPSULATOR.load(&pins, &maps::layout())?;
        let mut maps = Maps::take(&mut program)?;
        maps.set_allowed_sources(from)?;
        maps.set_local_addresses(&network.addresses)?;
        program.pin(&pins)?;
        let mut attachments = Attachments::default();
        attachments.attach(&mut program, &pins, interface)?;
        Ok(Self {
            interface: interface.clone(),
            program,
            maps,
            attachments,
            is_present: true,
            pins,
            _lock: lock,
        })
    }

    /// Takes over what changed: the host's addresses, and the interface if it was made anew.
    pub fn follow(&mut self, network: &View) -> Result<()> {
        self.maps.set_local_addresses(&network.addresses)?;
        let name = &self.interface.name;
        let was_present = self.is_present;
        self.is_present = network.interfaces.contains_key(name);
        if self.is_present {
            self.attachments
                .attach(&mut self.program, &self.pins, &self.interface)?;
        } else if was_present {
            warn!("interface {name} is gone; decapsulation goes on there when it is back");
        }
        Ok(())
    }
}

/// Takes the pins of an interface for this process.
pub fn lock(pins: &Pins, interface: &str) -> Result<Lock> {
    pins.lock().map_err(|error| match error {
        PinError::InUse { .. } => anyhow!(
            "lb decap is running for {interface} already: end it first (SIGTERM leaves decapsulation in place)"
        ),
        error => error.into(),
    })
}
