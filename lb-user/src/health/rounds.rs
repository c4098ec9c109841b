//! When each check is sent.

use std::{
    collections::BTreeMap,
    hash::{DefaultHasher, Hash, Hasher},
    mem,
    sync::Arc,
    time::{Duration, Instant},
};

use super::Check;
use crate::schedule::Schedule;

/// New checks are sent within this time, so that real servers that come are up soon ...
const FIRST_WITHIN: Duration = Duration::from_millis(500);
/// ... and from the second time on over the interval. Each round is shorter or longer by up to this part of it, so that
/// checks that have come together part again.
const JITTER: f64 = 0.1;
/// How soon a check is sent once it can be.
const RETRY: Duration = Duration::from_millis(50);

/// The checks that go on.
#[derive(Debug, Default)]
pub(super) struct Rounds {
    /// How often each was sent.
    checks: BTreeMap<Arc<Check>, u64>,
    due: Schedule<Arc<Check>>,
}

impl Rounds {
    /// Goes on with these checks and no others.
    pub(super) fn set<'a>(&mut self, checks: impl Iterator<Item = &'a Arc<Check>>, now: Instant) {
        let mut before = mem::take(&mut self.checks);
        for check in checks {
            let rounds = before.remove(check).unwrap_or_else(|| {
                let within = FIRST_WITHIN.min(check.interval);
                let first = now + within.mul_f64(spread(check, 0));
                self.due.set(Arc::clone(check), first);
                0
            });
            self.checks.insert(Arc::clone(check), rounds);
        }
        before.keys().for_each(|gone| self.due.cancel(gone));
    }

    /// When there is something to do next.
    pub(super) fn wake_at(&self) -> Option<Instant> {
        self.due.earliest()
    }

    /// Takes a check that is to be sent now. It won't come again before it has timed out.
    pub(super) fn next_due(&mut self, now: Instant) -> Option<Arc<Check>> {
        let check = self.due.pop_due(now)?;
        let rounds = self.checks.get_mut(&check)?;
        *rounds += 1;
        let part = match *rounds {
            1 => 0.5 + spread(&check, 1),
            n => 1.0 - JITTER + 2.0 * JITTER * spread(&check, n),
        };
        let pause = check.interval.mul_f64(part).max(check.timeout);
        self.due.set(Arc::clone(&check), now + pause);
        Some(check)
    }

    /// A check that was due could not be sent yet.
    pub(super) fn retry(&mut self, check: Arc<Check>, now: Instant) {
        if let Some(rounds) = self.checks.get_mut(&check) {
            *rounds -= 1;
            self.due.set(check, now + RETRY);
        }
    }
}

/// From 0 to 1, evenly over checks and rounds.
fn spread(check: &Check, round: u64) -> f64 {
    let mut hasher = DefaultHasher::new();
    (check, round).hash(&mut hasher);
    hasher.finish() as f64 / u64::MAX as f64
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::config::HealthCheck;

    const MILLISECOND: Duration = Duration::from_millis(1);
    const SECOND: Duration = Duration::from_secs(1);

    fn check(host: u16) -> Arc<Check> {
        let [high, low] = host.to_be_bytes();
        Arc::new(Check {
            server: format!("web-{host}"),
            address: [10, 9, high, low].into(),
            path: None,
            what: HealthCheck::Arp,
            interval: 2 * SECOND,
            timeout: SECOND,
            rise: 2,
            fall: 3,
        })
    }

    fn with(checks: &[Arc<Check>], now: Instant) -> Rounds {
        let mut rounds = Rounds::default();
        rounds.set(checks.iter(), now);
        rounds
    }

    /// When each check is sent until `end`.
    fn sent(checks: &[Arc<Check>], end: Duration) -> BTreeMap<Arc<Check>, Vec<Duration>> {
        let start = Instant::now();
        let mut rounds = with(checks, start);
        let mut sent = BTreeMap::<_, Vec<_>>::new();
        while let Some(now) = rounds.wake_at().filter(|&at| at < start + end) {
            while let Some(check) = rounds.next_due(now) {
                sent.entry(check).or_default().push(now - start);
            }
        }
        sent
    }

    #[test]
    fn a_check_goes_out_once_in_each_interval() {
        let sent = sent(&[check(1)], 200 * SECOND);
        let times = &sent[&check(1)];
        assert!((95..=105).contains(&times.len()), "{}", times.len());
        assert!(times[0] < FIRST_WITHIN);
        for pair in times[1..].windows(2) {
            let pause = pair[1] - pair[0];
            assert!((1800 * MILLISECOND..=2200 * MILLISECOND).contains(&pause));
        }
    }

    /// Of 2,000 checks in 2 s, 100 ms see 100 on average.
    #[test]
    fn many_checks_make_no_burst() {
        let checks: Vec<_> = (0..2000).map(check).collect();
        let mut slices = BTreeMap::<_, u32>::new();
        for at in sent(&checks, 60 * SECOND).into_values().flatten() {
            *slices.entry(at.as_millis() / 100).or_default() += 1;
        }
        let later: Vec<_> = slices.range(40..599).map(|(_, &count)| count).collect();
        assert!(
            later.iter().all(|count| (50..=150).contains(count)),
            "{later:?}"
        );
        assert!(slices.values().all(|&count| count < 500), "{slices:?}");
    }

    #[test]
    fn a_check_that_ended_is_not_sent() {
        let start = Instant::now();
        let mut rounds = with(&[1, 2, 3].map(check), start);
        rounds.set([check(3)].iter(), start);
        let end = start + 10 * SECOND;
        assert_eq!(rounds.next_due(end), Some(check(3)));
        assert_eq!(rounds.next_due(end), None);
        rounds.set([].iter(), start);
        rounds.retry(check(3), start);
        assert_eq!(rounds.wake_at(), None);
    }

    #[test]
    fn checks_that_stay_keep_their_rounds_when_others_come() {
        let start = Instant::now();
        let mut rounds = with(&[check(1)], start);
        let due = rounds.wake_at();
        rounds.set([1, 2].map(check).iter(), start + MILLISECOND);
        assert_eq!(rounds.due.pop_due(due.unwrap()), Some(check(1)));
    }

    #[test]
    fn a_check_that_could_not_be_sent_is_tried_again_soon() {
        let start = Instant::now();
        let mut rounds = with(&[check(1)], start);
        for n in 1..=20 {
            let now = start + SECOND + n * RETRY;
            assert_eq!(rounds.next_due(now), Some(check(1)));
            rounds.retry(check(1), now);
            assert_eq!(rounds.wake_at(), Some(now + RETRY));
        }
        // As if it had just begun.
        assert_eq!(rounds.checks[&check(1)], 0);
    }

    proptest! {
        /// Whatever the intervals, a check is over before it is sent again.
        #[test]
        fn a_request_ends_before_the_next_one_begins(
            interval in 100u64..10_000, part in 1u64..=100, host in any::<u16>(),
        ) {
            let interval = Duration::from_millis(interval);
            let timeout = interval * part as u32 / 100;
            let check = Arc::new(Check { interval, timeout, ..(*check(host)).clone() });
            let sent = sent(&[Arc::clone(&check)], 50 * interval);
            let times = &sent[&check];
            prop_assert!(times.windows(2).all(|pair| pair[1] - pair[0] >= timeout));
            prop_assert!((44..=57).contains(&times.len()), "{}", times.len());
        }
    }
}
