//! Which real server a packet's session stays on.
//!
//! Of a virtual server that tracks changes alone (`on_change`), flows in slots without a mark have no session, and need
//! none: the table decides. Those in marked slots have one if they were seen while it settled.
//!
//! A session begins with a TCP SYN or a first UDP packet. It ends with a TCP RST, when it has been idle for too long,
//! or, after the client's FIN, soon. An idle session counts as gone from the moment on that it is too old, whether
//! or not the daemon has swept it away.

use lb_common::{
    Binding, Control, DropReason, OnDown, OnUnknown, SessionEvent, SessionKey, TableSlot,
    TraceSession, VirtualServer, protocol,
    session::{self, Phase, State as Session},
};

use crate::{
    Choice, Refusal, atomic,
    parse::{
        Flow, IpPacket,
        tcp_flag::{ACK, FIN, RST, SYN},
    },
    predict,
    session_table::{self, Bucket, Found, Recorded},
    tables::{self, BucketV4, BucketV6, State, Tables},
    trace,
};

const NONE_IS_UP: Refusal = Refusal::Drop(DropReason::NoRealServer);

/// The binding that a packet goes to, as an offset.
#[inline(always)]
pub fn binding(
    tables: &impl State,
    ip: &IpPacket,
    hash: u64,
    virtual_server: &VirtualServer,
) -> Result<u32, Refusal> {
    let id = virtual_server.id;
    let by_hash = || predict::by_hash(tables, &ip.flow, hash, virtual_server).ok_or(NONE_IS_UP);
    if let Some(binding) = by_table_alone(tables, &ip.flow, hash, virtual_server) {
        return binding.ok_or(NONE_IS_UP);
    }
    let (phase, are_full) = match tables.session_step(ip, id) {
        Step::Follow(binding) => {
            trace::session(tables, TraceSession::Existing);
            return Ok(binding);
        }
        Step::Used(binding) => {
            trace::session(tables, TraceSession::Existing);
            if virtual_server.sticky_timeout != 0 {
                tables.sticky_binding(&ip.flow, id);
            }
            return Ok(binding);
        }
        Step::ByHash => return by_hash(),
        Step::Refuse(refusal) => return Err(refusal),
        Step::Keep { phase, are_full } => (phase, are_full),
    };
    let binding = match phase {
        Phase::Opening => predict::binding(tables, &ip.flow, hash, virtual_server),
        _ => predict::by_hash(tables, &ip.flow, hash, virtual_server),
    };
    let binding = binding.ok_or(NONE_IS_UP)?;
    trace::new_session(tables, phase);
    if are_full {
        tables.session_make_room(ip);
    }
    match tables.session_keep(ip, id, binding, phase) {
        Some(binding) => Ok(binding),
        None => {
            tables.count_session_event(SessionEvent::Unrecorded);
            trace::session(tables, TraceSession::TableOnly);
            by_hash()
        }
    }
}

/// The binding of a flow that has no session, as an offset, or none if none is up: its virtual server is stateless, or tracks
/// changes alone and the flow's slot has no mark. `None` if the flow may have a session.
#[inline(always)]
pub fn by_table_alone(
    tables: &impl Tables,
    flow: &Flow,
    hash: u64,
    virtual_server: &VirtualServer,
) -> Option<Option<u32>> {
    if virtual_server.idle_timeout == 0 {
        return Some(predict::by_hash(tables, flow, hash, virtual_server));
    }
    if virtual_server.on_change == 0 {
        return None;
    }
    match predict::slot(tables, flow, hash, virtual_server) {
        Some(slot) if slot.is_marked() => None,
        slot => Some(slot.and_then(TableSlot::binding)),
    }
}

/// What a packet's session asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// It is on this binding.
    Follow(u32),
    /// It is on this binding, and this is its first packet in a while.
    Used(u32),
    /// There is none, nor should there be: the hash decides.
    ByHash,
    /// A new one begins, or one leaves a real server that is down. Who is [`Phase::Opening`] goes where the predictor
    /// decides, who comes in mid-stream where the hash decides.
    Keep {
        /// How far it is.
        phase: Phase,
        /// Both of its buckets in the table are full.
        are_full: bool,
    },
    /// The packet isn't forwarded.
    Refuse(Refusal),
}

