//! The session table: which flow stays on which real server.
//!
//! An array of buckets of four sessions. The hash of a flow picks two buckets, in which alone its session may lie. A
//! session is its key, that is the rest of what tells flows apart, and one word that says all else
//! ([`State`]); so a change of a session is one atomic store, and who reads the word before and after the
//! key knows that both belong together.
//!
//! The maps `sticky_v4` and `sticky_v6` are tables of the same kind: their entries are sessions without ports, of
//! a prefix of clients.

use core::time::Duration;

use bytemuck::{Pod, Zeroable};

use crate::{
    Address,
    address::AddressWords,
    hash::{MULTIPLIER, mix, reduce},
    protocol::TCP,
};

/// Sessions in a bucket.
pub const SLOTS: usize = 4;

/// Value of the map `sessions_v4` and `sticky_v4`: a cache line of sessions, each a key word and a [`State`].
#[repr(C, align(64))]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Pod, Zeroable)]
pub struct BucketV4 {
    /// The words of its sessions.
    pub words: [u64; SLOTS * (V4 + 1)],
}

/// Value of the maps `sessions_v6` and `sticky_v6`: two cache lines of sessions, each three key words and a [`State`].
#[repr(C, align(64))]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Pod, Zeroable)]
pub struct BucketV6 {
    /// The words of its sessions.
    pub words: [u64; SLOTS * (V6 + 1)],
}

/// What tells a session from the others of its virtual server: client address and port, and the VIP's port.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SessionKey<const N: usize>(pub [u64; N]);

/// Key words of a session of IPv4.
pub const V4: usize = 1;
/// Key words of a session of IPv6.
pub const V6: usize = 3;

/// What the sessions at a VIP have in common beside their keys, for [`buckets`]. Not the virtual server's id: a packet would
/// have to find that first.
#[inline(always)]
pub const fn salt(vip: AddressWords, protocol: u8) -> u64 {
    vip[0] ^ vip[1] ^ protocol as u64
}

/// What keeps clients from finding flows that all lie in the same buckets: numbers chosen at random, and odd, so that no bit
/// of what they multiply is lost.
pub type Secrets = [u64; 2];

/// The two buckets that a session may lie in, of so many, an even number. They are never the same: whoever records a session
/// would take it for a second one of its flow. The salt parts what has the same key: [`salt`] for sessions, the virtual
/// server's id for sticky clients.
///
/// A sum of products with secret factors, as [`crate::hash::multilinear`], none of which waits for another one; and one round of
/// mixing, without which some secrets spread keys in a row unevenly.
#[inline(always)]
pub const fn buckets<const N: usize>(
    key: &SessionKey<N>,
    salt: u64,
    secrets: &Secrets,
    count: u32,
) -> [u32; 2] {
    debug_assert!(secrets[0] & secrets[1] & 1 == 1);
    // The last factor is no secret: it multiplies ports alone, and nobody knows what that product is added to. A third secret would
    // not fit in the cache line of [`crate::Control`].
    let factors: [u64; V6] = [secrets[0], secrets[1], MULTIPLIER];
    let mut sum = salt;
    let mut part = 0;
    while part < N {
        let word = key.0[part];
        // The upper half of a word would have an effect on the upper half of the product alone: it is folded down.
        sum = sum.wrapping_add((word ^ word >> 32).wrapping_mul(factors[part]));
        part += 1;
    }
    let hash = mix(sum, sum >> 32);
    // One has an even number and the other an odd one.
    let odd = hash as u32 & 1;
    let half = count / 2;
    [
        2 * reduce(hash, half) + odd,
        2 * reduce(hash << 32, half) + (odd ^ 1),
    ]
}

/// Buckets that hold so many sessions: two and a quarter times as many places, for then almost none is evicted; an even
/// number.
pub const fn buckets_for(sessions: u32) -> u32 {
    let places = (sessions as u64 * 9).div_ceil(4);
    let pairs = places.div_ceil(2 * SLOTS as u64) as u32;
    2 * if pairs == 0 { 1 } else { pairs }
}

/// Unit of the times in a [`State`], in nanoseconds: about a second, and a shift where a division would be dear.
pub const TICK: u64 = 1 << 30;

