//! Makes the maps say what is wanted, without a packet ever seeing half of a change.
//!
//! New entries are written where no packet looks, then the pointers to them are moved, then, when every
//! packet that may have read an old pointer is gone, the old entries become free. Real servers and
//! predictor tables are found by their content, so equal ones exist once.
//!
//! The maps are the memory of it all: a [`Reconciler`] that starts reads what an earlier one left there.

mod on_change;

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    net::IpAddr,
    rc::Rc,
    sync::Arc,
    time::Instant,
};

use bytemuck::Zeroable;
use ipnet::IpNet;
use lb_common::{
    Address, Binding, Control, Counters, Directory, Name, PredictorTable, RealServer, TableBlock,
    VirtualServer,
    session::{self, ticks},
};

use super::{
    allocator::Allocator,
    desired::{self, Desired, LastKnownLinks, Link, Unbound},
    directory::{self, Image, Place, Service},
    predictor_table::{Content, Server, Steady},
    sweep,
};
use crate::{
    config::{Forward, SessionMode},
    dataplane::{Sizes, Tables},
};

/// What the reconciler needs beside the tables.
pub trait Platform {
    /// The counters at an index of `binding_counters`; zeros if they can't be read, which is logged.
    fn binding_counters(&mut self, index: u32) -> Counters;
    /// Sets the counters at an index of `binding_counters` to zero.
    fn reset_binding_counters(&mut self, index: u32) -> Result<(), PlatformError>;
    /// Returns when every packet that is being processed now has been.
    fn wait_for_packets(&mut self);
}

/// Something that the kernel refused.
pub type PlatformError = Box<dyn std::error::Error + Send + Sync>;

/// Why a wanted state can't be reached. Nothing has changed then.
#[derive(Debug, thiserror::Error)]
pub enum ReconcileError {
    /// More virtual servers than the map holds.
    #[error("more virtual servers than limits.virtual_servers: raise it")]
    VirtualServers,
    /// More real servers, counting changed ones twice, than the map holds.
    #[error("more real servers than limits.real_servers: raise it")]
    RealServers,
    /// The map of bindings is full.
    #[error(
        "no room to bind {members} real servers to {virtual_server}: raise limits.virtual_servers"
    )]
    Bindings {
        /// Its name.
        virtual_server: String,
        /// How many are to be bound.
        members: usize,
    },
    /// More than sessions can tell apart.
    #[error(
        "{virtual_server} binds more than {} real servers, counting those that drain: bind fewer",
        lb_common::session::State::BINDINGS
    )]
    TooManyBindings {
        /// Its name.
        virtual_server: String,
    },
    /// No room for even the smallest predictor table.
    #[error("no room for the predictor table of {virtual_server}: raise limits.virtual_servers")]
    PredictorTables {
        /// Its name.
        virtual_server: String,
    },
    /// Too many ports.
    #[error(transparent)]
    Directory(#[from] directory::Full),
    /// The kernel refused.
    #[error("the kernel refused a change of the maps")]
    Platform(#[from] PlatformError),
}

/// Keeps the maps true.
pub struct Reconciler<P> {
    tables: Tables,
    platform: P,
    state: State,
    /// The first time that a slot of the state has in [`Slot::settles`]: asked for again and again.
    next_step: Option<Instant>,
}

/// What lies where in the maps.
#[derive(Clone)]
struct State {
    virtual_servers: BTreeMap<Identity, Arc<Slot>>,
    real_servers: HashMap<RealServer, u32>,
    predictor_tables: HashMap<Arc<Content>, PredictorTable>,
    free: Free,
}

/// A virtual server that changes its VIP or protocol is another one from then on: packets for the old VIP find
/// the old one until the directory changes.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Identity {
    name: String,
    vip: Address,
    protocol: u8,
}

/// What is free in the maps.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Free {
    virtual_servers: Allocator,
    real_servers: Allocator,
    bindings: Allocator,
    binding_counters: Allocator,
    table_blocks: Allocator,
}

/// Where a virtual server lies.
#[derive(Clone)]
struct Slot {
    /// What it was made for. `None` if an earlier daemon made it.
    wanted: Option<Arc<desired::VirtualServer>>,
    id: u32,
    bindings: Bindings,
    table: PredictorTable,
    order: PredictorTable,
    members: BTreeMap<String, MemberSlot>,
    /// When its next step is due, while it settles ([`super::on_change`]).
    settles: Option<Instant>,
    /// Whether slots of its table are marked.
    is_marked: bool,
}

/// A range of the map `bindings`.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Bindings {
    first: u32,
    capacity: u32,
}

/// Where a member lies.
#[derive(Clone)]
struct MemberSlot {
    offset: u16,
    counters: u32,
    /// Its entry in `real_servers`, and where that is; `None` until it was first reached.
    entry: Option<(RealServer, u32)>,
    /// [`Binding::DOWN`], [`Binding::DRAINING`].
    flags: u32,
    /// It drains, and nobody waits for flows that are not recorded yet.
    is_given_up: bool,
}

