//! The BPF objects inside this binary: each an XDP program and its maps.

use std::{fs, io, path::Path};

use aya::{
    Ebpf, EbpfError, EbpfLoader,
    maps::{Map, MapError, MapInfo, ProgramArray},
    programs::{ProgramFd, Xdp},
};

use super::{
    LoadError, Pins,
    layout::{Incompatible, MapLayout, Shape},
};

/// The map of the programs that others go on with.
const PROGRAMS: &str = "programs";

/// A BPF object.
#[derive(Clone, Copy, Debug)]
pub struct Object {
    /// The name of its program.
    program: &'static str,
    /// The program that this one goes on with, by a tail call to the only entry of the map [`PROGRAMS`].
    goes_on_with: Option<&'static str>,
    bytes: &'static [u8],
}

impl Object {
    /// The balancer.
    pub const BALANCER: Self = Self {
        program: "balancer",
        goes_on_with: Some("whole_path"),
        bytes: aya::include_bytes_aligned!(env!("LB_BALANCER_OBJECT")),
    };

    /// The balancer that tells what it does. It takes the place of the other one while somebody traces packets.
    pub const TRACING_BALANCER: Self = Self {
        program: "balancer",
        goes_on_with: None,
        bytes: aya::include_bytes_aligned!(env!("LB_TRACING_BALANCER_OBJECT")),
    };

    /// The decapsulator for real servers.
    pub const DECAPSULATOR: Self = Self {
        program: "decapsulator",
        goes_on_with: None,
        bytes: aya::include_bytes_aligned!(env!("LB_DECAPSULATOR_OBJECT")),
    };

    /// The reader of the kernel's clock.
    pub const CLOCK: Self = Self {
        program: "clock",
        goes_on_with: None,
        bytes: aya::include_bytes_aligned!(env!("LB_CLOCK_OBJECT")),
    };

    /// Loads the program into the kernel. Maps that are pinned are taken over as they are, new ones are
    /// pinned.
    pub fn load(self, pins: &Pins, maps: &[MapLayout]) -> Result<Program, LoadError> {
        for map in maps {
            let path = pins.map(map.name);
            if path.exists() {
                check_shape(&path, map)?;
            }
        }
        let mut loader = EbpfLoader::new();
        for map in maps {
            loader
                .map_pin_path(map.name, pins.map(map.name))
                .map_max_entries(map.name, map.shape.max_entries);
        }
        let ebpf = loader.load(self.bytes).map_err(load_error)?;
        let mut program = Program {
            ebpf,
            name: self.program,
        };
        let failed = |name| move |source| LoadError::Program { name, source };
        program.xdp().load().map_err(failed(self.program))?;
        if let Some(name) = self.goes_on_with {
            let next = program.named(name);
            next.load().map_err(failed(name))?;
            let next = next.fd().and_then(|fd| Ok(fd.try_clone()?));
            program.go_on_with(&next.map_err(failed(name))?)?;
        }
        Ok(program)
    }
}

/// A program in the kernel.
#[derive(Debug)]
pub struct Program {
    ebpf: Ebpf,
    name: &'static str,
}

impl Program {
    /// The program itself.
    pub fn xdp(&mut self) -> &mut Xdp {
        self.named(self.name)
    }

    /// The program of its object with this name.
    pub fn named(&mut self, name: &str) -> &mut Xdp {
        let program = self.ebpf.program_mut(name);
        let program = program.expect("the object has the program");
        program.try_into().expect("an XDP program")
    }

    /// The map stays open, and is pinned: the kernel clears it when no process and no pin holds it any more
    /// (kernel/bpf/arraymap.c, `prog_array_map_clear`).
    fn go_on_with(&mut self, next: &ProgramFd) -> Result<(), LoadError> {
        let map = self.ebpf.map_mut(PROGRAMS).expect("the object has the map");
        ProgramArray::try_from(map)
            .and_then(|mut programs| programs.set(0, next, 0))
            .map_err(map_error(PROGRAMS))
    }

    /// One of its maps, which can be taken once.
    pub fn take_map(&mut self, name: &'static str) -> Map {
        self.ebpf.take_map(name).expect("the object has the map")
    }

