//! The maps. Their sizes here are placeholders: the daemon sets them from the configuration's limits.

use core::{ffi::c_void, sync::atomic::AtomicU64};

use aya_ebpf::{
    bindings::BPF_F_MMAPABLE,
    btf_maps::{Array, LruHashMap, PerCpuArray},
    helpers::{bpf_jiffies64, bpf_loop},
    macros::btf_map,
};
use lb_common::{
    Binding, BucketV4, BucketV6, Budget, Clock, Control, Counters, Datagram, DropReason,
    FirstFragment, Interface, PortRange, RealServer, SessionEvent, TableBlock, TraceEvent, Vip,
    VipBucket, VirtualServer, session::Phase,
};
use lb_ebpf::{
    State, Tables,
    kernel::map_entry::{at, own, words},
    parse::{Flow, IpPacket},
    session::{self, Step},
    sticky, tables,
};

use super::note;

/// User space maps these arrays into its memory.
const MAPPED: usize = BPF_F_MMAPABLE as usize;

#[btf_map(name = "control")]
static CONTROL: Array<Control, 1, MAPPED> = Array::new();
#[btf_map(name = "vip_buckets")]
static VIP_BUCKETS: Array<VipBucket, 1, MAPPED> = Array::new();
#[btf_map(name = "vips")]
static VIPS: Array<Vip, 1, MAPPED> = Array::new();
#[btf_map(name = "port_ranges")]
static PORT_RANGES: Array<PortRange, 1, MAPPED> = Array::new();
#[btf_map(name = "virtual_servers")]
static VIRTUAL_SERVERS: Array<VirtualServer, 1, MAPPED> = Array::new();
#[btf_map(name = "predictor_tables")]
static PREDICTOR_TABLES: Array<TableBlock, 1, MAPPED> = Array::new();
#[btf_map(name = "bindings")]
static BINDINGS: Array<Binding, 1, MAPPED> = Array::new();
#[btf_map(name = "real_servers")]
static REAL_SERVERS: Array<RealServer, 1, MAPPED> = Array::new();
#[btf_map(name = "interfaces")]
static INTERFACES: Array<Interface, { Interface::SLOTS as usize }, MAPPED> = Array::new();
#[btf_map(name = "sessions_v4")]
static SESSIONS_V4: Array<BucketV4, 1, MAPPED> = Array::new();
#[btf_map(name = "sessions_v6")]
static SESSIONS_V6: Array<BucketV6, 1, MAPPED> = Array::new();
#[btf_map(name = "sticky_v4")]
static STICKY_V4: Array<BucketV4, 1, MAPPED> = Array::new();
#[btf_map(name = "sticky_v6")]
static STICKY_V6: Array<BucketV6, 1, MAPPED> = Array::new();
#[btf_map(name = "active_sessions")]
static ACTIVE_SESSIONS: Array<u64, 1, MAPPED> = Array::new();
#[btf_map(name = "turns")]
static TURNS: Array<u64, 1, MAPPED> = Array::new();
#[btf_map(name = "fragments")]
static FRAGMENTS: LruHashMap<Datagram, FirstFragment, 1> = LruHashMap::new();
#[btf_map(name = "error_budget")]
static ERROR_BUDGET: PerCpuArray<Budget, 1> = PerCpuArray::new();
#[btf_map(name = "session_budget")]
static SESSION_BUDGET: PerCpuArray<Budget, 1> = PerCpuArray::new();
#[btf_map(name = "scratch")]
static SCRATCH: PerCpuArray<[u64; 8], 1> = PerCpuArray::new();
/// Packets don't look here.
#[btf_map(name = "unbound_counters")]
static UNBOUND_COUNTERS: Array<Counters, 1, MAPPED> = Array::new();
#[btf_map(name = "binding_counters")]
static BINDING_COUNTERS: PerCpuArray<Counters, 1> = PerCpuArray::new();
#[btf_map(name = "drop_counters")]
static DROP_COUNTERS: PerCpuArray<u64, { DropReason::ALL.len() }> = PerCpuArray::new();
#[btf_map(name = "session_events")]
static SESSION_EVENTS: PerCpuArray<u64, { SessionEvent::ALL.len() }> = PerCpuArray::new();

/// The maps as the library's tables and state.
pub struct Maps;

impl Tables for Maps {
    #[inline(always)]
    fn control(&self) -> Option<&Control> {
        CONTROL.get(0)
    }

