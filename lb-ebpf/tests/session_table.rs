//! The session table's protocol, alone and with many threads.

use std::{
    array,
    collections::{HashMap, HashSet},
    sync::{
        Barrier,
        atomic::{AtomicU32, AtomicU64, Ordering},
    },
    thread,
};

use lb_common::{
    hash,
    protocol::TCP,
    session::{self, Phase, SLOTS, Secrets, SessionKey, State, V4, V6},
};
use lb_ebpf::session_table::{Bucket, Recorded, adopt, are_full, find, make_room, record};
use proptest::prelude::*;
use rstest::rstest;

const NOW: u32 = 1000;
const SECRETS: Secrets = [0x9216_d5d9_8979_fb1b, 0xd131_0ba6_98df_b5ad];

type BucketV4 = Bucket<{ SLOTS * (V4 + 1) }>;

fn bucket<const W: usize>() -> Bucket<W> {
    array::from_fn(|_| AtomicU64::new(0))
}

fn key(client: u64) -> SessionKey<V4> {
    SessionKey([client])
}

fn session(virtual_server: u32, binding: u32) -> State {
    State::new(virtual_server, binding, Phase::Established, NOW)
}

fn record_v4(buckets: [&BucketV4; 2], client: u64, state: State) -> Option<Recorded> {
    record(buckets, &key(client), state, NOW)
}

fn binding_of(buckets: [&BucketV4; 2], client: u64) -> Option<u32> {
    find(buckets, &key(client), 1).map(|found| found.state.binding())
}

#[test]
fn a_recorded_flow_is_found_and_no_other() {
    let (first, second) = (bucket(), bucket());
    let buckets = [&first, &second];
    record_v4(buckets, 7, session(1, 3)).unwrap();
    assert_eq!(binding_of(buckets, 7), Some(3));
    assert_eq!(binding_of(buckets, 8), None);
    assert!(find(buckets, &key(7), 2).is_none());
    assert!(find(buckets, &key(7), 1).unwrap().end().is_some());
    assert_eq!(binding_of(buckets, 7), None);
}

#[test]
fn the_second_bucket_is_used_when_the_first_is_nearly_full() {
    let (first, second) = (bucket(), bucket());
    let buckets = [&first, &second];
    for client in 0..8 {
        let recorded = record_v4(buckets, client, session(1, client as u32)).unwrap();
        assert!(recorded.created && !recorded.replaced.is_session());
        let in_first =
            [&first, &bucket()].map(|only| find([only, only], &key(client), 1).is_some());
        assert_eq!(
            in_first[0],
            [0, 1, 2, 6].contains(&client) || client == 7 && in_first[0]
        );
    }
    assert!((0..8).all(|client| binding_of(buckets, client) == Some(client as u32)));
}

#[test]
fn a_full_pair_of_buckets_gives_up_what_was_used_least_recently() {
    let (first, second) = (bucket(), bucket());
    let buckets = [&first, &second];
    for client in 0..8 {
        // The fifth is the oldest.
        let used = NOW - [5, 9, 3, 8, 20, 1, 2, 7][client as usize];
        let state = State::new(1, client as u32, Phase::Established, used);
        record_v4(buckets, client, state).unwrap();
    }
    let recorded = record_v4(buckets, 99, session(1, 77)).unwrap();
    assert_eq!(recorded.replaced.binding(), 4);
    assert_eq!(binding_of(buckets, 99), Some(77));
    assert_eq!(binding_of(buckets, 4), None);
}

#[test]
fn a_session_of_another_table_takes_the_place_of_those_that_are_worth_less() {
    let (first, second) = (bucket(), bucket());
    let buckets = [&first, &second];
    // In any order those stay that were used last.
    for idle in [5, 12, 9, 3, 8, 20, 1, 2, 7, 11, 4, 6, 10] {
        let state = State::new(1, idle, Phase::Established, NOW - idle);
        let adopted = adopt(buckets, &key(idle.into()), state, NOW);
        assert!(adopted.is_none_or(
            |it| it.created && it.replaced.binding() > idle || !it.replaced.is_session()
        ));
    }
    let left = (1..=20).filter(|&client| binding_of(buckets, client).is_some());
    assert_eq!(left.count(), 8);
    assert_eq!(binding_of(buckets, 20), None);
    assert!((1..=5).all(|client| binding_of(buckets, client) == Some(client as u32)));
    let flood = State::new(1, 99, Phase::Opening, NOW);
    assert_eq!(adopt(buckets, &key(99), flood, NOW), None);
}

