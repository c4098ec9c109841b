//! Rates, from counters sampled now and then.

use std::{collections::HashMap, time::Instant};

use lb_common::Counters;

use crate::api::status::Traffic;

/// What a counter belongs to: a virtual server, or a real server bound to it.
pub type Counted = (String, Option<String>);

/// The counters as they were at the last two samples.
#[derive(Default)]
pub struct Rates {
    traffic: HashMap<Counted, Traffic>,
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
        let traffic = counters.map(|(key, counters)| {
            let before = self.traffic.get(&key);
            let packets = before.map_or(counters.packets, |before| before.packets);
            let bytes = before.map_or(counters.bytes, |before| before.bytes);
            let traffic = Traffic {
                packets: counters.packets,
                bytes: counters.bytes,
                packets_per_second: rate(counters.packets, packets),
                bits_per_second: 8 * rate(counters.bytes, bytes),
            };
            (key, traffic)
        });
        self.traffic = traffic.collect();
        self.sampled = Some(now);
    }

    /// What was forwarded until `counters` were read just now, and the rates at the last sample.
    pub fn traffic(&self, key: &Counted, counters: Counters) -> Traffic {
        Traffic {
            packets: counters.packets,
            bytes: counters.bytes,
            ..self.traffic.get(key).copied().unwrap_or_default()
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn key() -> Counted {
        ("shop".to_owned(), None)
    }

    fn counters(packets: u64, bytes: u64) -> Counters {
        Counters { packets, bytes }
    }

    #[test]
    fn a_rate_is_the_growth_between_two_samples() {
        let start = Instant::now();
        let mut rates = Rates::default();
        rates.sample([(key(), counters(100, 10_000))].into_iter(), start);
        assert_eq!(
            rates
                .traffic(&key(), counters(100, 10_000))
                .packets_per_second,
            0
        );
        let later = start + Duration::from_secs(2);
        rates.sample([(key(), counters(300, 50_000))].into_iter(), later);
        let traffic = rates.traffic(&key(), counters(301, 50_100));
        assert_eq!((traffic.packets, traffic.bytes), (301, 50_100));
        assert_eq!(
            (traffic.packets_per_second, traffic.bits_per_second),
            (100, 160_000)
        );
    }

    #[test]
    fn a_counter_that_began_anew_has_no_rate() {
        let start = Instant::now();
        let mut rates = Rates::default();
        rates.sample([(key(), counters(100, 10_000))].into_iter(), start);
        rates.sample(
            [(key(), counters(5, 500))].into_iter(),
            start + Duration::from_secs(1),
        );
        assert_eq!(
            rates.traffic(&key(), counters(5, 500)).packets_per_second,
            0
        );
    }
}
