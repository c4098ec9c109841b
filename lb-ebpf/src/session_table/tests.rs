//! The protocol in every order in which the accesses of a few threads can follow one another.

extern crate std;

use core::array;
use std::{collections::HashSet, vec, vec::Vec};

use lb_common::session::{V4, V6};

use super::*;
use crate::interleavings::{Thread, explore};

const NOW: u32 = 1000;
const PLACES: usize = 2 * SLOTS;

/// Flows that fill a bucket, from that on.
const FIRST_OTHER: u32 = 100;
const SECOND_OTHER: u32 = FIRST_OTHER + SLOTS as u32;
const THIRD_OTHER: u32 = SECOND_OTHER + SLOTS as u32;

/// The flow in each place of both buckets.
type Places = [Option<u32>; PLACES];

/// Keys for flows.
trait Layout<const N: usize> {
    fn key(flow: u32) -> SessionKey<N>;
}
struct Table;

impl Layout<V4> for Table {
    fn key(flow: u32) -> SessionKey<V4> {
        SessionKey([flow.into()])
    }
}

/// A mixture of the words of two flows below 8 is the key of a third.
impl Layout<V6> for Table {
    fn key(flow: u32) -> SessionKey<V6> {
        SessionKey([flow & !6, flow & 2, flow & 4].map(u64::from))
    }
}

/// The buckets of a flow: the first two, or for those of [`filled`] that in which they are, and the last.
fn buckets<const W: usize>(memory: &[AtomicU64], flow: u32) -> [&Bucket<W>; 2] {
    let last = memory.len() / W - 1;
    let pair = match flow {
        FIRST_OTHER..SECOND_OTHER => [0, last],
        SECOND_OTHER..THIRD_OTHER => [1, last],
        _ => [0, 1],
    };
    pair.map(|bucket| {
        let bucket = memory.chunks(W).nth(bucket).unwrap();
        bucket.try_into().unwrap()
    })
}

fn session(flow: u32, used: u32) -> State {
    State::new(1, binding(flow), Phase::Established, used)
}

/// Flows 1024 apart share one.
fn binding(flow: u32) -> u32 {
    flow % 1024
}

/// A packet of a flow: what it adds to the count of sessions.
fn packet<const N: usize, const W: usize>(flow: u32) -> impl Fn(&[AtomicU64]) -> i64
where
    Table: Layout<N>,
{
    move |memory| match find(buckets::<W>(memory, flow), &Table::key(flow), 1) {
        Some(found) => {
            assert_eq!(found.state.binding(), binding(flow));
            found.change(|state| state.used(Phase::Closing, NOW + 1));
            0
        }
        None => record_flow::<N, W>(flow)(memory),
    }
}

/// A packet that takes the shortcut where it can, as [`packet`].
fn shortcut<const N: usize, const W: usize>(flow: u32) -> impl Fn(&[AtomicU64]) -> i64
where
    Table: Layout<N>,
{
    move |memory| {
        let [first, _] = buckets::<W>(memory, flow);
        let is_done = peek(first, &Table::key(flow), 1).is_some_and(|found| {
            assert_eq!(found.state.binding(), binding(flow));
            found.becomes(found.state.used(Phase::Established, NOW + 1))
        });
        if is_done {
            0
        } else {
            packet::<N, W>(flow)(memory)
        }
    }
}

/// A packet of a flow that had no session when its CPU looked.
fn record_flow<const N: usize, const W: usize>(flow: u32) -> impl Fn(&[AtomicU64]) -> i64
where
    Table: Layout<N>,
{
    move |memory| {
        let key = Table::key(flow);
        let buckets = buckets::<W>(memory, flow);
        record(buckets, &key, session(flow, NOW), NOW).map_or(0, |it| counted(flow, it))
    }
}

/// The first packet of a flow, by the shortcut if that can record it, else as [`packet`].
fn first_packet<const N: usize, const W: usize>(flow: u32) -> impl Fn(&[AtomicU64]) -> i64
where
    Table: Layout<N>,
{
    move |memory| {
        let key = Table::key(flow);
        let buckets = buckets::<W>(memory, flow);
        let recorded = vacancy(buckets, &key)
            .and_then(|place| fill(buckets, &place, &key, session(flow, NOW), NOW));
        match recorded {
            Some(recorded) => counted(flow, recorded),
            None => packet::<N, W>(flow)(memory),
        }
    }
}