/// The tick at a time of the monotonic clock, which is in nanoseconds.
#[inline(always)]
pub const fn tick(now: u64) -> u32 {
    (now / TICK) as u32
}

/// The least number of ticks that last as long.
pub const fn ticks(time: Duration) -> u32 {
    time.as_nanos().div_ceil(TICK as u128) as u32
}

/// Ticks that a TCP session lives without traffic after its first SYN, and after the client's FIN: a minute.
const HALF_OPEN: u32 = ticks(Duration::from_secs(60));

/// Ticks that a session lives without traffic. `idle_timeout` is that of an established one.
#[inline(always)]
pub const fn lifetime(phase: Phase, protocol: u8, idle_timeout: u32) -> u32 {
    let half_open = matches!(phase, Phase::Opening | Phase::Closing) && protocol == TCP;
    if half_open && HALF_OPEN < idle_timeout {
        HALF_OPEN
    } else {
        idle_timeout
    }
}

impl SessionKey<V4> {
    /// The key of an IPv4 flow. Ports are in host byte order.
    #[inline(always)]
    pub const fn v4(source: AddressWords, source_port: u16, destination_port: u16) -> Self {
        Self([(source[1] >> 32) << 32 | ports(source_port, destination_port)])
    }

    /// Client address and port, and the VIP's port.
    pub fn parts(self) -> (Address, u16, u16) {
        let [word] = self.0;
        let source = Address::ipv4_words((word >> 32) as u32);
        (
            Address::from_words(source),
            (word >> 16) as u16,
            word as u16,
        )
    }
}

impl SessionKey<V6> {
    /// The key of an IPv6 flow. Ports are in host byte order.
    #[inline(always)]
    pub const fn v6(source: AddressWords, source_port: u16, destination_port: u16) -> Self {
        Self([source[0], source[1], ports(source_port, destination_port)])
    }

    /// Client address and port, and the VIP's port.
    pub fn parts(self) -> (Address, u16, u16) {
        let [high, low, ports] = self.0;
        (
            Address::from_words([high, low]),
            (ports >> 16) as u16,
            ports as u16,
        )
    }
}

#[inline(always)]
const fn ports(source: u16, destination: u16) -> u64 {
    (source as u64) << 16 | destination as u64
}

/// How far a session is, as the client's half of its packets tells. The later, the more it is worth.
#[repr(u8)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// Nothing is here.
    Free = 0,
    /// The client has sent its first packet alone: in TCP its SYN.
    Opening = 1,
    /// TCP: the client has sent FIN.
    Closing = 2,
    /// The client has sent more.
    Established = 3,
    /// A new session is being written.
    Claimed = 7,
}

impl Phase {
    /// The phase with this number.
    #[inline(always)]
    pub const fn at(number: u64) -> Self {
        match number {
            0 => Self::Free,
            1 => Self::Opening,
            2 => Self::Closing,
            3 => Self::Established,
            _ => Self::Claimed,
        }
    }
}

/// All of a session but its key, in one word:
///
/// ```text
///  63        48 47     36 35   32 31  29 28            11 10          0
/// +------------+---------+-------+------+----------------+-------------+
/// | virtual    | binding | ver-  | phase| last used      | created     |
/// | server: 16 | 12      | sion 4| 3    | ticks: 18      | 32 ticks: 11|
/// +------------+---------+-------+------+----------------+-------------+
/// ```
///
/// Times are those of the monotonic clock in [`TICK`]s, without their upper bits: a session that is idle for three days
/// looks fresh again, if nobody swept it; ages are right up to 19 hours.
#[repr(transparent)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Pod, Zeroable)]
pub struct State(pub u64);

/// How many ticks a session may have been used after the time that it is compared with: that of another CPU, or of a
/// daemon that was stopped for hours since it looked at the clock.
const AHEAD: u32 = 1 << 14;

