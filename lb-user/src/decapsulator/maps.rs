//! The decapsulator's maps, as `lb_common::decapsulator` describes them.

use std::{collections::BTreeSet, net::IpAddr};

use anyhow::{Context, Result, ensure};
use aya::maps::{HashMap, LpmTrie, Map, MapData, MapError, MapType, PerCpuArray, lpm_trie::Key};
use ipnet::IpNet;
use lb_common::{
    Address, DecapsulatorCounters,
    decapsulator::{MAX_ALLOWED_SOURCES, MAX_LOCAL_ADDRESSES, prefix},
};

use crate::dataplane::{Pins, Program, layout::MapLayout, object};

type AddressBytes = [u8; size_of::<Address>()];
type Prefix = (u32, AddressBytes);
type CounterWords = [u64; size_of::<DecapsulatorCounters>() / size_of::<u64>()];

/// The maps have room for what goes beside what comes, which comes first.
const LOCAL_ADDRESSES: MapLayout =
    MapLayout::new::<Address, u8>("local_addresses", MapType::Hash, 2 * MAX_LOCAL_ADDRESSES);
const ALLOWED_SOURCES: MapLayout = MapLayout::new::<Key<AddressBytes>, u8>(
    "allowed_sources",
    MapType::LpmTrie,
    2 * MAX_ALLOWED_SOURCES,
);
const COUNTERS: MapLayout =
    MapLayout::new::<u32, DecapsulatorCounters>("counters", MapType::PerCpuArray, 1);

/// All maps.
pub fn layout() -> [MapLayout; 3] {
    [LOCAL_ADDRESSES, ALLOWED_SOURCES, COUNTERS]
}

/// The maps that tell the program what it should know.
pub struct Maps {
    local_addresses: HashMap<MapData, AddressBytes, u8>,
    allowed_sources: LpmTrie<MapData, AddressBytes, u8>,
}

impl Maps {
    /// Takes the maps of a program.
    pub fn take(program: &mut Program) -> Result<Self> {
        Ok(Self {
            local_addresses: program.take_map(LOCAL_ADDRESSES.name).try_into()?,
            allowed_sources: program.take_map(ALLOWED_SOURCES.name).try_into()?,
        })
    }

    /// Makes these the host's addresses, but for those that no tunnel ends at and no VIP is: a packet from
    /// elsewhere has no business with them.
    pub fn set_local_addresses(&mut self, addresses: &BTreeSet<IpAddr>) -> Result<()> {
        let is_of_use = |address: &&IpAddr| match address {
            IpAddr::V4(v4) => !v4.is_loopback(),
            IpAddr::V6(v6) => !v6.is_loopback() && !v6.is_unicast_link_local(),
        };
        let wanted: BTreeSet<AddressBytes> = addresses
            .iter()
            .filter(is_of_use)
            .map(|&address| bytemuck::cast(Address::from(address)))
            .collect();
        ensure!(
            wanted.len() <= MAX_LOCAL_ADDRESSES as usize,
            "this host has {} addresses, and lb decap knows no more than {MAX_LOCAL_ADDRESSES}",
            wanted.len()
        );
        replace_addresses(&mut self.local_addresses, &wanted)
            .with_context(|| format!("can't write the map {}", LOCAL_ADDRESSES.name))
    }

    /// Makes these the outer sources whose packets are decapsulated.
    pub fn set_allowed_sources(&mut self, sources: &AllowedSources) -> Result<()> {
        replace_prefixes(&mut self.allowed_sources, &sources.0)
            .with_context(|| format!("can't write the map {}", ALLOWED_SOURCES.name))
    }
}

/// The prefixes of allowed outer sources.
pub struct AllowedSources(BTreeSet<Prefix>);

/// Those of `--from`; none means all.
pub fn allowed_sources(from: &[IpNet]) -> Result<AllowedSources> {
    const ALL: Prefix = (0, [0; _]);
    let mut sources: BTreeSet<Prefix> = from
        .iter()
        .map(|net| prefix(net.network(), net.prefix_len()))
        .map(|(length, address)| (length, bytemuck::cast(address)))
        .collect();
    if from.is_empty() {
        sources.insert(ALL);
    }
    ensure!(
        sources.len() <= MAX_ALLOWED_SOURCES as usize,
        "{} prefixes are to be allowed, and lb decap knows no more than {MAX_ALLOWED_SOURCES}",
        sources.len()
    );
    Ok(AllowedSources(sources))
}

/// What is new comes first, so that nothing which stays is missing for a moment.
fn replace_addresses(
    map: &mut HashMap<MapData, AddressBytes, u8>,
    wanted: &BTreeSet<AddressBytes>,
) -> Result<(), MapError> {
    let present: BTreeSet<AddressBytes> = map.keys().collect::<Result<_, _>>()?;
    for address in wanted.difference(&present) {
        map.insert(address, 0, 0)?;
    }
    for address in present.difference(wanted) {
        map.remove(address)?;
    }
    Ok(())
}

/// As [`replace_addresses`].
fn replace_prefixes(
    map: &mut LpmTrie<MapData, AddressBytes, u8>,
    wanted: &BTreeSet<Prefix>,
) -> Result<(), MapError> {
    let present = map
        .keys()
        .map(|key| key.map(|key| (key.prefix_len(), key.data())));
    let present: BTreeSet<Prefix> = present.collect::<Result<_, _>>()?;
    for &(length, address) in wanted.difference(&present) {
        map.insert(&Key::new(length, address), 0, 0)?;
    }
    for &(length, address) in present.difference(wanted) {
        map.remove(&Key::new(length, address))?;
    }
    Ok(())
}

/// What was counted, whether or not a process runs.
pub fn counters(pins: &Pins) -> Result<DecapsulatorCounters> {
    let path = pins.map(COUNTERS.name);
    object::check_shape(&path, &COUNTERS)?;
    let map = PerCpuArray::<_, CounterWords>::try_from(Map::PerCpuArray(MapData::from_pin(path)?))?;
    let mut sum = CounterWords::default();
    for cpu in map.get(&0, 0)?.iter() {
        sum.iter_mut()
            .zip(cpu)
            .for_each(|(sum, count)| *sum += count);
    }
    Ok(bytemuck::cast(sum))
}
