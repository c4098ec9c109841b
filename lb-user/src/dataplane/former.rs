//! The maps of an earlier daemon, where they have other sizes or another layout than this one's: what is read of them.
//!
//! Sizes alone differ after a change of `limits`. Of another layout everything is read as the entries of today that say the
//! same: [`Layout`] says how.

use std::path::Path;

use aya::maps::{HashMap, Map, MapData, MapError, MapType, PerCpuArray};
use bytemuck::{AnyBitPattern, Pod, Zeroable};
use lb_common::{
    Binding, BucketV4, BucketV6, Control, Counters, Datagram, FirstFragment, Interface, LAYOUT,
    RealServer, SessionKey, TableBlock, VirtualServer, session::State,
};

use super::{
    Array, CounterMaps, LoadError, Pins, Sizes,
    counters::{CountersMap, Words},
    layout::{self, Incompatible, MapLayout, Shape, UnknownLayout},
    object::{map_error, shape},
};

#[cfg(feature = "layout-variant")]
mod layout_5;

/// How the entries of a layout become those of today. Of other maps all layouts have the same entries.
#[derive(Clone, Copy, Debug)]
pub struct Layout {
    /// [`LAYOUT`] of the versions that have it.
    number: u32,
    virtual_servers: Entry<VirtualServer>,
    real_servers: Entry<RealServer>,
    bindings: Entry<Binding>,
    /// Whether there is a map `virtual_server_counters`: all that each virtual server counted.
    counts_virtual_servers: bool,
    /// The word of a session or a sticky client.
    state: fn(u64) -> State,
}

/// Every layout that is known.
const LAYOUTS: &[Layout] = &[
    TODAY,
    // Sessions and sticky clients lay in other buckets of their tables.
    #[cfg(not(feature = "layout-variant"))]
    Layout { number: 4, ..TODAY },
    #[cfg(not(feature = "layout-variant"))]
    LAYOUT_3,
    #[cfg(not(feature = "layout-variant"))]
    LAYOUT_2,
    // What has got a meaning since then was zero: a byte of virtual servers, and a bit of slots. Keys lay in other buckets
    // of the directory, which is built anew.
    #[cfg(not(feature = "layout-variant"))]
    Layout {
        number: 1,
        ..LAYOUT_2
    },
    #[cfg(feature = "layout-variant")]
    layout_5::LAYOUT_5,
];

/// That of this version.
const TODAY: Layout = Layout {
    number: LAYOUT,
    virtual_servers: Entry::of::<VirtualServer>(),
    real_servers: Entry::of::<RealServer>(),
    bindings: Entry::of::<Binding>(),
    counts_virtual_servers: false,
    state: State,
};

/// Packets were counted twice, and sessions that moved to a binding were counted with those that began there.
#[cfg(not(feature = "layout-variant"))]
const LAYOUT_3: Layout = Layout {
    number: 3,
    counts_virtual_servers: true,
    ..TODAY
};

/// A virtual server's own index was not in its entry, nor the length of the outer header in that of a real server; both are
/// written anew.
#[cfg(not(feature = "layout-variant"))]
const LAYOUT_2: Layout = Layout {
    number: 2,
    bindings: Entry::of::<FlaggedServer>(),
    ..LAYOUT_3
};

/// A binding that had its flags at its real server.
#[repr(C)]
#[derive(Clone, Copy, Pod, Zeroable)]
struct FlaggedServer {
    real_server: u32,
    counters: u32,
}

impl From<FlaggedServer> for Binding {
    fn from(then: FlaggedServer) -> Self {
        let flags = then.real_server & (Self::DOWN | Self::DRAINING);
        Self {
            real_server: then.real_server & !flags,
            counters: then.counters | flags,
        }
    }
}

/// How a map's entries in a layout become those of today.
#[derive(Clone, Copy, Debug)]
struct Entry<Today> {
    bytes: usize,
    read: fn(&[u64]) -> Today,
}