const CREATED_BITS: u32 = 11;
const USED_SHIFT: u32 = CREATED_BITS;
const USED_BITS: u32 = 18;
const PHASE_SHIFT: u32 = USED_SHIFT + USED_BITS;
const PHASE_BITS: u32 = 3;
const VERSION_SHIFT: u32 = PHASE_SHIFT + PHASE_BITS;
const VERSION_BITS: u32 = 4;
const BINDING_BITS: u32 = 12;
const VIRTUAL_SERVER_BITS: u32 = 16;
#[cfg(not(feature = "layout-variant"))]
const BINDING_SHIFT: u32 = VERSION_SHIFT + VERSION_BITS;
#[cfg(not(feature = "layout-variant"))]
const VIRTUAL_SERVER_SHIFT: u32 = BINDING_SHIFT + BINDING_BITS;
#[cfg(feature = "layout-variant")]
const VIRTUAL_SERVER_SHIFT: u32 = VERSION_SHIFT + VERSION_BITS;
#[cfg(feature = "layout-variant")]
const BINDING_SHIFT: u32 = VIRTUAL_SERVER_SHIFT + VIRTUAL_SERVER_BITS;

const fn mask(bits: u32) -> u64 {
    (1 << bits) - 1
}

impl State {
    /// Bindings of a virtual server that sessions can name.
    pub const BINDINGS: u32 = 1 << BINDING_BITS;
    /// Ticks in a unit of the time of creation.
    pub const AGE_UNIT: u32 = 32;

    /// The state of a new session. `now` is in ticks.
    #[inline(always)]
    pub const fn new(virtual_server: u32, binding: u32, phase: Phase, now: u32) -> Self {
        Self(
            (virtual_server as u64) << VIRTUAL_SERVER_SHIFT
                | (binding as u64 & mask(BINDING_BITS)) << BINDING_SHIFT
                | (phase as u64) << PHASE_SHIFT
                | (now as u64 & mask(USED_BITS)) << USED_SHIFT
                | (now / Self::AGE_UNIT) as u64 & mask(CREATED_BITS),
        )
    }

    /// A claim on the place of this state, by one who will write another there.
    #[inline(always)]
    pub const fn claimed(self, now: u32) -> Self {
        Self::new(0, 0, Phase::Claimed, now).with_version_after(self)
    }

    /// This state as the successor of another in the same place.
    #[inline(always)]
    pub const fn with_version_after(self, other: Self) -> Self {
        let version = (other.0 >> VERSION_SHIFT).wrapping_add(1) & mask(VERSION_BITS);
        Self(self.0 & !(mask(VERSION_BITS) << VERSION_SHIFT) | version << VERSION_SHIFT)
    }

    /// An empty place, as the successor of this state.
    #[inline(always)]
    pub const fn freed(self) -> Self {
        Self(0).with_version_after(self)
    }

    /// Whether two states of one place are those of one session: all but phase and last use are equal.
    #[inline(always)]
    pub const fn is_same_session(self, other: Self) -> bool {
        (self.0 ^ other.0) & !(mask(PHASE_BITS + USED_BITS) << USED_SHIFT) == 0
            && self.is_session()
            && other.is_session()
    }

    /// Id of the virtual server.
    #[inline(always)]
    pub const fn virtual_server(self) -> u32 {
        (self.0 >> VIRTUAL_SERVER_SHIFT & mask(VIRTUAL_SERVER_BITS)) as u32
    }

    /// The binding, as an offset from the virtual server's first one.
    #[inline(always)]
    pub const fn binding(self) -> u32 {
        (self.0 >> BINDING_SHIFT & mask(BINDING_BITS)) as u32
    }

    /// The number of its [`Phase`].
    #[inline(always)]
    pub const fn phase_bits(self) -> u64 {
        self.0 >> PHASE_SHIFT & mask(PHASE_BITS)
    }

    /// How far the session is.
    #[inline(always)]
    pub const fn phase(self) -> Phase {
        Phase::at(self.phase_bits())
    }

    /// Whether there is a session.
    #[inline(always)]
    pub const fn is_session(self) -> bool {
        let phase = self.phase_bits();
        phase != Phase::Free as u64 && phase <= Phase::Established as u64
    }

    /// Whether it counts as active: the client has not closed it.
    #[inline(always)]
    pub const fn is_active(self) -> bool {
        matches!(self.phase(), Phase::Opening | Phase::Established)
    }

    /// Ticks since it was used last. `now` is in ticks.
    #[inline(always)]
    pub const fn idle(self, now: u32) -> u32 {
        self.since(now).saturating_sub(AHEAD)
    }