impl Step {
    /// The step as a number.
    #[inline(always)]
    pub const fn encode(self) -> u64 {
        match self {
            Self::Follow(binding) => binding as u64,
            Self::Used(binding) => 1 << 32 | binding as u64,
            Self::ByHash => 2 << 32,
            Self::Keep { phase, are_full } => 3 << 32 | (phase as u64) << 1 | are_full as u64,
            Self::Refuse(Refusal::Drop(reason)) => 4 << 32 | reason as u64,
            Self::Refuse(Refusal::Reset(reason)) => 5 << 32 | reason as u64,
            Self::Refuse(Refusal::Pass) => 6 << 32,
        }
    }

    /// The reverse of [`Self::encode`].
    #[inline(always)]
    pub const fn decode(number: u64) -> Self {
        match (number >> 32, DropReason::at(number as u32)) {
            (0, _) => Self::Follow(number as u32),
            (1, _) => Self::Used(number as u32),
            (2, _) => Self::ByHash,
            (3, _) => Self::Keep {
                phase: Phase::at(number as u32 as u64 >> 1),
                are_full: number & 1 != 0,
            },
            (4, Some(reason)) => Self::Refuse(Refusal::Drop(reason)),
            (5, Some(reason)) => Self::Refuse(Refusal::Reset(reason)),
            _ => Self::Refuse(Refusal::Pass),
        }
    }
}

/// The session of a packet in mid-stream.
#[inline(always)]
pub fn peek<'t>(
    tables: &'t impl State,
    control: &Control,
    ip: &IpPacket,
    id: u32,
) -> Option<Found<'t>> {
    if ip.flow.is_ipv4() {
        let key = key_v4(ip);
        let [first, second] =
            tables::bucket_indexes(control, &key, salt(ip), |them| them.sessions_v4);
        match session_table::peek(tables.sessions_v4(first)?, &key, id) {
            None => session_table::peek(tables.sessions_v4(second)?, &key, id),
            found => found,
        }
    } else {
        let key = key_v6(ip);
        let [first, second] =
            tables::bucket_indexes(control, &key, salt(ip), |them| them.sessions_v6);
        match session_table::peek(tables.sessions_v6(first)?, &key, id) {
            None => session_table::peek(tables.sessions_v6(second)?, &key, id),
            found => found,
        }
    }
}

/// Lets the session of a packet in mid-stream have been used now, if all that is to do is to follow it.
#[inline(always)]
pub fn follow(
    tables: &impl State,
    control: &Control,
    found: &Found<'_>,
    virtual_server: &VirtualServer,
) -> Option<()> {
    // First: what is loaded before this call has to be put aside for it.
    let now = session::tick(tables.now_by(&control.clock));
    let VirtualServer {
        protocol,
        idle_timeout,
        sticky_timeout,
        ..
    } = *virtual_server;
    let session = found.state;
    let renewed = session.used(Phase::Established, now);
    if session != renewed {
        let is_simple = session.phase() != Phase::Closing
            && !session.is_expired(protocol, idle_timeout, now)
            && sticky_timeout == 0;
        if !is_simple || !found.becomes(renewed) {
            return None;
        }
    }
    Some(())
}

/// Where a new session begins.
pub struct Beginning<'tables> {
    buckets: Buckets<'tables>,
    place: Found<'tables>,
    /// On which binding, as an offset.
    pub binding: u32,
}