/// What a record adds to the count of sessions.
fn counted(flow: u32, recorded: Recorded) -> i64 {
    assert_eq!(recorded.session.binding(), binding(flow));
    i64::from(recorded.created)
        - i64::from(recorded.replaced.is_session())
        - i64::from(recorded.duplicate.is_session())
}

/// A packet that ends a flow's session.
fn end<const N: usize, const W: usize>(flow: u32) -> impl Fn(&[AtomicU64]) -> i64
where
    Table: Layout<N>,
{
    move |memory| {
        find(buckets::<W>(memory, flow), &Table::key(flow), 1).map_or(0, |found| {
            assert_eq!(found.state.binding(), binding(flow));
            -i64::from(found.end().is_some())
        })
    }
}

/// Someone who looks for a flow: adds nothing.
fn look<const N: usize, const W: usize>(flow: u32) -> impl Fn(&[AtomicU64]) -> i64
where
    Table: Layout<N>,
{
    move |memory| {
        if let Some(found) = find(buckets::<W>(memory, flow), &Table::key(flow), 1) {
            assert_eq!(found.state.binding(), binding(flow));
        }
        0
    }
}

/// As [`look`], in the first bucket alone.
fn look_first<const N: usize, const W: usize>(flow: u32) -> impl Fn(&[AtomicU64]) -> i64
where
    Table: Layout<N>,
{
    move |memory| {
        let [first, _] = buckets::<W>(memory, flow);
        if let Some(found) = peek(first, &Table::key(flow), 1) {
            assert_eq!(found.state.binding(), binding(flow));
        }
        0
    }
}

/// A table with these flows in its places, the last one used just now, the first one idle the longest.
fn table<const N: usize>(places: &[Option<u32>]) -> Vec<u64>
where
    Table: Layout<N>,
{
    let mut memory = Vec::new();
    for (place, flow) in (0..).zip(places) {
        match *flow {
            Some(flow) => {
                memory.extend(Table::key(flow).0);
                let idle = (PLACES as u32 - 1).saturating_sub(place);
                memory.push(session(flow, NOW - idle).0);
            }
            None => memory.extend(vec![0; N + 1]),
        }
    }
    memory
}

/// The flows in a table, in which no claim is left, each session is that of its flow and no flow has two.
fn flows<const N: usize>(memory: &[u64]) -> HashSet<u32>
where
    Table: Layout<N>,
{
    let mut flows = HashSet::new();
    for place in memory.chunks(N + 1) {
        let state = State(place[N]);
        assert_ne!(state.phase(), Phase::Claimed, "a claim is left");
        if state.is_session() {
            let flow = place[..N].iter().fold(0, |flow, word| flow | word) as u32;
            assert_eq!(state.binding(), binding(flow));
            assert!(flows.insert(flow), "flow {flow} has two sessions");
        }
    }
    flows
}

/// Runs so many copies of the threads on a table, and checks what is left, and that it is what was counted.
fn check<const N: usize>(places: impl AsRef<[Option<u32>]>, threads: &[(usize, Thread<i64>)])
where
    Table: Layout<N>,
{
    let places = places.as_ref();
    let before = places.iter().flatten().count() as i64;
    explore(&table::<N>(places), threads, |memory, counts| {
        let left = flows::<N>(memory).len() as i64;
        assert_eq!(before + counts.iter().sum::<i64>(), left);
    });
}

/// Other flows in the first so many places of both buckets.
fn filled([first, second]: [usize; 2]) -> Places {
    array::from_fn(|place| {
        let fill = if place < SLOTS { first } else { second };
        (place % SLOTS < fill).then_some(FIRST_OTHER + place as u32)
    })
}

/// All of [`filled`].
fn fills() -> impl Iterator<Item = Places> {
    (0..=SLOTS).flat_map(|first| (0..=SLOTS).map(move |second| filled([first, second])))
}

/// Each table that has this in one place more, or in the place of another.
fn each_place(places: Places, flow: Option<u32>) -> impl Iterator<Item = Places> {
    (0..PLACES).map(move |place| {
        let mut places = places;
        places[place] = flow;
        places
    })
}

const FULL: [usize; 2] = [SLOTS; 2];
const W4: usize = SLOTS * (V4 + 1);
const W6: usize = SLOTS * (V6 + 1);

