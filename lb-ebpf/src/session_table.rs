//! The session table's protocol: how sessions are found, made and ended, on many CPUs at once and without a
//! lock. [`lb_common::session`] describes what lies in memory.
//!
//! A place in a bucket changes hands by its [`State`] word alone. Who takes a place replaces the word that it saw
//! by a claim, writes the key, and replaces the claim by the new session's state; each step fails if another CPU was
//! faster. Readers pass over claims, and read the word again after the key: a version in it tells whether the
//! place changed hands meanwhile.
//!
//! The version comes round after 16 claims, records and ends of a place. A reader is misled if all of them happen between
//! its two loads of the word, the session in place last has the virtual server, the binding and the time of creation
//! (half a minute) of that in place first, and one in between had the reader's key. It then follows, once, the session of
//! another flow. Even where a table of a million sessions takes a million new ones a second, a place
//! gets a new one every two seconds, and a reader is done within a microsecond unless a hypervisor stops its CPU.
//!
//! Two CPUs that record one flow at the same time both find out, because each looks for the other after it has
//! written: the session that comes first in the order of places stays.

use core::sync::atomic::AtomicU64;

use lb_common::session::{Phase, SLOTS, SessionKey, State};

use crate::{
    atomic::{load, replace, store},
    frame::{opaque, opaque_difference},
};

/// A bucket in memory that other CPUs change, too: [`SLOTS`] sessions, each the words of its key and a [`State`].
pub type Bucket<const W: usize> = [AtomicU64; W];

/// A session, and where it is.
#[derive(Clone, Copy)]
pub struct Found<'table> {
    word: &'table AtomicU64,
    /// Its state when it was found.
    pub state: State,
    /// Its slot, counted through both buckets.
    place: usize,
}

/// What became of a flow that was recorded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Recorded {
    /// The state of the session to follow: the new one, or that of another CPU that recorded the flow at the same
    /// time.
    pub session: State,
    /// Whether the new session is to be counted as one that was created.
    pub created: bool,
    /// What was in its place: a session that is to be counted as one that ended, or none.
    pub replaced: State,
    /// Another CPU's record of the flow, which is to be counted as one that ended, or none.
    pub duplicate: State,
}

/// The session with this key of a virtual server.
#[inline(always)]
pub fn find<'t, const N: usize, const W: usize>(
    buckets: [&'t Bucket<W>; 2],
    key: &SessionKey<N>,
    virtual_server: u32,
) -> Option<Found<'t>> {
    let [first, second] = buckets;
    match find_in(first, key, virtual_server, 0, 0) {
        Some(found) if found.is_there() => Some(found),
        _ => find_in(second, key, virtual_server, SLOTS, 0).filter(Found::is_there),
    }
}

/// The session with this key of a virtual server, if it is in this bucket, and no other place there has its key.
#[inline(always)]
pub fn peek<'t, const N: usize, const W: usize>(
    bucket: &'t Bucket<W>,
    key: &SessionKey<N>,
    virtual_server: u32,
) -> Option<Found<'t>> {
    // Without a branch for each place, as in `find_in`: the keys alone tell which it is, and only there all is read.
    const ALL: u64 = (SLOTS * (SLOTS - 1) / 2) as u64;
    let (mut others, mut sum_of_others) = (0, 0);
    for index in 0..SLOTS {
        let differs = is_nonzero(difference(bucket, index, key));
        others += differs;
        sum_of_others += index as u64 * differs;
    }
    if others != SLOTS as u64 - 1 {
        return None;
    }
    // The compiler knows a bound, and would leave out the remainder that the verifier asks for.
    let place = opaque(ALL - sum_of_others) as usize % SLOTS;
    let word = state_word(bucket, place);
    let state = State(load(word));
    let is_it = difference(bucket, place, key) == 0
        && state.virtual_server() == virtual_server
        && State(load(word)) == state;
    is_it.then_some(Found { word, state, place })
}

