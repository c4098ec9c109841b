//! The maps.

use aya_ebpf::{
    btf_maps::{HashMap, LpmTrie, PerCpuArray, lpm_trie::Key},
    macros::btf_map,
};
use lb_common::{
    Address, DecapsulatorCounters,
    address::AddressWords,
    decapsulator::{Fate, MAX_ALLOWED_SOURCES, MAX_LOCAL_ADDRESSES},
};
use lb_ebpf::{decapsulate::Host, kernel::map_entry::own};

#[btf_map(name = "local_addresses")]
static LOCAL_ADDRESSES: HashMap<Address, u8, { MAX_LOCAL_ADDRESSES as usize }> = HashMap::new();
#[btf_map(name = "allowed_sources")]
static ALLOWED_SOURCES: LpmTrie<Address, u8, { MAX_ALLOWED_SOURCES as usize }> = LpmTrie::new();
#[btf_map(name = "counters")]
static COUNTERS: PerCpuArray<DecapsulatorCounters, 1> = PerCpuArray::new();

/// The maps as what is known of the host.
pub struct Maps;

impl Host for Maps {
    #[inline(always)]
    fn has_address(&self, address: AddressWords) -> bool {
        // SAFETY: the value is not read.
        unsafe { LOCAL_ADDRESSES.get(Address::from_words(address)) }.is_some()
    }

    #[inline(always)]
    fn allows_source(&self, source: AddressWords) -> bool {
        let whole = Key::new(u128::BITS, Address::from_words(source));
        ALLOWED_SOURCES.get(&whole).is_some()
    }
}

/// Counts a frame of so many bytes.
#[inline(always)]
pub fn count(fate: Fate, bytes: u64) {
    if let Some(counters) = own(&COUNTERS, 0) {
        counters.count(fate, bytes);
    }
}
