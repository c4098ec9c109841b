//! The balancer that tells what it does, and what it tells.

use std::{io, mem::size_of};

use aya::maps::{Array, MapData, MapError, PerCpuArray, RingBuf};
use lb_common::{TraceEvent, TraceFilter};
use tokio::io::{Interest, unix::AsyncFd};

use super::{LoadError, Object, Pins, Program, Sizes, layout, object::map_error};

/// Events that wait to be read: in the kernel, which has no room for more than 4 MiB of them, and nowhere else.
pub struct TraceEvents {
    ring: AsyncFd<RingBuf<MapData>>,
    lost: PerCpuArray<MapData, u64>,
}

/// [`TraceFilter`], as words.
type Words = [u64; size_of::<TraceFilter>() / 8];

/// Loads the program, with the maps of the other balancer.
pub fn load(
    pins: &Pins,
    sizes: &Sizes,
    filter: TraceFilter,
) -> Result<(Program, TraceEvents), LoadError> {
    const EVENTS: &str = "trace_events";
    const FILTER: &str = "trace_filter";
    const LOST: &str = "trace_lost";

    let mut balancer = Object::TRACING_BALANCER.load(pins, &layout::maps(sizes))?;
    let mut filters: Array<_, Words> =
        Array::try_from(balancer.take_map(FILTER)).map_err(map_error(FILTER))?;
    let words: Words = bytemuck::cast(filter);
    filters.set(0, words, 0).map_err(map_error(FILTER))?;
    let ring = RingBuf::try_from(balancer.take_map(EVENTS)).map_err(map_error(EVENTS))?;
    // SAFETY: the ring owns its descriptor, and keeps it open as long as it lives.
    let ring = unsafe { AsyncFd::register_with_interest(ring, Interest::READABLE) };
    let events = TraceEvents {
        ring: ring.map_err(|error| LoadError::Memory {
            name: EVENTS,
            source: error.into(),
        })?,
        lost: PerCpuArray::try_from(balancer.take_map(LOST)).map_err(map_error(LOST))?,
    };
    Ok((balancer, events))
}

impl TraceEvents {
    /// Waits until there are events, and gives at most so many of them to `each`, with the first bytes of their packets.
    pub async fn read(
        &mut self,
        most: usize,
        mut each: impl FnMut(&TraceEvent, &[u8]),
    ) -> io::Result<()> {
        let mut ready = self.ring.readable_mut().await?;
        for _ in 0..most {
            let Some(record) = ready.get_inner_mut().next() else {
                ready.clear_ready();
                break;
            };
            let (event, bytes) = record.split_at(size_of::<TraceEvent>());
            let event: TraceEvent = bytemuck::pod_read_unaligned(event);
            // The kernel rounds up to words.
            each(&event, &bytes[..event.captured as usize]);
        }
        Ok(())
    }

    /// How many events the kernel had no room for.
    pub fn lost(&self) -> Result<u64, MapError> {
        Ok(self.lost.get(&0, 0)?.iter().sum())
    }
}
