//! Virtual servers that track changes alone, step by step through the maps.

use std::{
    collections::BTreeSet,
    time::{Duration, Instant},
};

use lb_common::{PredictorTable, TableBlock, TableSlot};
use proptest::{collection::vec, prelude::*};

use super::{
    Counters, SIZES, State, assert_nothing_leaks, cases, choices, contents, each_step, in_use,
    reconciled, reconciler, restarted,
    wanted::{desired, members, port, vip, virtual_server},
};
use crate::{
    config::{Predictor, SessionMode},
    control::{
        Desired, Reconciler,
        reconcile::{Plan, on_change::slots},
    },
    dataplane::Sizes,
};

const HOUR: Duration = Duration::from_secs(3600);

/// A state of one virtual server and four real servers.
#[derive(Clone, Copy, Debug)]
struct Wanted {
    mode: SessionMode,
    /// 0 for servers that are unbound, and may have sessions left.
    weights: [u16; 4],
    up: [bool; 4],
    minimum_up: u32,
    has_sessions: bool,
}

impl Wanted {
    const ALL_UP: Self = Self {
        mode: SessionMode::OnChange,
        weights: [1; 4],
        up: [true; 4],
        minimum_up: 1,
        has_sessions: true,
    };

    fn desired(self) -> Desired {
        let mut members = members(0..4);
        let states = self.weights.into_iter().zip(self.up);
        for ((_, member), (weight, is_up)) in members.iter_mut().zip(states) {
            (member.weight, member.share, member.drain) = (weight, weight, weight == 0);
            if !is_up {
                member.link = Err("no answer".to_owned());
            }
        }
        let mut shop = virtual_server(vip(0), port(80), members);
        shop.session.mode = self.mode;
        shop.minimum_up = self.minimum_up;
        shop.has_sessions = self.has_sessions;
        desired([("shop", shop)])
    }
}

fn any_wanted() -> impl Strategy<Value = Wanted> {
    use SessionMode::{OnChange, Stateful, Stateless};
    let mode = prop::sample::select(vec![OnChange, OnChange, OnChange, Stateful, Stateless]);
    let weights = prop::array::uniform4(prop::sample::select(vec![0, 1, 1, 3, 60]));
    let up = prop::array::uniform4(prop::bool::weighted(0.8));
    let others = (1..=2_u32, any::<bool>());
    (mode, weights, up, others).prop_map(|(mode, weights, up, (minimum_up, has_sessions))| Wanted {
        mode,
        weights,
        up,
        minimum_up,
        has_sessions,
    })
}

/// The tables of the virtual server, and whether it tracks changes alone.
fn tables(reconciler: &Reconciler<Counters>) -> ([PredictorTable; 2], bool) {
    let id = reconciler.virtual_server_id("shop").unwrap();
    let entry = reconciler.tables.virtual_servers.get(id);
    ([entry.table, entry.order], entry.on_change != 0)
}

/// Servers in a table of the virtual server, by their offsets, and how many slots are marked.
fn servers(reconciler: &Reconciler<Counters>, table: PredictorTable) -> (BTreeSet<u32>, usize) {
    let slots = slots(&reconciler.tables, table);
    let slots = slots.into_iter().map(TableSlot);
    let marked = slots.clone().filter(|slot| slot.is_marked()).count();
    (slots.filter_map(TableSlot::binding).collect(), marked)
}

/// What packets follow leads to real servers.
fn check_slots(reconciler: &Reconciler<Counters>) -> Result<(), TestCaseError> {
    let id = reconciler.virtual_server_id("shop").unwrap();
    let entry = reconciler.tables.virtual_servers.get(id);
    for table in [entry.table, entry.order] {
        for server in servers(reconciler, table).0 {
            let binding = entry.first_binding + server;
            let binding = reconciler.tables.bindings.get(binding);
            prop_assert_ne!(binding.real_server, 0, "binding {}", server);
        }
    }
    Ok(())
}

