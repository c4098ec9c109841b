//! Rates, from the counters of bindings, sampled now and then.

use std::time::{Duration, Instant};

use foldhash::HashMap;
use lb_common::Counters;

/// What was counted in a second.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Rate {
    /// Forwarded packets.
    pub packets: u64,
    /// Bits of those.
    pub bits: u64,
    /// Sessions that began.
    pub sessions: u64,
    /// Sessions that began or moved there.
    pub arrivals: u64,
}

/// The counters as they were when they were sampled last, and how fast they grew until then.
#[derive(Default)]
pub struct Rates {
    /// By index in `binding_counters`.
    counted: HashMap<u32, Growth>,
    sampled: Option<Instant>,
    /// From the sample before to that one; `None`: there was none.
    seconds: Option<f64>,
    /// How long it took to read the counters then.
    took: Duration,
    /// When somebody asked for them last.
    asked: Option<Instant>,
}

/// Least time from one sample to the next. While somebody asks for rates samples are wanted each second, and may be late.
const LEAST: Duration = Duration::from_millis(500);
/// The same as long as nobody has asked for rates in so long a time.
const UNASKED: Duration = Duration::from_secs(10);
/// Nor do they take more of the time then than one part of so many: to read the counters of a hundred thousand bindings takes tens of
/// milliseconds.
const PARTS: u32 = 4000;
/// But so often they are taken even if one took very long.
const SELDOM: Duration = Duration::from_secs(300);

struct Growth {
    counters: Counters,
    /// Since the sample before.
    grown: Counters,
    /// When. What isn't part of a later sample hasn't grown.
    sampled: Instant,
}

/// A sample that is being taken.
pub struct Sample<'a> {
    rates: &'a mut Rates,
    now: Instant,
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
        let unasked = UNASKED.max(self.took * PARTS).min(SELDOM);
        has_passed(if is_asked { LEAST } else { unasked }, self.sampled)
    }

    /// Notes how long the last sample took.
    pub const fn took(&mut self, time: Duration) {
        self.took = time;
    }

    /// Begins a sample, of all counters that may have grown since the last one.
    pub fn sample(&mut self, now: Instant) -> Sample<'_> {
        let before = self.sampled.replace(now);
        self.seconds = before.map(|before| now.duration_since(before).as_secs_f64());
        Sample { rates: self, now }
    }

    /// The rate of these bindings together, at the last sample.
    pub fn of(&self, indices: impl IntoIterator<Item = u32>) -> Rate {
        let growths = indices
            .into_iter()
            .filter_map(|index| self.counted.get(&index));
        let grown = growths
            .filter(|it| Some(it.sampled) == self.sampled)
            .fold(Counters::default(), |sum, it| sum.plus(it.grown));
        let rate = |grown: u64| {
            self.seconds
                .map_or(0, |seconds| (grown as f64 / seconds).round() as u64)
        };
        Rate {
            packets: rate(grown.packets),
            bits: rate(8 * grown.bytes),
            sessions: rate(grown.sessions),
            arrivals: rate(grown.sessions + grown.moved),
        }
    }
}

impl Sample<'_> {
    /// Adds what is counted now. All counters begin with zeros.
    pub fn add(&mut self, index: u32, counters: Counters) {
        let before = self.rates.counted.get(&index);
        let before = before.map(|it| it.counters).unwrap_or_default();
        if counters == before {
            return;
        }
        let growth = Growth {
            counters,
            grown: Counters {
                packets: counters.packets.saturating_sub(before.packets),
                bytes: counters.bytes.saturating_sub(before.bytes),
                sessions: counters.sessions.saturating_sub(before.sessions),
                moved: counters.moved.saturating_sub(before.moved),
            },
            sampled: self.now,
        };
        self.rates.counted.insert(index, growth);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const INDEX: u32 = 1;

    fn counters(packets: u64, bytes: u64, sessions: u64) -> Counters {
        Counters {
            packets,
            bytes,
            sessions,
            moved: 0,
        }
    }

    /// The rates after the last of these samples, two seconds apart.
    fn sample(samples: &[Option<Counters>]) -> Rate {
        let start = Instant::now();
        let mut rates = Rates::default();
        for (number, counters) in (0..).zip(samples) {
            let mut sample = rates.sample(start + Duration::from_secs(2) * number);
            if let Some(counters) = counters {
                sample.add(INDEX, *counters);
            }
        }
        rates.of([INDEX])
    }

    #[test]
    fn a_rate_is_the_growth_between_two_samples() {
        let before = Some(counters(100, 10_000, 10));
        assert_eq!(sample(&[before]), Rate::default());
        let expected = Rate {
            packets: 100,
            bits: 160_000,
            sessions: 3,
            arrivals: 3,
        };
        let after = Some(counters(300, 50_000, 16));
        assert_eq!(sample(&[before, after]), expected);
    }

    #[test]
    fn what_is_new_since_the_last_sample_began_with_zeros() {
        assert_eq!(
            sample(&[None, Some(counters(200, 20_000, 20))]).packets,
            100
        );
    }

    #[test]
    fn what_has_not_grown_has_no_rate() {
        let [before, after] = [100, 300].map(|packets| Some(counters(packets, 0, 0)));
        assert_eq!(sample(&[before, after, after]), Rate::default());
        assert_eq!(sample(&[before, after, None]), Rate::default());
    }

    #[test]
    fn the_rate_of_many_is_rounded_once() {
        let start = Instant::now();
        let mut rates = Rates::default();
        rates.sample(start);
        let mut sample = rates.sample(start + Duration::from_secs(10));
        for index in 0..5 {
            sample.add(index, counters(4, 40, 2));
        }
        assert_eq!(rates.of([0]).packets, 0);
        let all = rates.of(0..5);
        assert_eq!((all.packets, all.bits, all.sessions), (2, 160, 1));
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
    fn samples_that_take_long_are_rarer_while_nobody_asks() {
        let start = Instant::now();
        let mut rates = Rates::default();
        rates.sample(start);
        rates.took(Duration::from_millis(10));
        assert!(!rates.is_due(start + Duration::from_secs(39)));
        assert!(rates.is_due(start + Duration::from_secs(40)));
        rates.took(Duration::from_secs(10));
        assert!(rates.is_due(start + Duration::from_secs(300)));
        let now = start + Duration::from_secs(1);
        rates.asked(now);
        assert!(rates.is_due(now));
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
        assert_eq!(sample(&[before, after]), Rate::default());
    }
}
