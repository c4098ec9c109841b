//! What was seen of late, for sparklines.

use std::collections::{HashMap, VecDeque};

use ratatui::symbols::bar;

use crate::api::{
    Status,
    status::{Sessions, Traffic},
};

/// Samples that a sparkline shows.
pub const SAMPLES: usize = 8;

/// A virtual server's name, and a real server's, if it is about one.
pub type Key = (String, Option<String>);

/// Numbers of the last seconds, the newest last.
#[derive(Debug, Default)]
pub struct Samples(VecDeque<u64>);

/// What changes all the time.
#[derive(Debug, Default)]
pub struct History {
    /// Sessions at one time.
    pub active: Samples,
    /// Sessions that began in a second.
    pub new: Samples,
    /// Packets in a second.
    pub packets: Samples,
}

/// Of all virtual servers and real servers that there are.
#[derive(Debug, Default)]
pub struct Histories(HashMap<Key, History>);

impl Histories {
    /// Takes a sample, and forgets who is gone.
    pub fn sample(&mut self, status: &Status) {
        let mut before = std::mem::take(&mut self.0);
        let mut sample = |key: Key, sessions: &Sessions, traffic: &Traffic| {
            let mut history = before.remove(&key).unwrap_or_default();
            history.active.push(sessions.active);
            history.new.push(sessions.per_second);
            history.packets.push(traffic.packets_per_second);
            self.0.insert(key, history);
        };
        for server in &status.virtual_servers {
            let key = (server.name.clone(), None);
            sample(key, &server.sessions, &server.traffic);
            for real in &server.real_servers {
                let key = (server.name.clone(), Some(real.name.clone()));
                sample(key, &real.sessions, &real.traffic);
            }
        }
    }

    /// What was seen of it.
    pub fn get(&self, key: &Key) -> Option<&History> {
        self.0.get(key)
    }
}

impl Samples {
    fn push(&mut self, sample: u64) {
        if self.0.len() == SAMPLES {
            self.0.pop_front();
        }
        self.0.push_back(sample);
    }

    /// Bars from nothing to the highest of these samples.
    pub fn sparkline(&self) -> String {
        const BARS: [&str; 9] = [
            bar::NINE_LEVELS.empty,
            bar::NINE_LEVELS.one_eighth,
            bar::NINE_LEVELS.one_quarter,
            bar::NINE_LEVELS.three_eighths,
            bar::NINE_LEVELS.half,
            bar::NINE_LEVELS.five_eighths,
            bar::NINE_LEVELS.three_quarters,
            bar::NINE_LEVELS.seven_eighths,
            bar::NINE_LEVELS.full,
        ];
        let highest = self.0.iter().max().copied().unwrap_or(0).max(1);
        // What is not nothing is seen.
        let bar = |&sample: &u64| BARS[(u128::from(sample) * 8).div_ceil(highest.into()) as usize];
        self.0.iter().map(bar).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sparkline_has_the_last_samples_and_the_highest_is_full() {
        let mut samples = Samples::default();
        assert_eq!(samples.sparkline(), "");
        samples.push(0);
        assert_eq!(samples.sparkline(), " ");
        for sample in [1000, 0, 1, 4, 8, 2, 0, 6, 8] {
            samples.push(sample);
        }
        assert_eq!(samples.sparkline(), " ▁▄█▂ ▆█");
        samples.push(u64::MAX);
        assert_eq!(samples.sparkline(), "▁▁▁▁ ▁▁█");
    }
}
