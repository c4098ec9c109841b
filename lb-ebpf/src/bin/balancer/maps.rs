//! The maps. Their sizes here are placeholders: the daemon sets them from the configuration's limits.

use aya_ebpf::{
    bindings::BPF_F_MMAPABLE,
    btf_maps::{Array, HashMap, PerCpuArray},
    macros::btf_map,
};
use lb_common::{
    Binding, Control, Counters, DropReason, Interface, PortRange, RealServer, TableBlock, Vip,
    VipBucket, VirtualServer,
};
use lb_ebpf::Tables;

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
#[btf_map(name = "virtual_server_counters")]
static VIRTUAL_SERVER_COUNTERS: PerCpuArray<Counters, 1> = PerCpuArray::new();
#[btf_map(name = "binding_counters")]
static BINDING_COUNTERS: PerCpuArray<Counters, 1> = PerCpuArray::new();
#[btf_map(name = "drop_counters")]
static DROP_COUNTERS: PerCpuArray<u64, { DropReason::ALL.len() }> = PerCpuArray::new();

/// The maps as the library's tables.
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

    #[inline(always)]
    fn count(&self, virtual_server: u32, binding_counters: u32, bytes: u64) {
        add(VIRTUAL_SERVER_COUNTERS.get_ptr_mut(virtual_server), bytes);
        add(BINDING_COUNTERS.get_ptr_mut(binding_counters), bytes);
    }
}

#[inline(always)]
fn add(counters: Option<*mut Counters>, bytes: u64) {
    if let Some(counters) = counters {
        // SAFETY: this CPU's own entry, and XDP programs do not interrupt one another.
        let counters = unsafe { &mut *counters };
        counters.packets += 1;
        counters.bytes += bytes;
    }
}

/// Counts a dropped packet.
#[inline(always)]
pub fn count_drop(reason: DropReason) {
    if let Some(count) = DROP_COUNTERS.get_ptr_mut(reason as u32) {
        // SAFETY: as in `add`.
        unsafe { *count += 1 };
    }
}
