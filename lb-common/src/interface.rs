//! An interface that the balancer is attached to.

use bytemuck::{Pod, Zeroable};

/// Value of the map `interfaces`, whose key is the interface's index.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Pod, Zeroable)]
pub struct Interface {
    /// The MAC address that VIPs are answered with.
    pub mac: [u8; 6],
    /// Zeros.
    pub reserved: [u8; 2],
}
