//! Sessions and counts, from maps that packets still use into those that take their place.
//!
//! Whole tables are copied, again and again, but each time only what was used since the time before began:
//!
//! 1. twice while packets use the former maps. What is left then is what begins or changes in the moment before the
//!    program is replaced;
//! 2. twice after that: at once, and when the last packet of the former program is done.
//!
//! Sessions that their clients have closed are copied after that alone: a client may begin another one at the same port, and
//! must not find the former one.
//!
//! So what is not in the new tables as soon as packets use them are the sessions that began in that moment, and those that are closed. In between TCP
//! packets in mid-stream without a session wait ([`Handover::hold`]): they are dropped, and the client sends them again. A
//! datagram of such a flow may go to another real server, until the copy brings the session there. A session that its client
//! resets in that moment stays in the table until it is idle for too long.

use std::{
    collections::HashMap,
    sync::atomic::{AtomicU64, Ordering},
};

use aya::maps::MapError;
use lb_common::{
    Address, FirstFragment, Name, OnUnknown, RealServer, SessionKey, VirtualServer, protocol,
    session::{self, Phase, SLOTS, Secrets, State, V4, V6},
};
use lb_ebpf::session_table::{self, Bucket};

use super::sweep;
use crate::dataplane::{Array, CounterMaps, Former, Tables, former::Fragments};

/// Words in a bucket of IPv4.
const WORDS_V4: usize = SLOTS * (V4 + 1);
/// Words in a bucket of IPv6.
const WORDS_V6: usize = SLOTS * (V6 + 1);

/// Copies from former maps into those that take their place.
pub struct Handover<'maps> {
    former: &'maps Former,
    tables: &'maps Tables,
    /// What has become of virtual servers, by their ids then.
    virtual_servers: HashMap<u32, Successor>,
    /// When the last copy began, in ticks.
    since: Option<u32>,
    /// What this has done so far.
    pub copied: Copied,
}

/// What was copied.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Copied {
    /// Sessions.
    pub sessions: u64,
    /// Sessions that had no room, or made room for others.
    pub evicted: u64,
}

/// A virtual server as it is now.
struct Successor {
    id: u32,
    entry: VirtualServer,
    /// By the offset then.
    bindings: HashMap<u32, Member>,
}

/// A binding.
#[derive(Clone, Copy)]
struct Member {
    offset: u32,
    counters: u32,
    counters_then: u32,
}

/// Which table a session is in.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Session,
    Sticky,
}

/// What tells virtual servers apart for the reconciler, too.
type Identity = (Name, Address, u8);

const fn identity(virtual_server: &VirtualServer) -> Identity {
    let VirtualServer {
        name,
        vip,
        protocol,
        ..
    } = *virtual_server;
    (name, vip, protocol)
}

impl<'maps> Handover<'maps> {
    /// From and to these maps. The new ones hold the virtual servers already, and find their real servers by name.
    pub fn new(former: &'maps Former, tables: &'maps Tables) -> Self {
        let now: HashMap<Identity, (u32, VirtualServer)> = (1..tables.virtual_servers.len())
            .map(|id| (id, tables.virtual_servers.get(id)))
            .filter(|(_, entry)| entry.protocol != 0)
            .map(|(id, entry)| (identity(&entry), (id, entry)))
            .collect();
        let virtual_servers = (1..former.virtual_servers.len())
            .filter_map(|then| {
                let entry_then = former.virtual_servers.get(then);
                let &(id, entry) = now.get(&identity(&entry_then))?;
                let members = members(tables, &entry);
                let successor = |(offset_then, binding): (u32, lb_common::Binding)| {
                    let RealServer { name, .. } = former.real_servers.get(binding.real_server);
                    let &(offset, counters) = members.get(&name)?;
                    let counters_then = binding.counters_index();
                    Some((
                        offset_then,
                        Member {
                            offset,
                            counters,
                            counters_then,
                        },
                    ))
                };
                let bindings = former.members(&entry_then).filter_map(successor).collect();
                Some((
                    then,
                    Successor {
                        id,
                        entry,
                        bindings,
                    },
                ))
            })
            .collect();
        Self {
            former,
            tables,
            virtual_servers,
            since: None,
            copied: Copied::default(),
        }
    }