impl<P: Platform> Reconciler<P> {
    /// Takes over the maps as they are.
    pub fn new(tables: Tables, sizes: &Sizes, platform: P) -> Self {
        let state = State::read(&tables, sizes);
        Self {
            tables,
            platform,
            state,
            // Whoever settles begins anew.
            next_step: None,
        }
    }

    /// How each address was last reached, by each way to forward.
    pub fn last_known_links(&self) -> LastKnownLinks {
        let entries = self.state.real_servers.keys();
        entries
            .map(|entry| {
                let link = link(entry);
                let forward = match link.outer_source {
                    None => Forward::L2dsr,
                    Some(_) => Forward::L3dsr,
                };
                ((entry.address.into(), forward), link)
            })
            .collect()
    }

    /// A virtual server's id: its index in `virtual_servers` and `unbound_counters`.
    pub fn virtual_server_id(&self, virtual_server: &str) -> Option<u32> {
        Some(self.slot(virtual_server)?.id)
    }

    /// The index in `binding_counters` of a real server bound to a virtual server.
    pub fn binding_counters(&self, virtual_server: &str, real_server: &str) -> Option<u32> {
        let slot = self.slot(virtual_server)?;
        Some(slot.members.get(real_server)?.counters)
    }

    /// The indices in `binding_counters` of the real servers that are bound to a virtual server.
    pub fn counters_of(&self, virtual_server: &str) -> impl Iterator<Item = u32> {
        let members = self
            .slot(virtual_server)
            .into_iter()
            .flat_map(|slot| slot.members.values());
        members.map(|member| member.counters)
    }

    /// The indices in `binding_counters` of all real servers that are bound.
    pub fn all_counters(&self) -> impl Iterator<Item = u32> {
        let slots = self.state.virtual_servers.values();
        slots.flat_map(|slot| slot.members.values().map(|member| member.counters))
    }

    /// Whether there are virtual servers with VIPs of IPv4, and of IPv6: others have no sessions.
    pub fn families(&self) -> [bool; 2] {
        [true, false].map(|is_v4| {
            let mut identities = self.state.virtual_servers.keys();
            identities.any(|it| it.vip.is_ipv4() == is_v4)
        })
    }

    /// How sessions name a real server bound to a virtual server: by the virtual server's id, and an offset.
    pub fn session_binding(&self, virtual_server: &str, real_server: &str) -> Option<(u32, u32)> {
        let slot = self.slot(virtual_server)?;
        let member = slot.members.get(real_server)?;
        Some((slot.id, member.offset.into()))
    }

