//! What is known of the network, and what to do next: fed with the kernel's messages and the time,
//! asked for the route lookups, the nudges and the [`View`] that are due. No I/O.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::net::IpAddr;
use std::time::{Duration, Instant};

use ipnet::IpNet;
use lb_common::real_server::{LEAST_MTU_V6, OUTER_V6};
use netlink_packet_route::RouteNetlinkMessage;
use netlink_packet_route::address::AddressMessage;
use netlink_packet_route::link::LinkMessage;
use netlink_packet_route::neighbour::NeighbourMessage;
use nix::errno::Errno;

use super::address::{self, InterfaceAddress};
use super::link;
use super::neighbour::{self, Answer, Entry, NeighbourKey, NextNudge, Nudge};
use super::path_mtu::TooBig;
use super::route::{self, Route};
use super::view::{Interface, NextHop, Unreachable, View, Way};
use super::watch::Targets;
use crate::schedule::Schedule;

/// Routes are looked up again this long after a change: changes come in bursts.
const LOOK_UP_AFTER: Duration = Duration::from_millis(50);
/// A view is due this long after a change. It also hides a neighbour that the kernel forgot and
/// found again at once.
const SHOW_AFTER: Duration = Duration::from_millis(20);
/// A neighbour that hasn't answered is asked for this often.
const ASK_EVERY: Duration = Duration::from_secs(1);
/// A known neighbour is verified this often: at most this long, and the three seconds that the
/// kernel takes to give up, a dead neighbour or an old MAC address goes unnoticed ...
const VERIFY_EVERY: Duration = Duration::from_secs(5);
/// ... unless so many are known that this is more often than one in such a time.
const VERIFY_SPACING: Duration = Duration::from_millis(4);
/// The path MTU to a target that a router told stands this long (RFC 1191 section 6.3).
const PATH_MTU_STANDS: Duration = Duration::from_secs(600);
/// Routers are not believed when they tell less: room for an IPv6 packet of the least size in an outer IPv6 header (RFC
/// 8200 section 5). Whoever forges errors must not be able to make real servers useless.
const LEAST_PATH_MTU: u32 = LEAST_MTU_V6 + OUTER_V6;
/// Nudges go out in batches with a pause in between, so that thousands make no burst.
const NUDGE_BATCH: usize = 20;
const NUDGE_PAUSE: Duration = Duration::from_millis(40);

#[derive(Debug, Default)]
pub(super) struct State {
    interfaces: BTreeMap<u32, (String, Interface)>,
    addresses: BTreeSet<InterfaceAddress>,
    /// The kernel's neighbour table, all of it: an entry that already is as it should be makes no
    /// event when a target comes to need it.
    table: HashMap<NeighbourKey, Entry>,
    /// The kernel's answer for each target; `None` until it was asked.
    targets: BTreeMap<IpAddr, Option<Result<Route, Unreachable>>>,
    /// The neighbours that targets need.
    neighbours: BTreeMap<NeighbourKey, Needed>,

    /// What routers told, and until when it stands.
    path_mtus: BTreeMap<IpAddr, (u32, Instant)>,

    to_look_up: BTreeSet<IpAddr>,
    look_up_at: Option<Instant>,
    show_at: Option<Instant>,
    nudges: Schedule<NeighbourKey>,
    no_nudge_before: Option<Instant>,
}

#[derive(Debug)]
struct Needed {
    answer: Answer,
    /// By how many targets.
    users: usize,
    /// The MAC address that was known before it failed, until a view shows that. The kernel lets an
    /// entry fail before it deletes it on request (neigh_delete, net/core/neighbour.c); only the
    /// deletion tells the two apart, and it comes at once.
    before_failure: Option<Answer>,
}

impl State {
    pub(super) fn set_targets(&mut self, targets: &Targets, now: Instant) {
        let gone: Vec<IpAddr> = self
            .targets
            .keys()
            .filter(|&it| !targets.contains(it))
            .copied()
            .collect();
        for target in gone {
            if let Some(Some(Ok(route))) = self.targets.remove(&target) {
                self.release(route.neighbour(target));
            }
            self.to_look_up.remove(&target);
            self.show(now);
        }
        for &target in targets {
            self.targets.entry(target).or_insert_with(|| {
                self.to_look_up.insert(target);
                self.look_up_at = Some(now);
                None
            });
        }
    }