    /// Copies the sessions and sticky clients that were used since the last copy began, at first all. `now` is in ticks,
    /// `in_use` whether packets use the new tables.
    pub fn copy(&mut self, now: u32, in_use: bool) {
        let (
            former,
            Tables {
                sessions, control, ..
            },
        ) = (self.former, self.tables);
        let sizes = control.get(0).sessions;
        let mut pass = Pass {
            since: self.since.replace(now),
            secrets: control.get(0).secrets,
            now,
            in_use,
            handover: self,
        };
        let v4 = |table| move |index| bucket::<_, WORDS_V4>(table, index);
        let v6 = |table| move |index| bucket::<_, WORDS_V6>(table, index);
        use Kind::{Session, Sticky};
        former.sessions_v4.visit::<V4>(|key, then| {
            pass.take(
                Session,
                &key,
                then,
                sizes.sessions_v4,
                v4(&sessions.sessions_v4),
            );
        });
        former.sessions_v6.visit::<V6>(|key, then| {
            pass.take(
                Session,
                &key,
                then,
                sizes.sessions_v6,
                v6(&sessions.sessions_v6),
            );
        });
        former.sticky_v4.visit::<V4>(|key, then| {
            pass.take(Sticky, &key, then, sizes.sticky_v4, v4(&sessions.sticky_v4));
        });
        former.sticky_v6.visit::<V6>(|key, then| {
            pass.take(Sticky, &key, then, sizes.sticky_v6, v6(&sessions.sticky_v6));
        });
    }

    /// Goes on with counts, turns and fragments where the former maps are now. No packet may use the new ones yet.
    ///
    /// # Errors
    ///
    /// If the kernel refuses.
    pub fn continue_counts(
        &self,
        counters: &mut CounterMaps,
        fragments: &mut Fragments,
    ) -> Result<(), MapError> {
        for entry in &self.former.fragments {
            let (datagram, first) = entry?;
            let first: FirstFragment = bytemuck::cast(first);
            let successor = self.virtual_servers.get(&first.virtual_server);
            let moved = successor.and_then(|it| {
                Some(FirstFragment {
                    virtual_server: it.id,
                    binding: it.bindings.get(&first.binding)?.offset,
                    ..first
                })
            });
            if let Some(moved) = moved {
                fragments.insert(datagram, bytemuck::cast::<_, [u64; _]>(moved), 0)?;
            }
        }
        for (&then, Successor { id, bindings, .. }) in &self.virtual_servers {
            let turns = self.former.turns.get(then);
            self.tables.sessions.turns.set(*id, turns);
            let bindings = bindings.values().map(|it| it.counters_then);
            let unbound = self.former.unbound_counters(then, bindings)?;
            self.tables.unbound_counters.set(*id, unbound);
        }
        let members = self
            .virtual_servers
            .values()
            .flat_map(|it| it.bindings.values());
        let members = members.map(|it| [it.counters_then, it.counters]);
        counters.continue_from(&self.former.counters, members)?;
        counters.add_evicted(self.copied.evicted)
    }

    /// Lets TCP packets in mid-stream wait that have no session, until [`Self::release`]: it may be there soon.
    pub fn hold(&self) {
        self.set_on_unknown(|_| OnUnknown::Drop as u8);
    }

    /// The end of [`Self::hold`].
    pub fn release(&self) {
        self.set_on_unknown(|entry| entry.on_unknown);
    }

    fn set_on_unknown(&self, on_unknown: impl Fn(&VirtualServer) -> u8) {
        let all = self.virtual_servers.values();
        for Successor { id, entry, .. } in all.filter(|it| it.entry.protocol == protocol::TCP) {
            let changed = VirtualServer {
                on_unknown: on_unknown(entry),
                ..*entry
            };
            self.tables.virtual_servers.set(*id, changed);
        }
    }
}

/// Offsets and counters of a virtual server's bindings, by the names of the real servers.
fn members(tables: &Tables, entry: &VirtualServer) -> HashMap<Name, (u32, u32)> {
    (0..entry.binding_capacity)
        .map(|offset| (offset, tables.bindings.get(entry.first_binding + offset)))
        .filter(|(_, binding)| binding.real_server != 0)
        .map(|(offset, binding)| {
            let RealServer { name, .. } = tables.real_servers.get(binding.real_server);
            (name, (offset, binding.counters_index()))
        })
        .collect()
}

fn bucket<T: bytemuck::Pod, const W: usize>(table: &Array<T>, index: u32) -> &Bucket<W> {
    let words = table.words(index).try_into();
    words.expect("a bucket of this many words")
}

/// One copy.
struct Pass<'pass, 'maps> {
    handover: &'pass mut Handover<'maps>,
    /// When the one before began, in ticks.
    since: Option<u32>,
    now: u32,
    in_use: bool,
    secrets: Secrets,
}