/// Looks in one bucket, whose slots are places from `first_place` on, but not in the places of the bits in `except`. The key
/// is that of what is found if [`Found::is_there`] says so afterwards.
#[inline(always)]
fn find_in<'t, const N: usize, const W: usize>(
    bucket: &'t Bucket<W>,
    key: &SessionKey<N>,
    virtual_server: u32,
    first_place: usize,
    except: u64,
) -> Option<Found<'t>> {
    // Without branches: the verifier would follow each way to the end of the program, once for each slot, and
    // the processor would guess wrong.
    let (mut state, mut slot, mut found) = (0, 0, 0);
    for index in 0..SLOTS {
        let word = load(state_word(bucket, index));
        let other = State(word).virtual_server() ^ virtual_server;
        let equal = is_nonzero(u64::from(other) | difference(bucket, index, key)) ^ 1;
        let equal = equal & (!except >> (first_place + index));
        let first = equal & (found ^ 1);
        state |= word & first.wrapping_neg();
        slot += index as u64 * opaque(first);
        found |= equal;
    }
    let slot = slot as usize % SLOTS;
    // Neither what is free nor a claim has a virtual server.
    (found != 0).then(|| Found {
        word: state_word(bucket, slot),
        state: State(state),
        place: first_place + slot,
    })
}

/// 0 for 0, and 1 for anything else; without a branch, which the compiler would make of a comparison.
#[inline(always)]
fn is_nonzero(number: u64) -> u64 {
    // The sign of one of them is set, unless the number is 0.
    (number | opaque_difference(0, number)) >> 63
}

/// The lesser of two numbers of less than 64 bits; without a branch.
#[inline(always)]
fn lesser(a: u64, b: u64) -> u64 {
    let difference = a.wrapping_sub(b);
    let is_negative = opaque(difference >> 63);
    b.wrapping_add(difference & is_negative.wrapping_neg())
}

#[inline(always)]
fn state_word<const W: usize>(bucket: &Bucket<W>, slot: usize) -> &AtomicU64 {
    &bucket[(slot + 1) * (W / SLOTS) - 1]
}

impl Found<'_> {
    /// Whether the session is still there.
    #[inline(always)]
    fn is_there(&self) -> bool {
        State(load(self.word)).is_same_session(self.state)
    }

    /// Replaces the session's state by another; `false` if it has changed.
    #[inline(always)]
    pub fn becomes(&self, next: State) -> bool {
        replace(self.word, self.state.0, next.0)
    }

    /// Replaces the session's state by what `next` makes of it: the state that it replaced. `None` if the session
    /// is gone, or others change it all the time.
    #[inline(always)]
    pub fn change(&self, next: impl Fn(State) -> State) -> Option<State> {
        const ATTEMPTS: usize = 4;
        let mut state = self.state;
        for _ in 0..ATTEMPTS {
            if replace(self.word, state.0, next(state).0) {
                return Some(state);
            }
            state = State(load(self.word));
            if !state.is_same_session(self.state) {
                break;
            }
        }
        None
    }

    /// Ends the session: the state that it had. As [`Self::change`].
    #[inline(always)]
    pub fn end(&self) -> Option<State> {
        self.change(State::freed)
    }
}

/// Whether no place is free.
#[inline(always)]
pub fn are_full<const W: usize>(buckets: [&Bucket<W>; 2]) -> bool {
    let mut taken = 1;
    for bucket in buckets {
        for slot in 0..SLOTS {
            taken &= is_nonzero(State(load(state_word(bucket, slot))).phase_bits());
        }
    }
    taken != 0
}

