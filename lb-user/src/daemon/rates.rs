//! Rates, from counters sampled now and then.

use std::time::{Duration, Instant};

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

/// The counters as they were when they were sampled last, and how fast they grew until then.
#[derive(Default)]
pub struct Rates {
    counted: HashMap<Counted, Growth>,
    sampled: Option<Instant>,
    /// When somebody asked for them last.
    asked: Option<Instant>,
}

/// Least time from one sample to the next. While somebody asks for rates samples are wanted each second, and may be late.
const LEAST: Duration = Duration::from_millis(500);
/// The same as long as nobody has asked for rates in so long a time: to read the counters of thousands of virtual servers takes
/// milliseconds.
const UNASKED: Duration = Duration::from_secs(10);

struct Growth {
    counters: Counters,
    rate: Rate,
    /// When. What isn't part of a later sample hasn't grown.
    sampled: Instant,
}

/// A sample that is being taken.
pub struct Sample<'a> {
    rates: &'a mut Rates,
    now: Instant,
    /// Since the last one; `None`: there is none.
    seconds: Option<f64>,
}

impl Rates {
    /// Somebody asks for them.
    pub const fn asked(&mut self, now: Instant) {
        self.asked = Some(now);
    }

    /// Whether it is time for a sample.
    pub fn is_due(&self, now: Instant) -> bool {
        let has_passed =
            |time, since: Option<Instant>| since.is_none_or(|it| now.duration_since(it) >= time);
        let is_asked = !has_passed(UNASKED, self.asked);
        has_passed(if is_asked { LEAST } else { UNASKED }, self.sampled)
    }

    /// Begins a sample, of all counters that may have grown since the last one.
    pub fn sample(&mut self, now: Instant) -> Sample<'_> {
        let before = self.sampled.replace(now);
        Sample {
            rates: self,
            now,
            seconds: before.map(|before| now.duration_since(before).as_secs_f64()),
        }
    }

    /// The rates at the last sample.
    pub fn of(&self, key: Counted) -> Rate {
        let growth = self.counted.get(&key);
        growth
            .filter(|it| Some(it.sampled) == self.sampled)
            .map(|it| it.rate)
            .unwrap_or_default()
    }
}

impl Sample<'_> {
    /// Adds what is counted now. Whether that is not what it was: all counters begin with zeros.
    pub fn add(&mut self, key: Counted, counters: Counters) -> bool {
        let before = self.rates.counted.get(&key);
        let before = before.map(|it| it.counters).unwrap_or_default();
        if counters == before {
            return false;
        }
        let rate = |now: u64, before: u64| {
            let grown = now.saturating_sub(before) as f64;
            self.seconds
                .map_or(0, |seconds| (grown / seconds).round() as u64)
        };
        let growth = Growth {
            counters,
            rate: Rate {
                packets: rate(counters.packets, before.packets),
                bits: 8 * rate(counters.bytes, before.bytes),
                sessions: rate(counters.sessions, before.sessions),
            },
            sampled: self.now,
        };
        self.rates.counted.insert(key, growth);
        true
    }
}

#[cfg(test)]
mod tests {
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

    /// Samples, two seconds apart. What each addition said, and the rates after the last one.
    fn sample(samples: &[Option<Counters>]) -> (Vec<bool>, Rate) {
        let start = Instant::now();
        let mut rates = Rates::default();
        let mut grown = Vec::new();
        for (number, counters) in (0..).zip(samples) {
            let mut sample = rates.sample(start + Duration::from_secs(2) * number);
            grown.extend(counters.map(|counters| sample.add(KEY, counters)));
        }
        (grown, rates.of(KEY))
    }

    #[test]
    fn a_rate_is_the_growth_between_two_samples() {
        let before = Some(counters(100, 10_000, 10));
        assert_eq!(sample(&[before]), (vec![true], Rate::default()));
        let expected = Rate {
            packets: 100,
            bits: 160_000,
            sessions: 3,
        };
        let after = Some(counters(300, 50_000, 16));
        assert_eq!(sample(&[before, after]), (vec![true; 2], expected));
    }

    #[test]
    fn what_is_new_since_the_last_sample_began_with_zeros() {
        let (grown, rate) = sample(&[None, Some(counters(200, 20_000, 20))]);
        assert_eq!((grown, rate.packets), (vec![true], 100));
    }

    #[test]
    fn what_has_not_grown_has_no_rate() {
        let [before, after] = [100, 300].map(|packets| Some(counters(packets, 0, 0)));
        let (grown, rate) = sample(&[before, after, after]);
        assert_eq!((grown, rate), (vec![true, true, false], Rate::default()));
        let (_, rate) = sample(&[before, after, None]);
        assert_eq!(rate, Rate::default());
    }

    #[test]
    fn samples_are_rare_while_nobody_asks() {
        let start = Instant::now();
        let mut rates = Rates::default();
        // Asked every second from 40 s to 45 s.
        let sampled = (0..70).filter(|&second| {
            let now = start + Duration::from_secs(second);
            if (40..=45).contains(&second) {
                rates.asked(now);
            }
            let is_due = rates.is_due(now);
            is_due.then(|| rates.sample(now)).is_some()
        });
        let before = [0, 10, 20, 30];
        let expected = before.into_iter().chain(40..55).chain([64]);
        assert_eq!(Vec::from_iter(sampled), Vec::from_iter(expected));
    }

    #[test]
    fn who_asks_twice_at_once_gets_the_same() {
        let start = Instant::now();
        let mut rates = Rates::default();
        rates.sample(start);
        let now = start + Duration::from_millis(100);
        rates.asked(now);
        assert!(!rates.is_due(now));
    }

    #[test]
    fn a_counter_that_began_anew_has_no_rate() {
        let [before, after] = [counters(100, 10_000, 10), counters(5, 500, 1)].map(Some);
        let (_, rate) = sample(&[before, after]);
        assert_eq!(rate, Rate::default());
    }
}