impl<'maps> Pass<'_, 'maps> {
    /// Takes one session along, into a table of `count` buckets.
    fn take<const N: usize, const W: usize>(
        &mut self,
        kind: Kind,
        key: &SessionKey<N>,
        then: State,
        count: u32,
        bucket: impl Fn(u32) -> &'maps Bucket<W>,
    ) {
        let comes_last = then.phase() == Phase::Closing;
        // The clock of a packet may be a little behind.
        let is_known = |since: u32| then.idle(self.now) > self.now - since + 1;
        if self.since.is_some_and(is_known) && !(comes_last && self.in_use) {
            return;
        }
        let Some(successor) = self.handover.virtual_servers.get(&then.virtual_server()) else {
            return;
        };
        let Some(&member) = successor.bindings.get(&then.binding()) else {
            return;
        };
        let is_over = match kind {
            Kind::Session => sweep::is_over(then, &successor.entry, self.now),
            Kind::Sticky => then.idle(self.now) >= successor.entry.sticky_timeout,
        };
        if is_over {
            return;
        }
        let virtual_servers = &self.handover.tables.virtual_servers;
        let buckets_of = |key: &SessionKey<N>, id: u32| {
            let salt = match kind {
                Kind::Session => virtual_servers.get(id).session_salt(),
                Kind::Sticky => id.into(),
            };
            Some(session::buckets(key, salt, &self.secrets, count).map(&bucket))
        };
        let state = then.renumbered(successor.id, member.offset);
        let Some(buckets) = buckets_of(key, successor.id) else {
            return;
        };
        let found = session_table::find(buckets, key, successor.id);
        if comes_last && !self.in_use {
            let ended = found.and_then(|found| found.end());
            self.count(kind, ended.unwrap_or_default(), -1);
            return;
        }
        if let Some(found) = found {
            let merge = |now: State| merged(now, state, self.in_use, self.now);
            if let Some(before) = found.change(merge) {
                self.count(kind, before, -1);
                self.count(kind, merge(before), 1);
            }
            return;
        }
        if session_table::are_full(buckets) {
            let miscounted = session_table::make_room(buckets, self.now, buckets_of);
            self.count(kind, miscounted, 1);
        }
        let Some(recorded) = session_table::adopt(buckets, key, state, self.now) else {
            self.evicted(kind);
            return;
        };
        if recorded.created {
            self.count(kind, state, 1);
            self.handover.copied.sessions += u64::from(kind == Kind::Session);
        }
        self.count(kind, recorded.duplicate, -1);
        if recorded.replaced.is_session() {
            self.count(kind, recorded.replaced, -1);
            self.evicted(kind);
        }
    }

    fn evicted(&mut self, kind: Kind) {
        self.handover.copied.evicted += u64::from(kind == Kind::Session);
    }

    /// Counts a session that began (1) or ended (-1), if it is active.
    fn count(&self, kind: Kind, state: State, change: i64) {
        if kind == Kind::Sticky || !state.is_active() {
            return;
        }
        let tables = self.handover.tables;
        let entry = tables.virtual_servers.get(state.virtual_server());
        let binding = tables.bindings.get(entry.first_binding + state.binding());
        let active: &AtomicU64 = &tables.sessions.active.words(binding.counters_index())[0];
        active.fetch_add(change.cast_unsigned(), Ordering::Relaxed);
    }
}

/// What a session that is in both tables becomes in the new one. While packets use that, they have the last word on all
/// but its real server: where it began on the former maps it stays. Unless it had ended there: then the client has begun
/// another one.
fn merged(now: State, then: State, in_use: bool, tick: u32) -> State {
    if !in_use {
        return then.with_version_after(now);
    }
    if then.phase() == Phase::Closing && then.binding() != now.binding() {
        return now;
    }
    let phase = match (now.phase(), then.phase()) {
        (Phase::Closing, _) | (_, Phase::Closing) => Phase::Closing,
        (now, then) if now as u8 >= then as u8 => now,
        (_, then) => then,
    };
    now.moved(then.binding()).used(phase, tick)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The binding and the phase of a session that was `now` and `then`, each a binding and a phase.
    fn merge(now: (u32, Phase), then: (u32, Phase), in_use: bool) -> (u32, Phase) {
        let state = |(binding, phase)| State::new(1, binding, phase, 100);
        let merged = merged(state(now), state(then), in_use, 101);
        (merged.binding(), merged.phase())
    }

    #[test]
    fn before_packets_use_the_new_maps_a_session_is_as_in_the_former_ones() {
        let then = (2, Phase::Opening);
        assert_eq!(merge((1, Phase::Established), then, false), then);
    }

    #[test]
    fn when_packets_use_them_a_session_stays_where_it_began() {
        use Phase::{Closing, Established, Opening};
        for (now, then, expected) in [
            // Both saw packets of it.
            ((1, Established), (2, Opening), (2, Established)),
            ((1, Opening), (2, Established), (2, Established)),
            // Closed before or after the switch.
            ((2, Established), (2, Closing), (2, Closing)),
            ((2, Closing), (2, Established), (2, Closing)),
            // Closed before the switch, and begun anew after it.
            ((1, Opening), (2, Closing), (1, Opening)),
        ] {
            assert_eq!(merge(now, then, true), expected, "{now:?} {then:?}");
        }
    }
}