    /// How many entries are in use, and how many there are, of the maps that can fill up.
    pub fn fills(&self) -> [(&'static str, u32, u32); 4] {
        let (tables, free) = (&self.tables, &self.state.free);
        // Index 0 means "none".
        let fill = |map, len: u32, free: &Allocator| (map, len - 1 - free.free(), len - 1);
        [
            (
                "virtual_servers",
                tables.virtual_servers.len(),
                &free.virtual_servers,
            ),
            (
                "real_servers",
                tables.real_servers.len(),
                &free.real_servers,
            ),
            ("bindings", tables.bindings.len(), &free.bindings),
            (
                "predictor_tables",
                tables.predictor_tables.len(),
                &free.table_blocks,
            ),
        ]
        .map(|(map, len, free)| fill(map, len, free))
    }

    /// Whether the maps say that a real server bound to a virtual server takes packets.
    pub fn is_up(&self, virtual_server: &str, real_server: &str) -> bool {
        let slot = self.slot(virtual_server);
        let member = slot.and_then(|slot| slot.members.get(real_server));
        member.is_some_and(|member| member.binding().keeps_sessions())
    }

    /// Real servers in the maps that are not among those that `is_bound` to a virtual server, both by name; and the
    /// indices of their counters.
    pub fn unbound(
        &self,
        is_bound: impl Fn(&str, &str) -> bool,
    ) -> impl Iterator<Item = (Unbound, u32)> {
        let slots = self.state.virtual_servers.iter();
        slots.flat_map(move |(identity, slot)| {
            let left = slot.members.iter().filter_map(|(server, member)| {
                let (entry, _) = member.entry.filter(|_| !is_bound(&identity.name, server))?;
                let unbound = Unbound {
                    virtual_server: identity.name.clone(),
                    server: server.clone(),
                    address: entry.address.into(),
                };
                Some((unbound, member.counters))
            });
            left.collect::<Vec<_>>()
        })
    }

    fn slot(&self, name: &str) -> Option<&Slot> {
        let first = Identity {
            name: name.to_owned(),
            vip: Address::default(),
            protocol: 0,
        };
        let (identity, slot) = self.state.virtual_servers.range(first..).next()?;
        (identity.name == name).then_some(slot)
    }

    /// The tables that packets follow.
    pub const fn tables(&self) -> &Tables {
        &self.tables
    }

    /// What it was made with.
    pub const fn platform(&self) -> &P {
        &self.platform
    }

    /// Both, while the maps take another daemon's place.
    pub const fn parts_mut(&mut self) -> (&Tables, &mut P) {
        (&self.tables, &mut self.platform)
    }

    /// When the next virtual server that settles goes on, by [`Self::apply`].
    pub const fn next_step(&self) -> Option<Instant> {
        self.next_step
    }

    /// When a virtual server has settled, if it settles ([`super::on_change`]).
    pub fn settles(&self, virtual_server: &str) -> Option<Instant> {
        self.slot(virtual_server)?.settles
    }

    /// The virtual servers that have settled and look for sessions still, by name; and the indices of their counters.
    pub fn tracked(&self) -> impl Iterator<Item = (&str, impl Iterator<Item = u32>)> {
        let slots = self.state.virtual_servers.iter();
        let tracked = slots.filter(|(_, slot)| slot.is_marked && slot.settles.is_none());
        tracked.map(|(identity, slot)| {
            let counters = slot.members.values().map(|member| member.counters);
            (identity.name.as_str(), counters)
        })
    }

    /// Lets flows without a session leave a real server that is unbound with the next [`Self::apply`], though its virtual
    /// server has not settled.
    pub fn give_up(&mut self, virtual_server: &str, real_server: &str) {
        let mut slots = self.state.virtual_servers.iter_mut();
        let slot = slots.find(|(identity, _)| identity.name == virtual_server);
        if let Some((_, slot)) = slot.filter(|(_, slot)| slot.settles.is_some()) {
            let slot = Arc::make_mut(slot);
            if let Some(member) = slot.members.get_mut(real_server) {
                member.is_given_up = true;
                slot.wanted = None;
            }
        }
    }

    /// Makes the maps say what is wanted. When this returns, no packet follows the old state.
    pub fn apply(&mut self, desired: &Desired) -> Result<(), ReconcileError> {
        self.apply_at(desired, Instant::now())
    }

    /// As [`Self::apply`], at another time than now.
    pub fn apply_at(&mut self, desired: &Desired, now: Instant) -> Result<(), ReconcileError> {
        let plan = Plan::make(&self.tables, self.state.clone(), desired, now)?;
        for &id in &plan.new_virtual_servers {
            self.tables.unbound_counters.set(id, Counters::default());
            self.tables.sessions.turns.set(id, 0);
        }
        for &index in &plan.new_counters {
            self.platform.reset_binding_counters(index)?;
            self.tables.sessions.active.set(index, 0);
        }
        if plan.suspend_predictors(&self.tables) {
            self.platform.wait_for_packets();
        }
        if plan.write(&self.tables) {
            self.platform.wait_for_packets();
        }
        self.state = plan.clean_up(&self.tables, &mut self.platform);
        let slots = self.state.virtual_servers.values();
        self.next_step = slots.filter_map(|slot| slot.settles).min();
        Ok(())
    }
}

/// The next state, and the way there.
struct Plan {
    state: State,
    new_virtual_servers: Vec<u32>,
    new_counters: Vec<u32>,
    real_servers: Vec<(u32, RealServer)>,
    blocks: Vec<(u32, TableBlock)>,
    bindings: Vec<(u32, Binding)>,
    virtual_servers: Vec<(u32, VirtualServer)>,
    directory: Option<(Place, Image)>,
    garbage: Garbage,
    now: Instant,
    /// Tables that were worked out for this plan: most virtual servers that track changes alone share them.
    steady: HashMap<Steady, Rc<[u16]>>,
}

/// What no packet will follow once the plan is carried out.
#[derive(Default)]
struct Garbage {
    virtual_servers: Vec<u32>,
    real_servers: Vec<u32>,
    /// Of bindings: the virtual server's id, and the index of their counters.
    counters: Vec<(u32, u32)>,
    bindings: Vec<Bindings>,
    /// Single bindings in ranges that stay.
    members: Vec<u32>,
    /// Those bindings as sticky clients name them: virtual-server id and offset.
    offsets: HashSet<(u32, u32)>,
    tables: Vec<PredictorTable>,
}

impl Plan {
    fn make(
        tables: &Tables,
        old: State,
        desired: &Desired,
        now: Instant,
    ) -> Result<Self, ReconcileError> {
        let mut plan = Self {
            state: State {
                virtual_servers: BTreeMap::new(),
                ..old
            },
            new_virtual_servers: Vec::new(),
            new_counters: Vec::new(),
            real_servers: Vec::new(),
            blocks: Vec::new(),
            bindings: Vec::new(),
            virtual_servers: Vec::new(),
            directory: None,
            garbage: Garbage::default(),
            now,
            steady: HashMap::new(),
        };
        let mut old_virtual_servers = old.virtual_servers;

        // There are two maps' halves for the directory, with VIPs for so many each.
        if desired.virtual_servers.len() > tables.virtual_servers.len() as usize / 2 {
            return Err(ReconcileError::VirtualServers);
        }
        for (name, wanted) in &desired.virtual_servers {
            let identity = identity(name, wanted);
            let old_slot = old_virtual_servers.remove(&identity);
            let slot = match old_slot {
                // With thousands of virtual servers nearly all are as they were.
                Some(slot) if slot.wanted.as_ref() == Some(wanted) && !slot.is_due(now) => slot,
                old => Arc::new(plan.change(tables, name, wanted, old)?),
            };
            plan.state.virtual_servers.insert(identity, slot);
        }
        for slot in old_virtual_servers.into_values() {
            plan.garbage.virtual_servers.push(slot.id);
            plan.garbage.bindings.push(slot.bindings);
            let counters = slot.members.values().map(|it| (slot.id, it.counters));
            plan.garbage.counters.extend(counters);
            plan.garbage.tables.extend([slot.table, slot.order]);
        }
        plan.drop_unused();
        plan.directory = plan.changed_directory(tables, desired)?;
        Ok(plan)
    }