    /// Takes in the kernel's links, addresses and neighbours as dumped, in place of all that was known
    /// of them, and puts all routes in doubt.
    pub(super) fn synchronise(
        &mut self,
        links: &[LinkMessage],
        addresses: &[AddressMessage],
        neighbours: &[NeighbourMessage],
        now: Instant,
    ) {
        let interfaces = links.iter().filter(|it| link::concerns_interface(it));
        let interfaces = interfaces
            .filter_map(link::interface)
            .map(|(name, interface)| (interface.ifindex, (name, interface)))
            .collect();
        if self.interfaces != interfaces {
            self.interfaces = interfaces;
            self.show(now);
        }

        let addresses = addresses.iter().filter_map(address::address).collect();
        if self.addresses != addresses {
            self.addresses = addresses;
            self.show(now);
        }

        let known = self.path_mtus.len();
        self.path_mtus.retain(|_, (_, until)| *until > now);
        if self.path_mtus.len() != known {
            self.show(now);
        }

        let table = neighbours.iter().filter_map(neighbour::entry).collect();
        let before = std::mem::replace(&mut self.table, table);
        let keys: Vec<NeighbourKey> = self.neighbours.keys().copied().collect();
        for key in keys {
            if self.table.get(&key) != before.get(&key) {
                self.observe(key, now);
            }
        }

        self.doubt_all_routes(now);
        self.look_up_at = Some(now);
    }

    /// Takes in one event.
    pub(super) fn apply(&mut self, message: RouteNetlinkMessage, now: Instant) {
        use RouteNetlinkMessage as M;
        match message {
            M::NewLink(link) if link::concerns_interface(&link) => {
                let Some((name, interface)) = link::interface(&link) else {
                    return;
                };
                let new = (name, interface);
                if self.interfaces.get(&link.header.index) != Some(&new) {
                    self.interfaces.insert(link.header.index, new);
                    self.show(now);
                    self.doubt_all_routes(now);
                }
            }
            M::DelLink(link) if link::concerns_interface(&link) => {
                self.remove_interface(link.header.index, now);
            }
            M::NewNeighbour(message) => {
                if let Some((key, entry)) = neighbour::entry(&message) {
                    self.table.insert(key, entry);
                    self.observe(key, now);
                }
            }
            M::DelNeighbour(message) => {
                if let Some((key, _)) = neighbour::entry(&message) {
                    self.forget(key, now);
                }
            }
            M::NewRoute(route) | M::DelRoute(route) => {
                if let Some(destinations) = route::destinations(&route) {
                    self.doubt_routes(destinations, now);
                }
            }
            M::NewAddress(message) => {
                self.addresses.extend(address::address(&message));
                self.show(now);
                self.doubt_all_routes(now);
            }
            M::DelAddress(message) => {
                if let Some(address) = address::address(&message) {
                    self.addresses.remove(&address);
                }
                self.show(now);
                self.doubt_all_routes(now);
            }
            M::NewRule(_) | M::DelRule(_) => self.doubt_all_routes(now),
            _ => {}
        }
    }

    /// Takes in a router's word that a packet from this host to a target was too big.
    pub(super) fn too_big(&mut self, error: TooBig, now: Instant) {
        let ours = self
            .addresses
            .iter()
            .any(|it| it.address.addr() == error.source);
        if ours && self.targets.contains_key(&error.target) {
            let mtu = error.mtu.max(LEAST_PATH_MTU);
            self.path_mtus
                .insert(error.target, (mtu, now + PATH_MTU_STANDS));
            self.show(now);
        }
    }

    /// Takes the targets whose route must be looked up now.
    pub(super) fn lookups_due(&mut self, now: Instant) -> BTreeSet<IpAddr> {
        if self.look_up_at.take_if(|at| *at <= now).is_none() {
            return BTreeSet::new();
        }
        std::mem::take(&mut self.to_look_up)
    }

    /// Takes in the result of a lookup.
    pub(super) fn looked_up(
        &mut self,
        target: IpAddr,
        result: Result<Route, Unreachable>,
        now: Instant,
    ) {
        let Some(known) = self.targets.get_mut(&target) else {
            return;
        };
        if known.as_ref() == Some(&result) {
            return;
        }
        let needs = result.as_ref().ok().map(|route| route.neighbour(target));
        let needed = known
            .replace(result)
            .and_then(Result::ok)
            .map(|it| it.neighbour(target));
        if let Some(key) = needs {
            self.need(key, now);
        }
        if let Some(key) = needed {
            self.release(key);
        }
        self.show(now);
    }

