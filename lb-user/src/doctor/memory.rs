//! Memory for the kernel's tables.

use std::{fs, thread};

use aya::maps::MapType;

use super::Finding;
use crate::{
    config::Limits,
    dataplane::{Sizes, layout},
};

const SUBJECT: &str = "memory";
const MB: u64 = 1_000_000;

/// What there is.
#[derive(Clone, Copy, Debug)]
pub struct Memory {
    /// Bytes that can be had without swapping; `None`: the kernel doesn't tell.
    available: Option<u64>,
    cpus: u64,
}

impl Memory {
    /// Asks this host.
    pub fn ask() -> Self {
        let meminfo = fs::read_to_string("/proc/meminfo").unwrap_or_default();
        Self {
            available: available(&meminfo),
            cpus: thread::available_parallelism().map_or(1, |cpus| cpus.get() as u64),
        }
    }
}

fn available(meminfo: &str) -> Option<u64> {
    let mut lines = meminfo.lines();
    let line = lines.find_map(|line| line.strip_prefix("MemAvailable:"))?;
    let kib: u64 = line.trim().strip_suffix(" kB")?.parse().ok()?;
    Some(kib * 1024)
}

/// The bytes that the maps take: what is in them. Of the kernel's own there is little, but in hash maps.
fn needed(limits: &Limits, cpus: u64) -> u64 {
    let sizes = layout::maps(&Sizes::new(limits)).map(|map| {
        let shape = map.shape;
        let (key, value) = (u64::from(shape.key_size), u64::from(shape.value_size));
        let entry = match shape.kind {
            MapType::PerCpuArray => value.next_multiple_of(8) * cpus,
            MapType::LruHash => value + key,
            _ => value.next_multiple_of(8),
        };
        entry * u64::from(shape.max_entries)
    });
    sizes.iter().sum()
}

/// Whether the tables fit. Those that are pinned already take none of what is available.
pub fn findings(limits: &Limits, memory: &Memory) -> Vec<Finding> {
    let needed = needed(limits, memory.cpus) / MB;
    let tables = format!("the tables take {needed} MB with these limits");
    vec![match memory.available.map(|bytes| bytes / MB) {
        Some(available) if available < needed => Finding::stops(
            SUBJECT,
            format!("{tables}, and {available} MB are available: lower `limits`, or add memory"),
        ),
        Some(available) => Finding::ok(SUBJECT, format!("{tables}; {available} MB are available")),
        None => Finding::ok(SUBJECT, tables),
    }]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::doctor::Severity;

    #[test]
    fn the_tables_of_the_default_limits_take_what_was_measured() {
        // As the kernel accounts for them on a machine with two CPUs.
        let measured = 198;
        let needed = needed(&Limits::DEFAULT, 2) / MB;
        assert!(needed.abs_diff(measured) <= measured / 10, "{needed} MB");
    }

    #[test]
    fn tables_that_do_not_fit_are_found() {
        let text = "MemTotal:       24604160 kB\nMemAvailable:    1000000 kB\n";
        assert_eq!(available(text), Some(1_024_000_000));
        let severity = |available| {
            let memory = Memory { available, cpus: 2 };
            findings(&Limits::DEFAULT, &memory)[0].severity
        };
        assert_eq!(severity(available(text)), Severity::Ok);
        assert_eq!(severity(Some(100 * MB)), Severity::Stops);
        assert_eq!(severity(available("")), Severity::Ok);
    }
}
