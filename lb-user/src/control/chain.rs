//! The table of a virtual server that tracks changes alone (`session.mode: on_change`): Maglev's, in which each slot of
//! a server that is down leads on to other slots, one after the other, up to one whose server is up.
//!
//! Which slots those are depends on the slot alone. So when a server fails just its slots change hands, when it is back
//! just these return, and who has failed first makes no difference. They are spread over all of the table: so each
//! server that is up takes as much of them as its weight says.

use lb_common::hash;

/// Slots that are looked at. After that it is the next one in the table, or the one after it, and so on: where most
/// servers are down that is found without a search.
const STEPS: u64 = 16;

/// The table in which servers, by what their slots hold, that are down have left their slots to others. None if nobody
/// `is_up`.
pub fn around(mut slots: Vec<u16>, is_up: impl Fn(u16) -> bool) -> Option<Vec<u16>> {
    let highest = slots.iter().copied().max()?;
    let up: Vec<bool> = (0..=highest).map(is_up).collect();
    let is_up = |server: u16| up[usize::from(server)];
    if slots.iter().all(|&server| is_up(server)) {
        return Some(slots);
    }
    let all = slots.clone();
    // From the end on: the last slot's next one is the first.
    let mut next_up = *all.iter().find(|&&server| is_up(server))?;
    for (number, slot) in slots.iter_mut().enumerate().rev() {
        if is_up(*slot) {
            next_up = *slot;
            continue;
        }
        let mut steps = (1..=STEPS).map(|step| all[other(number, step, all.len())]);
        *slot = steps.find(|&server| is_up(server)).unwrap_or(next_up);
    }
    Some(slots)
}

/// The slot that a slot leads on to in this step.
fn other(slot: usize, step: u64, slots: usize) -> usize {
    let hash = hash::finish(hash::mix(slot as u64, step));
    hash::reduce(hash, slots as u32) as usize
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use rstest::rstest;

    use super::*;
    use crate::control::maglev::{
        self,
        shares::{names, shares},
    };

    /// Maglev's table of servers of these weights; slots hold the servers' numbers.
    fn table(weights: &[u16]) -> Vec<u16> {
        let names = names(weights.len());
        let shares = shares(&names, weights);
        maglev::fill(&shares, maglev::slots_for(&shares))
    }

    /// Weights of servers, and who is up.
    fn servers() -> impl Strategy<Value = Vec<(u16, bool)>> {
        prop::collection::vec((1u16..=5, prop::bool::weighted(0.7)), 1..20)
    }

    proptest! {
        #[test]
        fn a_server_that_fails_moves_its_own_slots_alone(servers in servers(), fails in any::<prop::sample::Index>()) {
            let (weights, is_up): (Vec<_>, Vec<_>) = servers.into_iter().unzip();
            let fails = fails.index(weights.len());
            let slots = table(&weights);
            let up = |server: u16| is_up[usize::from(server)];
            let before = around(slots.clone(), |server| up(server) || usize::from(server) == fails).unwrap();
            let after = around(slots, |server| up(server) && usize::from(server) != fails);
            let Some(after) = after else {
                prop_assert!((0..is_up.len()).all(|server| server == fails || !is_up[server]));
                return Ok(());
            };
            for (&before, &after) in before.iter().zip(&after) {
                prop_assert!(usize::from(after) != fails && up(after));
                prop_assert!(before == after || usize::from(before) == fails);
            }
        }
    }

    #[test]
    fn nobody_has_slots_if_nobody_is_up() {
        assert_eq!(around(table(&[1, 2]), |_| false), None);
        assert_eq!(around(Vec::new(), |_| true), None);
    }

    #[test]
    fn the_last_server_has_every_slot() {
        let slots = around(table(&[1; 100]), |server| server == 99).unwrap();
        assert_eq!(slots, [99; 65_536]);
    }

    /// The largest share of a server in relation to its fair share, where so many are down. Measured: 1.000, 1.001, 1.026,
    /// 1.001, 1.009, 1.029, 1.000, 1.012, 1.028, 1.052.
    #[rstest]
    #[case::two(2, 0, 1.01)]
    #[case::ten(10, 0, 1.01)]
    #[case::ten_of_which_one_is_down(10, 1, 1.05)]
    #[case::hundred(100, 0, 1.01)]
    #[case::hundred_of_which_one_is_down(100, 1, 1.02)]
    #[case::hundred_of_which_ten_are_down(100, 10, 1.05)]
    #[case::thousand(1000, 0, 1.01)]
    #[case::thousand_of_which_ten_are_down(1000, 10, 1.02)]
    #[case::thousand_of_which_a_hundred_are_down(1000, 100, 1.04)]
    #[case::thousand_of_which_most_are_down(1000, 990, 1.1)]
    fn slots_of_servers_that_are_down_are_shared_by_all(
        #[case] servers: usize,
        #[case] down: usize,
        #[case] most: f64,
    ) {
        let slots = around(table(&vec![1; servers]), |server| {
            usize::from(server) >= down
        });
        let slots = slots.unwrap();
        let mut shares = vec![0; servers];
        for &server in &slots {
            shares[usize::from(server)] += 1;
        }
        let largest = f64::from(*shares.iter().max().unwrap());
        let fair = slots.len() as f64 / (servers - down) as f64;
        assert!(
            largest / fair < most,
            "the largest share is {:.3} of a fair one",
            largest / fair
        );
    }
}