/// Lets a session of two full buckets move to its second one, if that has room. It is the one that is worth least
/// ([`State::worth`]) in a bucket; none if that sent a single packet, so a flood moves nothing. `buckets_of` gives the
/// buckets of a session with this key and virtual server. `now` is in ticks.
///
/// Gives back a session that others have counted as ended once too often, or none.
#[inline(always)]
pub fn make_room<'t, const N: usize, const W: usize>(
    buckets: [&'t Bucket<W>; 2],
    now: u32,
    buckets_of: impl Fn(&SessionKey<N>, u32) -> Option<[&'t Bucket<W>; 2]>,
) -> State {
    for bucket in buckets {
        let Some(session) = Room::of(bucket, now).least(bucket, now) else {
            break;
        };
        if session.state.phase_bits() <= Phase::Opening as u64 {
            break;
        }
        if let Some(miscounted) = move_to_second(bucket, &session, now, &buckets_of) {
            return miscounted;
        }
    }
    State::default()
}

/// Moves a session to its second bucket, if it lies in its first and there is room. Nobody misses it meanwhile, because
/// all look into the second bucket last; so none ever moves from there. See [`make_room`].
#[inline(always)]
fn move_to_second<'t, const N: usize, const W: usize>(
    bucket: &Bucket<W>,
    session: &Found<'_>,
    now: u32,
    buckets_of: &impl Fn(&SessionKey<N>, u32) -> Option<[&'t Bucket<W>; 2]>,
) -> Option<State> {
    let mut key = SessionKey([0; N]);
    for part in 0..N {
        key.0[part] = load(&bucket[session.place * (N + 1) + part]);
    }
    if !session.is_there() {
        return None;
    }
    let [first, second] = buckets_of(&key, session.state.virtual_server())?;
    let room = Room::of(second, now);
    if !core::ptr::eq(first, bucket) || room.free == 0 {
        return None;
    }
    let free = room.least(second, now)?;
    let copy = put(second, &free, &key, session.state, now)?;
    let has_moved = replace(session.word, session.state.0, session.state.freed().0);
    // Else it has changed or ended, and the copy goes. Who was faster to end that has counted it.
    let is_miscounted = !has_moved && copy.end().is_none();
    Some(if is_miscounted {
        copy.state
    } else {
        State::default()
    })
}

/// Where a new session with this key goes, if there is a free place, and certainly none with this key.
#[inline(always)]
pub fn vacancy<'t, const N: usize, const W: usize>(
    buckets: [&'t Bucket<W>; 2],
    key: &SessionKey<N>,
) -> Option<Found<'t>> {
    let [first, second] = [Free::of(buckets[0], key)?, Free::of(buckets[1], key)?];
    let (bucket, free, first_place) = if first.has_room_beside(second) {
        (buckets[0], first, 0)
    } else {
        (buckets[1], second, SLOTS)
    };
    let slot = free.lowest()?;
    let word = state_word(bucket, slot);
    let state = State(load(word));
    (state.phase_bits() == Phase::Free as u64).then_some(Found {
        word,
        state,
        place: first_place + slot,
    })
}

/// Records a new session in a place that was found for it, as [`record`] does.
#[inline(always)]
pub fn fill<const N: usize, const W: usize>(
    buckets: [&Bucket<W>; 2],
    vacancy: &Found<'_>,
    key: &SessionKey<N>,
    state: State,
    now: u32,
) -> Option<Recorded> {
    let bucket = buckets[(vacancy.place / SLOTS) % 2];
    let mine = put(bucket, vacancy, key, state, now)?;
    let place = vacancy.place;
    Some(settle(buckets, key, Found { place, ..mine }, vacancy.state))
}

/// The free slots of a bucket, a bit each.
#[derive(Clone, Copy)]
struct Free(u64);

impl Free {
    /// `None` if a session with this key is there.
    #[inline(always)]
    fn of<const N: usize, const W: usize>(bucket: &Bucket<W>, key: &SessionKey<N>) -> Option<Self> {
        // The phases, a byte each: what is not 0 carries into the uppermost bit of its byte.
        let mut phases = 0;
        for slot in 0..SLOTS {
            phases |= State(load(state_word(bucket, slot))).phase_bits() << (8 * slot);
        }
        let free = !(phases + 0x7f7f_7f7f) >> 7 & 0x0101_0101;
        for slot in 0..SLOTS {
            if difference(bucket, slot, key) == 0 && free >> (8 * slot) & 1 == 0 {
                return None;
            }
        }
        // Each product moves the bit of another byte next to the others.
        Some(Self((free * 0x0102_0408) >> 24 & 0b1111))
    }

