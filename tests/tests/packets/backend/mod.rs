//! What runs a frame through the packet logic.

mod host;
mod kernel;
mod twin;

pub use host::Host;
pub use kernel::{Kernel, Place, Runner, Told, action, program_info};
pub use twin::Twin;

use std::time::Duration;

use lb_ebpf::Verdict;
use lb_user::control::Desired;

use crate::{
    case::{Case, Counted},
    fixture::Port,
};

/// What became of a frame.
#[derive(Debug, PartialEq, Eq)]
pub struct Observed {
    pub verdict: Verdict,
    /// The frame afterwards.
    pub output: Vec<u8>,
    pub counted: Counted,
}

/// The packet logic, compiled for somewhere.
pub trait Backend {
    /// Whether it can be given such a case.
    fn takes(&self, case: &Case) -> bool;

    /// What becomes of a frame that comes in by an interface.
    fn run(&mut self, ingress: &Port, frame: &[u8]) -> Observed;

    /// As [`Self::run`], where it does not matter what becomes of it.
    fn feed(&mut self, ingress: &Port, frame: &[u8]);

    /// Forgets all that it knows from frames.
    fn forget(&mut self);

    /// Makes the maps say what is wanted from now on.
    fn reconcile(&mut self, wanted: &Desired) {
        self.reconcile_after(wanted, Duration::ZERO);
    }

    /// As [`Self::reconcile`], of a daemon for which so much time has gone by.
    fn reconcile_after(&mut self, wanted: &Desired, time: Duration);

    /// Active sessions of a real server in a virtual server.
    fn active(&self, virtual_server: &str, server: &str) -> u64;

    /// Lets time go by.
    fn wait(&mut self, time: Duration);
}
