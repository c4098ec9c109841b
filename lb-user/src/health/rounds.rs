//! When each check is sent.

use std::{
    collections::HashMap,
    hash::{DefaultHasher, Hash, Hasher},
    mem,
    sync::Arc,
    time::{Duration, Instant},
};

use super::{Check, Checks, Route};
use crate::schedule::Schedule;

/// New checks are sent within this time, so that real servers that come are up soon ...
const FIRST_WITHIN: Duration = Duration::from_millis(500);
/// ... and from the second time on over the interval. Each round is shorter or longer by up to this part of it, so that
/// checks that have come together part again.
const JITTER: f64 = 0.1;

/// What stands for a check while it goes on: to compare whole checks, thousands of times a second, costs more than to send
/// them.
pub(super) type Number = u64;

/// The checks that go on.
#[derive(Debug, Default)]
pub(super) struct Rounds {
    checks: HashMap<Number, Round>,
    due: Schedule<Number>,
    next: Number,
}

#[derive(Debug)]
struct Round {
    check: Arc<Check>,
    route: Route,
    /// How often it was sent.
    times: u64,
    /// When it is to be sent again.
    again: Instant,
}

impl Rounds {
    /// Goes on with these checks and no others. Those that have no way wait until they have one, and begin anew then.
    pub(super) fn set(&mut self, checks: &Checks, now: Instant) {
        let before = mem::take(&mut self.checks).into_iter();
        let mut before: HashMap<_, _> = before
            .map(|(number, round)| (Arc::clone(&round.check), (number, round)))
            .collect();
        for (check, route) in checks {
            let (number, round) = match before.remove(check) {
                Some((number, round)) if round.route != Route::Wait && *route != Route::Wait => {
                    let route = route.clone();
                    (number, Round { route, ..round })
                }
                known => {
                    if let Some((number, _)) = known {
                        self.due.cancel(&number);
                    }
                    // One that is under way has its old number, by which nobody knows it any more.
                    let number = self.new_number();
                    if *route != Route::Wait {
                        let within = FIRST_WITHIN.min(check.interval);
                        self.due.set(number, now + within.mul_f64(spread(check, 0)));
                    }
                    let round = Round {
                        check: Arc::clone(check),
                        route: route.clone(),
                        times: 0,
                        again: now,
                    };
                    (number, round)
                }
            };
            self.checks.insert(number, round);
        }
        for (number, _) in before.values() {
            self.due.cancel(number);
        }
    }

    const fn new_number(&mut self) -> Number {
        self.next += 1;
        self.next
    }

    /// When there is something to do next.
    pub(super) fn wake_at(&self) -> Option<Instant> {
        self.due.earliest()
    }

    /// Takes a check that is to be sent now, with its way. It won't come again before it is over: an answer to a later
    /// request must not come before what came of an earlier one.
    pub(super) fn next_due(&mut self, now: Instant) -> Option<(Number, Arc<Check>, Route)> {
        let number = self.due.pop_due(now)?;
        let round = self.checks.get_mut(&number)?;
        round.times += 1;
        let part = match round.times {
            1 => 0.5 + spread(&round.check, 1),
            n => 1.0 - JITTER + 2.0 * JITTER * spread(&round.check, n),
        };
        round.again = now + round.check.interval.mul_f64(part);
        Some((number, Arc::clone(&round.check), round.route.clone()))
    }

    /// A check that was taken is over. Whether it is still of interest: one that has begun anew meanwhile, or ended, is not.
    pub(super) fn is_over(&mut self, number: Number) -> bool {
        let round = self.checks.get(&number);
        if let Some(round) = round {
            self.due.set(number, round.again);
        }
        round.is_some()
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
    use std::collections::BTreeMap;

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
        rounds.set(&ways(checks, Route::Host), now);
        rounds
    }

    fn ways(checks: &[Arc<Check>], route: Route) -> Checks {
        let checks = checks.iter().map(Arc::clone);
        checks.map(|check| (check, route.clone())).collect()
    }

    /// When each check is sent until `end`, if each is over at once.
    fn sent(checks: &[Arc<Check>], end: Duration) -> BTreeMap<Arc<Check>, Vec<Duration>> {
        let start = Instant::now();
        let mut rounds = with(checks, start);
        let mut sent = BTreeMap::<_, Vec<_>>::new();
        while let Some(now) = rounds.wake_at().filter(|&at| at < start + end) {
            while let Some((number, check, _)) = rounds.next_due(now) {
                sent.entry(check).or_default().push(now - start);
                rounds.is_over(number);
            }
        }
        sent
    }