    /// Ticks since it was used last, and [`AHEAD`].
    #[inline(always)]
    const fn since(self, now: u32) -> u32 {
        (now + AHEAD).wrapping_sub((self.0 >> USED_SHIFT) as u32) & mask(USED_BITS) as u32
    }

    /// Ticks since it was created, to the nearest [`Self::AGE_UNIT`]. `now` is in ticks.
    pub const fn age(self, now: u32) -> u32 {
        let units = ((now / Self::AGE_UNIT) as u64).wrapping_sub(self.0) & mask(CREATED_BITS);
        // A clock that is a little behind.
        if units == mask(CREATED_BITS) {
            return 0;
        }
        units as u32 * Self::AGE_UNIT
    }

    /// What there is is worth when something must go to make room: nothing is worth least, then sessions by their phase,
    /// so that a flood of clients that send a single packet can't push out others, and of one phase the longer
    /// idle are worth less. A claim is worth most. `now` is in ticks.
    #[inline(always)]
    pub const fn worth(self, now: u32) -> u32 {
        (self.phase_bits() << USED_BITS | (mask(USED_BITS) - self.since(now) as u64)) as u32
    }

    /// Whether the session has been idle for too long, in a virtual server with this protocol and this idle timeout (in
    /// ticks). `now` is in ticks.
    #[inline(always)]
    pub const fn is_expired(self, protocol: u8, idle_timeout: u32, now: u32) -> bool {
        self.idle(now) > lifetime(self.phase(), protocol, idle_timeout)
    }

    /// The session on another binding, as the successor of this state.
    #[inline(always)]
    pub const fn moved(self, binding: u32) -> Self {
        let kept = !(mask(BINDING_BITS) << BINDING_SHIFT);
        Self(self.0 & kept | (binding as u64 & mask(BINDING_BITS)) << BINDING_SHIFT)
            .with_version_after(self)
    }

    /// The session of a virtual server and a binding that are numbered otherwise elsewhere.
    pub const fn renumbered(self, virtual_server: u32, binding: u32) -> Self {
        let kept = mask(VERSION_SHIFT + VERSION_BITS);
        let numbers = Self::new(virtual_server, binding, Phase::Free, 0).0 & !kept;
        Self(self.0 & kept | numbers)
    }

    /// The state after a packet.
    #[inline(always)]
    pub const fn used(self, phase: Phase, now: u32) -> Self {
        let kept = !(mask(PHASE_BITS + USED_BITS) << USED_SHIFT);
        Self(
            self.0 & kept
                | (phase as u64) << PHASE_SHIFT
                | (now as u64 & mask(USED_BITS)) << USED_SHIFT,
        )
    }
}

#[cfg(test)]
mod tests {
    extern crate std;
    use core::net::{IpAddr, Ipv4Addr, Ipv6Addr};
    use std::{vec, vec::Vec};

    use super::*;
    use crate::{
        hash::{finish, tests::deviation},
        protocol::UDP,
    };

    /// Some secrets.
    fn secrets(seed: u64) -> Secrets {
        [1, 2].map(|number| finish(2 * seed + number) | 1)
    }

    #[test]
    fn buckets_are_whole_cache_lines() {
        assert_eq!((size_of::<BucketV4>(), align_of::<BucketV4>()), (64, 64));
        assert_eq!((size_of::<BucketV6>(), align_of::<BucketV6>()), (128, 64));
    }

    #[test]
    #[cfg_attr(miri, ignore = "tens of thousands of hashes")]
    fn a_session_has_two_buckets_and_each_is_as_likely() {
        const HASHES: u64 = 10_000;
        for sessions in [0, 1, 2, 10, 100] {
            let count = buckets_for(sessions);
            let mut chosen = vec![0; count as usize];
            for client in 0..HASHES {
                let [first, second] = buckets(&SessionKey([client]), 1, &secrets(7), count);
                assert_ne!(first, second, "{count} buckets");
                chosen[first as usize] += 1;
                chosen[second as usize] += 1;
            }
            let expected = 2 * HASHES / u64::from(count);
            let even = expected * 3 / 4..expected * 5 / 4;
            assert!(
                chosen.iter().all(|times| even.contains(times)),
                "{chosen:?}"
            );
        }
    }