    /// Makes a virtual server what is wanted.
    fn change(
        &mut self,
        tables: &Tables,
        name: &str,
        wanted: &Arc<desired::VirtualServer>,
        old: Option<Arc<Slot>>,
    ) -> Result<Slot, ReconcileError> {
        let mut slot = self.place(name, wanted, old.as_deref())?;
        slot.wanted = Some(Arc::clone(wanted));
        self.link_members(&mut slot, wanted)?;
        self.garbage.tables.extend([slot.table, slot.order]);
        if wanted.session.mode == SessionMode::OnChange {
            self.settle(tables, name, &mut slot, wanted)?;
        } else {
            (slot.settles, slot.is_marked) = (None, false);
            let servers = slot.servers(wanted);
            slot.table = self.table(tables, name, Content::hash(&servers), slot.table)?;
            let order = Content::order(wanted.predictor, &servers);
            slot.order = self.table(tables, name, order, slot.order)?;
        }
        self.virtual_servers
            .push((slot.id, entry(name, wanted, &slot)));
        Ok(slot)
    }

    /// Gives a virtual server an id and a range of bindings, and each member an offset in it.
    fn place(
        &mut self,
        name: &str,
        wanted: &desired::VirtualServer,
        old: Option<&Slot>,
    ) -> Result<Slot, ReconcileError> {
        let free = &mut self.state.free;
        let old_members = old.map(|slot| slot.members.clone()).unwrap_or_default();
        let mut slot = match old {
            Some(slot) => slot.clone(),
            None => {
                let id = free
                    .virtual_servers
                    .allocate(1)
                    .ok_or(ReconcileError::VirtualServers)?;
                self.new_virtual_servers.push(id);
                Slot {
                    wanted: None,
                    id,
                    bindings: Bindings {
                        first: 0,
                        capacity: 0,
                    },
                    table: PredictorTable::default(),
                    order: PredictorTable::default(),
                    members: BTreeMap::new(),
                    settles: None,
                    is_marked: false,
                }
            }
        };
        let no_room = || ReconcileError::Bindings {
            virtual_server: name.to_owned(),
            members: wanted.members.len(),
        };

        // The offset of a member that goes is free only when no packet can follow it any more.
        let mut taken: Vec<bool> = vec![false; wanted.members.len() + old_members.len()];
        for member in old_members.values() {
            let offset = usize::from(member.offset);
            taken.resize(taken.len().max(offset + 1), false);
            taken[offset] = true;
        }
        let mut free_offsets = (0..session::State::BINDINGS as usize)
            .filter(|&offset| !taken.get(offset).is_some_and(|&taken| taken));
        slot.members.clear();
        for server in wanted.members.keys() {
            let member = match old_members.get(server) {
                Some(member) => member.clone(),
                None => {
                    let offset =
                        free_offsets
                            .next()
                            .ok_or_else(|| ReconcileError::TooManyBindings {
                                virtual_server: name.to_owned(),
                            })?;
                    let counters = free.binding_counters.allocate(1).ok_or_else(no_room)?;
                    self.new_counters.push(counters);
                    MemberSlot {
                        offset: offset as u16,
                        counters,
                        entry: None,
                        flags: 0,
                        is_given_up: false,
                    }
                }
            };
            slot.members.insert(server.clone(), member);
        }

        let old_bindings = slot.bindings;
        let members = slot.members.values().chain(old_members.values());
        let needed = members
            .map(|member| u32::from(member.offset) + 1)
            .max()
            .unwrap_or(0);
        if needed > slot.bindings.capacity {
            let capacity = needed.next_power_of_two();
            let first = free.bindings.allocate(capacity).ok_or_else(no_room)?;
            slot.bindings = Bindings { first, capacity };
            // What was there before must not be taken for members.
            let empty = (first..first + capacity).map(|index| (index, Binding::zeroed()));
            self.bindings.extend(empty);
            if old_bindings.capacity > 0 {
                self.garbage.bindings.push(old_bindings);
            }
        }
        for (server, member) in old_members {
            if wanted.members.contains_key(&server) {
                continue;
            }
            // In a new range, too, packets find it until the new table is in place.
            self.bindings
                .push((slot.binding(&member), member.binding()));
            self.garbage.members.push(slot.binding(&member));
            self.garbage.offsets.insert((slot.id, member.offset.into()));
            self.garbage.counters.push((slot.id, member.counters));
        }
        Ok(slot)
    }