/// Applies a state until everything has settled, and nobody has sessions.
fn settle(reconciler: &mut Reconciler<Counters>, wanted: Wanted, now: Instant) {
    let having = |has_sessions| {
        let wanted = Wanted {
            has_sessions,
            ..wanted
        };
        wanted.desired()
    };
    for hours in 1..=3 {
        reconciler
            .apply_at(&having(true), now + hours * HOUR)
            .unwrap();
    }
    assert_eq!(reconciler.settles("shop"), None);
    reconciler.apply_at(&having(false), now).unwrap();
}

proptest! {
    #![proptest_config(cases(24))]

    #[test]
    fn everything_settles_where_it_belongs(
        history in vec((any_wanted(), any::<bool>(), any::<bool>()), 1..8)
    ) {
        let mut reconciler = reconciler(&SIZES);
        let mut now = Instant::now();
        let last = history.last().unwrap().0;
        for (wanted, time_passes, restart) in history {
            if restart {
                reconciler = restarted(reconciler);
            }
            if time_passes {
                now += HOUR;
            }
            reconciler.apply_at(&wanted.desired(), now).unwrap();
            check_slots(&reconciler)?;
            let ([_, order], on_change) = tables(&reconciler);
            prop_assert_eq!(on_change && order.slots != 0, reconciler.settles("shop").is_some());
            let read = State::read(&reconciler.tables, &SIZES);
            prop_assert_eq!(in_use(&reconciler.state), in_use(&read));
        }
        settle(&mut reconciler, last, now);
        prop_assert_eq!(choices(&reconciler), choices(&reconciled(&last.desired())));
        assert_nothing_leaks(reconciler);
    }

    #[test]
    fn packets_find_servers_at_each_step(before in any_wanted(), between in any_wanted(), after in any_wanted()) {
        let mut reconciler = reconciled(&before.desired());
        reconciler.apply(&between.desired()).unwrap();
        each_step(&reconciler, &after.desired(), |_| check_slots(&reconciler))?;
    }

    #[test]
    fn a_new_daemon_goes_on(before in any_wanted(), after in any_wanted()) {
        let mut reconciler = reconciled(&before.desired());
        reconciler.apply(&after.desired()).unwrap();
        let settled = reconciler.settles("shop").is_none();
        let is_last_step = reconciler.next_step().is_some_and(|step| step <= Instant::now());
        let before = contents(&reconciler.tables);
        let mut next = restarted(reconciler);
        let after = Wanted { has_sessions: true, ..after };
        next.apply(&after.desired()).unwrap();
        prop_assert!(contents(&next.tables) == before || is_last_step);
        prop_assert!(next.settles("shop").is_none() == settled || is_last_step);
    }
}

/// Two of four servers, and one of them for the other.
fn replaced(mode: SessionMode) -> [Desired; 2] {
    let with = |weights| {
        let wanted = Wanted {
            mode,
            weights,
            ..Wanted::ALL_UP
        };
        wanted.desired()
    };
    [with([1, 1, 0, 0]), with([1, 0, 1, 0])]
}

#[test]
fn flows_stay_until_it_has_settled_and_connections_that_begin_do_not() {
    let [before, after] = replaced(SessionMode::OnChange);
    let mut reconciler = reconciled(&before);
    let start = Instant::now();
    let seen = |reconciler: &Reconciler<Counters>| {
        let ([table, order], _) = tables(reconciler);
        let (here, marked) = servers(reconciler, table);
        (here, marked > 0, servers(reconciler, order).0)
    };
    let sets = |here: &[u32], marked, next: &[u32]| {
        let [here, next] = [here, next].map(|them| them.iter().copied().collect::<BTreeSet<_>>());
        (here, marked, next)
    };
    assert_eq!(seen(&reconciler), sets(&[0, 1], false, &[]));
    let mut after_seconds = |seconds, wanted: &Desired| {
        let now = start + Duration::from_secs(seconds);
        reconciler.apply_at(wanted, now).unwrap();
        let left = reconciler.settles("shop").map(|end| end - start);
        (seen(&reconciler), left.map(|left| left.as_secs()))
    };
    let settling = sets(&[0, 1], true, &[0, 2]);
    assert_eq!(after_seconds(0, &after), (settling.clone(), Some(30)));
    assert_eq!(after_seconds(29, &after), (settling, Some(30)));
    let ends = sets(&[0, 2], true, &[0, 2]);
    assert_eq!(after_seconds(30, &after), (ends, Some(30)));
    let settled = sets(&[0, 2], true, &[]);
    assert_eq!(after_seconds(30, &after), (settled, None));
    assert_eq!(reconciler.tracked().count(), 1);
}

