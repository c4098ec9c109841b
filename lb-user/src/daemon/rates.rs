//! Rates, from counters sampled now and then.

use std::time::Instant;

use foldhash::HashMap;
use lb_common::Counters;

/// What a counter belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Counted {
    /// The virtual server with this id.
    VirtualServer(u32),
    /// The real server, bound to a virtual server, whose counters have this index.
    Binding(u32),
}

/// What was counted in a second.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Rate {
    /// Forwarded packets.
    pub packets: u64,
    /// Bits of those.
    pub bits: u64,
    /// Sessions that began.
    pub sessions: u64,
}

/// The counters as they were at the last sample, and how fast they grew until then.
#[derive(Default)]
pub struct Rates {
    counted: HashMap<Counted, (Counters, Rate)>,
    sampled: Option<Instant>,
}

impl Rates {
    /// Takes a sample of all counters.
    pub fn sample(&mut self, counters: impl Iterator<Item = (Counted, Counters)>, now: Instant) {
        let seconds = self
            .sampled
            .map(|before| now.duration_since(before).as_secs_f64());
        let rate = |now: u64, before: u64| {
            let grown = now.saturating_sub(before) as f64;
            seconds.map_or(0, |seconds| (grown / seconds).round() as u64)
        };
        let counted = counters.map(|(key, counters)| {
            let (before, _) = self
                .counted
                .get(&key)
                .copied()
                .unwrap_or((counters, Rate::default()));
            let rate = Rate {
                packets: rate(counters.packets, before.packets),
                bits: 8 * rate(counters.bytes, before.bytes),
                sessions: rate(counters.sessions, before.sessions),
            };
            (key, (counters, rate))
        });
        self.counted = counted.collect();
        self.sampled = Some(now);
    }

    /// The rates at the last sample.
    pub fn of(&self, key: Counted) -> Rate {
        self.counted
            .get(&key)
            .map(|&(_, rate)| rate)
            .unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    const KEY: Counted = Counted::VirtualServer(1);

    fn counters(packets: u64, bytes: u64, sessions: u64) -> Counters {
        Counters {
            packets,
            bytes,
            sessions,
            reserved: 0,
        }
    }

    #[test]
    fn a_rate_is_the_growth_between_two_samples() {
        let start = Instant::now();
        let mut rates = Rates::default();
        rates.sample([(KEY, counters(100, 10_000, 10))].into_iter(), start);
        assert_eq!(rates.of(KEY), Rate::default());
        let later = start + Duration::from_secs(2);
        rates.sample([(KEY, counters(300, 50_000, 16))].into_iter(), later);
        let expected = Rate {
            packets: 100,
            bits: 160_000,
            sessions: 3,
        };
        assert_eq!(rates.of(KEY), expected);
    }

    #[test]
    fn a_counter_that_began_anew_has_no_rate() {
        let start = Instant::now();
        let mut rates = Rates::default();
        rates.sample([(KEY, counters(100, 10_000, 10))].into_iter(), start);
        let later = start + Duration::from_secs(1);
        rates.sample([(KEY, counters(5, 500, 1))].into_iter(), later);
        assert_eq!(rates.of(KEY), Rate::default());
    }
}