impl<Today> Entry<Today> {
    /// Entries of this type.
    const fn of<Then: AnyBitPattern + Into<Today>>() -> Self {
        Self {
            bytes: size_of::<Then>(),
            read: |words| bytemuck::pod_read_unaligned::<Then>(bytemuck::cast_slice(words)).into(),
        }
    }
}

/// The map `fragments`: [`Datagram`] and [`FirstFragment`], as words.
pub type Fragments =
    HashMap<MapData, [u64; size_of::<Datagram>() / 8], [u64; size_of::<FirstFragment>() / 8]>;

/// The maps, and what packets still write there until the program is replaced.
pub struct Former {
    /// As the map of this name, by id.
    pub virtual_servers: Entries<VirtualServer>,
    /// As the map of this name.
    pub predictor_tables: Array<TableBlock>,
    /// As the map of this name.
    pub bindings: Entries<Binding>,
    /// As the map of this name.
    pub real_servers: Entries<RealServer>,
    /// As the map of this name.
    pub interfaces: Array<Interface>,
    /// Sessions of IPv4.
    pub sessions_v4: FormerTable<BucketV4>,
    /// Sessions of IPv6.
    pub sessions_v6: FormerTable<BucketV6>,
    /// Sticky clients of IPv4.
    pub sticky_v4: FormerTable<BucketV4>,
    /// Sticky clients of IPv6.
    pub sticky_v6: FormerTable<BucketV6>,
    /// As the map of this name.
    pub turns: Array<u64>,
    /// As the map of this name.
    pub fragments: Fragments,
    unbound_counters: UnboundCounters,
    /// The counters.
    pub counters: CounterMaps,
}

/// What bindings counted that are no more.
enum UnboundCounters {
    /// As the map `unbound_counters`.
    Known(Array<Counters>),
    /// What is left of all that was counted without the bindings that there are: of sessions less than none, where some have
    /// moved to them.
    Rest(CountersMap),
}

/// The layout of the pinned maps, if they are of another layout or other sizes than are needed.
///
/// # Errors
/// [`UnknownLayout`]; the kernel's.
pub fn differing(pins: &Pins, sizes: &Sizes) -> Result<Option<&'static Layout>, LoadError> {
    let Some(layout) = layout_of(pins)? else {
        return Ok(None);
    };
    if layout.number != LAYOUT {
        return Ok(Some(layout));
    }
    for map in layout::maps(sizes) {
        let path = pins.map(map.name);
        if path.exists() && shape(&path, map.name)?.max_entries != map.shape.max_entries {
            return Ok(Some(layout));
        }
    }
    Ok(None)
}

/// The layout of the pinned maps, by the number in `control`; `None` if there are no maps.
fn layout_of(pins: &Pins) -> Result<Option<&'static Layout>, LoadError> {
    /// Maps without a number were made before layouts had one, or have never been filled.
    const UNNUMBERED: u32 = 1;

    let path = pins.map("control");
    if !path.exists() {
        return Ok(None);
    }
    // In every layout the number stands in the same place.
    const WORD: u32 = (std::mem::offset_of!(Control, layout) / 8) as u32;
    let number = match (pinned_words(pins, "control")?.get(WORD) >> 32) as u32 {
        0 => UNNUMBERED,
        number => number,
    };
    let known = LAYOUTS.iter().find(|layout| layout.number == number);
    match known {
        Some(layout) => Ok(Some(layout)),
        None => Err(UnknownLayout { path, number }.into()),
    }
}

