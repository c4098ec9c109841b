//! How many flows of a stateless virtual server change their real server when its servers change.

use lb_common::hash;
use lb_user::control::maglev::{self, Share};
use rstest::rstest;

/// As many flows as the largest table has slots, one for each.
const FLOWS: u64 = 1 << 20;

/// The part of all flows that move from one table to another.
fn moved(before: &[u16], after: &[u16]) -> f64 {
    let owner = |table: &[u16], flow| table[hash::reduce(flow, table.len() as u32) as usize];
    let moved = (0..FLOWS)
        .map(|flow| flow << 44)
        .filter(|&flow| owner(before, flow) != owner(after, flow));
    moved.count() as f64 / FLOWS as f64
}

/// A change of one of `n` equal servers moves the flows that it must, and some more for the sake of equal parts: at
/// most `bound` times as many in all. Tables are of the size that `n` servers get.
#[rstest]
#[case(3, 1.1)]
#[case(10, 1.4)]
#[case(100, 2.6)]
#[case(1000, 7.0)]
fn when_one_server_changes_few_flows_of_the_others_move(#[case] n: usize, #[case] bound: f64) {
    let names: Vec<_> = (0..=n).map(|i| format!("server-{i:04}")).collect();
    let one_more: Vec<_> = names
        .iter()
        .zip(0..)
        .map(|(name, value)| Share {
            name,
            weight: 1,
            value,
        })
        .collect();
    let shares = &one_more[..n];
    let [first, second] = [n / 2, 0].map(|index| shares[index]);
    let mut one_less = shares.to_vec();
    one_less.remove(n / 2);
    let mut reweighted = shares.to_vec();
    reweighted[n / 2].weight = 2;

    let slots = maglev::slots_for(shares);
    let all = maglev::fill(shares, slots);
    let one_down = maglev::fill_around(shares, slots, |share| *share == first);
    let two_down = maglev::fill_around(shares, slots, |share| [first, second].contains(share));
    let parts = n as f64;
    for (change, before, after, ideal, bound) in [
        ("one down", &all, &one_down, 1.0 / parts, 1.02),
        (
            "another down",
            &one_down,
            &two_down,
            1.0 / (parts - 1.0),
            bound,
        ),
        (
            "one removed",
            &all,
            &maglev::fill(&one_less, slots),
            1.0 / parts,
            bound,
        ),
        (
            "one added",
            &all,
            &maglev::fill(&one_more, slots),
            1.0 / (parts + 1.0),
            bound,
        ),
        (
            "one of weight 2",
            &all,
            &maglev::fill(&reweighted, slots),
            2.0 / (parts + 1.0) - 1.0 / parts,
            bound,
        ),
    ] {
        let moved = moved(before, after);
        println!(
            "{n:4} servers, {slots:6} slots, {change:15}: {:5.2} % of flows move, ideal {:5.2} %, {:4.2} times",
            moved * 100.0,
            ideal * 100.0,
            moved / ideal
        );
        assert!(
            (ideal * 0.95..=ideal * bound).contains(&moved),
            "{change}: {moved} of all flows, ideal: {ideal}"
        );
    }
}
