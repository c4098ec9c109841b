//! How an event is made of a packet, and told.

use core::slice;

use aya_ebpf::{
    bindings::{xdp_action, xdp_md},
    btf_maps::{Array, PerCpuArray, RingBuf},
    helpers::{
        bpf_get_prandom_u32, bpf_get_smp_processor_id, bpf_ktime_get_ns, bpf_xdp_get_buff_len,
        bpf_xdp_load_bytes,
    },
    macros::btf_map,
};
use lb_common::{TraceEvent, TraceFilter, TraceRecord, TraceVerdict};
use lb_ebpf::{frame::opaque, kernel::map_entry::own};

/// Bytes of events that wait to be read.
const RING: usize = 4 << 20;

#[btf_map(name = "trace_filter")]
static FILTER: Array<TraceFilter, 1> = Array::new();
#[btf_map(name = "trace_record")]
static RECORD: PerCpuArray<TraceRecord, 1> = PerCpuArray::new();
#[btf_map(name = "trace_events")]
static EVENTS: RingBuf<(), RING> = RingBuf::new();
#[btf_map(name = "trace_lost")]
static LOST: PerCpuArray<u64, 1> = PerCpuArray::new();

// Functions with global linkage, as in `maps.rs`, so that the path of a packet has as much of the stack as it has in the other
// balancer.

/// Begins the event of a packet, as it is received, if chance has it that the packet is traced.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn trace_begin(context: *mut xdp_md) -> u64 {
    begin(context).map_or(0, |()| 1)
}

#[inline(always)]
fn begin(context: *mut xdp_md) -> Option<()> {
    let filter = FILTER.get(0)?;
    let TraceRecord { event, bytes } = own(&RECORD, 0)?;
    event.captured = 0;
    // SAFETY: a plain helper call.
    if filter.sample == 0 || unsafe { bpf_get_prandom_u32() } % filter.sample != 0 {
        return None;
    }
    // SAFETY: a plain helper call.
    let length = unsafe { bpf_xdp_get_buff_len(context) };
    // One less, and not compared with 0, by which the verifier of Linux 6.1 learns nothing.
    let last = opaque(length.min(filter.snap.into()).wrapping_sub(1));
    if last >= TraceEvent::MOST_BYTES as u64 {
        return None;
    }
    let captured = last + 1;
    let bytes = bytes.as_mut_ptr().cast();
    // SAFETY: there is room for so many bytes.
    if unsafe { bpf_xdp_load_bytes(context, 0, bytes, captured as u32) } != 0 {
        return None;
    }
    // SAFETY: plain helper calls, and a field of the context.
    *event = unsafe {
        TraceEvent::new(
            bpf_ktime_get_ns(),
            (*context).ingress_ifindex,
            bpf_get_smp_processor_id(),
            length as u32,
            captured as u32,
        )
    };
    Some(())
}

/// Notes something about the packet.
#[inline(always)]
pub fn note(note: impl FnOnce(&mut TraceEvent)) {
    if let Some(record) = own(&RECORD, 0) {
        note(&mut record.event);
    }
}

/// Tells what became of the packet, if that is asked for. Without room to tell it, it is counted instead.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn trace_end(action: u32) -> u64 {
    end(action).map_or(0, |()| 1)
}

#[inline(always)]
fn end(action: u32) -> Option<()> {
    let filter = FILTER.get(0)?;
    let record = own(&RECORD, 0)?;
    let event = &mut record.event;
    event.verdict = verdict(event, action) as u8;
    let captured = event.captured as usize;
    if captured == 0
        || captured > TraceEvent::MOST_BYTES
        || event.packet == 0
        || !filter.wants(event)
    {
        return None;
    }
    let length = size_of::<TraceEvent>() + captured;
    // SAFETY: the record begins with so many bytes.
    let told = unsafe { slice::from_raw_parts((&raw const *record).cast::<u8>(), length) };
    if EVENTS.output_untyped::<[u8]>(told, 0).is_err() {
        *own(&LOST, 0)? += 1;
    }
    Some(())
}

/// What became of a packet that the program has returned this for.
#[inline(always)]
fn verdict(event: &TraceEvent, action: u32) -> TraceVerdict {
    let has_server = event.real_address.words() != [0, 0];
    match action {
        xdp_action::XDP_PASS => TraceVerdict::Passed,
        xdp_action::XDP_DROP => TraceVerdict::Dropped,
        // An answer to a question, or to what can't be forwarded.
        xdp_action::XDP_TX if !has_server || event.drop_reason != 0 => TraceVerdict::Answered,
        _ => TraceVerdict::Forwarded,
    }
}