/// Both buckets of a session, of either family.
enum Buckets<'tables> {
    V4([&'tables BucketV4; 2]),
    V6([&'tables BucketV6; 2]),
}

/// Where a packet's session begins, if the packet begins one and the hash alone says on which binding, and if there is a free
/// place. Nothing is written yet.
#[inline(always)]
pub fn beginning<'t>(
    tables: &'t impl State,
    control: &Control,
    ip: &IpPacket,
    hash: u64,
    virtual_server: &VirtualServer,
) -> Option<Beginning<'t>> {
    let begins = match Signal::of(ip) {
        Signal::Begin => true,
        Signal::Continue => virtual_server.protocol == protocol::UDP,
        Signal::Close | Signal::End | Signal::Nothing => false,
    };
    if !begins || !virtual_server.begins_sessions() || !predict::goes_by_hash(virtual_server) {
        return None;
    }
    let (buckets, place) = if ip.flow.is_ipv4() {
        let key = key_v4(ip);
        let buckets = buckets_v4(tables, control, &key, salt(ip))?;
        (Buckets::V4(buckets), session_table::vacancy(buckets, &key)?)
    } else {
        let key = key_v6(ip);
        let buckets = buckets_v6(tables, control, &key, salt(ip))?;
        (Buckets::V6(buckets), session_table::vacancy(buckets, &key)?)
    };
    Some(Beginning {
        buckets,
        place,
        binding: predict::by_hash(tables, &ip.flow, hash, virtual_server)?,
    })
}

/// Records a session that begins. `None` if that can't be done so simply, or its flow is on another binding meanwhile.
#[inline(always)]
pub fn begin(
    tables: &impl State,
    control: &Control,
    ip: &IpPacket,
    choice: &Choice<'_>,
    beginning: &Beginning<'_>,
) -> Option<()> {
    let now = tables.now_by(&control.clock);
    if !tables.may_record_session(control, now) {
        return None;
    }
    let virtual_server = choice.virtual_server;
    let packet = Packet {
        signal: Signal::Begin,
        virtual_server,
        now: session::tick(now),
    };
    let session = Session::new(
        virtual_server.id,
        beginning.binding,
        Phase::Opening,
        packet.now,
    );
    let Beginning { buckets, place, .. } = beginning;
    let recorded = match *buckets {
        Buckets::V4(buckets) => {
            session_table::fill(buckets, place, &key_v4(ip), session, packet.now)?
        }
        Buckets::V6(buckets) => {
            session_table::fill(buckets, place, &key_v6(ip), session, packet.now)?
        }
    };
    let binding = packet.recorded(tables, recorded, session, Some(choice.binding));
    (binding == beginning.binding).then_some(())
}

/// Looks for a packet's session, and lets it have its effect on that.
#[inline(always)]
pub fn step(tables: &impl State, ip: &IpPacket, id: u32) -> Step {
    let Some(packet) = Packet::new(tables, ip, id) else {
        return Step::Refuse(NONE_IS_UP);
    };
    let Some(control) = tables.control() else {
        return Step::Refuse(NONE_IS_UP);
    };
    let (found, are_full) = if ip.flow.is_ipv4() {
        let key = key_v4(ip);
        look(buckets_v4(tables, control, &key, salt(ip)), &key, id)
    } else {
        let key = key_v6(ip);
        look(buckets_v6(tables, control, &key, salt(ip)), &key, id)
    };
    if let Some(found) = found.filter(|found| packet.belongs_to(found.state)) {
        return packet.follow(tables, &found);
    }
    packet.begin(tables, found.is_some(), are_full)
}

/// A session, or else whether its buckets are full.
#[inline(always)]
fn look<'t, const N: usize, const W: usize>(
    buckets: Option<[&'t Bucket<W>; 2]>,
    key: &SessionKey<N>,
    id: u32,
) -> (Option<Found<'t>>, bool) {
    let Some(buckets) = buckets else {
        return (None, false);
    };
    match session_table::find(buckets, key, id) {
        None => (None, session_table::are_full(buckets)),
        found => (found, false),
    }
}

/// Puts a packet's new session into the table, or moves it there to another binding: the binding to follow. `None` if
/// other CPUs were faster.
#[inline(always)]
pub fn keep(
    tables: &impl State,
    ip: &IpPacket,
    id: u32,
    binding: u32,
    phase: Phase,
) -> Option<u32> {
    let packet = Packet::new(tables, ip, id)?;
    let control = tables.control()?;
    let session = Session::new(id, binding, phase, packet.now);
    if ip.flow.is_ipv4() {
        let key = key_v4(ip);
        let buckets = buckets_v4(tables, control, &key, salt(ip))?;
        packet.keep(tables, buckets, &key, session)
    } else {
        let key = key_v6(ip);
        let buckets = buckets_v6(tables, control, &key, salt(ip))?;
        packet.keep(tables, buckets, &key, session)
    }
}

/// Makes room in the table for a packet's new session, if its buckets are full and another can move.
#[inline(always)]
pub fn make_room(tables: &impl State, ip: &IpPacket) {
    let Some(control) = tables.control() else {
        return;
    };
    let now = session::tick(tables.now_by(&control.clock));
    let miscounted = if ip.flow.is_ipv4() {
        let buckets_of = |key: &_, id| buckets_v4(tables, control, key, salt_of(tables, id)?);
        buckets_v4(tables, control, &key_v4(ip), salt(ip))
            .map(|buckets| session_table::make_room(buckets, now, buckets_of))
    } else {
        let buckets_of = |key: &_, id| buckets_v6(tables, control, key, salt_of(tables, id)?);
        buckets_v6(tables, control, &key_v6(ip), salt(ip))
            .map(|buckets| session_table::make_room(buckets, now, buckets_of))
    };
    add_active_of(tables, miscounted.unwrap_or_default(), 1);
}

#[inline(always)]
fn salt(ip: &IpPacket) -> u64 {
    session::salt(ip.flow.destination, ip.flow.protocol)
}

/// As [`salt`], of a packet for this virtual server.
#[inline(always)]
fn salt_of(tables: &impl State, id: u32) -> Option<u64> {
    Some(tables.virtual_server(&id)?.session_salt())
}

#[inline(always)]
fn key_v4(ip: &IpPacket) -> SessionKey<{ session::V4 }> {
    SessionKey::v4(
        ip.flow.source,
        ip.flow.source_port,
        ip.flow.destination_port,
    )
}

#[inline(always)]
fn key_v6(ip: &IpPacket) -> SessionKey<{ session::V6 }> {
    SessionKey::v6(
        ip.flow.source,
        ip.flow.source_port,
        ip.flow.destination_port,
    )
}

#[inline(always)]
fn buckets_v4<'t>(
    tables: &'t impl State,
    control: &Control,
    key: &SessionKey<{ session::V4 }>,
    salt: u64,
) -> Option<[&'t BucketV4; 2]> {
    let [first, second] = tables::bucket_indexes(control, key, salt, |them| them.sessions_v4);
    Some([tables.sessions_v4(first)?, tables.sessions_v4(second)?])
}