    #[inline(always)]
    fn vip_bucket(&self, index: u32) -> Option<&VipBucket> {
        VIP_BUCKETS.get(index)
    }

    #[inline(always)]
    fn vip(&self, index: u32) -> Option<&Vip> {
        VIPS.get(index)
    }

    #[inline(always)]
    fn port_range(&self, index: u32) -> Option<&PortRange> {
        PORT_RANGES.get(index)
    }

    #[inline(always)]
    fn virtual_server(&self, index: &u32) -> Option<&VirtualServer> {
        at(&VIRTUAL_SERVERS, index)
    }

    #[inline(always)]
    fn table_block(&self, index: u32) -> Option<&TableBlock> {
        PREDICTOR_TABLES.get(index)
    }

    #[inline(always)]
    fn binding(&self, index: u32) -> Option<&Binding> {
        BINDINGS.get(index)
    }

    #[inline(always)]
    fn real_server(&self, index: &u32) -> Option<&RealServer> {
        at(&REAL_SERVERS, index)
    }

    #[inline(always)]
    fn interface(&self, index: u32) -> Option<&Interface> {
        INTERFACES.get(index)
    }
}

impl State for Maps {
    #[inline(always)]
    fn first_fragment(&self, datagram: &Datagram) -> Option<FirstFragment> {
        // SAFETY: an entry that is replaced meanwhile gives this packet one of two servers, as before.
        unsafe { FRAGMENTS.get(datagram) }.copied()
    }

    #[inline(always)]
    fn remember_fragment(&self, datagram: &Datagram, first: &FirstFragment) {
        // Without an entry the later fragments are dropped, and counted then.
        let _ = FRAGMENTS.insert(datagram, first, 0);
    }

    #[inline(always)]
    fn forget(&self, ip: IpPacket) -> Option<&IpPacket> {
        const { assert!(size_of::<IpPacket>() <= size_of::<[u64; 8]>()) };
        let scratch = SCRATCH.get_ptr_mut(0)?.cast::<IpPacket>();
        // SAFETY: this CPU's own entry, large enough, and aligned for a `u64` as the packet's description is.
        unsafe {
            scratch.write(ip);
            Some(&*scratch)
        }
    }

    #[inline(always)]
    fn now_by(&self, clock: &Clock) -> u64 {
        // SAFETY: a plain helper call.
        let jiffies = unsafe { bpf_jiffies64() };
        // The clock only now: what is loaded before a call must be put aside for it.
        clock.now(jiffies)
    }

    #[inline(always)]
    fn may_send_error(&self) -> bool {
        take(own(&ERROR_BUDGET, 0), Budget::ERRORS, self.now())
    }

    #[inline(always)]
    fn count_drop(&self, reason: DropReason) {
        note(|event| event.drop_reason = reason as u32 + 1);
        count(own(&DROP_COUNTERS, reason as u32), 1);
    }

    #[inline(always)]
    fn count(&self, binding_counters: u32, bytes: u64) {
        if let Some(counters) = own(&BINDING_COUNTERS, binding_counters) {
            counters.packets += 1;
            counters.bytes += bytes;
        }
    }

    #[inline(always)]
    fn sessions_v4(&self, index: u32) -> Option<&tables::BucketV4> {
        words(&SESSIONS_V4, index)
    }

    #[inline(always)]
    fn sessions_v6(&self, index: u32) -> Option<&tables::BucketV6> {
        words(&SESSIONS_V6, index)
    }

    #[inline(always)]
    fn sticky_v4(&self, index: u32) -> Option<&tables::BucketV4> {
        words(&STICKY_V4, index)
    }

    #[inline(always)]
    fn sticky_v6(&self, index: u32) -> Option<&tables::BucketV6> {
        words(&STICKY_V6, index)
    }

    #[inline(always)]
    fn active_sessions(&self, binding_counters: u32) -> Option<&AtomicU64> {
        words(&ACTIVE_SESSIONS, binding_counters).map(|[word]: &[_; 1]| word)
    }

    #[inline(always)]
    fn turns(&self, virtual_server: u32) -> Option<&AtomicU64> {
        words(&TURNS, virtual_server).map(|[word]: &[_; 1]| word)
    }

    #[inline(always)]
    fn may_record_session(&self, control: &Control, now: u64) -> bool {
        take(own(&SESSION_BUDGET, 0), control.new_sessions.into(), now)
    }

