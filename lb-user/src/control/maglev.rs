//! Maglev's consistent hashing (Eisenbud et al., NSDI 2016, section 3.4), weighted.
//!
//! Each server has a permutation of the slots of its own, and the servers take turns to claim the next
//! slot of theirs that is still free. So when a server goes, mostly its own slots change hands. A server
//! of half the weight of the heaviest takes every second turn.
//!
//! The table depends on the servers' names and weights alone: two balancers with the same configuration
//! and the same health build the same table.

use lb_common::hash;

/// A real server's part in a table.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Share<'a> {
    /// Its name, which its permutation comes from.
    pub name: &'a str,
    /// Its weight, not 0.
    pub weight: u16,
    /// What its slots hold.
    pub value: u16,
}

/// Slots that the server of the least weight has at least, so that a slot more or less is within 2 % of
/// its share.
const SLOTS_OF_THE_LEAST: u64 = 100;
const MIN_SLOTS: u64 = 1 << 10;
const MAX_SLOTS: u64 = 1 << 20;

/// How many slots a table for these servers should have: a power of two.
pub fn slots_for(shares: &[Share<'_>]) -> u32 {
    let total: u64 = shares.iter().map(|share| u64::from(share.weight)).sum();
    let least = shares.iter().map(|share| share.weight).min().unwrap_or(1);
    (total * SLOTS_OF_THE_LEAST / u64::from(least))
        .next_power_of_two()
        .clamp(MIN_SLOTS, MAX_SLOTS) as u32
}

/// The table: which server's value each slot holds. `shares` are sorted by name and not empty, `slots` is
/// a power of two.
pub fn fill(shares: &[Share<'_>], slots: u32) -> Vec<u16> {
    let mask = slots - 1;
    let heaviest = shares.iter().map(|share| u64::from(share.weight)).max();
    let heaviest = heaviest.expect("a table has servers");
    let mut table: Vec<Option<u16>> = vec![None; slots as usize];
    let mut permutations: Vec<Permutation> = shares
        .iter()
        .map(|share| Permutation::new(share.name, mask))
        .collect();
    let mut free = slots;
    for turn in 1.. {
        for (share, permutation) in shares.iter().zip(&mut permutations) {
            let due = turn * u64::from(share.weight) / heaviest;
            if permutation.claimed == due {
                continue;
            }
            permutation.claimed += 1;
            let slot = permutation
                .by_ref()
                .find(|&slot| table[slot as usize].is_none())
                .expect("a permutation visits every slot");
            table[slot as usize] = Some(share.value);
            free -= 1;
            if free == 0 {
                return table.into_iter().flatten().collect();
            }
        }
    }
    unreachable!("every turn of the heaviest server fills a slot")
}

/// A server's own order of the slots. An odd step visits all slots of a table whose size is a power of
/// two.
struct Permutation {
    next: u32,
    step: u32,
    mask: u32,
    claimed: u64,
}

impl Permutation {
    fn new(name: &str, mask: u32) -> Self {
        Self {
            next: hash::name(name, 0) as u32 & mask,
            step: hash::name(name, 1) as u32 & mask | 1,
            mask,
            claimed: 0,
        }
    }
}

impl Iterator for Permutation {
    type Item = u32;

    fn next(&mut self) -> Option<u32> {
        let slot = self.next;
        self.next = (self.next + self.step) & self.mask;
        Some(slot)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use rstest::rstest;

    use super::*;

    fn shares<'a>(names: &'a [String], weights: &[u16]) -> Vec<Share<'a>> {
        names
            .iter()
            .zip(weights)
            .zip(0..)
            .map(|((name, &weight), value)| Share {
                name,
                weight,
                value,
            })
            .collect()
    }

    fn names(n: usize) -> Vec<String> {
        (0..n).map(|i| format!("server-{i:04}")).collect()
    }

    fn counts(table: &[u16], servers: usize) -> Vec<u32> {
        let mut counts = vec![0; servers];
        table
            .iter()
            .for_each(|&value| counts[usize::from(value)] += 1);
        counts
    }

    #[test]
    fn equal_servers_get_equal_parts() {
        let names = names(3);
        let table = fill(&shares(&names, &[1, 1, 1]), 1024);
        assert_eq!(counts(&table, 3), [342, 341, 341]);
    }

    #[test]
    fn one_server_gets_every_slot() {
        let names = names(1);
        assert_eq!(fill(&shares(&names, &[7]), 1024), [0; 1024]);
    }

    #[test]
    fn the_table_has_room_for_the_least_weight() {
        let names = names(2);
        assert_eq!(slots_for(&shares(&names, &[1, 1])), 1024);
        assert_eq!(slots_for(&shares(&names, &[1, 1000])), 131_072);
        assert_eq!(slots_for(&shares(&names[..1], &[1000])), 1024);
    }

    #[test]
    fn when_a_server_goes_few_other_slots_change_hands() {
        let names = names(10);
        let all = shares(&names, &[1; 10]);
        let before = fill(&all, 1024);
        let after = fill(&all[..9], 1024);
        let moved = before
            .iter()
            .zip(&after)
            .filter(|&(&before, &after)| before != 9 && before != after)
            .count();
        assert!(
            moved < 1024 / 10,
            "{moved} of 1024 slots of the others moved"
        );
    }

    /// A server is at most one turn ahead of where it should be, and each of the others at most one behind.
    #[rstest]
    #[case::least(&[1, 1, 1])]
    #[case::most(&[65_535, 65_535, 65_535])]
    #[case::far_apart(&[1, 65_535, 32_768])]
    fn any_weights_are_respected_to_the_slot(#[case] weights: &[u16]) {
        let names = names(weights.len());
        let shares = shares(&names, weights);
        let slots = slots_for(&shares);
        let counts = counts(&fill(&shares, slots), weights.len());
        let total: f64 = weights.iter().copied().map(f64::from).sum();
        for (&weight, &count) in weights.iter().zip(&counts) {
            let fair = f64::from(weight) / total * f64::from(slots);
            let off = (f64::from(count) - fair).abs();
            assert!(
                off <= 1.0 + weights.len() as f64,
                "{count} slots, fair: {fair}"
            );
        }
    }

    proptest! {
        #[test]
        fn weights_are_respected_within_two_percent(weights in prop::collection::vec(1u16..=100, 1..50)) {
            let names = names(weights.len());
            let shares = shares(&names, &weights);
            let slots = slots_for(&shares);
            let counts = counts(&fill(&shares, slots), weights.len());
            let total: f64 = weights.iter().map(|&weight| f64::from(weight)).sum();
            for (&weight, &count) in weights.iter().zip(&counts) {
                let fair = f64::from(weight) / total * f64::from(slots);
                prop_assert!((f64::from(count) / fair - 1.0).abs() <= 0.02, "{count} slots, fair: {fair}");
            }
        }
    }
}