    /// Takes the nudges that should be sent now: a limited number, more may be due after a pause.
    pub(super) fn nudges_due(&mut self, now: Instant) -> Vec<(NeighbourKey, Nudge)> {
        let mut due = Vec::new();
        if self.no_nudge_before.is_some_and(|at| now < at) {
            return due;
        }
        while due.len() < NUDGE_BATCH
            && let Some(key) = self.nudges.pop_due(now)
        {
            let entry = self.table.get(&key).copied();
            let nudge = Nudge::suited_to(self.neighbours[&key].answer, entry);
            let again = if nudge == Some(Nudge::Ask) {
                ASK_EVERY
            } else {
                self.verify_every()
            };
            self.nudges.set(key, now + again);
            let is_up = self
                .interfaces
                .get(&key.ifindex)
                .is_some_and(|(_, it)| it.up);
            due.extend(nudge.filter(|_| is_up).map(|nudge| (key, nudge)));
        }
        if !due.is_empty() {
            self.no_nudge_before = Some(now + NUDGE_PAUSE);
        }
        due
    }

    /// Takes in what the kernel said to a nudge.
    pub(super) fn nudged(&mut self, key: NeighbourKey, result: Result<(), Errno>, now: Instant) {
        match result {
            Err(Errno::ENOENT) => self.forget(key, now),
            Err(Errno::ENOBUFS) => {
                self.correct(
                    key,
                    &[Answer::Resolving, Answer::Silent],
                    Answer::TableFull,
                    now,
                );
            }
            Ok(()) => self.correct(key, &[Answer::TableFull], Answer::Resolving, now),
            Err(error) => {
                tracing::debug!(
                    "cannot make the kernel resolve {} on interface {}: {error}",
                    key.address,
                    key.ifindex
                );
            }
        }
    }

    /// Takes the view, if there is something to show and the time for it has come.
    pub(super) fn view_due(&mut self, now: Instant) -> Option<View> {
        self.show_at.take_if(|at| *at <= now)?;
        for needed in self.neighbours.values_mut() {
            needed.before_failure = None;
        }
        Some(self.view())
    }

    /// The network as it is known now. A target whose route hasn't been looked up yet is not in it.
    pub(super) fn view(&self) -> View {
        let next_hops = self.targets.iter().filter_map(|(&to, route)| {
            let route = route.as_ref()?.as_ref();
            Some((
                to,
                route
                    .map_err(Clone::clone)
                    .and_then(|route| self.next_hop(to, route)),
            ))
        });
        let mut addresses = BTreeMap::<_, BTreeSet<_>>::new();
        for it in &self.addresses {
            let interfaces = addresses.entry(it.address.addr()).or_default();
            interfaces.insert(it.ifindex);
        }
        View {
            next_hops: next_hops.collect(),
            interfaces: self.interfaces.values().cloned().collect(),
            addresses,
        }
    }

    /// When something is due next.
    pub(super) fn deadline(&self) -> Option<Instant> {
        let nudge = self
            .nudges
            .earliest()
            .max(self.nudges.earliest().and(self.no_nudge_before));
        [self.look_up_at, self.show_at, nudge]
            .into_iter()
            .flatten()
            .min()
    }

    fn next_hop(&self, to: IpAddr, route: &Route) -> Result<NextHop, Unreachable> {
        // A route by an unknown interface: its link message is still on the way, and with it
        // another lookup.
        let (name, interface) = self
            .interfaces
            .get(&route.ifindex)
            .ok_or(Unreachable::NoRoute { to })?;
        if !interface.up {
            return Err(Unreachable::InterfaceDown {
                interface: name.clone(),
            });
        }
        let source_mac = interface.mac.ok_or_else(|| Unreachable::NotEthernet {
            interface: name.clone(),
        })?;
        let key = route.neighbour(to);
        let neighbour = key.address;
        let mtus = [
            Some(interface.mtu),
            route.mtu,
            self.path_mtus.get(&to).map(|(mtu, _)| *mtu),
        ];
        let way = Way {
            interface: name.clone(),
            ifindex: route.ifindex,
            source_mac,
            source_address: route.source,
            gateway: route.gateway,
            mtu: mtus.into_iter().flatten().min().unwrap_or(interface.mtu),
        };
        match self.neighbours[&key].answer {
            Answer::Known(mac) => Ok(NextHop { way, mac }),
            Answer::Resolving => Err(Unreachable::Resolving { neighbour, way }),
            Answer::Silent => Err(Unreachable::NoAnswer { neighbour, way }),
            Answer::TableFull => Err(Unreachable::NeighbourTableFull { neighbour, way }),
        }
    }