#[test]
fn ipv6_keys_are_compared_whole() {
    let (first, second) = (bucket::<{ SLOTS * (V6 + 1) }>(), bucket());
    let buckets = [&first, &second];
    let key = SessionKey::<V6>([1, 2, 3]);
    record(buckets, &key, session(1, 5), NOW).unwrap();
    for other in [[0, 2, 3], [1, 0, 3], [1, 2, 0]] {
        assert!(find(buckets, &SessionKey::<V6>(other), 1).is_none());
    }
    assert_eq!(find(buckets, &key, 1).unwrap().state.binding(), 5);
}

proptest! {
    /// Against a map: with room for all, nothing is lost and nothing is mixed up.
    #[test]
    fn few_sessions_come_and_go_as_in_a_map(steps in prop::collection::vec((0..6u64, any::<bool>(), 0..4000u32), 0..200)) {
        let (first, second) = (bucket(), bucket());
        let buckets = [&first, &second];
        let mut model = HashMap::new();
        for (client, ends, binding) in steps {
            let found = find(buckets, &key(client), 1);
            prop_assert_eq!(found.map(|found| found.state.binding()), model.get(&client).copied());
            match found {
                Some(found) if ends => {
                    prop_assert!(found.end().is_some());
                    model.remove(&client);
                }
                None if !ends => {
                    let recorded = record_v4(buckets, client, session(1, binding)).unwrap();
                    prop_assert!(!recorded.replaced.is_session());
                    model.insert(client, binding);
                }
                _ => {}
            }
        }
    }
}

/// A table that packets and a sweeper work on at once. A flow's binding is its number.
struct Shared<const W: usize> {
    buckets: Vec<Bucket<W>>,
    flows: u32,
    /// Packets up to now: they make the clock go on.
    packets: AtomicU32,
}

/// What one thread did.
#[derive(Default)]
struct Done {
    /// Sessions created less sessions ended.
    count: i64,
    /// Sessions found.
    hits: u32,
}

/// The words of a flow's key, no two alike, of a layout with so many.
fn words<const N: usize>(flow: u32) -> [u64; N] {
    array::from_fn(|word| u64::from(flow) << (8 * word))
}

impl<const W: usize> Shared<W> {
    const STEPS: u32 = if cfg!(miri) { 100 } else { 200_000 };
    const IDLE_TIMEOUT: u32 = 1;

    /// Ticks are so short that many sessions expire before they are found again, and few before they are evicted.
    fn now(&self) -> u32 {
        NOW + 8 * self.packets.load(Ordering::Relaxed) / self.flows
    }

    fn pair<const N: usize>(&self, key: &SessionKey<N>) -> [&Bucket<W>; 2] {
        let count = self.buckets.len() as u32;
        session::buckets(key, 1, &SECRETS, count).map(|index| &self.buckets[index as usize])
    }

    fn packets<const N: usize>(&self, seed: u64) -> Done {
        let mut done = Done::default();
        for step in 0..Self::STEPS {
            self.packets.fetch_add(1, Ordering::Relaxed);
            let random = hash::finish(seed << 32 | u64::from(step));
            let flow = hash::reduce(random, self.flows);
            self.packet::<N>(flow, random & 15 == 0, &mut done);
        }
        done
    }