    /// Gives each member its entry in `real_servers`.
    fn link_members(
        &mut self,
        slot: &mut Slot,
        wanted: &desired::VirtualServer,
    ) -> Result<(), ReconcileError> {
        let serving: HashSet<&str> = wanted.serving().map(|(name, _)| name).collect();
        for (server, member) in &mut slot.members {
            let wanted = &wanted.members[server];
            let entry = match &wanted.link {
                Ok(link) => Some(real_server(server, wanted.address, link)),
                // Packets may find it still, by the old table; though its address may be another by now.
                Err(_) => member.entry.map(|(entry, _)| entry),
            };
            member.entry = match entry {
                Some(entry) => Some((entry, self.intern(entry)?)),
                None => None,
            };
            member.is_given_up &= wanted.drain;
            member.flags = match wanted.link {
                Err(_) => Binding::DOWN,
                Ok(_) if serving.contains(server.as_str()) => 0,
                Ok(_) => Binding::DRAINING,
            };
        }
        let bindings = slot
            .members
            .values()
            .map(|member| (slot.binding(member), member.binding()));
        self.bindings.extend(bindings);
        Ok(())
    }

    fn intern(&mut self, entry: RealServer) -> Result<u32, ReconcileError> {
        if let Some(&index) = self.state.real_servers.get(&entry) {
            return Ok(index);
        }
        let free = &mut self.state.free.real_servers;
        let index = free.allocate(1).ok_or(ReconcileError::RealServers)?;
        self.real_servers.push((index, entry));
        self.state.real_servers.insert(entry, index);
        Ok(index)
    }

    /// The predictor table with this content.
    fn table(
        &mut self,
        tables: &Tables,
        name: &str,
        content: Option<Content>,
        current: PredictorTable,
    ) -> Result<PredictorTable, ReconcileError> {
        let Some(content) = content else {
            return Ok(PredictorTable::default());
        };
        if let Some(&table) = self.state.predictor_tables.get(&content) {
            return Ok(table);
        }
        let table = self.new_table(tables, name, &content, current)?;
        self.state.predictor_tables.insert(Arc::new(content), table);
        Ok(table)
    }

    /// A table that is not known yet: `current`, if it is one that an earlier daemon made of the same members,
    /// else a new one.
    fn new_table(
        &mut self,
        tables: &Tables,
        name: &str,
        content: &Content,
        current: PredictorTable,
    ) -> Result<PredictorTable, ReconcileError> {
        // Where memory is short a coarser table serves, too.
        let mut most = u32::MAX;
        while let Some((slots, blocks)) = content.fill(most) {
            let is_current = current.slots == slots
                && (current.first_block..)
                    .zip(&blocks)
                    .all(|(index, &block)| tables.predictor_tables.get(index) == block);
            if is_current {
                return Ok(current);
            }
            let free = &mut self.state.free.table_blocks;
            if let Some(first_block) = free.allocate(self::blocks(slots)) {
                self.blocks.extend((first_block..).zip(blocks));
                return Ok(PredictorTable { first_block, slots });
            }
            most = slots / 2;
        }
        Err(ReconcileError::PredictorTables {
            virtual_server: name.to_owned(),
        })
    }

    /// Forgets the real servers and tables that no virtual server will use.
    fn drop_unused(&mut self) {
        let Self { state, garbage, .. } = self;
        let slots = state.virtual_servers.values();
        let used: HashSet<_> = slots
            .clone()
            .flat_map(|slot| [slot.table, slot.order])
            .collect();
        let unused = state
            .predictor_tables
            .extract_if(|_, table| !used.contains(table));
        garbage.tables.extend(unused.map(|(_, table)| table));
        // What an earlier daemon made is found nowhere but in its virtual servers.
        garbage
            .tables
            .sort_unstable_by_key(|table| table.first_block);
        garbage.tables.dedup();
        garbage
            .tables
            .retain(|table| table.slots != 0 && !used.contains(table));

        let entries = slots
            .flat_map(|slot| slot.members.values())
            .filter_map(|member| member.entry);
        let used: foldhash::HashSet<_> = entries.map(|(_, index)| index).collect();
        let unused = state
            .real_servers
            .extract_if(|_, index| !used.contains(index));
        garbage.real_servers.extend(unused.map(|(_, index)| index));
    }

