//! The packet logic, compiled for this process: packets are byte vectors, and maps are memory. The only unsafe
//! code of these tests is here.

use std::{
    cell::{Cell, RefCell, UnsafeCell},
    collections::HashMap,
    ops::Range,
    sync::atomic::AtomicU64,
    time::Duration,
};

use bytemuck::Pod;
use lb_common::{
    Binding, Budget, Control, Counters, Datagram, DropReason, FirstFragment, Interface, PortRange,
    RealServer, SessionEvent, TableBlock, Vip, VipBucket, VirtualServer,
};
use lb_ebpf::{
    Frame, Packet, State, Tables,
    parse::IpPacket,
    tables::{BucketV4, BucketV6},
};
use lb_user::{
    config::Config,
    control::{Desired, Platform, PlatformError, Reconciler},
    dataplane::{Array, Tables as Arrays},
};

use super::{Backend, Observed};
use crate::{
    case::{Case, Counted, dropped, happened},
    fixture::{self, CounterNames, Port, Sources},
};

/// The library `lb_ebpf`.
pub struct Host {
    tables: HostTables,
    names: CounterNames,
    headroom: usize,
}

impl Host {
    pub fn new() -> Self {
        Self::with(&fixture::config(Sources::Spread), HostPacket::HEADROOM)
    }

    /// With another configuration.
    pub fn of(config: &Config) -> Self {
        Self::with(config, HostPacket::HEADROOM)
    }

    /// With another configuration, and packets that have so many bytes of room in front.
    pub fn with(config: &Config, headroom: usize) -> Self {
        let arrays = Arrays::anonymous(&fixture::sizes(config)).expect("memory");
        let reconciler = fixture::reconcile(arrays, NoKernel, config);
        Self {
            names: CounterNames::new(&reconciler, config),
            tables: HostTables {
                reconciler,
                fragments: RefCell::default(),
                error_budget: Cell::default(),
                session_budget: Cell::default(),
                now: Cell::default(),
                packet: UnsafeCell::new(None),
                forwarded: RefCell::default(),
                dropped: RefCell::default(),
                began: RefCell::default(),
                events: RefCell::default(),
            },
            headroom,
        }
    }
}

impl Backend for Host {
    fn takes(&self, _case: &Case) -> bool {
        true
    }

    fn run(&mut self, ingress: &Port, frame: &[u8]) -> Observed {
        let mut packet = HostPacket::new(frame, self.headroom, ingress.ifindex);
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
        for (virtual_server, binding, sessions) in self.tables.began.take() {
            let names = virtual_server
                .map(|id| self.names.virtual_server(id))
                .into_iter()
                .chain([self.names.binding(binding)]);
            for name in names {
                let counters: &mut Counters = counted.entry(name).or_default();
                counters.sessions = counters.sessions.wrapping_add_signed(sessions);
            }
        }
        let drops = self.tables.dropped.take().into_iter();
        let events = self.tables.events.take().into_iter();
        let others = drops
            .map(|reason| dropped(reason, 1))
            .chain(events.map(|event| happened(event, 1)));
        for (name, counters) in others {
            counted.entry(name).or_default().packets += counters.packets;
        }
        Observed {
            verdict,
            output: packet.into_bytes(),
            counted,
        }
    }

    fn feed(&mut self, ingress: &Port, frame: &[u8]) {
        self.run(ingress, frame);
    }

    fn forget(&mut self) {
        self.tables.fragments.get_mut().clear();
        self.tables.error_budget.take();
        self.tables.session_budget.take();
        fixture::forget_sessions(&self.tables.reconciler);
    }

    fn reconcile(&mut self, wanted: &Desired) {
        let applied = self.tables.reconciler.apply(wanted);
        applied.expect("the tables have room");
    }

    fn active(&self, virtual_server: &str, server: &str) -> u64 {
        fixture::active(&self.tables.reconciler, virtual_server, server)
    }

    fn wait(&mut self, time: Duration) {
        let time = u64::try_from(time.as_nanos()).expect("less than centuries");
        *self.tables.now.get_mut() += time;
    }
}

/// A packet with room around it.
struct HostPacket {
    memory: Vec<u8>,
    place: Range<usize>,
    ingress_ifindex: u32,
}

impl HostPacket {
    /// XDP_PACKET_HEADROOM (linux/bpf.h).
    const HEADROOM: usize = 256;
    /// About as much as XDP has behind a packet on a page of its own.
    const TAILROOM: usize = 1024;
    /// The kernel leaves at least an Ethernet header (net/core/filter.c, `bpf_xdp_adjust_head`).
    const LEAST: usize = 14;

    fn new(frame: &[u8], headroom: usize, ingress_ifindex: u32) -> Self {
        // What lies around the packet must not matter, so it isn't zeros.
        Self {
            memory: [&vec![0xa5; headroom], frame, &[0xa5; Self::TAILROOM]].concat(),
            place: headroom..headroom + frame.len(),
            ingress_ifindex,
        }
    }

    fn into_bytes(self) -> Vec<u8> {
        self.memory[self.place].to_vec()
    }
}