    /// First ones, second ones and both together are no more uneven than random numbers would be.
    #[test]
    #[cfg_attr(miri, ignore = "millions of hashes")]
    fn keys_in_a_row_are_spread_evenly_by_any_secrets() {
        const SIDE: u32 = 22;
        const PAIRS: u32 = SIDE * SIDE;

        fn chosen<const N: usize>(
            secrets: &Secrets,
            key: impl Fn(u32) -> SessionKey<N>,
        ) -> Vec<[u32; 2]> {
            let pairs = |i| buckets(&key(i), 1, secrets, 2 * PAIRS).map(|bucket| bucket / 2);
            (0..20_000).map(pairs).collect()
        }
        let v4 = |host: u32, port| {
            let address = Address::from(Ipv4Addr::from(0x0a09_0000 + host));
            SessionKey::v4(address.words(), port, 80)
        };
        let v6 = |network: u32, host: u32, port| {
            let network = 0x2001_0db8_u128 << 96 | u128::from(network) << 64;
            let address = Address::from(Ipv6Addr::from(network | u128::from(host)));
            SessionKey::v6(address.words(), port, 80)
        };
        for secrets in (0..64).map(secrets) {
            for (what, chosen) in [
                ("v4 ports", chosen(&secrets, |i| v4(1, i as u16))),
                ("v4 addresses", chosen(&secrets, |i| v4(i, 40_000))),
                ("v4 networks", chosen(&secrets, |i| v4(i << 8, 40_000))),
                ("v6 ports", chosen(&secrets, |i| v6(1, 1, i as u16))),
                ("v6 hosts", chosen(&secrets, |i| v6(1, i, 40_000))),
                ("v6 networks", chosen(&secrets, |i| v6(i, 1, 40_000))),
                (
                    "v6 networks of 256 hosts",
                    chosen(&secrets, |i| v6(i >> 8, i & 255, 40_000)),
                ),
            ] {
                let views: [fn(&[u32; 2]) -> u32; 3] = [
                    |&[first, _]| first,
                    |&[_, second]| second,
                    |&[first, second]| first / SIDE * SIDE + second / SIDE,
                ];
                let deviations = views.map(|view| deviation(chosen.iter().map(view), PAIRS));
                assert!(
                    deviations.iter().all(|&deviation| deviation < 6.0),
                    "{what} by {secrets:x?}: {deviations:.1?} sigma"
                );
            }
        }
    }

    #[test]
    fn a_table_takes_so_many_bytes_a_session() {
        for sessions in [1, 1000, 1_000_000, 16_777_216] {
            let buckets = buckets_for(sessions) as usize;
            assert!(4 * buckets * SLOTS >= 9 * sessions as usize);
            assert!(buckets * size_of::<BucketV4>() <= 36 * sessions as usize + 128);
            assert!(buckets * size_of::<BucketV6>() <= 72 * sessions as usize + 256);
        }
    }

    #[test]
    fn a_session_expires_after_its_idle_timeout_and_not_before() {
        let session = |phase| State::new(1, 0, phase, 1000);
        for (phase, protocol, lifetime) in [
            (Phase::Opening, TCP, HALF_OPEN),
            (Phase::Established, TCP, 500),
            (Phase::Closing, TCP, HALF_OPEN),
            (Phase::Opening, UDP, 500),
            (Phase::Established, UDP, 500),
        ] {
            let expired = |now| session(phase).is_expired(protocol, 500, now);
            assert!(!expired(1000 + lifetime), "{phase:?} {protocol}");
            assert!(expired(1000 + lifetime + 1), "{phase:?} {protocol}");
            assert!(session(phase).is_expired(protocol, 3, 1004));
        }
    }

    #[test]
    fn a_session_that_was_used_in_the_future_is_not_idle() {
        let state = State::new(1, 0, Phase::Established, 20_001);
        assert_eq!(
            [4000, 19_999, 20_001, 20_002].map(|now| state.idle(now)),
            [0, 0, 0, 1]
        );
    }

    /// Where the clock that they are compared with has come round.
    #[test]
    fn the_longest_idle_times_are_told_apart() {
        const THREE_DAYS: u32 = ticks(Duration::from_secs(3 * 24 * 3600));
        let state = State::new(1, 0, Phase::Established, 20_000);
        assert_eq!(state.idle(20_000 + THREE_DAYS), THREE_DAYS);
    }

