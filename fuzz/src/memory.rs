//! A balancer in this process: packets are byte vectors, and maps are memory. The only unsafe code of the packet tests
//! and of fuzzing is here.

use std::{
    cell::{Cell, RefCell, UnsafeCell},
    collections::{BTreeMap, HashMap},
    sync::atomic::AtomicU64,
};

use bytemuck::Pod;
use lb_common::{
    Binding, Budget, Clock, Control, Counters, Datagram, DropReason, FirstFragment, Interface,
    PortRange, RealServer, SessionEvent, TableBlock, Vip, VipBucket, VirtualServer,
};
use lb_ebpf::{
    Frame, Packet, State, Tables, Verdict,
    parse::IpPacket,
    tables::{BucketV4, BucketV6},
};
use lb_user::{
    control::{Platform, PlatformError, Reconciler},
    dataplane::Array,
};

use crate::network::Port;

/// What counters went up, and by how much. Drops and events have packets alone.
pub type Counted = BTreeMap<Counter, Counters>;

/// A counter of the balancer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Counter {
    /// By index of `binding_counters`.
    Binding(u32),
    /// By name.
    Drop(&'static str),
    /// What happened to the session table, by name.
    Event(&'static str),
}

/// What became of a frame.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Seen {
    /// Where it goes.
    pub verdict: Verdict,
    /// The frame afterwards.
    pub output: Vec<u8>,
    /// What was counted.
    pub counted: Counted,
}

/// The packet logic, compiled for this process, with the daemon's tables.
pub struct Balancer {
    maps: Maps,
    headroom: usize,
    has_shortcut: bool,
}

impl Balancer {
    /// With tables as a reconciler has filled them, and packets that have so many bytes of room in front.
    pub fn new(reconciler: Reconciler<NoKernel>, headroom: usize) -> Self {
        Self {
            maps: Maps {
                reconciler,
                fragments: RefCell::default(),
                error_budget: Cell::default(),
                session_budget: Cell::default(),
                now: Cell::default(),
                packet: UnsafeCell::new(None),
                counted: RefCell::default(),
            },
            headroom,
            has_shortcut: true,
        }
    }

    /// Lets all packets go the whole path.
    pub fn without_shortcut(self) -> Self {
        Self {
            has_shortcut: false,
            ..self
        }
    }

    /// What becomes of a frame that comes in by an interface.
    pub fn run(&mut self, ingress: &Port, frame: &[u8]) -> Seen {
        let mut packet = Buffer::new(frame, self.headroom, ingress.ifindex);
        let verdict = if self.has_shortcut {
            lb_ebpf::balance(&mut packet, &self.maps)
        } else {
            lb_ebpf::path(&mut packet, &self.maps)
        };
        Seen {
            verdict,
            output: packet.into_bytes(),
            counted: self.maps.counted.take(),
        }
    }

    /// Forgets fragments, and what was taken from budgets.
    pub fn forget(&mut self) {
        self.maps.fragments.get_mut().clear();
        self.maps.error_budget.take();
        self.maps.session_budget.take();
    }

    /// The tables, and who keeps them true.
    pub const fn reconciler(&self) -> &Reconciler<NoKernel> {
        &self.maps.reconciler
    }

    /// As [`Self::reconciler`], to change them.
    pub const fn reconciler_mut(&mut self) -> &mut Reconciler<NoKernel> {
        &mut self.maps.reconciler
    }

    /// The time that packets see: nanoseconds of the monotonic clock.
    pub fn now(&self) -> u64 {
        self.maps.now.get()
    }

    /// Sets [`Self::now`].
    pub fn set_now(&mut self, now: u64) {
        self.maps.now.set(now);
    }
}

/// A packet in memory that ends where it ends, so that an address sanitizer sees whoever reads behind it or before it.
pub struct Buffer {
    bytes: Box<[u8]>,
    headroom: usize,
    tailroom: usize,
    ingress_ifindex: u32,
}

impl Buffer {
    /// XDP_PACKET_HEADROOM (linux/bpf.h).
    pub const HEADROOM: usize = 256;
    /// About as much as XDP has behind a packet on a page of its own.
    const TAILROOM: usize = 1024;
    /// The kernel leaves at least an Ethernet header (net/core/filter.c, `bpf_xdp_adjust_head`).
    const LEAST: usize = 14;

    /// A frame with so much room in front.
    pub fn new(frame: &[u8], headroom: usize, ingress_ifindex: u32) -> Self {
        Self {
            bytes: frame.into(),
            headroom,
            tailroom: Self::TAILROOM,
            ingress_ifindex,
        }
    }

    /// The frame.
    pub fn into_bytes(self) -> Vec<u8> {
        self.bytes.into_vec()
    }
}

