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
    use crate::config::CheckKind;

    const MILLISECOND: Duration = Duration::from_millis(1);
    const SECOND: Duration = Duration::from_secs(1);

    fn check(host: u16) -> Check {
        let [high, low] = host.to_be_bytes();
        Check {
            address: [10, 9, high, low].into(),
            kind: CheckKind::Icmp,
            interval: 2 * SECOND,
            timeout: SECOND,
            rise: 2,
            fall: 3,
        }
    }

    /// When each check is sent until `end`, if nobody answers; and how many time out.
    fn silence(checks: &[Check], end: Duration) -> (BTreeMap<Check, Vec<Duration>>, usize) {
        let start = Instant::now();
        let mut rounds = Rounds::default();
        rounds.set(&checks.iter().copied().collect(), start);
        let (mut sent, mut timed_out) = (BTreeMap::<_, Vec<_>>::new(), 0);
        while let Some(now) = rounds.wake_at().filter(|&at| at < start + end) {
            while rounds.timed_out(now).is_some() {
                timed_out += 1;
            }
            while let Some(check) = rounds.next_due(now) {
                let times = sent.entry(check).or_default();
                times.push(now - start);
                rounds.sent(token(&check), check, now);
            }
        }
        (sent, timed_out)
    }

    fn token(check: &Check) -> u64 {
        hash::name(&check.address.to_string(), 0)
    }

    #[test]
    fn a_check_goes_out_once_in_each_interval() {
        let (sent, timed_out) = silence(&[check(1)], 200 * SECOND);
        let times = &sent[&check(1)];
        assert!((95..=105).contains(&times.len()), "{}", times.len());
        assert!(times[0] < FIRST_WITHIN);
        for pair in times[1..].windows(2) {
            let pause = pair[1] - pair[0];
            assert!((1800 * MILLISECOND..=2200 * MILLISECOND).contains(&pause));
        }
        assert!(timed_out + 1 >= times.len());
    }

    /// Of 2,000 checks in 2 s, 100 ms see 100 on average.
    #[test]
    fn many_checks_make_no_burst() {
        let checks: Vec<_> = (0..2000).map(check).collect();
        let (sent, _) = silence(&checks, 60 * SECOND);
        let mut slices = BTreeMap::<_, u32>::new();
        for at in sent.into_values().flatten() {
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
    fn an_answer_tells_how_long_it_took() {
        let start = Instant::now();
        let mut rounds = Rounds::default();
        rounds.set(&BTreeSet::from([check(1)]), start);
        rounds.sent(7, check(1), start);
        let later = start + 5 * MILLISECOND;
        let source = check(1).address;
        assert_eq!(rounds.answered(source, 8, later), None, "another token");
        let stranger = check(2).address;
        assert_eq!(rounds.answered(stranger, 7, later), None, "another source");
        assert_eq!(
            rounds.answered(source, 7, later),
            Some((check(1), 5 * MILLISECOND))
        );
        assert_eq!(rounds.answered(source, 7, later), None, "a second answer");
        assert_eq!(rounds.timed_out(start + 10 * SECOND), None);
    }

    #[test]
    fn an_answer_after_the_timeout_comes_too_late() {
        let start = Instant::now();
        let mut rounds = Rounds::default();
        rounds.set(&BTreeSet::from([check(1)]), start);
        rounds.sent(7, check(1), start);
        assert_eq!(rounds.timed_out(start + SECOND - MILLISECOND), None);
        assert_eq!(rounds.timed_out(start + SECOND), Some(check(1)));
        let source = check(1).address;
        assert_eq!(rounds.answered(source, 7, start + SECOND), None);
    }

    #[test]
    fn a_check_that_ended_is_not_sent_and_has_no_outcome() {
        let start = Instant::now();
        let mut rounds = Rounds::default();
        rounds.set(&[1, 2, 3].map(check).into(), start);
        rounds.sent(1, check(1), start);
        rounds.sent(2, check(2), start);
        rounds.set(&BTreeSet::from([check(3)]), start);
        let end = start + 10 * SECOND;
        assert_eq!(rounds.answered(check(1).address, 1, start), None);
        assert_eq!(rounds.timed_out(end), None);
        assert_eq!(rounds.next_due(end), Some(check(3)));
        assert_eq!(rounds.next_due(end), None);
        assert!(rounds.requests.is_empty());
    }

    #[test]
    fn checks_that_stay_keep_their_rounds_when_others_come() {
        let start = Instant::now();
        let mut rounds = Rounds::default();
        rounds.set(&BTreeSet::from([check(1)]), start);
        let due = rounds.wake_at();
        rounds.set(&[1, 2].map(check).into(), start + MILLISECOND);
        assert_eq!(rounds.due.pop_due(due.unwrap()), Some(check(1)));
    }

    proptest! {
        /// Whatever the intervals, a check never has two requests under way.
        #[test]
        fn a_request_ends_before_the_next_one_begins(
            interval in 100u64..10_000, part in 1u64..=100, host in any::<u16>(),
        ) {
            let interval = Duration::from_millis(interval);
            let timeout = interval * part as u32 / 100;
            let check = Check { interval, timeout, ..check(host) };
            let (sent, timed_out) = silence(&[check], 50 * interval);
            let times = &sent[&check];
            prop_assert!(times.windows(2).all(|pair| pair[1] - pair[0] >= timeout));
            prop_assert!((44..=57).contains(&times.len()), "{}", times.len());
            prop_assert!(timed_out + 1 >= times.len());
        }
    }
}
