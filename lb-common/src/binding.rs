//! A real server bound to a virtual server.

use bytemuck::{Pod, Zeroable};

/// Value of the map `bindings`. A virtual server's bindings stand side by side, from
/// [`crate::VirtualServer::first_binding`] on; its predictor table and its sessions name them by their
/// offset from there.
///
/// Eight bytes, so that user space replaces one in a single store.
#[repr(C, align(8))]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Pod, Zeroable)]
pub struct Binding {
    /// Index in `real_servers`; 0 is none.
    pub real_server: u32,
    /// Index in `binding_counters`.
    pub counters: u32,
}