impl Former {
    /// Opens the pinned maps.
    pub(super) fn open(pins: &Pins) -> Result<Option<Self>, LoadError> {
        let Some(layout) = layout_of(pins)? else {
            return Ok(None);
        };
        Ok(Some(Self {
            virtual_servers: Entries::open(pins, "virtual_servers", &layout.virtual_servers)?,
            predictor_tables: array(pins, "predictor_tables")?,
            bindings: Entries::open(pins, "bindings", &layout.bindings)?,
            real_servers: Entries::open(pins, "real_servers", &layout.real_servers)?,
            interfaces: array(pins, "interfaces")?,
            sessions_v4: FormerTable::open(pins, "sessions_v4", layout)?,
            sessions_v6: FormerTable::open(pins, "sessions_v6", layout)?,
            sticky_v4: FormerTable::open(pins, "sticky_v4", layout)?,
            sticky_v6: FormerTable::open(pins, "sticky_v6", layout)?,
            turns: array(pins, "turns")?,
            fragments: fragments(pins)?,
            unbound_counters: match layout.counts_virtual_servers {
                true => UnboundCounters::Rest(counters(pins, "virtual_server_counters")?),
                false => UnboundCounters::Known(array(pins, "unbound_counters")?),
            },
            counters: CounterMaps {
                bindings: counters(pins, "binding_counters")?,
                drops: per_cpu(pins, "drop_counters")?,
                session_events: per_cpu(pins, "session_events")?,
            },
        }))
    }
}

impl Former {
    /// What a virtual server counted beside its bindings with these indices in `binding_counters`.
    ///
    /// # Errors
    ///
    /// If the kernel refuses.
    pub fn unbound_counters(
        &self,
        id: u32,
        mut bindings: impl Iterator<Item = u32>,
    ) -> Result<Counters, MapError> {
        match &self.unbound_counters {
            UnboundCounters::Known(counters) => Ok(counters.get(id)),
            UnboundCounters::Rest(all) => bindings.try_fold(all.read(id)?, |rest, index| {
                Ok(rest.minus(self.counters.binding(index)?))
            }),
        }
    }

    /// The bindings of a virtual server that lead to a real server, by their offsets.
    pub fn members(&self, virtual_server: &VirtualServer) -> impl Iterator<Item = (u32, Binding)> {
        let VirtualServer {
            first_binding,
            binding_capacity,
            ..
        } = *virtual_server;
        (0..binding_capacity)
            .map_while(move |offset| {
                let index = first_binding + offset;
                (index < self.bindings.len()).then(|| (offset, self.bindings.get(index)))
            })
            .filter(|(_, binding)| (1..self.real_servers.len()).contains(&binding.real_server))
    }
}

/// Entries of a layout, read as those of today.
pub struct Entries<Today> {
    words: Array<u64>,
    words_per_entry: u32,
    read: fn(&[u64]) -> Today,
}

impl<Today> Entries<Today> {
    fn open(pins: &Pins, name: &'static str, entry: &Entry<Today>) -> Result<Self, LoadError> {
        let path = pins.map(name);
        let found = shape(&path, name)?;
        let value_size = entry.bytes as u32;
        fits(
            &path,
            found,
            Shape {
                value_size,
                ..found
            },
        )?;
        Ok(Self {
            words: pinned_words(pins, name)?,
            words_per_entry: value_size / 8,
            read: entry.read,
        })
    }

    /// Number of entries.
    pub const fn len(&self) -> u32 {
        self.words.len() / self.words_per_entry
    }

    /// Always false: a BPF array has entries.
    pub const fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The entry at `index`.
    ///
    /// # Panics
    ///
    /// If there is none.
    pub fn get(&self, index: u32) -> Today {
        let first = index * self.words_per_entry;
        let words = first..first + self.words_per_entry;
        (self.read)(&words.map(|word| self.words.get(word)).collect::<Vec<_>>())
    }
}

/// A table of sessions or sticky clients.
pub struct FormerTable<Bucket> {
    buckets: Array<Bucket>,
    state: fn(u64) -> State,
}

impl<Bucket: Pod> FormerTable<Bucket> {
    fn open(pins: &Pins, name: &'static str, layout: &Layout) -> Result<Self, LoadError> {
        Ok(Self {
            buckets: array(pins, name)?,
            state: layout.state,
        })
    }