    #[inline(always)]
    fn count_sessions(&self, binding_counters: u32, sessions: i64) {
        if let Some(counters) = own(&BINDING_COUNTERS, binding_counters) {
            counters.sessions = counters.sessions.wrapping_add_signed(sessions);
        }
    }

    #[inline(always)]
    fn count_moved_session(&self, binding_counters: u32) {
        if let Some(counters) = own(&BINDING_COUNTERS, binding_counters) {
            counters.moved += 1;
        }
    }

    #[inline(always)]
    fn count_session_event(&self, event: SessionEvent) {
        count(own(&SESSION_EVENTS, event as u32), 1);
    }

    #[inline(always)]
    fn session_step(&self, ip: &IpPacket, id: u32) -> Step {
        Step::decode(session_step(ip, id))
    }

    #[inline(always)]
    fn session_keep(&self, ip: &IpPacket, id: u32, binding: u32, phase: Phase) -> Option<u32> {
        u32::try_from(session_keep(ip, id, binding, phase as u64)).ok()
    }

    #[inline(always)]
    fn session_make_room(&self, ip: &IpPacket) {
        session_make_room(ip);
    }

    #[inline(always)]
    fn sticky_binding(&self, flow: &Flow, id: u32) -> Option<u32> {
        u32::try_from(sticky_binding(flow, id)).ok()
    }

    #[inline(always)]
    fn sticky_stay(&self, flow: &Flow, id: u32, binding: u32) -> u32 {
        sticky_stay(flow, id, binding)
    }

    #[inline(always)]
    fn trace(&self, note: impl FnOnce(&mut TraceEvent)) {
        super::note(note);
    }

    #[inline(always)]
    fn repeat(&self, times: u32, step: impl FnMut(u32)) {
        repeat(times, step);
    }
}

/// No binding.
const NONE: u64 = u64::MAX;

// Functions with global linkage, which the verifier looks at by themselves. For all that it knows pointers may be null
// (Documentation/bpf/verifier.rst; kernel/bpf/btf.c, `btf_prepare_func_args`).

/// What a global function was given a reference to.
#[inline(always)]
fn given<'a, T>(pointer: *const T) -> Option<&'a T> {
    // SAFETY: a reference, or null.
    unsafe { pointer.as_ref() }
}

#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn session_step(ip: *const IpPacket, id: u32) -> u64 {
    match given(ip) {
        Some(ip) => session::step(&Maps, ip, id).encode(),
        None => Step::ByHash.encode(),
    }
}

#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn session_keep(ip: *const IpPacket, id: u32, binding: u32, phase: u64) -> u64 {
    let phase = Phase::at(phase);
    given(ip)
        .and_then(|ip| session::keep(&Maps, ip, id, binding, phase))
        .map_or(NONE, u64::from)
}

#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn session_make_room(ip: *const IpPacket) -> u64 {
    if let Some(ip) = given(ip) {
        session::make_room(&Maps, ip);
    }
    // The kernel wants global functions to return a number.
    0
}

#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn sticky_binding(flow: *const Flow, id: u32) -> u64 {
    given(flow)
        .and_then(|flow| sticky::binding(&Maps, flow, id))
        .map_or(NONE, u64::from)
}

#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn sticky_stay(flow: *const Flow, id: u32, binding: u32) -> u32 {
    given(flow).map_or(binding, |flow| sticky::stay(&Maps, flow, id, binding))
}

#[inline(always)]
fn repeat<F: FnMut(u32)>(times: u32, mut step: F) {
    unsafe extern "C" fn call<F: FnMut(u32)>(number: u64, step: *mut c_void) -> i64 {
        // SAFETY: `step` is the one below, which the loop alone uses.
        unsafe { (*step.cast::<F>())(number as u32) };
        0
    }
    let function: unsafe extern "C" fn(u64, *mut c_void) -> i64 = call::<F>;
    // SAFETY: the function has the type that the helper wants (linux/bpf.h), and the closure outlives the loop.
    unsafe { bpf_loop(times, function as *mut c_void, (&raw mut step).cast(), 0) };
}

#[inline(always)]
fn take(budget: Option<&mut Budget>, limit: u64, now: u64) -> bool {
    budget.is_some_and(|budget| budget.take(limit, now))
}

#[inline(always)]
fn count(counter: Option<&mut u64>, number: u64) {
    if let Some(counter) = counter {
        *counter += number;
    }
}
