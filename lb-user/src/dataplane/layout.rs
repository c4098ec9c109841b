//! Which maps there are, and of what shape: what a pinned map must be like to be taken over.

use std::{
    fmt::{self, Display},
    path::PathBuf,
};

use aya::maps::MapType;
use lb_common::{
    Binding, BucketV4, BucketV6, Budget, Control, Counters, Datagram, DropReason, FirstFragment,
    Interface, LAYOUT, PortRange, RealServer, SessionEvent, TableBlock, Vip, VipBucket,
    VirtualServer,
};

use super::Sizes;

/// The shape of a map.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Shape {
    /// Its kind.
    pub kind: MapType,
    /// Bytes in a key.
    pub key_size: u32,
    /// Bytes in a value.
    pub value_size: u32,
    /// How many entries.
    pub max_entries: u32,
}

impl Display for Shape {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            kind,
            key_size,
            value_size,
            max_entries,
        } = self;
        write!(
            f,
            "{max_entries} entries of {key_size} and {value_size} bytes ({kind:?})"
        )
    }
}

/// A map by its name, in the object file and below `pin_path`.
#[derive(Clone, Copy, Debug)]
pub struct MapLayout {
    /// Its name.
    pub name: &'static str,
    /// Its shape.
    pub shape: Shape,
}

impl MapLayout {
    /// A map from `Key` to `Value`.
    pub const fn new<Key, Value>(name: &'static str, kind: MapType, max_entries: u32) -> Self {
        let shape = Shape {
            kind,
            key_size: size_of::<Key>() as u32,
            value_size: size_of::<Value>() as u32,
            max_entries,
        };
        Self { name, shape }
    }
}

/// A pinned map of a shape that no known layout has.
#[derive(Debug, thiserror::Error)]
#[error(
    "the pinned map {path} has {found}, but this version needs {needed}: start the version that made it, or end forwarding and forget all that is pinned (`lb stop`, `lb decap --stop`) and start again"
)]
pub struct Incompatible {
    /// Where it is.
    pub path: PathBuf,
    /// What it is like.
    pub found: Shape,
    /// What it should be like.
    pub needed: Shape,
}

/// Pinned maps of a version whose maps this one can't read.
#[derive(Debug, thiserror::Error)]
#[error(
    "the pinned map {path} has layout {number}, but this version knows layouts up to {LAYOUT}: start the version that made it, or a later one, or end forwarding and forget all sessions (`lb stop`) and start again"
)]
pub struct UnknownLayout {
    /// Where the number is.
    pub path: PathBuf,
    /// The number.
    pub number: u32,
}

/// Maps of which packets may use some of each kind.
#[derive(Debug, thiserror::Error)]
#[error(
    "an earlier start of lb was cut short while it replaced the maps in {path}, and had other limits: start once with those, or end forwarding and forget all sessions (`lb stop`) and start again"
)]
pub struct Interrupted {
    /// The pin path.
    pub path: PathBuf,
}

/// All maps of the balancer.
pub fn maps(sizes: &Sizes) -> [MapLayout; 24] {
    fn map<V>(name: &'static str, kind: MapType, max_entries: u32) -> MapLayout {
        MapLayout::new::<u32, V>(name, kind, max_entries)
    }
    use MapType::{Array, LruHash, PerCpuArray, ProgramArray};
    [
        map::<Control>("control", Array, 1),
        map::<VipBucket>("vip_buckets", Array, sizes.vip_buckets),
        map::<Vip>("vips", Array, sizes.vips),
        map::<PortRange>("port_ranges", Array, sizes.port_ranges),
        map::<VirtualServer>("virtual_servers", Array, sizes.virtual_servers),
        map::<TableBlock>("predictor_tables", Array, sizes.table_blocks),
        map::<Binding>("bindings", Array, sizes.bindings),
        map::<RealServer>("real_servers", Array, sizes.real_servers),
        map::<Interface>("interfaces", Array, Interface::SLOTS),
        map::<BucketV4>("sessions_v4", Array, sizes.sessions_v4),
        map::<BucketV6>("sessions_v6", Array, sizes.sessions_v6),
        map::<BucketV4>("sticky_v4", Array, sizes.sticky),
        map::<BucketV6>("sticky_v6", Array, sizes.sticky),
        map::<u64>("active_sessions", Array, sizes.bindings),
        map::<u64>("turns", Array, sizes.virtual_servers),
        MapLayout::new::<Datagram, FirstFragment>("fragments", LruHash, sizes.fragments),
        map::<Budget>("error_budget", PerCpuArray, 1),
        map::<Budget>("session_budget", PerCpuArray, 1),
        map::<[u64; 8]>("scratch", PerCpuArray, 1),
        map::<Counters>("unbound_counters", Array, sizes.virtual_servers),
        map::<Counters>("binding_counters", PerCpuArray, sizes.bindings),
        map::<u64>("drop_counters", PerCpuArray, DropReason::ALL.len() as u32),
        map::<u64>(
            "session_events",
            PerCpuArray,
            SessionEvent::ALL.len() as u32,
        ),
        map::<u32>("programs", ProgramArray, 1),
    ]
}

#[cfg(test)]
mod tests;