#[inline(always)]
fn buckets_v6<'t>(
    tables: &'t impl State,
    control: &Control,
    key: &SessionKey<{ session::V6 }>,
    salt: u64,
) -> Option<[&'t BucketV6; 2]> {
    let [first, second] = tables::bucket_indexes(control, key, salt, |them| them.sessions_v6);
    Some([tables.sessions_v6(first)?, tables.sessions_v6(second)?])
}

/// What a packet means to its session.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Signal {
    /// A TCP SYN.
    Begin,
    /// A UDP packet, or a TCP packet that is none of the others.
    Continue,
    /// A TCP FIN.
    Close,
    /// A TCP RST.
    End,
    /// Nothing: it is an ICMP error, which anybody may have sent.
    Nothing,
}

impl Signal {
    #[inline(always)]
    fn of(ip: &IpPacket) -> Self {
        if ip.icmp_error {
            Self::Nothing
        } else if ip.tcp_flags & RST != 0 {
            Self::End
        } else if ip.tcp_flags & (SYN | ACK) == SYN {
            Self::Begin
        } else if ip.tcp_flags & FIN != 0 {
            Self::Close
        } else {
            Self::Continue
        }
    }

    /// How far a session is after this.
    #[inline(always)]
    const fn after(self, phase: Phase) -> Phase {
        match self {
            Self::Close => Phase::Closing,
            Self::Continue if phase as u8 == Phase::Opening as u8 => Phase::Established,
            _ => phase,
        }
    }
}

/// A packet that is for a virtual server.
struct Packet<'tables> {
    signal: Signal,
    virtual_server: &'tables VirtualServer,
    /// In ticks.
    now: u32,
}

impl<'tables> Packet<'tables> {
    #[inline(always)]
    fn new(tables: &'tables impl State, ip: &IpPacket, id: u32) -> Option<Self> {
        Some(Self {
            signal: Signal::of(ip),
            virtual_server: tables.virtual_server(&id)?,
            now: session::tick(tables.now()),
        })
    }

    /// Whether it belongs to a session of its flow: not if that has been idle for too long, nor if the client begins
    /// anew at the port of a session that it has closed (RFC 9293 section 3.6.1).
    #[inline(always)]
    fn belongs_to(&self, session: Session) -> bool {
        let VirtualServer {
            protocol,
            idle_timeout,
            ..
        } = *self.virtual_server;
        let reused = self.signal == Signal::Begin && session.phase() == Phase::Closing;
        !reused && !session.is_expired(protocol, idle_timeout, self.now)
    }