#[test]
fn a_server_that_is_given_up_keeps_no_flows() {
    let [before, after] = replaced(SessionMode::OnChange);
    let mut reconciler = reconciled(&before);
    reconciler.apply(&after).unwrap();
    reconciler.give_up("shop", "s1");
    reconciler.apply(&after).unwrap();
    let ([table, _], _) = tables(&reconciler);
    assert!(!servers(&reconciler, table).0.contains(&1));
    // Bound again it is as any other.
    reconciler.apply(&before).unwrap();
    reconciler.apply_at(&before, Instant::now() + HOUR).unwrap();
    reconciler.apply(&after).unwrap();
    let ([table, _], _) = tables(&reconciler);
    assert!(servers(&reconciler, table).0.contains(&1));
}

#[test]
fn without_room_for_more_tables_a_change_is_made_at_once() {
    let [before, after] = replaced(SessionMode::OnChange);
    let blocks = 4096 / TableBlock::SLOTS as u32;
    let sizes = Sizes {
        table_blocks: 1 + 2 * blocks,
        ..SIZES
    };
    let mut reconciler = reconciler(&sizes);
    reconciler.apply(&before).unwrap();
    reconciler.apply(&after).unwrap();
    let ([table, order], _) = tables(&reconciler);
    assert_eq!((table.slots, order.slots), (4096, 0));
    assert_eq!(servers(&reconciler, table), (BTreeSet::from([0, 2]), 0));
    assert_eq!(reconciler.settles("shop"), None);
}

#[test]
fn sessions_of_a_stateful_virtual_server_are_honoured() {
    let wanted = |mode, has_sessions| {
        let wanted = Wanted {
            mode,
            has_sessions,
            ..Wanted::ALL_UP
        };
        wanted.desired()
    };
    let mut reconciler = reconciled(&wanted(SessionMode::Stateful, true));
    let marked = |reconciler: &Reconciler<Counters>| {
        let ([table, _], _) = tables(reconciler);
        assert_eq!(table.slots, 4096);
        servers(reconciler, table).1
    };
    assert_eq!(marked(&reconciler), 0);
    reconciler
        .apply(&wanted(SessionMode::OnChange, true))
        .unwrap();
    assert_eq!(marked(&reconciler), 4096);
    reconciler
        .apply(&wanted(SessionMode::OnChange, false))
        .unwrap();
    assert_eq!(marked(&reconciler), 0);
}

/// What it leads to would be weights taken for servers, or nothing.
#[test]
fn no_packet_takes_the_order_of_a_predictor_for_the_next_table() {
    for predictor in [
        Predictor::Hash,
        Predictor::RoundRobin,
        Predictor::LeastConnection,
        Predictor::ResponseTime,
    ] {
        let [before, settling] = replaced(SessionMode::OnChange);
        let [_, mut other] = replaced(SessionMode::Stateful);
        for shop in other.virtual_servers.values_mut() {
            std::sync::Arc::make_mut(shop).predictor = predictor;
        }
        let mut settles = reconciled(&before);
        settles.apply(&settling).unwrap();
        let is_otherwise = reconciled(&other);
        for (reconciler, after) in [(settles, &other), (is_otherwise, &settling)] {
            let id = reconciler.virtual_server_id("shop").unwrap();
            let tables = &reconciler.tables;
            let now = Instant::now();
            let plan = Plan::make(tables, reconciler.state.clone(), after, now).unwrap();
            plan.suspend_predictors(tables);
            // Of a packet that comes when the earlier ones are gone.
            let read = tables.virtual_servers.get(id);
            plan.write(tables);
            let now = tables.virtual_servers.get(id);
            assert!(read.on_change <= now.on_change, "to {predictor}");
            let needs_order = read.predictor > lb_common::Predictor::SourceHash as u8;
            assert!(!needs_order || read.predictor == now.predictor);
        }
    }
}