impl Packet for Buffer {
    fn frame(&mut self) -> Frame<'_> {
        let range = self.bytes.as_mut_ptr_range();
        // SAFETY: the range is one allocation, which the frame borrows.
        unsafe { Frame::new(range.start, range.end) }
    }

    fn len(&mut self) -> u64 {
        self.bytes.len() as u64
    }

    fn adjust_tail(&mut self, bytes: i32) -> bool {
        let before = self.bytes.len();
        let after = before.saturating_add_signed(bytes as isize);
        if after < Self::LEAST || after > before + self.tailroom {
            return false;
        }
        self.tailroom = before + self.tailroom - after;
        let mut changed = self.bytes.to_vec();
        changed.resize(after, 0);
        self.bytes = changed.into();
        true
    }

    fn adjust_head(&mut self, bytes: i32) -> bool {
        // What is there must not matter, so it isn't zeros.
        const NEW: u8 = 0xa5;

        let (before, room) = (self.bytes.len(), self.headroom);
        let after = before.saturating_add_signed(-bytes as isize);
        if after < Self::LEAST || after > before + room {
            return false;
        }
        self.headroom = before + room - after;
        self.bytes = match after.checked_sub(before) {
            Some(more) => [&vec![NEW; more], &self.bytes[..]].concat().into(),
            None => self.bytes[before - after..].into(),
        };
        true
    }

    fn ingress_ifindex(&self) -> u32 {
        self.ingress_ifindex
    }
}

/// There are no counters to reset, nor packets under way.
pub struct NoKernel;

impl Platform for NoKernel {
    fn binding_counters(&mut self, _: u32) -> Counters {
        Counters::default()
    }

    fn reset_binding_counters(&mut self, _index: u32) -> Result<(), PlatformError> {
        Ok(())
    }

    fn wait_for_packets(&mut self) {}
}

/// The daemon's tables, without a kernel.
struct Maps {
    reconciler: Reconciler<NoKernel>,
    fragments: RefCell<HashMap<Datagram, FirstFragment>>,
    error_budget: Cell<Budget>,
    session_budget: Cell<Budget>,
    /// Nanoseconds.
    now: Cell<u64>,
    /// The packet that is under way.
    packet: UnsafeCell<Option<IpPacket>>,
    /// What the packet that is under way has counted.
    counted: RefCell<Counted>,
}

impl Maps {
    fn change(&self, counter: Counter, change: impl FnOnce(&mut Counters)) {
        change(self.counted.borrow_mut().entry(counter).or_default());
    }
}

/// An entry in place, as packets read it.
fn entry<T: Pod>(array: &Array<T>, index: u32) -> Option<&T> {
    // SAFETY: the entry is there as long as the array is, and nothing writes to it while a packet is under way: the
    // balancer is lent for that.
    (index < array.len()).then(|| unsafe { &*array.entry_ptr(index) })
}

impl Tables for Maps {
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

    fn virtual_server(&self, &index: &u32) -> Option<&VirtualServer> {
        entry(&self.reconciler.tables().virtual_servers, index)
    }

    fn table_block(&self, index: u32) -> Option<&TableBlock> {
        entry(&self.reconciler.tables().predictor_tables, index)
    }

    fn binding(&self, index: u32) -> Option<&Binding> {
        entry(&self.reconciler.tables().bindings, index)
    }

    fn real_server(&self, &index: &u32) -> Option<&RealServer> {
        entry(&self.reconciler.tables().real_servers, index)
    }

    fn interface(&self, index: u32) -> Option<&Interface> {
        entry(&self.reconciler.tables().interfaces, index)
    }
}

impl State for Maps {
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

    fn now_by(&self, _clock: &Clock) -> u64 {
        self.now.get()
    }

    fn may_send_error(&self) -> bool {
        take(&self.error_budget, Budget::ERRORS, self.now())
    }

    fn count_drop(&self, reason: DropReason) {
        self.change(Counter::Drop(reason.name()), |it| it.packets += 1);
    }

    fn count(&self, binding_counters: u32, bytes: u64) {
        self.change(Counter::Binding(binding_counters), |counters| {
            counters.packets += 1;
            counters.bytes += bytes;
        });
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

    fn may_record_session(&self, control: &Control, now: u64) -> bool {
        take(&self.session_budget, control.new_sessions.into(), now)
    }

    fn count_sessions(&self, binding_counters: u32, sessions: i64) {
        self.change(Counter::Binding(binding_counters), |counters| {
            counters.sessions = counters.sessions.wrapping_add_signed(sessions);
        });
    }

    fn count_moved_session(&self, binding_counters: u32) {
        self.change(Counter::Binding(binding_counters), |it| it.moved += 1);
    }

    fn count_session_event(&self, event: SessionEvent) {
        self.change(Counter::Event(event.name()), |it| it.packets += 1);
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