#[test]
fn two_packets_of_a_new_flow_make_one_session() {
    let (packet, first_packet) = (packet::<V4, W4>(1), first_packet::<V4, W4>(1));
    for places in fills() {
        check::<V4>(places, &[(2, &packet)]);
        check::<V4>(places, &[(2, &first_packet)]);
        check::<V4>(places, &[(1, &packet), (1, &first_packet)]);
    }
}

#[test]
fn two_who_missed_the_session_of_another_leave_one_session() {
    let record = record_flow::<V4, W4>(1);
    for places in fills().flat_map(|places| each_place(places, Some(1))) {
        check::<V4>(places, &[(2, &record)]);
    }
}

#[test]
fn three_who_record_a_flow_leave_one_session() {
    let record = record_flow::<V4, W4>(1);
    check::<V4>(filled([4, 3]), &[(3, &record)]);
}

#[test]
fn two_flows_in_need_of_one_place_never_share_it() {
    let (one, two) = (packet::<V4, W4>(1), packet::<V4, W4>(2));
    let first_packet = first_packet::<V4, W4>(2);
    for places in each_place(filled(FULL), None).chain(fills()) {
        check::<V4>(places, &[(1, &one), (1, &two)]);
        check::<V4>(places, &[(1, &one), (1, &first_packet)]);
    }
}

#[test]
fn a_session_that_ends_while_packets_use_it_is_counted_once() {
    let (packet, end) = (packet::<V4, W4>(1), end::<V4, W4>(1));
    let shortcut = shortcut::<V4, W4>(1);
    for fill in [[0, 0], FULL] {
        for places in each_place(filled(fill), Some(1)) {
            check::<V4>(places, &[(1, &packet), (2, &end)]);
            check::<V4>(places, &[(2, &packet), (1, &end)]);
            check::<V4>(places, &[(1, &shortcut), (2, &end)]);
            check::<V4>(places, &[(1, &shortcut), (1, &packet), (1, &end)]);
        }
    }
}

#[test]
fn a_session_that_ends_while_its_flow_is_recorded_leaves_no_other_twice() {
    let (packet, end) = (packet::<V4, W4>(1), end::<V4, W4>(1));
    let (record, first_packet) = (record_flow::<V4, W4>(1), first_packet::<V4, W4>(1));
    for place in [0, SLOTS] {
        let mut places = filled([0, 0]);
        places[place] = Some(1);
        check::<V4>(places, &[(1, &packet), (1, &record), (1, &end)]);
        check::<V4>(places, &[(1, &first_packet), (1, &record), (1, &end)]);
    }
}

#[test]
fn a_new_session_goes_to_the_same_place_by_the_shortcut_and_by_the_whole_path() {
    let key = <Table as Layout<V4>>::key(1);
    for places in fills() {
        let memory = |_| -> Vec<AtomicU64> {
            let words = table::<V4>(&places);
            words.into_iter().map(AtomicU64::new).collect()
        };
        let [by_record, by_shortcut] = [(), ()].map(memory);
        record(buckets::<W4>(&by_record, 1), &key, session(1, NOW), NOW).unwrap();
        let buckets = buckets::<W4>(&by_shortcut, 1);
        match vacancy(buckets, &key) {
            Some(place) => {
                fill(buckets, &place, &key, session(1, NOW), NOW).unwrap();
                let words =
                    |memory: &[AtomicU64]| -> Vec<u64> { memory.iter().map(load).collect() };
                assert_eq!(words(&by_shortcut), words(&by_record), "{places:?}");
            }
            None => assert!(are_full(buckets), "{places:?}"),
        }
    }
}

#[test]
fn the_shortcut_finds_what_the_whole_path_finds_where_one_place_alone_has_the_key() {
    let key = <Table as Layout<V4>>::key(1);
    let mine = |virtual_server| State::new(virtual_server, 1, Phase::Established, NOW);
    let states = [mine(1), mine(2), mine(1).freed(), mine(1).claimed(NOW)];
    for (place, state) in (0..SLOTS).flat_map(|place| states.map(|state| (place, state))) {
        for copy in (0..SLOTS).filter(|&copy| copy != place) {
            let mut words = table::<V4>(&filled([0, 0]));
            (words[2 * place], words[2 * place + 1]) = (key.0[0], state.0);
            let peeked = |words: &[u64]| {
                let memory: Vec<_> = words.iter().copied().map(AtomicU64::new).collect();
                let pair = buckets::<W4>(&memory, 1);
                let of = |found: Option<Found<'_>>| found.map(|it| (it.place, it.state));
                (of(peek(pair[0], &key, 1)), of(find(pair, &key, 1)))
            };
            let (by_shortcut, by_find) = peeked(&words);
            assert_eq!(by_shortcut, by_find, "{place} {state:?}");
            assert_eq!(by_find, (state == mine(1)).then_some((place, state)));
            // What is gone has left its key there.
            words[2 * copy] = key.0[0];
            assert_eq!(peeked(&words), (None, by_find), "{place} {state:?} {copy}");
        }
    }
}