    #[test]
    fn a_session_that_was_created_in_the_future_is_new() {
        let state = State::new(1, 0, Phase::Established, State::AGE_UNIT);
        assert_eq!(state.age(State::AGE_UNIT - 1), 0);
        assert_eq!(state.age(3 * State::AGE_UNIT), 2 * State::AGE_UNIT);
    }

    #[test]
    fn times_are_rounded_up_to_ticks() {
        assert_eq!(ticks(Duration::from_secs(1)), 1);
        assert_eq!(ticks(Duration::from_nanos(TICK + 1)), 2);
        assert_eq!(ticks(Duration::from_secs(1800)), 1677);
        assert_eq!(tick(5 * TICK + 7), 5);
    }

    #[test]
    fn those_who_sent_one_packet_go_first_and_then_the_longest_idle() {
        let worth = |phase, used| State::new(1, 0, phase, used).worth(1000);
        let order = [
            State::default().worth(1000),
            worth(Phase::Opening, 10),
            worth(Phase::Opening, 1000),
            worth(Phase::Closing, 11),
            worth(Phase::Established, 10),
            worth(Phase::Established, 1000),
            State::default().claimed(1000).worth(1000),
        ];
        assert!(order.is_sorted_by(|less, more| less < more), "{order:?}");
    }

    #[test]
    fn a_session_that_moves_keeps_all_but_its_binding() {
        let state = State::new(7, 3, Phase::Established, 100);
        let moved = state.moved(4095);
        assert_eq!((moved.virtual_server(), moved.binding()), (7, 4095));
        assert_eq!((moved.phase(), moved.idle(150)), (Phase::Established, 50));
        assert!(!moved.is_same_session(state));
    }

    #[test]
    fn a_session_with_other_numbers_keeps_all_else() {
        let state = State::new(7, 3, Phase::Closing, 100_000);
        let moved = state.renumbered(65_535, 4095);
        assert_eq!((moved.virtual_server(), moved.binding()), (65_535, 4095));
        assert_eq!(moved.renumbered(7, 3), state);
        assert_eq!(moved.worth(100_001), state.worth(100_001));
    }

    #[test]
    fn a_key_gives_back_what_it_was_made_of() {
        for text in ["10.9.0.100", "255.255.255.255", "2001:db8::1", "ffff::ffff"] {
            let address: IpAddr = text.parse().unwrap();
            let source = Address::from(address);
            let parts = match address {
                IpAddr::V4(_) => SessionKey::v4(source.words(), 65535, 1).parts(),
                IpAddr::V6(_) => SessionKey::v6(source.words(), 65535, 1).parts(),
            };
            assert_eq!(parts, (source, 65535, 1));
        }
    }

    #[test]
    fn a_state_gives_back_what_it_was_made_of() {
        for (virtual_server, binding) in [(1, 0), (65_535, State::BINDINGS - 1), (4096, 1000)] {
            for now in [0, 31, 1_000_000, 1 << 31] {
                let state = State::new(virtual_server, binding, Phase::Opening, now);
                assert_eq!(state.virtual_server(), virtual_server);
                assert_eq!(state.binding(), binding);
                assert_eq!(state.phase(), Phase::Opening);
                assert_eq!((state.idle(now), state.age(now)), (0, 0));
                let later = now.wrapping_add(1000);
                assert_eq!(state.idle(later), 1000);
                let used = state.used(Phase::Closing, later);
                assert_eq!((used.idle(later), used.phase()), (0, Phase::Closing));
                assert_eq!(
                    (used.virtual_server(), used.binding()),
                    (virtual_server, binding)
                );
            }
        }
    }

    #[test]
    fn whoever_takes_a_place_changes_its_version() {
        let mut state = State::new(7, 3, Phase::Established, 100);
        for _ in 0..40 {
            let next = State::new(7, 3, Phase::Established, 100).with_version_after(state);
            assert_ne!(next, state);
            assert_ne!(state.claimed(100), state);
            assert_ne!(state.freed(), state);
            assert_eq!(next.used(Phase::Established, 100), next);
            state = next;
        }
        assert!(!state.freed().is_session());
        assert!(!state.claimed(100).is_session());
    }
}
