//! The hashes that a packet computes. That of a flow, that of a client's address, and that of a name are fixed for good:
//! two balancers must choose the same real server for the same packet. [`multilinear`], for the directory, is part of the
//! layout of the maps alone: who changes it raises [`crate::LAYOUT`].
//!
//! Multiply and fold, word by word, with the finalizer of SplitMix64 (Steele, Lea and Flood, OOPSLA
//! 2014): a handful of instructions that BPF has, where it has neither a 128-bit product nor rotation.

use crate::address::{Address, AddressWords};

/// 2^64 divided by the golden ratio.
pub(crate) const MULTIPLIER: u64 = 0x9e37_79b9_7f4a_7c15;

/// Takes one more word into a hash.
#[inline(always)]
pub const fn mix(state: u64, word: u64) -> u64 {
    let product = (state ^ word).wrapping_mul(MULTIPLIER);
    product ^ (product >> 32)
}

/// Spreads every bit of a hash over all of it.
#[inline(always)]
pub const fn finish(state: u64) -> u64 {
    let state = (state ^ (state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let state = (state ^ (state >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    state ^ (state >> 31)
}

/// A hash of few and quick steps, of keys that nobody chooses to do harm: a sum of products (multilinear hashing: Carter and
/// Wegman, JCSS 1979). The lower the bit, the less it depends on; the upper 20 are good.
#[inline(always)]
pub const fn multilinear([a, b, c]: [u64; 3]) -> u64 {
    // The upper half of a word would have an effect on the upper half of the product alone: it is folded down. The multipliers are the
    // fractions of the square roots of 2, 3 and 5.
    (a ^ a >> 32)
        .wrapping_mul(0x6a09_e667_f3bc_c909)
        .wrapping_add((b ^ b >> 32).wrapping_mul(0xbb67_ae85_84ca_a73b))
        .wrapping_add(c.wrapping_mul(0x3c6e_f372_fe94_f82b))
}

/// The hash of a flow. Ports are in host byte order.
#[inline(always)]
pub fn flow(
    source: AddressWords,
    destination: AddressWords,
    source_port: u16,
    destination_port: u16,
    protocol: u8,
) -> u64 {
    let ports =
        u64::from(source_port) << 32 | u64::from(destination_port) << 16 | u64::from(protocol);
    let addresses = if Address::words_are_ipv4(destination) {
        // Both are of one family. What all addresses of IPv4 have is a constant.
        let [source, destination] = [source[1] >> 32, destination[1] >> 32];
        let prefix = Address::ipv4_words(0)[1];
        mix(MULTIPLIER ^ prefix, source << 32 ^ destination)
    } else {
        mix(
            mix(mix(mix(MULTIPLIER, source[0]), source[1]), destination[0]),
            destination[1],
        )
    };
    finish(mix(addresses, ports))
}

/// The hash of a client's address alone.
#[inline(always)]
pub const fn source(source: AddressWords) -> u64 {
    finish(mix(mix(MULTIPLIER, source[0]), source[1]))
}

/// Maps a hash to `0..n`, as evenly as its upper half is spread (Lemire, ACM TOMACS 2019).
#[inline(always)]
pub const fn reduce(hash: u64, n: u32) -> u32 {
    (((hash >> 32) * n as u64) >> 32) as u32
}

/// The hash of a name, for what must not depend on the order in which things were configured.
pub fn name(name: &str, seed: u64) -> u64 {
    finish(name.bytes().fold(mix(MULTIPLIER, seed), |state, byte| {
        mix(state, u64::from(byte))
    }))
}

#[cfg(test)]
pub(crate) mod tests {
    extern crate std;
    use core::net::{Ipv4Addr, Ipv6Addr};
    use std::{vec, vec::Vec};

    use super::*;

    /// Pearson's chi-squared statistic of what was chosen of so many bins, as a number of standard deviations from
    /// what random numbers give.
    pub(crate) fn deviation(chosen: impl Iterator<Item = u32>, bins: u32) -> f64 {
        let mut counts = vec![0u32; bins as usize];
        chosen.for_each(|bin| counts[bin as usize] += 1);
        let expected = f64::from(counts.iter().sum::<u32>()) / f64::from(bins);
        let chi_squared: f64 = counts
            .iter()
            .map(|&count| (f64::from(count) - expected).powi(2) / expected)
            .sum();
        let freedom = f64::from(bins - 1);
        (chi_squared - freedom) / (2.0 * freedom).sqrt()
    }

    fn v4(host: u32) -> AddressWords {
        Address::from(Ipv4Addr::from(0x0a09_0000 + host)).words()
    }

    fn v6(host: u128) -> AddressWords {
        Address::from(Ipv6Addr::from(0x2001_0db8_u128 << 96 | host)).words()
    }

    /// Ways in which real flows differ from one another, each by few bits.
    fn families() -> [(&'static str, Vec<u64>); 8] {
        const N: u32 = 1 << 16;
        let collect = |hash: &dyn Fn(u32) -> u64| (0..N).map(hash).collect();
        [
            (
                "ports of one v4 client",
                collect(&|i| flow(v4(1), v4(0x101), i as u16, 80, 6)),
            ),
            (
                "v4 clients in a row",
                collect(&|i| flow(v4(i), v4(0x101), 40000, 80, 6)),
            ),
            (
                "v4 clients 256 apart",
                collect(&|i| flow(v4(i << 8), v4(0x101), 40000, 80, 6)),
            ),
            (
                "VIP ports",
                collect(&|i| flow(v4(1), v4(0x101), 40000, i as u16, 17)),
            ),
            (
                "v6 clients in a row",
                collect(&|i| flow(v6(i.into()), v6(1 << 64), 40000, 80, 6)),
            ),
            (
                "v6 networks",
                collect(&|i| flow(v6(u128::from(i) << 64), v6(1), 40000, 80, 6)),
            ),
            ("addresses of v4", collect(&|i| source(v4(i)))),
            ("addresses of v6", collect(&|i| source(v6(i.into())))),
        ]
    }

    #[test]
    #[cfg_attr(miri, ignore = "tens of thousands of hashes")]
    fn flows_spread_evenly_over_any_number_of_servers() {
        for (what, hashes) in families() {
            for bins in [3, 10, 100, 997, 65_537] {
                let deviation = deviation(hashes.iter().map(|&hash| reduce(hash, bins)), bins);
                assert!(
                    deviation.abs() < 6.0,
                    "{what} over {bins}: {deviation:.1} sigma"
                );
            }
        }
    }

    /// Their bins are at most twice as uneven as those of random numbers; they may be more even.
    #[test]
    #[cfg_attr(miri, ignore = "tens of thousands of hashes")]
    fn ports_and_addresses_in_a_row_do_not_crowd() {
        let addresses: [fn(u32) -> AddressWords; 4] = [
            |vip| v4(vip),
            |vip| v4(vip << 8),
            |vip| v6(vip.into()),
            |vip| v6(u128::from(vip) << 64),
        ];
        for (number, address) in addresses.into_iter().enumerate() {
            for bits in [4, 8, 12, 16] {
                let bins = 1 << bits;
                let chosen = (0..1 << 16).map(|i| {
                    let [high, low] = address(i >> 4);
                    let hash = multilinear([high, low, u64::from(i & 15) << 8 | 6]);
                    // The bits that a directory uses (`Directory::buckets`).
                    (hash >> 44) as u32 & (bins - 1)
                });
                let excess = deviation(chosen, bins) * (2.0 / f64::from(bins - 1)).sqrt();
                assert!(excess < 1.0, "{number} over 2^{bits}: {excess:.2} more");
            }
        }
    }

    #[test]
    #[cfg_attr(miri, ignore = "tens of thousands of hashes")]
    fn flows_that_differ_have_different_hashes() {
        for (what, mut hashes) in families() {
            let flows = hashes.len();
            hashes.sort_unstable();
            hashes.dedup();
            assert_eq!(hashes.len(), flows, "{what}");
        }
    }

    #[test]
    #[cfg_attr(miri, ignore = "tens of thousands of hashes")]
    fn each_input_bit_flips_each_output_bit_half_of_the_time() {
        const SAMPLES: u64 = 4096;
        let hash = |ports: u32| flow(v4(1), v4(2), (ports >> 16) as u16, ports as u16, 6);
        for input in 0..32 {
            let mut flips = [0u32; 64];
            for sample in 0..SAMPLES {
                let ports = finish(sample) as u32;
                let changed = hash(ports) ^ hash(ports ^ 1 << input);
                (0..64).for_each(|bit| flips[bit] += (changed >> bit & 1) as u32);
            }
            for (output, &count) in flips.iter().enumerate() {
                let share = f64::from(count) / SAMPLES as f64;
                assert!(
                    (share - 0.5).abs() < 0.05,
                    "input bit {input}, output bit {output}: {share}"
                );
            }
        }
    }

    #[test]
    fn reduce_stays_below_its_bound() {
        for n in [1, 2, 3, 65_537, u32::MAX] {
            assert_eq!(reduce(0, n), 0);
            assert_eq!(reduce(u64::MAX, n), n - 1);
        }
    }

    #[test]
    fn hashes_never_change() {
        assert_eq!(
            [
                flow(v4(1), v4(0x101), 40000, 80, 6),
                flow(v6(1), v6(2), 40000, 80, 6),
                name("web-1", 0),
                source(v4(1)),
            ],
            [
                7813574726041282245,
                4233052689264454673,
                17740031977923108770,
                6646069848429986680
            ]
        );
    }
}