#[test]
fn a_reader_is_never_given_another_flow_while_places_change_hands() {
    let (one, two) = (record_flow::<V4, W4>(1), record_flow::<V4, W4>(2));
    for flow in [1, FIRST_OTHER] {
        let (look, look_first) = (look::<V4, W4>(flow), look_first::<V4, W4>(flow));
        check::<V4>(filled(FULL), &[(1, &one), (1, &two), (1, &look)]);
        check::<V4>(filled(FULL), &[(1, &one), (1, &two), (1, &look_first)]);
    }
}

#[test]
fn a_reader_is_not_given_who_was_there_while_its_flow_went_and_came_back() {
    let (mine, other) = (1, 2);
    let away_and_back = |memory: &[AtomicU64]| {
        end::<V4, W4>(mine)(memory)
            + record_flow::<V4, W4>(other)(memory)
            + end::<V4, W4>(other)(memory)
            + record_flow::<V4, W4>(mine)(memory)
    };
    let (look, look_first) = (look::<V4, W4>(mine), look_first::<V4, W4>(mine));
    let mut places = filled(FULL);
    places[0] = Some(mine);
    check::<V4>(places, &[(1, &away_and_back), (1, &look)]);
    check::<V4>(places, &[(1, &away_and_back), (1, &look_first)]);
}

#[test]
fn a_reader_never_takes_parts_of_two_keys_for_one() {
    let (old, new) = (0, 7);
    let (record, end) = (record_flow::<V6, W6>(new), end::<V6, W6>(old));
    for flow in old..=new {
        let (look, look_first) = (look::<V6, W6>(flow), look_first::<V6, W6>(flow));
        for fill in [[0, 0], FULL] {
            let mut places = filled(fill);
            places[0] = Some(old);
            check::<V6>(places, &[(1, &end), (1, &record), (1, &look)]);
            check::<V6>(places, &[(1, &end), (1, &record), (1, &look_first)]);
        }
    }
}

#[test]
fn a_session_that_took_the_place_of_another_with_the_same_binding_is_not_taken_for_it() {
    let (old, new) = (1, 1 + 1024);
    let (end, record) = (end::<V4, W4>(old), record_flow::<V4, W4>(new));
    let mut places = filled(FULL);
    places[PLACES - 1] = Some(old);
    explore(
        &table::<V4>(&places),
        &[(2, &end), (1, &record)],
        |memory, _| {
            assert!(flows::<V4>(memory).contains(&new));
        },
    );
}

/// Room for a new flow whose buckets are full.
fn room<const N: usize, const W: usize>(flow: u32) -> impl Fn(&[AtomicU64]) -> i64
where
    Table: Layout<N>,
{
    move |memory| {
        let full = buckets::<W>(memory, flow);
        let miscounted = make_room(full, NOW, |key: &SessionKey<N>, _| {
            let flow = key.0.iter().fold(0, |flow, word| flow | word);
            Some(buckets(memory, flow as u32))
        });
        i64::from(miscounted.is_session())
    }
}

/// A packet of such a flow.
fn crowd<const N: usize, const W: usize>(flow: u32) -> impl Fn(&[AtomicU64]) -> i64
where
    Table: Layout<N>,
{
    move |memory| room::<N, W>(flow)(memory) + record_flow::<N, W>(flow)(memory)
}

/// Two full buckets, and a third with this in its places.
fn crowded(third: [Option<u32>; SLOTS]) -> Vec<Option<u32>> {
    [&filled(FULL)[..], &third].concat()
}

/// Third buckets with room: all of it, and one place.
fn thirds() -> [Vec<Option<u32>>; 2] {
    let other = Some(THIRD_OTHER);
    [
        [None; SLOTS],
        [other, Some(THIRD_OTHER + 1), None, Some(THIRD_OTHER + 2)],
    ]
    .map(crowded)
}

