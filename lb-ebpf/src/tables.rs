//! What a packet may look up, keep and count. The maps of the same names are described in `lb_common`.

use core::sync::atomic::AtomicU64;

use lb_common::{
    Binding, Clock, Control, Datagram, DropReason, FirstFragment, Interface, PortRange, RealServer,
    SessionEvent, SessionKey, SessionTables, TableBlock, TraceEvent, Vip, VipBucket, VirtualServer,
    session::{Phase, SLOTS, V4, V6, buckets},
};

use crate::{
    parse::{Flow, IpPacket},
    session::{self, Step},
    session_table::Bucket,
    sticky,
};

/// An entry of `sessions_v4` or `sticky_v4`.
pub type BucketV4 = Bucket<{ SLOTS * (V4 + 1) }>;
/// An entry of `sessions_v6` or `sticky_v6`.
pub type BucketV6 = Bucket<{ SLOTS * (V6 + 1) }>;

/// The maps, in the kernel; plain arrays, on the host. `None` is an index past a table's end.
///
/// Where an index lies in another entry it is given by its address: the kernel's lookup reads it from memory anyway, and
/// what was just stored on the stack is read later than what has been there for long.
pub trait Tables {
    /// The only entry of `control`.
    fn control(&self) -> Option<&Control>;
    /// An entry of `vip_buckets`.
    fn vip_bucket(&self, index: u32) -> Option<&VipBucket>;
    /// An entry of `vips`.
    fn vip(&self, index: u32) -> Option<&Vip>;
    /// An entry of `port_ranges`.
    fn port_range(&self, index: u32) -> Option<&PortRange>;
    /// An entry of `virtual_servers`.
    fn virtual_server(&self, index: &u32) -> Option<&VirtualServer>;
    /// An entry of `predictor_tables`.
    fn table_block(&self, index: u32) -> Option<&TableBlock>;
    /// An entry of `bindings`.
    fn binding(&self, index: u32) -> Option<&Binding>;
    /// An entry of `real_servers`.
    fn real_server(&self, index: &u32) -> Option<&RealServer>;
    /// An entry of `interfaces`.
    fn interface(&self, index: u32) -> Option<&Interface>;
}

/// What packets leave behind for later ones, and what else the program needs of its surroundings.
pub trait State: Tables {
    /// An entry of `fragments`.
    fn first_fragment(&self, datagram: &Datagram) -> Option<FirstFragment>;
    /// Makes or replaces an entry of `fragments`.
    fn remember_fragment(&self, datagram: &Datagram, first: &FirstFragment);
    /// Gives a packet's description back as it is, in memory that the verifier knows nothing of. It follows
    /// each way in which a packet may be parsed to the end of the program, as long as it can tell them
    /// apart; after this it can't, and goes on once for all of them.
    fn forget(&self, ip: IpPacket) -> Option<&IpPacket>;
    /// Nanoseconds of the monotonic clock, as exact as a timer tick.
    #[inline(always)]
    fn now(&self) -> u64 {
        self.control()
            .map_or(0, |control| self.now_by(&control.clock))
    }
    /// As [`Self::now`], by a clock that is at hand.
    fn now_by(&self, clock: &Clock) -> u64;
    /// Takes one from the budget of ICMP errors, if there is one left.
    fn may_send_error(&self) -> bool;
    /// Counts a dropped packet.
    fn count_drop(&self, reason: DropReason);
    /// Counts a forwarded packet.
    fn count(&self, binding_counters: u32, bytes: u64);
    /// An entry of `sessions_v4`.
    fn sessions_v4(&self, index: u32) -> Option<&BucketV4>;
    /// An entry of `sessions_v6`.
    fn sessions_v6(&self, index: u32) -> Option<&BucketV6>;
    /// An entry of `sticky_v4`.
    fn sticky_v4(&self, index: u32) -> Option<&BucketV4>;
    /// An entry of `sticky_v6`.
    fn sticky_v6(&self, index: u32) -> Option<&BucketV6>;
    /// An entry of `active_sessions`.
    fn active_sessions(&self, binding_counters: u32) -> Option<&AtomicU64>;
    /// An entry of `turns`.
    fn turns(&self, virtual_server: u32) -> Option<&AtomicU64>;
    /// Takes one from this CPU's budget of new sessions, if there is one left at this time.
    fn may_record_session(&self, control: &Control, now: u64) -> bool;
    /// Counts sessions that began; less than 0 takes back what was counted.
    fn count_sessions(&self, binding_counters: u32, sessions: i64);
    /// Counts a session that moved.
    fn count_moved_session(&self, binding_counters: u32);
    /// Counts what happened to the session table.
    fn count_session_event(&self, event: SessionEvent);
    /// [`session::step`]. This and what follows are functions of their own in the kernel, each with a stack of its own,
    /// which the verifier looks at once, not on each way that leads to them.
    #[inline(always)]
    fn session_step(&self, ip: &IpPacket, id: u32) -> Step
    where
        Self: Sized,
    {
        session::step(self, ip, id)
    }
    /// [`session::keep`].
    #[inline(always)]
    fn session_keep(&self, ip: &IpPacket, id: u32, binding: u32, phase: Phase) -> Option<u32>
    where
        Self: Sized,
    {
        session::keep(self, ip, id, binding, phase)
    }
    /// [`session::make_room`].
    #[inline(always)]
    fn session_make_room(&self, ip: &IpPacket)
    where
        Self: Sized,
    {
        session::make_room(self, ip);
    }
    /// [`sticky::binding`].
    #[inline(always)]
    fn sticky_binding(&self, flow: &Flow, id: u32) -> Option<u32>
    where
        Self: Sized,
    {
        sticky::binding(self, flow, id)
    }
    /// [`sticky::stay`].
    #[inline(always)]
    fn sticky_stay(&self, flow: &Flow, id: u32, binding: u32) -> u32
    where
        Self: Sized,
    {
        sticky::stay(self, flow, id, binding)
    }
    /// Lets a note be made about the packet, where somebody traces packets.
    #[inline(always)]
    fn trace(&self, _note: impl FnOnce(&mut TraceEvent))
    where
        Self: Sized,
    {
    }
    /// Calls `step` with the numbers below `times`, one after the other.
    fn repeat(&self, times: u32, step: impl FnMut(u32));
}

/// Indexes of the two buckets that a key may lie in, of a table with as many buckets as `count` says.
#[inline(always)]
pub(crate) fn bucket_indexes<const N: usize>(
    control: &Control,
    key: &SessionKey<N>,
    salt: u64,
    count: impl Fn(&SessionTables) -> u32,
) -> [u32; 2] {
    buckets(key, salt, &control.secrets, count(&control.sessions))
}

#[cfg(test)]
pub(crate) mod arrays;
