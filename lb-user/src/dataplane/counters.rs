//! The counters, read from the kernel.

use std::{
    cell::RefCell,
    io,
    os::fd::{AsFd, OwnedFd},
    thread,
    time::Duration,
};

use aya::maps::{Map, MapData, MapError, PerCpuArray, PerCpuValues};
use lb_common::{Counters, DropReason, SessionEvent};
use tracing::warn;

use super::batch::visit_per_cpu_entries;
use crate::control::{Platform, PlatformError};

/// The counter maps.
pub struct CounterMaps {
    /// By [`lb_common::Binding::counters`].
    pub(super) bindings: CountersMap,
    /// By [`DropReason`].
    pub(super) drops: PerCpuArray<MapData, u64>,
    /// By [`SessionEvent`].
    pub(super) session_events: PerCpuArray<MapData, u64>,
}

/// So many entries that nobody asked for are read sooner than another system call is made.
const GAP: u32 = 8;

/// [`Counters`], as one CPU has them.
pub(super) type Words = [u64; size_of::<Counters>() / 8];

/// Counters that only grow, from when they were last set to zero.
pub(super) struct CountersMap {
    map: PerCpuArray<MapData, Words>,
    /// The same map, for what aya has no call for.
    fd: OwnedFd,
    /// The most sessions that were ever read, by index.
    sessions: RefCell<Vec<u64>>,
}

impl CounterMaps {
    /// What went to a real server for one virtual server.
    pub fn binding(&self, index: u32) -> Result<Counters, MapError> {
        self.bindings.read(index)
    }

    /// As [`Self::binding`], for many.
    pub fn bindings(&self, indices: &[u32]) -> io::Result<Vec<Counters>> {
        self.bindings.read_many(indices)
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

    /// How often each thing happened to the session table.
    pub fn session_events(&self) -> Result<Vec<(SessionEvent, u64)>, MapError> {
        SessionEvent::ALL
            .into_iter()
            .map(|event| {
                let counts = self.session_events.get(&(event as u32), 0)?;
                Ok((event, counts.iter().sum()))
            })
            .collect()
    }

    /// Makes these counters what others are, of bindings that are numbered otherwise there. What is counted meanwhile may
    /// be lost.
    pub fn continue_from(
        &mut self,
        former: &Self,
        bindings: impl IntoIterator<Item = [u32; 2]>,
    ) -> Result<(), MapError> {
        for [then, now] in bindings {
            copy(&former.bindings.map, then, &mut self.bindings.map, now)?;
        }
        for reason in 0..former.drops.len().min(self.drops.len()) {
            copy(&former.drops, reason, &mut self.drops, reason)?;
        }
        for event in 0..former.session_events.len().min(self.session_events.len()) {
            copy(
                &former.session_events,
                event,
                &mut self.session_events,
                event,
            )?;
        }
        Ok(())
    }

    /// Counts sessions that made room for others, while no packet counts.
    pub fn add_evicted(&mut self, sessions: u64) -> Result<(), MapError> {
        let event = SessionEvent::Evicted as u32;
        let mut counts = self.session_events.get(&event, 0)?.to_vec();
        counts[0] += sessions;
        self.session_events
            .set(event, PerCpuValues::try_from(counts)?, 0)
    }
}

fn copy<T: aya::Pod>(
    from: &PerCpuArray<MapData, T>,
    then: u32,
    to: &mut PerCpuArray<MapData, T>,
    now: u32,
) -> Result<(), MapError> {
    to.set(now, from.get(&then, 0)?, 0)
}

impl CountersMap {
    pub(super) fn new(map: MapData) -> Result<Self, MapError> {
        let fd = map.fd().as_fd().try_clone_to_owned()?;
        let map = PerCpuArray::try_from(Map::PerCpuArray(map))?;
        let sessions = RefCell::new(vec![0; map.len() as usize]);
        Ok(Self { fd, map, sessions })
    }

    pub(super) fn read(&self, index: u32) -> Result<Counters, MapError> {
        Ok(self.grown(index, sum(self.map.get(&index, 0)?.iter())))
    }

    fn read_many(&self, indices: &[u32]) -> io::Result<Vec<Counters>> {
        let mut sorted = indices.to_vec();
        sorted.sort_unstable();
        let cpus = aya::util::nr_cpus().map_err(|(_, error)| error)?;
        let mut sums = vec![Counters::default(); sorted.last().map_or(0, |&it| it as usize + 1)];
        for run in sorted.chunk_by(|before, next| next - before <= GAP) {
            let entries = run[0]..run[run.len() - 1] + 1;
            visit_per_cpu_entries(&self.fd, entries, cpus, |index, entry| {
                sums[index as usize] = sum(entry.iter());
            })?;
        }
        let counters = indices
            .iter()
            .map(|&index| self.grown(index, sums[index as usize]));
        Ok(counters.collect())
    }

    fn grown(&self, index: u32, mut counters: Counters) -> Counters {
        let most = &mut self.sessions.borrow_mut()[index as usize];
        *most = grown(*most, counters.sessions);
        counters.sessions = *most;
        counters
    }

    fn reset(&mut self, index: u32) -> Result<(), PlatformError> {
        let zeros = vec![Words::default(); aya::util::nr_cpus().map_err(|(_, error)| error)?];
        self.map.set(index, PerCpuValues::try_from(zeros)?, 0)?;
        self.sessions.get_mut()[index as usize] = 0;
        Ok(())
    }
}

fn sum<'a>(cpus: impl Iterator<Item = &'a Words>) -> Counters {
    cpus.fold(Counters::default(), |sum, &words| {
        let cpu: Counters = bytemuck::cast(words);
        sum.plus(cpu)
    })
}

/// A session that two CPUs have begun at once is counted twice, and taken back at once; its CPUs may be read in between. Who
/// computes rates would take the lesser number for a counter that began anew.
fn grown(before: u64, read: u64) -> u64 {
    read.cast_signed().max(before.cast_signed()).cast_unsigned()
}

impl Platform for CounterMaps {
    fn binding_counters(&mut self, index: u32) -> Counters {
        self.binding(index).unwrap_or_else(|error| {
            warn!("can't read what a binding that is gone has counted: {error}");
            Counters::default()
        })
    }

    fn reset_binding_counters(&mut self, index: u32) -> Result<(), PlatformError> {
        self.bindings.reset(index)
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_taken_back_makes_no_counter_fall() {
        let cpu = |sessions: i64| -> Words { [10, 1000, sessions.cast_unsigned(), 0] };
        let read = |cpus: &[Words]| sum(cpus.iter()).sessions;
        // The second CPU takes back what the first one has counted twice.
        assert_eq!(grown(0, read(&[cpu(6), cpu(0)])), 6);
        assert_eq!(grown(6, read(&[cpu(6), cpu(-1)])), 6);
        assert_eq!(grown(6, read(&[cpu(8), cpu(-1)])), 7);
        // The first one was read before it counted.
        assert_eq!(grown(0, read(&[cpu(0), cpu(-1)])), 0);
        assert_eq!(sum([cpu(1), cpu(2)].iter()).packets, 20);
    }
}