#[test]
fn a_session_that_moves_makes_room_and_is_never_missed() {
    let crowd = crowd::<V4, W4>(1);
    let look = |memory: &[AtomicU64]| {
        let key: SessionKey<V4> = Table::key(FIRST_OTHER);
        let found = find(buckets::<W4>(memory, FIRST_OTHER), &key, 1);
        assert_eq!(found.unwrap().state.binding(), binding(FIRST_OTHER));
        0
    };
    for places in thirds() {
        let all = places.iter().flatten().count() + 1;
        explore(
            &table::<V4>(&places),
            &[(1, &crowd), (2, &look)],
            |memory, _| {
                assert_eq!(flows::<V4>(memory).len(), all);
            },
        );
    }
}

#[test]
fn a_session_that_moves_keeps_what_packets_change_in_it() {
    const CLOSED: i64 = 100;
    let crowd = crowd::<V4, W4>(1);
    let close = |memory: &[AtomicU64]| {
        let key: SessionKey<V4> = Table::key(FIRST_OTHER);
        let found = find(buckets::<W4>(memory, FIRST_OTHER), &key, 1).unwrap();
        found
            .change(|state| state.used(Phase::Closing, NOW))
            .map_or(0, |_| CLOSED)
    };
    let one = |memory: &[u64], flow| {
        let mut states = memory.chunks(V4 + 1).map(|place| State(place[V4]));
        states.find(|state| state.is_session() && state.binding() == binding(flow))
    };
    for places in thirds() {
        explore(
            &table::<V4>(&places),
            &[(1, &crowd), (1, &close)],
            |memory, results| {
                if let Some(session) = one(memory, FIRST_OTHER) {
                    assert_eq!(session.phase() == Phase::Closing, results.contains(&CLOSED));
                }
            },
        );
    }
}

#[test]
fn a_session_that_moves_while_it_ends_is_counted_once() {
    let (crowd, end) = (crowd::<V4, W4>(1), end::<V4, W4>(FIRST_OTHER));
    let packet = packet::<V4, W4>(FIRST_OTHER);
    for places in thirds() {
        check::<V4>(&places, &[(1, &crowd), (1, &end)]);
        check::<V4>(&places, &[(1, &crowd), (2, &end)]);
        check::<V4>(&places, &[(1, &crowd), (1, &end), (1, &packet)]);
    }
}

#[test]
fn a_session_that_moves_while_its_flow_is_recorded_leaves_no_other_twice() {
    let (crowd, record) = (crowd::<V4, W4>(1), record_flow::<V4, W4>(FIRST_OTHER));
    for places in thirds() {
        check::<V4>(&places, &[(1, &crowd), (1, &record)]);
    }
}

#[test]
fn two_new_sessions_move_the_same_one_once() {
    let (one, two) = (crowd::<V4, W4>(1), crowd::<V4, W4>(2));
    for places in thirds() {
        check::<V4>(&places, &[(2, &one)]);
        check::<V4>(&places, &[(1, &one), (1, &two)]);
    }
}

#[test]
fn a_session_whose_place_another_takes_never_moves_with_parts_of_its_key() {
    // A mixture of their keys is that of a third flow, whose second bucket has room.
    let (old, new, mixed) = (FIRST_OTHER, 2, FIRST_OTHER | 2);
    let (end, record) = (end::<V6, W6>(old), record_flow::<V6, W6>(new));
    let end_and_record = |memory: &[AtomicU64]| end(memory) + record(memory);
    let (room, look) = (room::<V6, W6>(1), look::<V6, W6>(mixed));
    for mut places in thirds() {
        places[(mixed - FIRST_OTHER) as usize] = Some(3);
        check::<V6>(&places, &[(1, &room), (1, &end_and_record), (1, &look)]);
    }
}

/// User space frees each session of a flow that it meets, however many there are.
#[test]
fn a_session_that_moves_while_it_is_swept_is_counted_once() {
    let crowd = crowd::<V4, W4>(1);
    let sweep = |memory: &[AtomicU64]| {
        let freed = memory.chunks(V4 + 1).filter(|place| {
            let state = State(load(&place[V4]));
            let is_ours = state.is_session() && state.binding() == binding(FIRST_OTHER);
            is_ours && replace(&place[V4], state.0, state.freed().0)
        });
        -(freed.count() as i64)
    };
    for places in thirds() {
        check::<V4>(&places, &[(1, &crowd), (1, &sweep)]);
    }
}