    fn remove_interface(&mut self, ifindex: u32, now: Instant) {
        if self.interfaces.remove(&ifindex).is_none() {
            return;
        }
        // Should the index be used again, what was known there is void.
        self.addresses.retain(|it| it.ifindex != ifindex);
        self.table.retain(|key, _| key.ifindex != ifindex);
        for (key, needed) in &mut self.neighbours {
            if key.ifindex == ifindex {
                needed.answer = Answer::Resolving;
                needed.before_failure = None;
            }
        }
        self.show(now);
        self.doubt_all_routes(now);
    }

    fn doubt_all_routes(&mut self, now: Instant) {
        self.to_look_up.extend(self.targets.keys());
        self.look_up_at.get_or_insert(now + LOOK_UP_AFTER);
    }

    fn doubt_routes(&mut self, destinations: IpNet, now: Instant) {
        let covered = destinations.network()..=destinations.broadcast();
        self.to_look_up
            .extend(self.targets.range(covered).map(|(target, _)| target));
        if !self.to_look_up.is_empty() {
            self.look_up_at.get_or_insert(now + LOOK_UP_AFTER);
        }
    }

    fn need(&mut self, key: NeighbourKey, now: Instant) {
        if let Some(needed) = self.neighbours.get_mut(&key) {
            needed.users += 1;
            return;
        }
        self.neighbours.insert(
            key,
            Needed {
                answer: Answer::Resolving,
                users: 1,
                before_failure: None,
            },
        );
        self.nudges.set(key, now);
        self.observe(key, now);
    }

    fn release(&mut self, key: NeighbourKey) {
        if let Some(needed) = self.neighbours.get_mut(&key) {
            needed.users -= 1;
            if needed.users == 0 {
                self.neighbours.remove(&key);
                self.nudges.cancel(&key);
            }
        }
    }

    fn forget(&mut self, key: NeighbourKey, now: Instant) {
        self.table.remove(&key);
        if let Some(needed) = self.neighbours.get_mut(&key)
            && let Some(answer) = needed.before_failure.take()
        {
            needed.answer = answer;
        }
        self.observe(key, now);
    }

    /// Draws the conclusions from the entry in the table, or its absence.
    fn observe(&mut self, key: NeighbourKey, now: Instant) {
        let verify_every = self.verify_every();
        let Some(needed) = self.neighbours.get_mut(&key) else {
            return;
        };
        let entry = self.table.get(&key).copied();
        let before = needed.answer;
        let answer = before.after(entry);
        needed.answer = answer;
        if answer != before {
            let failed = answer == Answer::Silent && matches!(before, Answer::Known(_));
            needed.before_failure = failed.then_some(before);
        }
        match NextNudge::after(before, answer, entry) {
            NextNudge::Now => self.nudges.set(key, now),
            NextNudge::WhenVerificationIsDue => self.nudges.set(key, now + verify_every),
            NextNudge::AsScheduled => {}
        }
        if answer != before {
            self.show(now);
        }
    }

    /// Replaces the answer for a neighbour if it is one of `from`.
    fn correct(&mut self, key: NeighbourKey, from: &[Answer], to: Answer, now: Instant) {
        if let Some(needed) = self.neighbours.get_mut(&key)
            && from.contains(&needed.answer)
        {
            needed.answer = to;
            self.show(now);
        }
    }

    fn verify_every(&self) -> Duration {
        let known = u32::try_from(self.neighbours.len()).unwrap_or(u32::MAX);
        VERIFY_EVERY.max(VERIFY_SPACING.saturating_mul(known))
    }

    fn show(&mut self, now: Instant) {
        self.show_at.get_or_insert(now + SHOW_AFTER);
    }
}

#[cfg(test)]
mod tests;