    /// The directory, if it differs from the one in use.
    fn changed_directory(
        &self,
        tables: &Tables,
        desired: &Desired,
    ) -> Result<Option<(Place, Image)>, ReconcileError> {
        let slots = &self.state.virtual_servers;
        let build = |place| {
            let services = desired
                .virtual_servers
                .iter()
                .map(|(name, wanted)| Service {
                    id: slots[&identity(name, wanted)].id,
                    vip: wanted.vip,
                    protocol: wanted.protocol,
                    ports: &wanted.ports,
                    up: wanted.serving().next().is_some(),
                });
            directory::build(services, place)
        };
        let [current, other] = places(tables);
        if is_in_place(tables, current, &build(current)?) {
            return Ok(None);
        }
        Ok(Some((other, build(other)?)))
    }

    /// Lets new sessions go by the hash where the order of new ones is to be another one's: a packet that has read whose it is
    /// must not follow the new one, which may be of another kind. Whether there may be such packets still.
    fn suspend_predictors(&self, tables: &Tables) -> bool {
        let mut suspended = false;
        for &(index, entry) in &self.virtual_servers {
            let now = tables.virtual_servers.get(index);
            let has_order = now.predictor > lb_common::Predictor::SourceHash as u8;
            let is_suspended = VirtualServer {
                predictor: match has_order && now.predictor != entry.predictor {
                    true => lb_common::Predictor::Hash as u8,
                    false => now.predictor,
                },
                on_change: now.on_change & entry.on_change,
                ..now
            };
            if is_suspended != now {
                tables.virtual_servers.set(index, is_suspended);
                suspended = true;
            }
        }
        suspended
    }

    /// Carries the plan out, in an order in which each packet finds what it follows. Whether anything
    /// changed that a packet may be following still.
    fn write(&self, tables: &Tables) -> bool {
        for &(index, entry) in &self.real_servers {
            tables.real_servers.set(index, entry);
        }
        for &(index, block) in &self.blocks {
            tables.predictor_tables.set(index, block);
        }
        let mut changed = false;
        for &(index, binding) in &self.bindings {
            if tables.bindings.get(index) != binding {
                tables.bindings.set(index, binding);
                changed = true;
            }
        }
        for &(index, entry) in &self.virtual_servers {
            let before = tables.virtual_servers.get(index);
            if before != entry {
                // The order is there before what follows it, and who has sessions is known before there are any.
                let without = VirtualServer {
                    idle_timeout: before.idle_timeout,
                    predictor: before.predictor,
                    on_change: before.on_change,
                    ..entry
                };
                tables.virtual_servers.set(index, without);
                tables.virtual_servers.set(index, entry);
                changed = true;
            }
        }
        if let Some((place, image)) = &self.directory {
            for (index, &bucket) in (place.directory.first_bucket..).zip(&image.buckets) {
                tables.vip_buckets.set(index, bucket);
            }
            for (index, &vip) in (place.first_vip..).zip(&image.vips) {
                tables.vips.set(index, vip);
            }
            for (index, &range) in (place.first_range..).zip(&image.port_ranges) {
                tables.port_ranges.set(index, range);
            }
            let control = tables.control.get(0);
            let directory = place.directory;
            tables.control.set(
                0,
                Control {
                    directory,
                    ..control
                },
            );
            changed = true;
        }
        changed
    }