    /// Puts the program in the place of the one that is pinned, in one step.
    pub fn pin(&mut self, pins: &Pins) -> Result<(), LoadError> {
        let path = pins.program(self.name);
        let next = pins.program(&format!("{}-next", self.name));
        let failed = |source| LoadError::Pin {
            path: path.clone(),
            source,
        };
        match fs::remove_file(&next) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                return Err(failed(error.into()));
            }
            _ => {}
        }
        self.xdp()
            .pin(&next)
            .map_err(|error| failed(error.into()))?;
        fs::rename(&next, &path).map_err(|error| failed(error.into()))
    }
}

/// Whether a pinned map is of the shape that it should be. This is checked here because nothing else does:
/// a reader of a map with larger values would be written past its end.
pub fn check_shape(path: &Path, map: &MapLayout) -> Result<(), LoadError> {
    let found = shape(path, map.name)?;
    if found == map.shape {
        return Ok(());
    }
    Err(LoadError::Incompatible(Incompatible {
        path: path.to_owned(),
        found,
        needed: map.shape,
    }))
}

/// The shape of a pinned map.
pub(super) fn shape(path: &Path, name: &'static str) -> Result<Shape, LoadError> {
    let info = MapInfo::from_pin(path).map_err(map_error(name))?;
    Ok(Shape {
        kind: info.map_type().map_err(map_error(name))?,
        key_size: info.key_size(),
        value_size: info.value_size(),
        max_entries: info.max_entries(),
    })
}

fn load_error(error: EbpfError) -> LoadError {
    match error {
        EbpfError::MapError(MapError::CreateError { name, io_error })
            if io_error.kind() == io::ErrorKind::OutOfMemory =>
        {
            LoadError::NoMemory { map: name }
        }
        error => error.into(),
    }
}

pub(super) fn map_error(name: &'static str) -> impl Fn(MapError) -> LoadError {
    move |source| LoadError::Map { name, source }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use nix::errno::Errno;

    use super::*;
    use crate::dataplane::{Sizes, layout};

    /// The maps of an object, and the helpers of the kernel that it calls (linux/bpf.h, `BPF_CALL` and `bpf_insn`).
    fn maps_and_helpers(object: Object) -> (BTreeSet<String>, BTreeSet<i32>) {
        const CALL: u8 = 0x85;
        const OF_A_HELPER: u8 = 0;

        let object = aya_obj::Object::parse(object.bytes).unwrap();
        let instructions = object.functions.values().flat_map(|it| &it.instructions);
        let calls = instructions.filter(|it| it.code == CALL && it.src_reg() == OF_A_HELPER);
        let helpers = calls.map(|call| call.imm).collect();
        (object.maps.keys().cloned().collect(), helpers)
    }

    #[test]
    fn a_map_that_memory_is_too_short_for_is_named() {
        let create = |error| {
            load_error(EbpfError::MapError(MapError::CreateError {
                name: "sessions_v4".into(),
                io_error: io::Error::from(error),
            }))
        };
        assert_eq!(
            create(Errno::ENOMEM).to_string(),
            "no memory for the map sessions_v4: lower `limits`, or add memory"
        );
        assert!(matches!(create(Errno::EPERM), LoadError::Object(_)));
    }

    #[test]
    fn the_balancer_has_nothing_of_tracing_while_nobody_traces() {
        let (maps, helpers) = maps_and_helpers(Object::BALANCER);
        let (tracing_maps, tracing_helpers) = maps_and_helpers(Object::TRACING_BALANCER);
        let known = layout::maps(&Sizes::few());
        let known: BTreeSet<_> = known.iter().map(|map| map.name.to_owned()).collect();
        assert_eq!(maps, known);
        let only_there: Vec<_> = tracing_maps.difference(&maps).collect();
        assert_eq!(
            only_there,
            ["trace_events", "trace_filter", "trace_lost", "trace_record"]
        );
        let only_here: Vec<_> = maps.difference(&tracing_maps).collect();
        assert_eq!(only_here, [PROGRAMS]);
        // bpf_ktime_get_ns, bpf_get_prandom_u32, bpf_get_smp_processor_id, bpf_ringbuf_output, bpf_xdp_load_bytes.
        let only_there: Vec<_> = tracing_helpers.difference(&helpers).copied().collect();
        assert_eq!(only_there, [5, 7, 8, 130, 189]);
    }
}