    /// It belongs to this session.
    #[inline(always)]
    fn follow(&self, tables: &impl State, found: &Found<'_>) -> Step {
        let session = found.state;
        let Some(binding) = self.binding(tables, session) else {
            return Step::Refuse(NONE_IS_UP);
        };
        if !binding.keeps_sessions() {
            return self.leave(tables, found);
        }
        match self.signal {
            Signal::Nothing => {}
            Signal::End => end(tables, found),
            Signal::Begin | Signal::Continue | Signal::Close => {
                let phase = self.signal.after(session.phase());
                if phase != session.phase() || session.idle(self.now) != 0 {
                    self.renew(tables, found);
                    return Step::Used(session.binding());
                }
            }
        }
        Step::Follow(session.binding())
    }

    #[inline(always)]
    fn renew(&self, tables: &impl State, found: &Found<'_>) {
        let next = |session: Session| session.used(self.signal.after(session.phase()), self.now);
        if let Some(before) = found.change(next)
            && self.signal == Signal::Close
        {
            ended(tables, before);
        }
    }

    /// Its session's real server is down.
    #[inline(always)]
    fn leave(&self, tables: &impl State, found: &Found<'_>) -> Step {
        let is_reset = self.virtual_server.on_down == OnDown::Reset as u8
            && self.virtual_server.protocol == protocol::TCP;
        let refusal = match self.signal {
            Signal::Nothing => return Step::Refuse(NONE_IS_UP),
            Signal::End => NONE_IS_UP,
            Signal::Continue | Signal::Close if is_reset => {
                Refusal::Reset(DropReason::ServerDownReset)
            }
            // Who sends a SYN has no connection that could end, and may have a new one elsewhere.
            Signal::Begin | Signal::Continue | Signal::Close => {
                trace::session(tables, TraceSession::Moved);
                return Step::Keep {
                    phase: Phase::Opening,
                    are_full: false,
                };
            }
        };
        end(tables, found);
        Step::Refuse(refusal)
    }

    /// It belongs to no session. Another of its flow may be in the table.
    #[inline(always)]
    fn begin(&self, tables: &impl State, has_former: bool, are_full: bool) -> Step {
        let is_udp = self.virtual_server.protocol == protocol::UDP;
        let phase = match self.signal {
            Signal::Nothing => return Step::ByHash,
            Signal::Begin => Phase::Opening,
            Signal::Continue if is_udp => Phase::Opening,
            Signal::Continue | Signal::Close | Signal::End => {
                let on_unknown = self.virtual_server.on_unknown;
                if on_unknown == OnUnknown::Reset as u8 && self.signal != Signal::End {
                    return Step::Refuse(Refusal::Reset(DropReason::UnknownSessionReset));
                }
                if on_unknown != OnUnknown::Forward as u8 {
                    return Step::Refuse(Refusal::Drop(DropReason::UnknownSession));
                }
                match self.signal {
                    Signal::End => return Step::ByHash,
                    Signal::Close => Phase::Closing,
                    _ => Phase::Established,
                }
            }
        };
        // A place that the flow has already takes nobody else's.
        if !has_former {
            if !self.virtual_server.begins_sessions() {
                return Step::ByHash;
            }
            let may_record = |control: &Control| {
                tables.may_record_session(control, tables.now_by(&control.clock))
            };
            if !tables.control().is_some_and(may_record) {
                tables.count_session_event(SessionEvent::Unrecorded);
                return Step::ByHash;
            }
        }
        Step::Keep { phase, are_full }
    }