    /// Frees what no packet follows any more.
    fn clean_up(self, tables: &Tables, platform: &mut impl Platform) -> State {
        let mut state = self.state;
        // Before their ids and offsets become others'.
        let ids: HashSet<u32> = self.garbage.virtual_servers.iter().copied().collect();
        let offsets = self.garbage.offsets;
        sweep::forget(tables, &ids, &offsets);
        for id in self.garbage.virtual_servers {
            tables.virtual_servers.set(id, VirtualServer::zeroed());
            state.free.virtual_servers.release(id, 1);
        }
        // Right before the bindings go: a daemon that is killed in between leaves both to the next one, which adds them up.
        for &(id, index) in &self.garbage.counters {
            if !ids.contains(&id) {
                let before = tables.unbound_counters.get(id);
                let after = before.plus(platform.binding_counters(index));
                tables.unbound_counters.set(id, after);
            }
        }
        for index in self.garbage.members {
            tables.bindings.set(index, Binding::zeroed());
        }
        for Bindings { first, capacity } in self.garbage.bindings {
            if capacity > 0 {
                (first..first + capacity)
                    .for_each(|index| tables.bindings.set(index, Binding::zeroed()));
                state.free.bindings.release(first, capacity);
            }
        }
        for (_, index) in self.garbage.counters {
            state.free.binding_counters.release(index, 1);
        }
        // After the bindings that lead to them: the next daemon must not take one for a member's that has
        // become another's.
        for index in self.garbage.real_servers {
            tables.real_servers.set(index, RealServer::zeroed());
            state.free.real_servers.release(index, 1);
        }
        for table in self.garbage.tables {
            state
                .free
                .table_blocks
                .release(table.first_block, blocks(table.slots));
        }
        state
    }
}

impl State {
    /// Reads what lies in the maps.
    fn read(tables: &Tables, sizes: &Sizes) -> Self {
        let mut state = Self {
            virtual_servers: BTreeMap::new(),
            real_servers: HashMap::new(),
            // What the tables there are made of is not known: see `Plan::new_table`.
            predictor_tables: HashMap::new(),
            free: Free {
                virtual_servers: Allocator::new(1, sizes.virtual_servers),
                real_servers: Allocator::new(1, sizes.real_servers),
                bindings: Allocator::new(1, sizes.bindings),
                binding_counters: Allocator::new(1, sizes.bindings),
                table_blocks: Allocator::new(1, sizes.table_blocks),
            },
        };
        for id in 1..sizes.virtual_servers {
            let entry = tables.virtual_servers.get(id);
            if let Some(name) = entry.name.as_str().filter(|name| !name.is_empty()) {
                let slot = state.read_slot(tables, id, &entry);
                let identity = Identity {
                    name: name.to_owned(),
                    vip: entry.vip,
                    protocol: entry.protocol,
                };
                state.virtual_servers.insert(identity, Arc::new(slot));
            }
        }
        state
    }

    /// Reads one virtual server and takes what it uses. A range that another one has taken already is
    /// shared, if a table, or else the trace of a change that was cut short.
    fn read_slot(&mut self, tables: &Tables, id: u32, entry: &VirtualServer) -> Slot {
        let free = &mut self.free;
        let _ = free.virtual_servers.reserve(id, 1);
        for table in [entry.table, entry.order] {
            if table.slots > 0 {
                let _ = free
                    .table_blocks
                    .reserve(table.first_block, blocks(table.slots));
            }
        }
        let mut bindings = Bindings {
            first: entry.first_binding,
            capacity: entry.binding_capacity,
        };
        if bindings.capacity == 0 || !free.bindings.reserve(bindings.first, bindings.capacity) {
            bindings = Bindings {
                first: 0,
                capacity: 0,
            };
        }
        let mut members = BTreeMap::new();
        for (index, offset) in (bindings.first..bindings.first + bindings.capacity).zip(0..) {
            let binding = tables.bindings.get(index);
            let index = binding.real_server;
            if index == 0 || index >= tables.real_servers.len() {
                continue;
            }
            let real_server = tables.real_servers.get(index);
            let Some(name) = real_server.name.as_str().filter(|name| !name.is_empty()) else {
                continue;
            };
            if !free.binding_counters.reserve(binding.counters_index(), 1) {
                continue;
            }
            if free.real_servers.reserve(index, 1) {
                self.real_servers.insert(real_server, index);
            }
            members.insert(
                name.to_owned(),
                MemberSlot {
                    offset,
                    counters: binding.counters_index(),
                    entry: Some((real_server, index)),
                    flags: binding.flags(),
                    is_given_up: false,
                },
            );
        }
        Slot {
            wanted: None,
            id,
            bindings,
            table: entry.table,
            order: entry.order,
            members,
            settles: None,
            is_marked: false,
        }
    }
}

impl Slot {
    /// Index in `bindings` of a member.
    fn binding(&self, member: &MemberSlot) -> u32 {
        self.bindings.first + u32::from(member.offset)
    }

    /// The members with a weight: the sorry server alone while it serves, and else the others. Where flows are recorded before
    /// their server changes, without those that drain: their slots need not be kept for them.
    fn servers<'a>(&self, wanted: &'a desired::VirtualServer) -> Vec<Server<'a>> {
        let serving: HashSet<&str> = wanted.serving().map(|(name, _)| name).collect();
        let sorry_serves = serving.iter().any(|name| wanted.is_sorry(name));
        let on_change = wanted.session.mode == SessionMode::OnChange;
        wanted
            .members
            .iter()
            .filter(|(name, member)| member.weight > 0 && wanted.is_sorry(name) == sorry_serves)
            .filter(|(_, member)| !(on_change && member.drain))
            .map(|(name, member)| Server {
                name,
                weight: member.weight,
                share: member.share,
                offset: self.members[name].offset,
                counters: self.members[name].counters,
                serves: serving.contains(name.as_str()),
            })
            .collect()
    }
}

