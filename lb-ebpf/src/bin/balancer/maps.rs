//! The maps. Their sizes here are placeholders: the daemon sets them from the configuration's limits.

use aya_ebpf::{
    bindings::BPF_F_MMAPABLE,
    btf_maps::{Array, HashMap, LruHashMap, PerCpuArray},
    helpers::bpf_ktime_get_coarse_ns,
    macros::btf_map,
};
use lb_common::{
    Binding, Control, Counters, Datagram, DropReason, ErrorBudget, FirstFragment, Interface,
    PortRange, RealServer, TableBlock, Vip, VipBucket, VirtualServer,
};
use lb_ebpf::{State, Tables, parse::IpPacket};

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
static INTERFACES: HashMap<u32, Interface, 1> = HashMap::new();
#[btf_map(name = "fragments")]
static FRAGMENTS: LruHashMap<Datagram, FirstFragment, 1> = LruHashMap::new();
#[btf_map(name = "error_budget")]
static ERROR_BUDGET: PerCpuArray<ErrorBudget, 1> = PerCpuArray::new();
#[btf_map(name = "scratch")]
static SCRATCH: PerCpuArray<[u64; 8], 1> = PerCpuArray::new();
#[btf_map(name = "virtual_server_counters")]
static VIRTUAL_SERVER_COUNTERS: PerCpuArray<Counters, 1> = PerCpuArray::new();
#[btf_map(name = "binding_counters")]
static BINDING_COUNTERS: PerCpuArray<Counters, 1> = PerCpuArray::new();
#[btf_map(name = "drop_counters")]
static DROP_COUNTERS: PerCpuArray<u64, { DropReason::ALL.len() }> = PerCpuArray::new();

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
    fn virtual_server(&self, index: u32) -> Option<&VirtualServer> {
        VIRTUAL_SERVERS.get(index)
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
    fn real_server(&self, index: u32) -> Option<&RealServer> {
        REAL_SERVERS.get(index)
    }

    #[inline(always)]
    fn interface(&self, ifindex: u32) -> Option<&Interface> {
        // SAFETY: an entry is replaced as a whole and seldom; a torn one gives one wrong answer.
        unsafe { INTERFACES.get(&ifindex) }
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
    fn forget(&self, ip: IpPacket) -> Option<IpPacket> {
        const { assert!(size_of::<IpPacket>() <= size_of::<[u64; 8]>()) };
        let scratch = SCRATCH.get_ptr_mut(0)?.cast::<IpPacket>();
        // SAFETY: this CPU's own entry, large enough, and aligned for a `u64` as the packet's description is.
        unsafe {
            scratch.write_volatile(ip);
            Some(scratch.read_volatile())
        }
    }

    #[inline(always)]
    fn now(&self) -> u64 {
        // SAFETY: a plain helper call.
        unsafe { bpf_ktime_get_coarse_ns() }
    }

    #[inline(always)]
    fn may_send_error(&self) -> bool {
        ERROR_BUDGET.get_ptr_mut(0).is_some_and(|budget| {
            // SAFETY: this CPU's own entry, and XDP programs do not interrupt one another.
            unsafe { &mut *budget }.take(self.now())
        })
    }

    #[inline(always)]
    fn count_drop(&self, reason: DropReason) {
        if let Some(count) = DROP_COUNTERS.get_ptr_mut(reason as u32) {
            // SAFETY: as in `may_send_error`.
            unsafe { *count += 1 };
        }
    }

    #[inline(always)]
    fn count(&self, virtual_server: u32, binding_counters: u32, bytes: u64) {
        add(VIRTUAL_SERVER_COUNTERS.get_ptr_mut(virtual_server), bytes);
        add(BINDING_COUNTERS.get_ptr_mut(binding_counters), bytes);
    }
}

#[inline(always)]
fn add(counters: Option<*mut Counters>, bytes: u64) {
    if let Some(counters) = counters {
        // SAFETY: as in `may_send_error`.
        let counters = unsafe { &mut *counters };
        counters.packets += 1;
        counters.bytes += bytes;
    }
}
