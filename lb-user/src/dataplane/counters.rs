//! The counters, read from the kernel.

use std::{io, thread, time::Duration};

use aya::maps::{MapData, MapError, PerCpuArray, PerCpuValues};
use lb_common::{Counters, DropReason};
use tracing::warn;

use crate::control::{Platform, PlatformError};

/// The counter maps.
pub struct CounterMaps {
    /// By virtual-server id.
    pub(super) virtual_servers: PerCpuArray<MapData, [u64; 2]>,
    /// By [`lb_common::Binding::counters`].
    pub(super) bindings: PerCpuArray<MapData, [u64; 2]>,
    /// By [`DropReason`].
    pub(super) drops: PerCpuArray<MapData, u64>,
}

impl CounterMaps {
    /// What a virtual server forwarded.
    pub fn virtual_server(&self, id: u32) -> Result<Counters, MapError> {
        sum(&self.virtual_servers, id)
    }

    /// What went to a real server for one virtual server.
    pub fn binding(&self, index: u32) -> Result<Counters, MapError> {
        sum(&self.bindings, index)
    }

    /// How many packets were dropped, by reason.
    pub fn drops(&self) -> Result<Vec<(DropReason, u64)>, MapError> {
        DropReason::ALL
            .into_iter()
            .map(|reason| {
                let counts = self.drops.get(&(reason as u32), 0)?;
                Ok((reason, counts.iter().sum()))
            })
            .collect()
    }
}

fn sum(map: &PerCpuArray<MapData, [u64; 2]>, index: u32) -> Result<Counters, MapError> {
    let add = |sum: Counters, &[packets, bytes]: &[u64; 2]| Counters {
        packets: sum.packets + packets,
        bytes: sum.bytes + bytes,
    };
    Ok(map.get(&index, 0)?.iter().fold(Counters::default(), add))
}

fn reset(map: &mut PerCpuArray<MapData, [u64; 2]>, index: u32) -> Result<(), PlatformError> {
    let zeros = vec![[0; 2]; aya::util::nr_cpus().map_err(|(_, error)| error)?];
    Ok(map.set(index, PerCpuValues::try_from(zeros)?, 0)?)
}

impl Platform for CounterMaps {
    fn reset_virtual_server_counters(&mut self, id: u32) -> Result<(), PlatformError> {
        reset(&mut self.virtual_servers, id)
    }

    fn reset_binding_counters(&mut self, index: u32) -> Result<(), PlatformError> {
        reset(&mut self.bindings, index)
    }

    /// Programs run inside RCU read-side sections, and `MEMBARRIER_CMD_GLOBAL` waits for an RCU grace period
    /// (kernel/sched/membarrier.c).
    fn wait_for_packets(&mut self) {
        // SAFETY: a system call without pointers.
        let result =
            unsafe { libc::syscall(libc::SYS_membarrier, libc::MEMBARRIER_CMD_GLOBAL, 0, 0) };
        if result != 0 {
            // As on kernels with nohz_full. No packet takes a tenth of a second.
            let error = io::Error::last_os_error();
            warn!("membarrier is not available ({error}): waiting 100 ms instead");
            thread::sleep(Duration::from_millis(100));
        }
    }
}
