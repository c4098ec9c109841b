//! Loads the programs, with the maps that are pinned or new ones.

use std::{fs, io, path::PathBuf};

use aya::{
    Ebpf, EbpfError, EbpfLoader,
    maps::{HashMap, Map, MapData, MapError, MapInfo, PerCpuArray},
    programs::{ProgramError, Xdp},
};
use bytemuck::Pod;
use lb_common::Interface;

use super::{
    Array, CounterMaps, Pins, Sizes, Tables,
    layout::{self, Incompatible, MapLayout, Shape},
};

/// The programs' object file, inside this binary.
static OBJECT: &[u8] = aya::include_bytes_aligned!(env!("LB_EBPF_OBJECT"));

const BALANCER: &str = "balancer";

/// Why the programs can't be loaded.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// The object file or a map.
    #[error("can't load the BPF object")]
    Object(#[from] EbpfError),
    /// The program.
    #[error("can't load the program balancer")]
    Program(#[from] ProgramError),
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
    /// A pin can't be made.
    #[error("can't pin {path}: {reason}")]
    Pin {
        /// Where.
        path: PathBuf,
        /// Why not.
        reason: String,
    },
}

/// What was loaded.
pub struct Loaded {
    /// Keeps the programs.
    pub ebpf: Ebpf,
    /// The arrays that packets follow.
    pub tables: Tables,
    /// The counters.
    pub counters: CounterMaps,
    /// The MAC addresses of the interfaces.
    pub interfaces: HashMap<MapData, u32, [u8; size_of::<Interface>()]>,
}

/// Loads the programs into the kernel. Maps that are pinned are taken over as they are.
pub fn load(pins: &Pins, sizes: &Sizes) -> Result<Loaded, LoadError> {
    let maps = layout::maps(sizes);
    for map in &maps {
        check_pinned(pins, map)?;
    }
    let mut loader = EbpfLoader::new();
    for map in &maps {
        loader
            .map_pin_path(map.name, pins.map(map.name))
            .map_max_entries(map.name, map.shape.max_entries);
    }
    let mut ebpf = loader.load(OBJECT)?;
    balancer(&mut ebpf).load()?;
    Ok(Loaded {
        tables: Tables {
            control: array(&mut ebpf, "control")?,
            vip_buckets: array(&mut ebpf, "vip_buckets")?,
            vips: array(&mut ebpf, "vips")?,
            port_ranges: array(&mut ebpf, "port_ranges")?,
            virtual_servers: array(&mut ebpf, "virtual_servers")?,
            predictor_tables: array(&mut ebpf, "predictor_tables")?,
            bindings: array(&mut ebpf, "bindings")?,
            real_servers: array(&mut ebpf, "real_servers")?,
        },
        counters: CounterMaps {
            virtual_servers: per_cpu(&mut ebpf, "virtual_server_counters")?,
            bindings: per_cpu(&mut ebpf, "binding_counters")?,
            drops: per_cpu(&mut ebpf, "drop_counters")?,
        },
        interfaces: HashMap::try_from(take(&mut ebpf, "interfaces"))
            .map_err(map_error("interfaces"))?,
        ebpf,
    })
}

/// The XDP program of the balancer.
pub fn balancer(ebpf: &mut Ebpf) -> &mut Xdp {
    let program = ebpf.program_mut(BALANCER);
    let program = program.expect("the object has the program");
    program.try_into().expect("an XDP program")
}

/// Puts the program in the place of the one that is pinned, in one step.
pub fn pin_balancer(ebpf: &mut Ebpf, pins: &Pins) -> Result<(), LoadError> {
    let path = pins.program(BALANCER);
    let next = pins.program("balancer-next");
    let failed = |reason: String| LoadError::Pin {
        path: path.clone(),
        reason,
    };
    match fs::remove_file(&next) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            return Err(failed(error.to_string()));
        }
        _ => {}
    }
    balancer(ebpf)
        .pin(&next)
        .map_err(|error| failed(error.to_string()))?;
    fs::rename(&next, &path).map_err(|error| failed(error.to_string()))
}

/// Map sizes are checked here because nothing else does: a reader of a map with larger values would
/// be written past its end.
fn check_pinned(pins: &Pins, map: &MapLayout) -> Result<(), LoadError> {
    let path = pins.map(map.name);
    if !path.exists() {
        return Ok(());
    }
    let info = MapInfo::from_pin(&path).map_err(map_error(map.name))?;
    let found = Shape {
        kind: info.map_type().map_err(map_error(map.name))?,
        key_size: info.key_size(),
        value_size: info.value_size(),
        max_entries: info.max_entries(),
    };
    if found == map.shape {
        return Ok(());
    }
    Err(LoadError::Incompatible(Incompatible {
        path,
        found,
        needed: map.shape,
    }))
}

fn map_error(name: &'static str) -> impl Fn(MapError) -> LoadError {
    move |source| LoadError::Map { name, source }
}

fn take(ebpf: &mut Ebpf, name: &'static str) -> Map {
    ebpf.take_map(name).expect("the object has the map")
}

fn array<T: Pod>(ebpf: &mut Ebpf, name: &'static str) -> Result<Array<T>, LoadError> {
    let Map::Array(data) = take(ebpf, name) else {
        unreachable!("the object declares {name} as an array");
    };
    let info = data.info().map_err(map_error(name))?;
    assert_eq!(info.value_size() as usize, size_of::<T>(), "{name}");
    Array::map(data.fd(), info.max_entries()).map_err(|source| LoadError::Memory { name, source })
}

fn per_cpu<T: aya::Pod>(
    ebpf: &mut Ebpf,
    name: &'static str,
) -> Result<PerCpuArray<MapData, T>, LoadError> {
    PerCpuArray::try_from(take(ebpf, name)).map_err(map_error(name))
}