    /// See [`keep`].
    #[inline(always)]
    fn keep<const N: usize, const W: usize>(
        &self,
        tables: &impl State,
        buckets: [&Bucket<W>; 2],
        key: &SessionKey<N>,
        session: Session,
    ) -> Option<u32> {
        let Some(found) = session_table::find(buckets, key, self.virtual_server.id) else {
            let recorded = session_table::record(buckets, key, session, self.now)?;
            let binding = self.binding(tables, session);
            return Some(self.recorded(tables, recorded, session, binding));
        };
        let before = if !self.belongs_to(found.state) {
            let before = found.change(|before| session.with_version_after(before))?;
            if let Some(binding) = self.binding(tables, session) {
                began(tables, session, binding);
            }
            before
        } else if self.binding(tables, found.state)?.keeps_sessions() {
            // Another CPU has recorded it meanwhile.
            return Some(found.state.binding());
        } else {
            let moved = |before: Session| {
                let phase = self.signal.after(before.phase());
                before.moved(session.binding()).used(phase, self.now)
            };
            let before = found.change(moved)?;
            if let Some(binding) = self.binding(tables, session) {
                tables.count_moved_session(binding.counters_index());
                came(tables, moved(before), binding);
            }
            before
        };
        ended(tables, before);
        Some(session.binding())
    }

    /// Counts what became of a new session of a binding: the binding to follow, as an offset.
    #[inline(always)]
    fn recorded(
        &self,
        tables: &impl State,
        recorded: Recorded,
        session: Session,
        binding: Option<&Binding>,
    ) -> u32 {
        if recorded.created
            && let Some(binding) = binding
        {
            began(tables, session, binding);
        }
        if recorded.replaced.is_session() {
            evicted(tables, recorded.replaced, self.now);
        }
        if recorded.duplicate.is_session()
            && let Some(binding) = self.binding(tables, recorded.duplicate)
        {
            tables.count_sessions(binding.counters_index(), -1);
            ended(tables, recorded.duplicate);
        }
        recorded.session.binding()
    }

    #[inline(always)]
    fn binding<'t>(&self, tables: &'t impl Tables, session: Session) -> Option<&'t Binding> {
        tables.binding(self.virtual_server.first_binding + session.binding())
    }
}

/// Counts a session that has begun.
#[inline(always)]
fn began(tables: &impl State, session: Session, binding: &Binding) {
    tables.count_sessions(binding.counters_index(), 1);
    came(tables, session, binding);
}

/// Counts a session that has come to a binding, if it is active.
#[inline(always)]
fn came(tables: &impl State, session: Session, binding: &Binding) {
    if session.is_active() {
        add_active(tables, binding, 1);
    }
}

/// Counts a session that made room for another one, of any virtual server.
#[inline(always)]
fn evicted(tables: &impl State, session: Session, now: u32) {
    if let Some(virtual_server) = tables.virtual_server(&session.virtual_server())
        && !session.is_expired(virtual_server.protocol, virtual_server.idle_timeout, now)
    {
        tables.count_session_event(SessionEvent::Evicted);
    }
    ended(tables, session);
}

/// Takes a session out of the table.
#[inline(always)]
fn end(tables: &impl State, found: &Found<'_>) {
    if let Some(before) = found.end() {
        ended(tables, before);
    }
}

/// Counts a session that is not active any more, of any virtual server.
#[inline(always)]
fn ended(tables: &impl State, session: Session) {
    add_active_of(tables, session, -1);
}

/// Adds to the active sessions of a session's binding, if it is active itself.
#[inline(always)]
fn add_active_of(tables: &impl State, session: Session, sessions: i64) {
    if session.is_active()
        && let Some(virtual_server) = tables.virtual_server(&session.virtual_server())
        && let Some(binding) = tables.binding(virtual_server.first_binding + session.binding())
    {
        add_active(tables, binding, sessions);
    }
}

#[inline(always)]
fn add_active(tables: &impl State, binding: &Binding, sessions: i64) {
    if let Some(active) = tables.active_sessions(binding.counters_index()) {
        atomic::fetch_add(active, sessions as u64);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn steps_survive_as_numbers() {
        let refusals = DropReason::ALL
            .into_iter()
            .flat_map(|reason| [Refusal::Drop(reason), Refusal::Reset(reason)])
            .chain([Refusal::Pass])
            .map(Step::Refuse);
        let steps = [
            Step::Follow(0),
            Step::Follow(4095),
            Step::Used(7),
            Step::ByHash,
        ];
        let phases = [Phase::Opening, Phase::Closing, Phase::Established];
        let keep = phases
            .into_iter()
            .flat_map(|phase| [false, true].map(|are_full| Step::Keep { phase, are_full }));
        for step in refusals.chain(steps).chain(keep) {
            assert_eq!(Step::decode(step.encode()), step);
        }
    }
}
