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
/// Tables have one of these sizes. They are far apart, because tables of different sizes have nothing in common: when
/// a server more asks for a larger one, nearly all flows move.
const SLOTS: [u32; 3] = [1 << 12, 1 << 16, MAX_SLOTS];
/// The most slots of a predictor table.
pub const MAX_SLOTS: u32 = 1 << 20;

/// How many slots a table for these servers should have: a power of two.
pub fn slots_for(shares: &[Share<'_>]) -> u32 {
    let total: u64 = shares.iter().map(|share| u64::from(share.weight)).sum();
    let least = shares.iter().map(|share| share.weight).min().unwrap_or(1);
    let needed = total * SLOTS_OF_THE_LEAST / u64::from(least);
    let mut sizes = SLOTS.into_iter();
    sizes
        .find(|&slots| u64::from(slots) >= needed)
        .unwrap_or(MAX_SLOTS)
}

/// The table: which server's value each slot holds. `shares` are sorted by name and not empty, `slots` is
/// a power of two.
pub fn fill(shares: &[Share<'_>], slots: u32) -> Vec<u16> {
    fill_around(shares, slots, |_| false)
}

/// The table of all servers, in which those that are down have left their slots to the others. The others keep
/// theirs: when one server goes down while all are up, or comes up as the last one, no slots but its own move.
/// With others down a few more do. At least one server is up.
pub fn fill_around(
    shares: &[Share<'_>],
    slots: u32,
    is_down: impl Fn(&Share<'_>) -> bool,
) -> Vec<u16> {
    let mask = slots - 1;
    let mut servers: Vec<Server> = (0..)
        .zip(shares)
        .map(|(number, share)| Server {
            number,
            weight: share.weight.into(),
            permutation: Permutation::new(share.name, mask),
            claimed: 0,
        })
        .collect();
    let mut table = Table::new(slots);
    table.claim(&mut servers);
    let is_up: Vec<bool> = shares.iter().map(|share| !is_down(share)).collect();
    if is_up.contains(&false) {
        table.free_all_but(&is_up);
        servers.retain(|server| is_up[usize::from(server.number)]);
        table.claim(&mut servers);
    }
    let values = table.slots.into_iter();
    values
        .map(|number| shares[usize::from(number)].value)
        .collect()
}

/// A server that takes turns.
struct Server {
    /// Its index among all servers.
    number: u16,
    weight: u64,
    permutation: Permutation,
    claimed: u64,
}

struct Table {
    /// The numbers of the servers that have claimed them.
    slots: Vec<u16>,
    /// A bit for each slot. Servers find most slots taken, and this much stays in the cache.
    free: Vec<u64>,
}

impl Table {
    const fn place(slot: u32) -> (usize, u64) {
        ((slot / u64::BITS) as usize, 1 << (slot % u64::BITS))
    }

    /// All slots are free.
    fn new(slots: u32) -> Self {
        let mut free = vec![0; slots.div_ceil(u64::BITS) as usize];
        for (word, bit) in (0..slots).map(Self::place) {
            free[word] |= bit;
        }
        Self {
            slots: vec![0; slots as usize],
            free,
        }
    }

    /// Frees the slots of the other servers.
    fn free_all_but(&mut self, stays: &[bool]) {
        for (slot, &number) in (0..).zip(&self.slots) {
            if !stays[usize::from(number)] {
                let (word, bit) = Self::place(slot);
                self.free[word] |= bit;
            }
        }
    }

    /// The servers take turns until no slot is free. What they have claimed before counts.
    fn claim(&mut self, servers: &mut [Server]) {
        let weights = servers.iter().map(|server| server.weight);
        let heaviest = weights.max().expect("a table has servers");
        let mut free: u32 = self.free.iter().map(|word| word.count_ones()).sum();
        for turn in 1.. {
            for server in &mut *servers {
                if free == 0 {
                    return;
                }
                if server.claimed >= turn * server.weight / heaviest {
                    continue;
                }
                let slot = server
                    .permutation
                    .find(|&slot| {
                        let (word, bit) = Self::place(slot);
                        self.free[word] & bit != 0
                    })
                    .expect("a permutation visits every slot");
                let (word, bit) = Self::place(slot);
                self.free[word] &= !bit;
                self.slots[slot as usize] = server.number;
                server.claimed += 1;
                free -= 1;
            }
        }
    }
}

/// A server's own order of the slots, over and over. An odd step visits all slots of a table whose size is a power of
/// two.
struct Permutation {
    next: u32,
    step: u32,
    mask: u32,
}

impl Permutation {
    fn new(name: &str, mask: u32) -> Self {
        Self {
            next: hash::name(name, 0) as u32 & mask,
            step: hash::name(name, 1) as u32 & mask | 1,
            mask,
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

/// Shares for tests.
#[cfg(test)]
pub(super) mod shares {
    use super::Share;

    /// Servers of these weights; each one's value is its index.
    pub fn shares<'a>(names: &'a [String], weights: &[u16]) -> Vec<Share<'a>> {
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

    /// Names for as many servers.
    pub fn names(n: usize) -> Vec<String> {
        (0..n).map(|i| format!("server-{i:04}")).collect()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use rstest::rstest;

    use super::{
        shares::{names, shares},
        *,
    };

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
        assert_eq!(slots_for(&shares(&names, &[1, 1])), 4096);
        assert_eq!(slots_for(&shares(&names, &[1, 39])), 4096);
        assert_eq!(slots_for(&shares(&names, &[1, 40])), 65_536);
        assert_eq!(slots_for(&shares(&names, &[1, 1000])), 1_048_576);
        assert_eq!(slots_for(&shares(&names[..1], &[1000])), 4096);
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

    #[test]
    fn when_a_server_is_down_no_other_slots_change_hands() {
        let names = names(10);
        let shares = shares(&names, &[3, 1, 4, 1, 5, 9, 2, 6, 5, 3]);
        let all_up = fill(&shares, 4096);
        for down in 0..10 {
            let table = fill_around(&shares, 4096, |share| share.value == down);
            assert!(!table.contains(&down));
            let moved = all_up
                .iter()
                .zip(&table)
                .filter(|(before, after)| before != after);
            assert!(
                moved
                    .map(|(before, _)| before)
                    .all(|&before| before == down)
            );
        }
    }

    #[test]
    fn the_last_server_that_is_up_gets_every_slot() {
        let names = names(3);
        let shares = shares(&names, &[1, 1000, 1000]);
        assert_eq!(
            fill_around(&shares, 1024, |share| share.value != 0),
            [0; 1024]
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
        fn weights_are_respected_within_two_percent_whoever_is_down(
            servers in prop::collection::vec((1u16..=100, any::<bool>()), 1..30),
        ) {
            let (weights, mut is_up): (Vec<_>, Vec<_>) = servers.into_iter().unzip();
            is_up[0] = true;
            let names = names(weights.len());
            let shares = shares(&names, &weights);
            let slots = slots_for(&shares);
            let table = fill_around(&shares, slots, |share| !is_up[usize::from(share.value)]);
            let up = weights.iter().zip(&is_up).filter(|&(_, up)| *up);
            let total: f64 = up.map(|(&weight, _)| f64::from(weight)).sum();
            for ((&weight, count), up) in weights.iter().zip(counts(&table, weights.len())).zip(is_up) {
                let fair = f64::from(weight) / total * f64::from(slots);
                let within = if up { (f64::from(count) / fair - 1.0).abs() <= 0.02 } else { count == 0 };
                prop_assert!(within, "{count} slots, fair: {fair}, up: {up}");
            }
        }
    }
}