    /// Whether a new session belongs here, in its first bucket, and not in its second one: see [`choose`].
    #[inline(always)]
    const fn has_room_beside(self, second: Self) -> bool {
        self.count() > SLOTS as u64 / 4 || self.count() >= second.count()
    }

    #[inline(always)]
    const fn count(self) -> u64 {
        let pairs = (self.0 & 0b0101) + (self.0 >> 1 & 0b0101);
        (pairs & 0b0011) + (pairs >> 2)
    }

    /// The lowest of them.
    #[inline(always)]
    fn lowest(self) -> Option<usize> {
        // The instruction set counts no zeros.
        const LOWEST: u64 = {
            let (mut all, mut bits) = (0, 1_u32);
            while bits < 1 << SLOTS {
                all |= (bits.trailing_zeros() as u64) << (2 * bits);
                bits += 1;
            }
            all
        };
        (self.0 != 0).then_some((LOWEST >> (2 * self.0)) as usize % SLOTS)
    }
}

/// Records a new session, in the first bucket while that has room to spare, else in the emptier one, else in the
/// place of the session that is worth least ([`State::worth`]). `now` is in ticks.
///
/// `None` if other CPUs were faster: the flow has no session then.
#[inline(always)]
pub fn record<const N: usize, const W: usize>(
    buckets: [&Bucket<W>; 2],
    key: &SessionKey<N>,
    state: State,
    now: u32,
) -> Option<Recorded> {
    const { assert!(W == SLOTS * (N + 1)) };
    let (in_second, room) = choose(buckets, now);
    let bucket = if in_second { buckets[1] } else { buckets[0] };
    let former = room.least(bucket, now)?;
    let mine = put(bucket, &former, key, state, now)?;
    let place = mine.place + if in_second { SLOTS } else { 0 };
    Some(settle(buckets, key, Found { place, ..mine }, former.state))
}

/// As [`record`], for a session that comes from another table. `None`, too, if all that it could take the place of is worth
/// more.
pub fn adopt<const N: usize, const W: usize>(
    buckets: [&Bucket<W>; 2],
    key: &SessionKey<N>,
    state: State,
    now: u32,
) -> Option<Recorded> {
    let (_, room) = choose(buckets, now);
    (room.least / SLOTS as u64 <= u64::from(state.worth(now)))
        .then(|| record(buckets, key, state, now))?
}

/// Whether a new session belongs into the second bucket, and the room that is there.
#[inline(always)]
fn choose<const W: usize>(buckets: [&Bucket<W>; 2], now: u32) -> (bool, Room) {
    let (first, second) = (Room::of(buckets[0], now), Room::of(buckets[1], now));
    let in_second = if first.free > SLOTS as u64 / 4 {
        false
    } else if first.free + second.free == 0 {
        second.least < first.least
    } else {
        second.free > first.free
    };
    (in_second, if in_second { second } else { first })
}

/// Puts a session into the place of what is there. `None` if that has changed.
#[inline(always)]
fn put<'t, const N: usize, const W: usize>(
    bucket: &'t Bucket<W>,
    former: &Found<'_>,
    key: &SessionKey<N>,
    state: State,
    now: u32,
) -> Option<Found<'t>> {
    let slot = former.place % SLOTS;
    let word = state_word(bucket, slot);
    let claim = former.state.claimed(now);
    if !replace(word, former.state.0, claim.0) {
        return None;
    }
    for part in 0..N {
        store(&bucket[slot * (N + 1) + part], key.0[part]);
    }
    let state = state.with_version_after(claim);
    // Nobody touches a claim of another. A full barrier: of two who record one flow, one sees the other.
    replace(word, claim.0, state.0);
    Some(Found {
        word,
        state,
        place: slot,
    })
}