impl MemberSlot {
    fn binding(&self) -> Binding {
        Binding {
            real_server: self.entry.map_or(0, |(_, index)| index),
            counters: self.counters | self.flags,
        }
    }
}

/// How many blocks a table takes.
const fn blocks(slots: u32) -> u32 {
    slots.div_ceil(TableBlock::SLOTS as u32)
}

fn identity(name: &str, wanted: &desired::VirtualServer) -> Identity {
    Identity {
        name: name.to_owned(),
        vip: wanted.vip.into(),
        protocol: wanted.protocol.number(),
    }
}

fn name(name: &str) -> Name {
    Name::new(name).expect("the configuration bounds the length of names")
}

/// The entry of the map `real_servers` for a real server that is reached so.
pub fn real_server(server: &str, address: IpAddr, link: &Link) -> RealServer {
    RealServer {
        destination_mac: link.destination_mac,
        source_mac: link.source_mac,
        ifindex: link.ifindex,
        address: address.into(),
        outer_source: link
            .outer_source
            .map_or(Address::zeroed(), |network| network.network().into()),
        outer_source_spread: link.outer_source.map_or(0, spread),
        mtu: link.mtu,
        outer_header: link.outer_header(),
        name: name(server),
        ..RealServer::zeroed()
    }
}

/// The reverse of [`real_server`].
fn link(entry: &RealServer) -> Link {
    let host_bits = entry.outer_source_spread.count_ones() as u8;
    let outer_source = (entry.outer_source != Address::zeroed()).then(|| {
        let address = IpAddr::from(entry.outer_source);
        let bits = if address.is_ipv4() { 32 } else { 128 };
        IpNet::new(address, bits - host_bits).expect("at most 32 bits are spread over")
    });
    Link {
        ifindex: entry.ifindex,
        source_mac: entry.source_mac,
        destination_mac: entry.destination_mac,
        mtu: entry.mtu,
        outer_source,
    }
}

/// The host bits of a network, as they lie in the last four bytes of an address.
fn spread(network: IpNet) -> u32 {
    let host_bits = u32::from(network.max_prefix_len() - network.prefix_len());
    1u32.checked_shl(host_bits)
        .map_or(u32::MAX, |end| end - 1)
        .to_be()
}

fn entry(server: &str, wanted: &desired::VirtualServer, slot: &Slot) -> VirtualServer {
    let session = &wanted.session;
    let sticky = wanted.sticky.as_ref();
    VirtualServer {
        table: slot.table,
        order: slot.order,
        first_binding: slot.bindings.first,
        idle_timeout: match session.mode {
            SessionMode::Stateful | SessionMode::OnChange => ticks(session.idle_timeout),
            SessionMode::Stateless => 0,
        },
        sticky_timeout: sticky.map_or(0, |sticky| ticks(sticky.timeout)),
        forward: lb_common::Forward::from(wanted.forward) as u8,
        predictor: lb_common::Predictor::from(wanted.predictor) as u8,
        protocol: wanted.protocol.number(),
        on_unknown: lb_common::OnUnknown::from(session.on_unknown) as u8,
        on_down: lb_common::OnDown::from(session.on_down) as u8,
        sticky_prefix: sticky.map_or(0, |sticky| match wanted.vip {
            IpAddr::V4(_) => sticky.prefix_v4,
            IpAddr::V6(_) => sticky.prefix_v6,
        }),
        on_change: u8::from(session.mode == SessionMode::OnChange),
        binding_capacity: slot.bindings.capacity,
        vip: Address::from(wanted.vip),
        id: slot.id,
        name: name(server),
        ..VirtualServer::zeroed()
    }
}

/// The place of the directory in use, and the other one. Before the first directory, the first place counts as
/// in use.
fn places(tables: &Tables) -> [Place; 2] {
    let buckets = tables.vip_buckets.len() / 2;
    let half = |half: u32| Place {
        directory: Directory {
            first_bucket: half * buckets,
            bucket_mask: buckets - 1,
        },
        // Index 0 means "no VIP".
        first_vip: half * (tables.vips.len() / 2) + 1,
        first_range: half * (tables.port_ranges.len() / 2),
    };
    let current = u32::from(tables.control.get(0).directory.first_bucket != 0);
    [half(current), half(1 - current)]
}

fn is_in_place(tables: &Tables, place: Place, image: &Image) -> bool {
    tables.control.get(0).directory == place.directory
        && (place.directory.first_bucket..)
            .zip(&image.buckets)
            .all(|(index, &bucket)| tables.vip_buckets.get(index) == bucket)
        && (place.first_vip..)
            .zip(&image.vips)
            .all(|(index, &vip)| tables.vips.get(index) == vip)
        && (place.first_range..)
            .zip(&image.port_ranges)
            .all(|(index, &range)| tables.port_ranges.get(index) == range)
}

#[cfg(test)]
mod tests;