    fn next_due(rounds: &mut Rounds, now: Instant) -> Option<(Arc<Check>, Route)> {
        rounds.next_due(now).map(|(_, check, route)| (check, route))
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
        rounds.set(&ways(&[check(3)], Route::Host), start);
        let end = start + 10 * SECOND;
        assert_eq!(next_due(&mut rounds, end), Some((check(3), Route::Host)));
        assert_eq!(next_due(&mut rounds, end), None);
        rounds.set(&Checks::new(), start);
        assert_eq!(rounds.wake_at(), None);
    }

    #[test]
    fn checks_that_stay_keep_their_rounds_when_others_come() {
        let start = Instant::now();
        let mut rounds = with(&[check(1)], start);
        let due = rounds.wake_at().unwrap();
        let other = Route::None("there is another one now".to_owned());
        rounds.set(
            &ways(&[1, 2].map(check), other.clone()),
            start + MILLISECOND,
        );
        let all: Vec<_> = std::iter::from_fn(|| next_due(&mut rounds, due)).collect();
        assert!(all.contains(&(check(1), other)), "{all:?}");
    }

    #[test]
    fn a_check_without_a_way_waits_for_one_and_begins_anew() {
        let start = Instant::now();
        let mut rounds = with(&[check(1)], start);
        let first = rounds.wake_at().unwrap();
        let (under_way, ..) = rounds.next_due(first).unwrap();
        for _ in 0..2 {
            rounds.set(&ways(&[check(1)], Route::Wait), first);
            assert_eq!(rounds.wake_at(), None);
        }
        let later = start + 10 * SECOND;
        rounds.set(&ways(&[check(1)], Route::Host), later);
        let next = rounds.wake_at().unwrap();
        assert!(next - later < FIRST_WITHIN, "{:?}", next - later);
        assert!(!rounds.is_over(under_way));
        assert_eq!(rounds.wake_at(), Some(next));
        let (number, taken, route) = rounds.next_due(next).unwrap();
        assert_eq!((taken, route), (check(1), Route::Host));
        assert!(rounds.is_over(number));
        let pause = rounds.wake_at().unwrap() - next;
        assert!((SECOND..=3 * SECOND).contains(&pause), "{pause:?}");
    }

    #[test]
    fn a_check_is_over_before_it_is_sent_again() {
        let start = Instant::now();
        let mut rounds = with(&[check(1)], start);
        let mut now = rounds.wake_at().unwrap();
        for took in [SECOND, 10 * SECOND, SECOND] {
            let (number, ..) = rounds.next_due(now).unwrap();
            let end = now + took;
            assert_eq!(rounds.next_due(end), None);
            assert_eq!(rounds.wake_at(), None);
            // It goes on while others come.
            rounds.set(&ways(&[1, 2].map(check), Route::Host), now);
            rounds.set(&ways(&[1].map(check), Route::Host), now);
            assert_eq!(rounds.wake_at(), None);
            assert!(rounds.is_over(number));
            let again = rounds.wake_at().unwrap();
            assert!((SECOND..=3 * SECOND).contains(&(again - now)));
            now = end.max(again);
        }
    }

    proptest! {
        /// Whatever the intervals, a check keeps its pace if each ends by its timeout, and is over before it is sent again.
        #[test]
        fn a_request_ends_before_the_next_one_begins(
            interval in 100u64..10_000, part in 1u64..=100, host in any::<u16>(),
        ) {
            let interval = Duration::from_millis(interval);
            let timeout = interval * part as u32 / 100;
            let check = Arc::new(Check { interval, timeout, ..(*check(host)).clone() });
            let start = Instant::now();
            let mut rounds = with(&[check], start);
            let (mut now, mut times) = (rounds.wake_at().unwrap(), 0);
            while now < start + 50 * interval {
                let (number, ..) = rounds.next_due(now).unwrap();
                times += 1;
                let end = now + timeout;
                prop_assert_eq!(rounds.next_due(end), None);
                rounds.is_over(number);
                now = end.max(rounds.wake_at().unwrap());
            }
            prop_assert!((44..=57).contains(&times), "{}", times);
        }
    }
}