/// What room there is in a bucket.
#[derive(Clone, Copy)]
struct Room {
    /// Free slots.
    free: u64,
    /// The [`rank`] of the slot that is worth least.
    least: u64,
}

impl Room {
    #[inline(always)]
    fn of<const W: usize>(bucket: &Bucket<W>, now: u32) -> Self {
        let (mut free, mut least) = (0, i64::MAX as u64);
        for slot in 0..SLOTS {
            let state = State(load(state_word(bucket, slot)));
            free += is_nonzero(state.phase_bits()) ^ 1;
            least = lesser(least, rank(state, now, slot as u64));
        }
        Self { free, least }
    }

    /// What is in the slot that is worth least. `None` if that has changed, or is claimed.
    #[inline(always)]
    fn least<'t, const W: usize>(&self, bucket: &'t Bucket<W>, now: u32) -> Option<Found<'t>> {
        let slot = self.least as usize % SLOTS;
        let word = state_word(bucket, slot);
        let state = State(load(word));
        let is_same = rank(state, now, slot as u64) == self.least;
        (is_same && state.phase() != Phase::Claimed).then_some(Found {
            word,
            state,
            place: slot,
        })
    }
}

/// Less, the less what is in a slot is worth. The slot is the remainder by [`SLOTS`].
#[inline(always)]
fn rank(state: State, now: u32, slot: u64) -> u64 {
    u64::from(state.worth(now)) * SLOTS as u64 + slot
}

/// Of several records of a flow, made at the same time, only that in the first place stays. Of three or more, another
/// or none may stay: who has ended one already gives up its own rather than end two, of which it could report one.
#[inline(always)]
fn settle<const N: usize, const W: usize>(
    [first, second]: [&Bucket<W>; 2],
    key: &SessionKey<N>,
    mine: Found<'_>,
    replaced: State,
) -> Recorded {
    let mut recorded = Recorded {
        session: mine.state,
        created: true,
        replaced,
        duplicate: State::default(),
    };
    if places_with([first, second], key) == 1 {
        return recorded;
    }
    let id = mine.state.virtual_server();
    let mut seen = 1 << mine.place;
    for _ in 0..2 {
        let other = match find_in(first, key, id, 0, seen) {
            None => find_in(second, key, id, SLOTS, seen),
            found => found,
        };
        let Some(other) = other else {
            return recorded;
        };
        seen |= 1 << other.place;
        // Behind one that is just gone another may be.
        if other.is_there() {
            recorded.session = other.state;
            if other.place < mine.place || recorded.duplicate.is_session() {
                break;
            }
            recorded.duplicate = other.end().unwrap_or_default();
            recorded.session = mine.state;
        }
    }
    // If another one was faster, it has counted this session as ended.
    recorded.created = mine.end().is_none();
    recorded
}

/// How many places hold this key, free ones that held it before included.
#[inline(always)]
fn places_with<const N: usize, const W: usize>(
    buckets: [&Bucket<W>; 2],
    key: &SessionKey<N>,
) -> u64 {
    let mut others = 0;
    for bucket in buckets {
        for slot in 0..SLOTS {
            others += is_nonzero(difference(bucket, slot, key));
        }
    }
    2 * SLOTS as u64 - others
}

/// 0 if a slot holds this key.
#[inline(always)]
fn difference<const N: usize, const W: usize>(
    bucket: &Bucket<W>,
    slot: usize,
    key: &SessionKey<N>,
) -> u64 {
    let mut difference = 0;
    for part in 0..N {
        difference |= load(&bucket[slot * (N + 1) + part]) ^ key.0[part];
    }
    difference
}

// Miri would take days for every order of accesses.
#[cfg(all(test, not(miri)))]
mod tests;
