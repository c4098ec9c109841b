//! The order of a smooth weighted round robin.
//!
//! Of `n` slots a server of weight `w` out of a total of `W` should have had `n w / W`, for every `n`. So its
//! `k`-th slot, from 0, belongs between `k W / w` and `(k + 1) W / w`: outside of that window it would be a whole
//! slot ahead or behind. Of the servers whose window has begun, the one whose window ends first is next.
//! On one resource whose jobs just fill it this earliest deadline first misses no deadline (Liu and Layland,
//! J. ACM 1973; for such windows Baruah et al., Algorithmica 1996), so each server is always less than one
//! slot from its part.

use std::{cmp::Reverse, collections::BinaryHeap};

use super::maglev::Share;

/// Which server's value each slot holds, in the order in which new sessions take them; after the last slot
/// the first one follows. `shares` are sorted by name, not empty, and at most `most`.
///
/// There are as many slots as it takes to give each server its exact share (the sum of the weights, divided by
/// what they all have in common). If that is more than `most`, there are `most`: each server has at least one,
/// and is less than a slot from its share of those that this leaves.
pub fn order(shares: &[Share<'_>], most: u32) -> Vec<u16> {
    let weights = weights(shares, most.into());
    let total: u64 = weights.iter().sum();
    let mut order = Vec::with_capacity(total.min(most.into()) as usize);
    let mut waiting: BinaryHeap<_> = (0..shares.len()).map(|i| Reverse((0, i, 0))).collect();
    let mut begun = BinaryHeap::new();
    for slot in 0..total.min(most.into()) {
        while let Some(&Reverse((begin, server, turn))) = waiting.peek()
            && begin <= slot
        {
            waiting.pop();
            let end = ((turn + 1) * total).div_ceil(weights[server]);
            begun.push(Reverse((end, server, turn)));
        }
        let Reverse((_, server, turn)) = begun.pop().expect("windows that just fill the slots");
        order.push(shares[server].value);
        let begin = (turn + 1) * total / weights[server];
        waiting.push(Reverse((begin, server, turn + 1)));
    }
    order
}

/// The weights in their lowest terms, and none less than 1 in `most` of their sum.
fn weights(shares: &[Share<'_>], most: u64) -> Vec<u64> {
    let common = shares
        .iter()
        .map(|share| u64::from(share.weight))
        .fold(0, gcd);
    let weights: Vec<_> = shares
        .iter()
        .map(|share| u64::from(share.weight) / common)
        .collect();
    let mut sorted = weights.clone();
    sorted.sort_unstable();
    // When the lightest ones are all raised to the same weight, the slots that they leave must do for the rest.
    let mut rest: u64 = weights.iter().sum();
    let least = (0..most)
        .zip(sorted)
        .find_map(|(raised, lightest)| {
            let least = rest.div_ceil(most - raised);
            rest -= lightest;
            (least <= lightest).then_some(least)
        })
        .expect("as many slots as servers");
    weights
        .into_iter()
        .map(|weight| weight.max(least))
        .collect()
}

fn gcd(a: u64, b: u64) -> u64 {
    if b == 0 { a } else { gcd(b, a % b) }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use rstest::rstest;

    use super::*;
    use crate::control::maglev::shares::{names, shares};

    const MOST: u32 = 1 << 16;

    /// The order of servers of these weights; each one's value is its index.
    fn order_of(weights: &[u16], most: u32) -> Vec<u16> {
        let names = names(weights.len());
        order(&shares(&names, weights), most)
    }

    fn counts(order: &[u16], servers: usize) -> Vec<u64> {
        let mut counts = vec![0; servers];
        order
            .iter()
            .for_each(|&value| counts[usize::from(value)] += 1);
        counts
    }

    fn sum(weights: &[u16]) -> u64 {
        weights.iter().copied().map(u64::from).sum()
    }

    #[rstest]
    #[case::one(&[7], &[0])]
    #[case::equal(&[5, 5, 5], &[0, 1, 2])]
    #[case::twice(&[2, 1], &[0, 0, 1])]
    #[case::spread(&[300, 100, 100], &[0, 0, 1, 0, 2])]
    #[case::heavy_and_light(&[5, 1, 1], &[0, 0, 0, 1, 0, 0, 2])]
    fn turns_are_spread_evenly(#[case] weights: &[u16], #[case] order: &[u16]) {
        assert_eq!(order_of(weights, MOST), order);
    }

    #[test]
    fn values_are_handed_out() {
        let share = |name, value| Share {
            name,
            weight: 1,
            value,
        };
        assert_eq!(order(&[share("a", 40), share("b", 7)], MOST), [40, 7]);
    }

    #[test]
    fn where_slots_are_short_each_server_has_one_still() {
        assert_eq!(counts(&order_of(&[1000, 1, 1], 4), 3), [2, 1, 1]);
        assert_eq!(counts(&order_of(&[1000, 999, 1], 3), 3), [1, 1, 1]);
        let order = order_of(&[65_535, 32_768, 1], 1000);
        let counts = counts(&order, 3);
        assert!(
            (665..=667).contains(&counts[0]) && counts[2] == 1,
            "{counts:?}"
        );
    }

    proptest! {
        #[test]
        fn a_period_gives_each_server_its_exact_share(weights in prop::collection::vec(1u16..=1000, 1..40)) {
            let order = order_of(&weights, MOST);
            let periods = sum(&weights) / order.len() as u64;
            let exact: Vec<_> = counts(&order, weights.len()).iter().map(|count| count * periods).collect();
            prop_assert_eq!(exact, weights.iter().copied().map(u64::from).collect::<Vec<_>>());
        }

        #[test]
        fn a_period_is_as_short_as_can_be(weights in prop::collection::vec(1u16..=30, 1..10), times in 1u16..=30) {
            let multiples: Vec<_> = weights.iter().map(|weight| weight * times).collect();
            prop_assert_eq!(order_of(&multiples, MOST), order_of(&weights, MOST));
        }

        #[test]
        fn each_server_is_less_than_a_slot_from_its_part_at_any_time(
            weights in prop::collection::vec(1u16..=100, 1..20),
        ) {
            let total = sum(&weights);
            let mut counts = vec![0; weights.len()];
            for (slots, value) in (1..).zip(order_of(&weights, MOST)) {
                counts[usize::from(value)] += 1;
                for (&count, &weight) in counts.iter().zip(&weights) {
                    let off = (count * total).abs_diff(slots * u64::from(weight));
                    prop_assert!(off < total, "{count} of {slots} slots for {weight} of {total}");
                }
            }
        }

        /// What raises the lightest servers to a slot each comes from the others.
        #[test]
        fn where_slots_are_short_shares_are_right_to_the_slot(
            weights in prop::collection::vec(1u16..=1000, 2..20),
            most in 20u32..200,
        ) {
            let order = order_of(&weights, most);
            prop_assert!(order.len() <= most as usize);
            let counts = counts(&order, weights.len());
            let slots = order.len() as f64;
            let total = sum(&weights) as f64;
            for (&count, &weight) in counts.iter().zip(&weights) {
                prop_assert!(count > 0, "{counts:?}");
                let fair = f64::from(weight) / total * slots;
                let raised = weights.iter().filter(|&&weight| f64::from(weight) * slots < total).count() as f64;
                prop_assert!(count as f64 <= fair.max(1.0) + 1.0, "{count} slots, fair: {fair}");
                prop_assert!(count as f64 >= (fair - raised - 1.0).max(1.0), "{count} slots, fair: {fair}");
            }
        }

        #[test]
        fn equal_servers_take_turns(servers in 2usize..100, weight in 1u16..=1000) {
            let expected: Vec<_> = (0..servers as u16).collect();
            prop_assert_eq!(order_of(&vec![weight; servers], MOST), expected);
        }
    }
}
