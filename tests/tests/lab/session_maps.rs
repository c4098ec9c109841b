//! What the pinned maps say of a virtual server's sessions.

use std::collections::BTreeMap;

use aya::maps::{Array, Map, MapData, PerCpuArray};
use bytemuck::{Pod, Zeroable};
use lb_common::{Binding, Counters, RealServer, VirtualServer};
use lb_tests::Lab;

use crate::support::wait_until;

/// A real server of a virtual server, and its sessions there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Member {
    /// Active sessions.
    pub active: u64,
    /// Sessions that have ever come to it.
    pub total: u64,
    /// Whether it gets no new ones by the operator's wish.
    pub drains: bool,
}

/// The members of a virtual server by name, also those that are unbound and may have sessions left.
pub fn members(lab: &Lab, virtual_server: &str) -> BTreeMap<String, Member> {
    let virtual_servers = Entries::<VirtualServer, 16>::open(lab, "virtual_servers");
    let virtual_server = (1..)
        .map(|id| virtual_servers.get(id))
        .find(|entry| entry.name.as_str() == Some(virtual_server))
        .expect("the virtual server is in the map");
    let bindings = Entries::<Binding, 1>::open(lab, "bindings");
    let real_servers = Entries::<RealServer, 16>::open(lab, "real_servers");
    let active = Entries::<u64, 1>::open(lab, "active_sessions");
    let counters: PerCpuArray<_, [u64; size_of::<Counters>() / 8]> =
        map(lab, "binding_counters", Map::PerCpuArray);
    (0..virtual_server.binding_capacity)
        .map(|offset| bindings.get(virtual_server.first_binding + offset))
        .filter(|binding| binding.real_server != 0)
        .map(|binding| {
            let name = real_servers.get(binding.real_server).name;
            let counters = counters.get(&binding.counters_index(), 0).unwrap();
            let counters = counters.iter().map(|&words| bytemuck::cast(words));
            let counters = counters.fold(Counters::default(), Counters::plus);
            let member = Member {
                active: active.get(binding.counters_index()),
                total: counters.sessions + counters.moved,
                drains: binding.flags() & Binding::DRAINING != 0,
            };
            (name.as_str().unwrap().to_owned(), member)
        })
        .collect()
}

/// How many active sessions each member has.
pub fn active(lab: &Lab, virtual_server: &str) -> BTreeMap<String, u64> {
    let members = members(lab, virtual_server).into_iter();
    members
        .map(|(name, member)| (name, member.active))
        .collect()
}

/// Waits until all members together have so many active sessions.
#[track_caller]
pub fn wait_for_active(lab: &Lab, virtual_server: &str, count: u64) {
    wait_until(&format!("{count} active sessions"), || {
        active(lab, virtual_server).values().sum::<u64>() == count
    });
}

/// A map of values of `WORDS` words.
struct Entries<T, const WORDS: usize> {
    array: Array<MapData, [u64; WORDS]>,
    value: std::marker::PhantomData<T>,
}

impl<T: Pod + Zeroable, const WORDS: usize> Entries<T, WORDS> {
    fn open(lab: &Lab, name: &str) -> Self {
        Self {
            array: map(lab, name, Map::Array),
            value: std::marker::PhantomData,
        }
    }

    fn get(&self, index: u32) -> T {
        let words = self.array.get(&index, 0).expect("an index in the map");
        bytemuck::pod_read_unaligned(&bytemuck::cast_slice(&words)[..size_of::<T>()])
    }
}

fn map<M: TryFrom<Map, Error = aya::maps::MapError>>(
    lab: &Lab,
    name: &str,
    kind: fn(MapData) -> Map,
) -> M {
    let pin = lab.pin_path().join("maps").join(name);
    M::try_from(kind(MapData::from_pin(pin).unwrap())).unwrap()
}
