//! What the kernel programs and `lb` agree on: the layout of every map, the constants that both use, and
//! the hashes that both compute.
//!
//! Map values are `#[repr(C)]` without implicit padding ([`bytemuck::Pod`] proves it), so that user
//! space can write them as bytes and BTF describes every byte. Ports and numbers are in host byte
//! order, addresses are octets in network order. Zero always means "not configured", because a BPF
//! array has no missing entries.
//!
//! A packet follows these maps of the balancer (those of the decapsulator are in [`decapsulator`]):
//!
//! ```text
//! control[0] -> vip_buckets -> virtual_servers[id] -> sessions, predictor_tables -> bindings -> real_servers
//!                   \-> vips -> port_ranges ---^
//! ```
//!
//! User space never changes what a packet may be reading: it writes new entries beside the old ones and
//! then moves one 8-byte pointer ([`Directory`], [`PredictorTable`], [`Binding`]).

#![no_std]

pub mod address;
pub mod benchmark;
pub mod binding;
pub mod budget;
pub mod clock;
pub mod counters;
pub mod decapsulator;
pub mod directory;
pub mod fragment;
pub mod hash;
pub mod health;
pub mod interface;
pub mod layout;
pub mod name;
pub mod real_server;
pub mod session;
pub mod trace;
pub mod virtual_server;

pub use address::Address;
pub use binding::Binding;
pub use budget::Budget;
pub use clock::Clock;
pub use counters::{Counters, DropReason, SessionEvent, Traffic};
pub use decapsulator::DecapsulatorCounters;
pub use directory::{Control, Directory, PortRange, SessionTables, Vip, VipBucket, VipSlot};
pub use fragment::{Datagram, FirstFragment};
pub use interface::Interface;
pub use layout::LAYOUT;
pub use name::Name;
pub use real_server::RealServer;
pub use session::{BucketV4, BucketV6, SessionKey};
pub use trace::{TraceEvent, TraceFilter, TraceRecord, TraceSession, TraceVerdict, TracedPacket};
pub use virtual_server::{
    Candidate, Forward, OnDown, OnUnknown, Predictor, PredictorTable, TableBlock, TableSlot,
    VirtualServer,
};

/// IP protocol numbers (IANA).
pub mod protocol {
    /// IPv4 in IP (RFC 2003).
    pub const IPV4: u8 = 4;
    /// Transmission Control Protocol.
    pub const TCP: u8 = 6;
    /// User Datagram Protocol.
    pub const UDP: u8 = 17;
    /// IPv6 in IP (RFC 2473, RFC 4213).
    pub const IPV6: u8 = 41;
}