    fn packet<const N: usize>(&self, flow: u32, ends: bool, done: &mut Done) {
        let (key, now) = (SessionKey(words::<N>(flow)), self.now());
        let pair = self.pair(&key);
        let right = |state: State| assert_eq!(state.binding(), flow);
        if let Some(found) = find(pair, &key, 1) {
            right(found.state);
            done.hits += 1;
            if ends {
                done.count -= i64::from(found.end().is_some());
            } else {
                found.change(|state| state.used(Phase::Established, now));
            }
            return;
        }
        if are_full(pair) {
            let miscounted = make_room(pair, now, |key: &SessionKey<N>, _| Some(self.pair(key)));
            done.count += i64::from(miscounted.is_session());
        }
        let state = State::new(1, flow, Phase::Opening, now);
        if let Some(recorded) = record(pair, &key, state, now) {
            right(recorded.session);
            done.count += i64::from(recorded.created);
            done.count -= i64::from(recorded.replaced.is_session());
            done.count -= i64::from(recorded.duplicate.is_session());
        }
    }

    /// Frees expired sessions, as user space does: how many.
    fn sweep<const N: usize>(&self) -> i64 {
        let mut freed = 0;
        for place in self.buckets.as_flattened().chunks(N + 1) {
            let seen = place[N].load(Ordering::SeqCst);
            let state = State(seen);
            if state.is_session() && state.is_expired(TCP, Self::IDLE_TIMEOUT, self.now()) {
                let free = state.freed().0;
                let (success, failure) = (Ordering::SeqCst, Ordering::SeqCst);
                let exchange = place[N].compare_exchange(seen, free, success, failure);
                freed += i64::from(exchange.is_ok());
            }
        }
        freed
    }

    /// The number of sessions, each of which is that of its flow, and no flow has two.
    fn sessions<const N: usize>(&self) -> i64 {
        let mut flows = HashSet::new();
        for place in self.buckets.as_flattened().chunks(N + 1) {
            let state = State(place[N].load(Ordering::SeqCst));
            assert_ne!(state.phase(), Phase::Claimed, "a claim that was left");
            if state.is_session() {
                let flow = state.binding();
                let key = words::<N>(flow);
                assert!((0..N).all(|word| place[word].load(Ordering::SeqCst) == key[word]));
                assert!(flows.insert(flow), "flow {flow} has two sessions");
            }
        }
        flows.len() as i64
    }
}

fn threads_work_on_a_table<const N: usize, const W: usize>(buckets: usize, flows: u32) {
    const THREADS: u32 = 4;
    let table = Shared::<W> {
        buckets: (0..buckets).map(|_| bucket()).collect(),
        flows,
        packets: AtomicU32::new(0),
    };
    let start = Barrier::new(THREADS as usize + 1);
    let (done, swept) = thread::scope(|scope| {
        let (table, start) = (&table, &start);
        let threads = array::from_fn::<_, { THREADS as usize }, _>(|seed| {
            scope.spawn(move || {
                start.wait();
                table.packets::<N>(seed as u64)
            })
        });
        start.wait();
        let mut swept = 0;
        while !threads.iter().all(|thread| thread.is_finished()) {
            swept += table.sweep::<N>();
        }
        (threads.map(|thread| thread.join().unwrap()), swept)
    });
    let counted: i64 = done.iter().map(|done| done.count).sum();
    assert_eq!(counted - swept, table.sessions::<N>());
    assert!(swept > 0);
    for Done { hits, .. } in done {
        // The table is empty at first, and of few steps that is a larger part.
        let least = Shared::<W>::STEPS / if cfg!(miri) { 50 } else { 20 };
        assert!(hits > least, "{hits} hits");
    }
}

/// Every binding is that of its flow; sessions created less sessions ended are those that are left.
#[rstest]
// More flows than places, so that all the time some are replaced.
#[case::a_pair_of_buckets(2, 24)]
#[cfg_attr(miri, ignore = "as above, and takes longer")]
#[case::many_buckets(64, 400)]
fn threads_and_a_sweeper_never_mix_up_flows_and_never_lose_count(
    #[case] buckets: usize,
    #[case] flows: u32,
    #[values(
        threads_work_on_a_table::<V4, { SLOTS * (V4 + 1) }>,
        threads_work_on_a_table::<V6, { SLOTS * (V6 + 1) }>
    )]
    threads_work_on_a_table: fn(usize, u32),
) {
    threads_work_on_a_table(buckets, flows);
}