    /// Visits what is in the table. What a packet replaces at that moment may be missed.
    pub fn visit<const N: usize>(&self, mut visitor: impl FnMut(SessionKey<N>, State)) {
        use std::sync::atomic::Ordering::Acquire;

        for bucket in 0..self.buckets.len() {
            for place in self.buckets.words(bucket).chunks_exact(N + 1) {
                let state = || (self.state)(place[N].load(Acquire));
                let before = state();
                if !before.is_session() {
                    continue;
                }
                let key = SessionKey(std::array::from_fn(|part| place[part].load(Acquire)));
                let now = state();
                if now.is_same_session(before) {
                    visitor(key, now);
                }
            }
        }
    }
}

fn array<T: Pod>(pins: &Pins, name: &'static str) -> Result<Array<T>, LoadError> {
    let map = pinned::<u32, T>(pins, name, MapType::Array)?;
    let len = map.info().map_err(map_error(name))?.max_entries();
    Array::map(map.fd(), len).map_err(|source| LoadError::Memory { name, source })
}

/// An array whose entries are of any size, as words.
fn pinned_words(pins: &Pins, name: &'static str) -> Result<Array<u64>, LoadError> {
    let path = pins.map(name);
    let Shape {
        value_size,
        max_entries,
        ..
    } = shape(&path, name)?;
    let map = MapData::from_pin(path).map_err(map_error(name))?;
    Array::map(map.fd(), value_size / 8 * max_entries)
        .map_err(|source| LoadError::Memory { name, source })
}

fn fragments(pins: &Pins) -> Result<Fragments, LoadError> {
    let name = "fragments";
    let map = pinned::<Datagram, FirstFragment>(pins, name, MapType::LruHash)?;
    HashMap::try_from(Map::LruHashMap(map)).map_err(map_error(name))
}

fn counters(pins: &Pins, name: &'static str) -> Result<CountersMap, LoadError> {
    let map = pinned::<u32, Words>(pins, name, MapType::PerCpuArray)?;
    CountersMap::new(map).map_err(map_error(name))
}

fn per_cpu<T: aya::Pod>(
    pins: &Pins,
    name: &'static str,
) -> Result<PerCpuArray<MapData, T>, LoadError> {
    let map = pinned::<u32, T>(pins, name, MapType::PerCpuArray)?;
    PerCpuArray::try_from(Map::PerCpuArray(map)).map_err(map_error(name))
}

/// A pinned map with any number of entries of this type.
fn pinned<K, V>(pins: &Pins, name: &'static str, kind: MapType) -> Result<MapData, LoadError> {
    let path = pins.map(name);
    let found = shape(&path, name)?;
    let needed = MapLayout::new::<K, V>(name, kind, found.max_entries);
    fits(&path, found, needed.shape)?;
    MapData::from_pin(path).map_err(map_error(name))
}

/// A map that is not what its layout says is none of ours.
fn fits(path: &Path, found: Shape, needed: Shape) -> Result<(), Incompatible> {
    if found == needed {
        return Ok(());
    }
    Err(Incompatible {
        path: path.to_owned(),
        found,
        needed,
    })
}

#[cfg(all(test, not(feature = "layout-variant")))]
mod tests {
    use super::*;

    #[test]
    fn the_flags_of_a_binding_of_layout_2_come_to_its_counters() {
        for flags in [0, Binding::DOWN, Binding::DRAINING] {
            let then = FlaggedServer {
                real_server: 7 | flags,
                counters: 9,
            };
            let now = (LAYOUT_2.bindings.read)(bytemuck::cast_slice(&[[
                then.real_server,
                then.counters,
            ]]));
            assert_eq!(
                (now.real_server, now.counters_index(), now.flags()),
                (7, 9, flags)
            );
        }
    }
}
