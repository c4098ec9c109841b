//! What runs a frame through the packet logic.

mod host;
mod kernel;

pub use host::Host;
pub use kernel::{Kernel, action, balancer_info};

use lb_ebpf::Verdict;

use crate::{case::Counted, fixture::Port};

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
    /// Whether it can be given such a frame.
    fn takes(&self, frame: &[u8]) -> bool;

    /// What becomes of a frame that comes in by an interface.
    fn run(&mut self, ingress: &Port, frame: &[u8]) -> Observed;
}
