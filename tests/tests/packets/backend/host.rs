//! The packet logic, compiled for this process: packets are byte vectors, and maps are memory. The only unsafe
//! code of these tests is here.

use std::{cell::RefCell, collections::HashMap};

use bytemuck::Pod;
use lb_common::{
    Binding, Control, Counters, Interface, PortRange, RealServer, TableBlock, Vip, VipBucket,
    VirtualServer,
};
use lb_ebpf::{Frame, Packet, Tables, Verdict};
use lb_user::{
    control::{Platform, PlatformError, Reconciler},
    dataplane::{Array, Tables as Arrays},
};

use super::{Backend, Observed};
use crate::{
    case::{Counted, dropped},
    fixture::{self, CounterNames, Port},
};

/// The library `lb_ebpf`.
pub struct Host {
    tables: HostTables,
    names: CounterNames,
}

impl Host {
    pub fn new() -> Self {
        let arrays = Arrays::anonymous(&fixture::sizes()).expect("memory");
        let reconciler = fixture::reconcile(arrays, NoKernel);
        Self {
            names: CounterNames::new(&reconciler),
            tables: HostTables {
                reconciler,
                interfaces: fixture::interfaces().into(),
                forwarded: RefCell::default(),
            },
        }
    }
}

impl Backend for Host {
    fn takes(&self, _frame: &[u8]) -> bool {
        true
    }

    fn run(&mut self, ingress: &Port, frame: &[u8]) -> Observed {
        let mut packet = HostPacket::new(frame, ingress.ifindex);
        let verdict = lb_ebpf::balance(&mut packet, &self.tables);
        let mut counted = Counted::new();
        for (virtual_server, binding, bytes) in self.tables.forwarded.take() {
            let names = [
                self.names.virtual_server(virtual_server),
                self.names.binding(binding),
            ];
            for name in names {
                let counters: &mut Counters = counted.entry(name).or_default();
                counters.packets += 1;
                counters.bytes += bytes;
            }
        }
        if let Verdict::Drop(reason) = verdict {
            counted.extend([dropped(reason, 1)]);
        }
        Observed {
            verdict,
            output: packet.into_bytes(),
            counted,
        }
    }
}

/// A packet with room behind it.
struct HostPacket {
    memory: Vec<u8>,
    length: usize,
    ingress_ifindex: u32,
}

impl HostPacket {
    /// About as much as XDP has behind a packet on a page of its own.
    const TAILROOM: usize = 1024;

    fn new(frame: &[u8], ingress_ifindex: u32) -> Self {
        // What lies behind the packet must not matter, so it isn't zeros.
        Self {
            memory: [frame, &[0xa5; Self::TAILROOM]].concat(),
            length: frame.len(),
            ingress_ifindex,
        }
    }

    fn into_bytes(mut self) -> Vec<u8> {
        self.memory.truncate(self.length);
        self.memory
    }
}

impl Packet for HostPacket {
    fn frame(&mut self) -> Frame<'_> {
        let range = self.memory[..self.length].as_mut_ptr_range();
        // SAFETY: the range is one vector's, which the frame borrows.
        unsafe { Frame::new(range.start, range.end) }
    }

    fn adjust_tail(&mut self, bytes: i32) -> bool {
        match self.length.checked_add_signed(bytes as isize) {
            Some(length) if length <= self.memory.len() => {
                if length > self.length {
                    self.memory[self.length..length].fill(0);
                }
                self.length = length;
                true
            }
            _ => false,
        }
    }

    fn ingress_ifindex(&self) -> u32 {
        self.ingress_ifindex
    }
}

/// The daemon's tables, without a kernel.
struct HostTables {
    reconciler: Reconciler<NoKernel>,
    interfaces: HashMap<u32, Interface>,
    /// Virtual server, index of the binding's counters, bytes.
    forwarded: RefCell<Vec<(u32, u32, u64)>>,
}

/// There are no counters to reset, nor packets under way.
struct NoKernel;

impl Platform for NoKernel {
    fn reset_virtual_server_counters(&mut self, _id: u32) -> Result<(), PlatformError> {
        Ok(())
    }

    fn reset_binding_counters(&mut self, _index: u32) -> Result<(), PlatformError> {
        Ok(())
    }

    fn wait_for_packets(&mut self) {}
}

/// An entry in place, as packets read it.
fn entry<T: Pod>(array: &Array<T>, index: u32) -> Option<&T> {
    // SAFETY: the entry is there as long as the array is, and nothing writes to it after `Host::new`.
    (index < array.len()).then(|| unsafe { &*array.entry_ptr(index) })
}

impl Tables for HostTables {
    fn control(&self) -> Option<&Control> {
        entry(&self.reconciler.tables().control, 0)
    }

    fn vip_bucket(&self, index: u32) -> Option<&VipBucket> {
        entry(&self.reconciler.tables().vip_buckets, index)
    }

    fn vip(&self, index: u32) -> Option<&Vip> {
        entry(&self.reconciler.tables().vips, index)
    }

    fn port_range(&self, index: u32) -> Option<&PortRange> {
        entry(&self.reconciler.tables().port_ranges, index)
    }

    fn virtual_server(&self, index: u32) -> Option<&VirtualServer> {
        entry(&self.reconciler.tables().virtual_servers, index)
    }

    fn table_block(&self, index: u32) -> Option<&TableBlock> {
        entry(&self.reconciler.tables().predictor_tables, index)
    }

    fn binding(&self, index: u32) -> Option<&Binding> {
        entry(&self.reconciler.tables().bindings, index)
    }

    fn real_server(&self, index: u32) -> Option<&RealServer> {
        entry(&self.reconciler.tables().real_servers, index)
    }

    fn interface(&self, ifindex: u32) -> Option<&Interface> {
        self.interfaces.get(&ifindex)
    }

    fn count(&self, virtual_server: u32, binding_counters: u32, bytes: u64) {
        let mut forwarded = self.forwarded.borrow_mut();
        forwarded.push((virtual_server, binding_counters, bytes));
    }
}