impl Packet for HostPacket {
    fn frame(&mut self) -> Frame<'_> {
        let range = self.memory[self.place.clone()].as_mut_ptr_range();
        // SAFETY: the range is one vector's, which the frame borrows.
        unsafe { Frame::new(range.start, range.end) }
    }

    fn len(&mut self) -> u64 {
        self.place.len() as u64
    }

    fn adjust_tail(&mut self, bytes: i32) -> bool {
        let Range { start, end } = self.place;
        match end.checked_add_signed(bytes as isize) {
            Some(new) if (start + Self::LEAST..=self.memory.len()).contains(&new) => {
                if new > end {
                    self.memory[end..new].fill(0);
                }
                self.place.end = new;
                true
            }
            _ => false,
        }
    }

    fn adjust_head(&mut self, bytes: i32) -> bool {
        match self.place.start.checked_add_signed(bytes as isize) {
            Some(start) if start + Self::LEAST <= self.place.end => {
                self.place.start = start;
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
    fragments: RefCell<HashMap<Datagram, FirstFragment>>,
    error_budget: Cell<Budget>,
    session_budget: Cell<Budget>,
    /// Nanoseconds.
    now: Cell<u64>,
    /// The packet that is under way.
    packet: UnsafeCell<Option<IpPacket>>,
    /// Virtual server, index of the binding's counters, bytes.
    forwarded: RefCell<Vec<(u32, u32, u64)>>,
    dropped: RefCell<Vec<DropReason>>,
    /// Virtual server, index of the binding's counters, sessions.
    began: RefCell<Vec<(Option<u32>, u32, i64)>>,
    events: RefCell<Vec<SessionEvent>>,
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

    fn interface(&self, index: u32) -> Option<&Interface> {
        entry(&self.reconciler.tables().interfaces, index)
    }
}

impl State for HostTables {
    fn first_fragment(&self, datagram: &Datagram) -> Option<FirstFragment> {
        self.fragments.borrow().get(datagram).copied()
    }

    fn remember_fragment(&self, datagram: &Datagram, first: &FirstFragment) {
        self.fragments.borrow_mut().insert(*datagram, *first);
    }

    fn forget(&self, ip: IpPacket) -> Option<&IpPacket> {
        // SAFETY: no packet begins before the one before it, and all that was lent of it, is done.
        *unsafe { &mut *self.packet.get() } = Some(ip);
        // SAFETY: as above.
        unsafe { &*self.packet.get() }.as_ref()
    }

    fn now(&self) -> u64 {
        self.now.get()
    }

    fn may_send_error(&self) -> bool {
        take(&self.error_budget, Budget::ERRORS, self.now())
    }

    fn count_drop(&self, reason: DropReason) {
        self.dropped.borrow_mut().push(reason);
    }

    fn count(&self, virtual_server: u32, binding_counters: u32, bytes: u64) {
        let mut forwarded = self.forwarded.borrow_mut();
        forwarded.push((virtual_server, binding_counters, bytes));
    }

    fn sessions_v4(&self, index: u32) -> Option<&BucketV4> {
        words(&self.reconciler.tables().sessions.sessions_v4, index)
    }

    fn sessions_v6(&self, index: u32) -> Option<&BucketV6> {
        words(&self.reconciler.tables().sessions.sessions_v6, index)
    }

    fn sticky_v4(&self, index: u32) -> Option<&BucketV4> {
        words(&self.reconciler.tables().sessions.sticky_v4, index)
    }

    fn sticky_v6(&self, index: u32) -> Option<&BucketV6> {
        words(&self.reconciler.tables().sessions.sticky_v6, index)
    }

    fn active_sessions(&self, binding_counters: u32) -> Option<&AtomicU64> {
        let active = &self.reconciler.tables().sessions.active;
        words::<_, 1>(active, binding_counters).map(|[word]| word)
    }

    fn turns(&self, virtual_server: u32) -> Option<&AtomicU64> {
        let turns = &self.reconciler.tables().sessions.turns;
        words::<_, 1>(turns, virtual_server).map(|[word]| word)
    }

    fn may_record_session(&self) -> bool {
        let budget = self.control().map_or(0, |control| control.new_sessions);
        take(&self.session_budget, budget.into(), self.now())
    }

    fn count_sessions(&self, virtual_server: Option<u32>, binding_counters: u32, sessions: i64) {
        let mut began = self.began.borrow_mut();
        began.push((virtual_server, binding_counters, sessions));
    }

    fn count_session_event(&self, event: SessionEvent) {
        self.events.borrow_mut().push(event);
    }

    fn repeat(&self, times: u32, step: impl FnMut(u32)) {
        (0..times).for_each(step);
    }
}

fn words<T: Pod, const W: usize>(array: &Array<T>, index: u32) -> Option<&[AtomicU64; W]> {
    (index < array.len()).then(|| array.words(index).try_into().expect("an entry's words"))
}

fn take(budget: &Cell<Budget>, limit: u64, now: u64) -> bool {
    let mut taken = budget.get();
    let may = taken.take(limit, now);
    budget.set(taken);
    may
}
