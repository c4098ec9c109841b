//! What the kernel knows of the network, told over rtnetlink: for each target address (a real
//! server's) the interface, the next hop and the MAC address that reach it; and this host's own
//! interfaces and addresses.
//!
//! [`watch`] subscribes first, then synchronises in full, then follows the kernel's events, so no
//! change falls between. `State` decides (fed with messages and the time, no I/O);
//! `Netlink` talks to the kernel; the task in `watch.rs` joins the two.
//!
//! The kernel does the resolving: this module reads its neighbour table and makes it send ARP
//! requests and neighbour solicitations, but opens no such socket of its own.

mod address;
mod link;
mod neighbour;
mod netlink;
mod path_mtu;
mod route;
pub mod solicited;
mod state;
mod view;
mod watch;

pub use netlink::NetError;
pub use view::{AttachedProgram, Interface, NextHop, Unreachable, View, Way};
pub use watch::{Targets, watch, watch_host};

/// A MAC address, in the order of transmission.
type Mac = [u8; 6];
