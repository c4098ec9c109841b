//! The decapsulator of one interface.

use std::slice;

use anyhow::{Result, anyhow};

use super::maps::{self, AllowedSources, Maps};
use crate::{
    config::Interface,
    dataplane::{Attachments, Object, PinError, Program, attach, pins::Claim},
    net::View,
};

/// A program in the kernel, and what goes with it. When this is dropped, the program stays attached if it is
/// [kept](Self::keep).
pub struct Decapsulator {
    interface: Interface,
    program: Program,
    maps: Maps,
    attachments: Attachments,
    claim: Claim,
}

impl Decapsulator {
    /// Puts a new program in the place of the one that is pinned, if any, and keeps its maps.
    pub fn start(claim: Claim, interface: &Interface, network: &View) -> Result<Self> {
        let pins = claim.pins();
        attach::check_links(pins, network, slice::from_ref(interface))?;
        let mut program = Object::DECAPSULATOR.load(pins, &maps::layout())?;
        let maps = Maps::take(&mut program)?;
        let mut attachments = Attachments::default();
        attachments.attach(&mut program, pins, interface)?;
        program.pin(pins)?;
        Ok(Self {
            interface: interface.clone(),
            program,
            maps,
            attachments,
            claim,
        })
    }

    /// Decapsulates packets from these sources alone.
    pub fn allow(&mut self, sources: &AllowedSources) -> Result<()> {
        self.maps.set_allowed_sources(sources)
    }

    /// Takes over what changed: the host's addresses, and the interface if it was made anew.
    pub fn follow(&mut self, network: &View) -> Result<()> {
        let interfaces = slice::from_ref(&self.interface);
        self.attachments
            .follow(&mut self.program, self.claim.pins(), interfaces);
        self.maps
            .set_local_addresses(&network.addresses.keys().copied().collect())
    }

    /// Leaves everything in place from now on.
    pub const fn keep(&mut self) {
        self.claim.keep();
    }
}

/// What to say if the pins of an interface can't be had.
pub fn not_free(interface: &str) -> impl Fn(PinError) -> anyhow::Error {
    move |error| match error {
        PinError::InUse { .. } => anyhow!(
            "lb decap is running for {interface} already: end it first (SIGTERM leaves decapsulation in place)"
        ),
        error => error.into(),
    }
}
