//! Loads the balancer, with the maps that are pinned or new ones.

use std::{error::Error, io, path::PathBuf, sync::Arc};

use super::{
    Array, CounterMaps, Object, Pins, Program, SessionTables, Sizes, Tables, clock,
    counters::CountersMap,
    former::{self, Former, Fragments},
    layout::{self, Incompatible, Interrupted, UnknownLayout},
    object::map_error,
    pins::PinError,
};
use aya::{
    EbpfError,
    maps::{HashMap, Map, MapData, MapError, PerCpuArray},
    programs::ProgramError,
};
use bytemuck::Pod;

/// Why a program can't be loaded.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// The object file or a map.
    #[error("can't load the BPF object")]
    Object(#[from] EbpfError),
    /// A map is too large.
    #[error("no memory for the map {map}: lower `limits`, or add memory")]
    NoMemory {
        /// Its name.
        map: String,
    },
    /// The program.
    #[error("can't load the program {name}")]
    Program {
        /// Its name.
        name: &'static str,
        /// Why not.
        source: ProgramError,
    },
    /// A map.
    #[error("can't use the map {name}")]
    Map {
        /// Its name.
        name: &'static str,
        /// Why not.
        source: MapError,
    },
    /// A map can't be mapped into memory.
    #[error("can't map {name} into memory")]
    Memory {
        /// The map's name.
        name: &'static str,
        /// Why not.
        source: io::Error,
    },
    /// A pin is in the way.
    #[error(transparent)]
    Incompatible(#[from] Incompatible),
    /// The maps that are pinned are unknown.
    #[error(transparent)]
    UnknownLayout(#[from] UnknownLayout),
    /// The maps that are pinned are of two kinds.
    #[error(transparent)]
    Interrupted(#[from] Interrupted),
    /// The pins.
    #[error(transparent)]
    Pins(#[from] PinError),
    /// A pin can't be made.
    #[error("can't pin {path}")]
    Pin {
        /// Where.
        path: PathBuf,
        /// Why not.
        source: Box<dyn Error + Send + Sync>,
    },
}

/// What was loaded.
pub struct Loaded {
    /// The program.
    pub balancer: Program,
    /// The arrays that packets follow.
    pub tables: Tables,
    /// The counters.
    pub counters: CounterMaps,
    /// Fragmented datagrams of late.
    pub fragments: Fragments,
    /// Maps whose content is to be taken along.
    pub former: Option<Former>,
    /// Whether the maps are new, and those in use are the former ones.
    pub replaces_maps: bool,
}

/// Loads the balancer into the kernel. Maps that are pinned are taken over as they are; where others are needed, those are
/// pinned as [`Pins::next`].
pub fn load(pins: &Pins, sizes: &Sizes) -> Result<Loaded, LoadError> {
    let differing = former::differing(pins, sizes)?;
    let replaces_maps = differing.is_some();
    let former = match pins.former() {
        Some(_) if replaces_maps => {
            let path = pins.root().to_owned();
            return Err(Interrupted { path }.into());
        }
        Some(former) => Former::open(&former)?,
        None if replaces_maps => Former::open(pins)?,
        None => None,
    };
    let pins = &if replaces_maps {
        pins.next()?
    } else {
        pins.clone()
    };
    let mut balancer = Object::BALANCER.load(pins, &layout::maps(sizes))?;
    let fragments = balancer.take_map("fragments");
    let loaded = Loaded {
        tables: Tables {
            control: array(&mut balancer, "control")?,
            vip_buckets: array(&mut balancer, "vip_buckets")?,
            vips: array(&mut balancer, "vips")?,
            port_ranges: array(&mut balancer, "port_ranges")?,
            virtual_servers: array(&mut balancer, "virtual_servers")?,
            predictor_tables: array(&mut balancer, "predictor_tables")?,
            bindings: array(&mut balancer, "bindings")?,
            real_servers: array(&mut balancer, "real_servers")?,
            interfaces: array(&mut balancer, "interfaces")?,
            unbound_counters: array(&mut balancer, "unbound_counters")?,
            sessions: Arc::new(SessionTables {
                sessions_v4: array(&mut balancer, "sessions_v4")?,
                sessions_v6: array(&mut balancer, "sessions_v6")?,
                sticky_v4: array(&mut balancer, "sticky_v4")?,
                sticky_v6: array(&mut balancer, "sticky_v6")?,
                active: array(&mut balancer, "active_sessions")?,
                turns: array(&mut balancer, "turns")?,
            }),
        },
        counters: CounterMaps {
            bindings: counters(&mut balancer, "binding_counters")?,
            drops: per_cpu(&mut balancer, "drop_counters")?,
            session_events: per_cpu(&mut balancer, "session_events")?,
        },
        fragments: HashMap::try_from(fragments).map_err(map_error("fragments"))?,
        former,
        replaces_maps,
        balancer,
    };
    loaded.tables.set_layout();
    loaded.tables.set_clock(clock::read(pins)?);
    Ok(loaded)
}

fn array<T: Pod>(program: &mut Program, name: &'static str) -> Result<Array<T>, LoadError> {
    let Map::Array(data) = program.take_map(name) else {
        unreachable!("the object declares {name} as an array");
    };
    let info = data.info().map_err(map_error(name))?;
    assert_eq!(info.value_size() as usize, size_of::<T>(), "{name}");
    Array::map(data.fd(), info.max_entries()).map_err(|source| LoadError::Memory { name, source })
}

fn counters(program: &mut Program, name: &'static str) -> Result<CountersMap, LoadError> {
    let Map::PerCpuArray(data) = program.take_map(name) else {
        unreachable!("the object declares {name} as an array per CPU");
    };
    CountersMap::new(data).map_err(map_error(name))
}

fn per_cpu<T: aya::Pod>(
    program: &mut Program,
    name: &'static str,
) -> Result<PerCpuArray<MapData, T>, LoadError> {
    PerCpuArray::try_from(program.take_map(name)).map_err(map_error(name))
}
