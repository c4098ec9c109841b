//! From the outcomes of checks to what is up.

use std::{collections::HashMap, net::IpAddr, sync::Arc, time::Duration};

use tracing::debug;

use super::{Check, Failure, Outcome};
use crate::config::VirtualServer;

/// What is said of a check that has never been sent.
pub const NOT_CHECKED: &str = "not checked yet";

/// The states of all checks.
#[derive(Debug, Default)]
pub struct States(HashMap<Arc<Check>, State>);

/// Whether a check says that its real server is up.
///
/// It changes after `rise` or `fall` equal outcomes in a row; but the first of all that passes counts at once. What could not be
/// sent doesn't count: the trouble of this host tells nothing of the real servers, and must not take them all down.
#[derive(Debug)]
pub struct State {
    /// `None`: it is up.
    down: Option<Down>,
    last: Option<Outcome>,
    /// Whether the last one that counts has passed.
    passed: Option<bool>,
    /// How many that count were like it in the end.
    in_a_row: u32,
}

/// Why a check says that its real server is down.
#[derive(Debug, PartialEq, Eq)]
struct Down {
    /// `None`: it has never been sent.
    failure: Option<Failure>,
    /// How many there were in a row when they began to count; 0 for what doesn't count.
    in_a_row: u32,
}

// === impl States ===

impl States {
    /// Follows these checks and no others. New ones begin up or down, as they say.
    pub fn set(&mut self, checks: impl Iterator<Item = (Arc<Check>, bool)>) {
        let mut before = std::mem::take(&mut self.0);
        self.0 = checks
            .map(|(check, is_up)| {
                let state = before.remove(&check);
                (check, state.unwrap_or_else(|| State::new(is_up)))
            })
            .collect();
    }

    /// A check's real server is gone from the network. If it comes back it is asked before it is up: a machine that has
    /// rebooted is there before its service.
    pub fn forget(&mut self, check: &Check) {
        if let Some(state) = self.0.get_mut(check).filter(|state| state.is_up()) {
            *state = State::new(false);
        }
    }

    /// Takes an outcome in. Whether what is down has changed, or why.
    pub fn record(&mut self, check: &Check, outcome: Outcome) -> bool {
        let Some(state) = self.0.get_mut(check) else {
            return false;
        };
        let was_up = state.is_up();
        let changed = state.record(check, outcome);
        if state.is_up() != was_up {
            let now = if was_up { "down" } else { "up" };
            debug!(real_server = %check.server, check = %check.what, "check says {now}");
        }
        changed
    }

    /// The state of a check that is followed.
    pub fn get(&self, check: &Check) -> Option<&State> {
        self.0.get(check)
    }

    /// Whether no check that says down waits for its first outcome.
    pub fn are_settled(&self) -> bool {
        let mut states = self.0.values();
        states.all(|state| state.is_up() || state.last.is_some())
    }

    /// Whether all checks say that this real server of a virtual server is up.
    ///
    /// # Errors
    /// Why not, as a person would say it.
    pub fn of(
        &self,
        server: &str,
        address: IpAddr,
        virtual_server: &VirtualServer,
    ) -> Result<(), String> {
        let mut failures = Vec::new();
        let mut all_known = true;
        for check in Check::all_of(server, address, virtual_server) {
            let down = self
                .get(&check)
                .map_or(Some(&Down::UNKNOWN), |state| state.down.as_ref());
            match down {
                None => {}
                Some(Down { failure: None, .. }) => all_known = false,
                Some(down) => failures.push(down.explain(&check)),
            }
        }
        // Of several checks one has come first.
        match (failures.is_empty(), all_known) {
            (false, _) => Err(failures.join("; ")),
            (true, false) => Err(NOT_CHECKED.to_owned()),
            (true, true) => Ok(()),
        }
    }
}

// === impl State ===

impl State {
    fn new(is_up: bool) -> Self {
        Self {
            down: (!is_up).then_some(Down::UNKNOWN),
            last: None,
            passed: None,
            in_a_row: 0,
        }
    }

    fn record(&mut self, check: &Check, outcome: Outcome) -> bool {
        let is_first = self.passed.is_none();
        let counts = !matches!(outcome, Err(Failure::Unsent(_)));
        if counts {
            self.in_a_row = match self.passed.replace(outcome.is_ok()) {
                Some(passed) if passed == outcome.is_ok() => self.in_a_row.saturating_add(1),
                _ => 1,
            };
        }
        let down = |failure: &Failure| {
            Some(Down {
                failure: Some(failure.clone()),
                in_a_row: if counts { self.in_a_row } else { 0 },
            })
        };
        let next = match (&outcome, &self.down) {
            (Ok(_), Some(_)) if is_first || self.in_a_row >= check.rise => Some(None),
            (Err(failure), None) if counts && self.in_a_row >= check.fall => Some(down(failure)),
            (Err(failure), Some(known)) if known.failure.as_ref() != Some(failure) => {
                Some(down(failure))
            }
            _ => None,
        };
        self.last = Some(outcome);
        let changed = next.is_some();
        if let Some(next) = next {
            self.down = next;
        }
        changed
    }

    /// Whether it says that its real server is up.
    pub const fn is_up(&self) -> bool {
        self.down.is_none()
    }

    /// Whether it passed when it was last sent.
    pub const fn passed(&self) -> bool {
        matches!(self.last, Some(Ok(_)))
    }

    /// How long the last answer took; `None` if there was none, or nobody knows.
    pub fn latency(&self) -> Option<Duration> {
        self.last.clone()?.ok()?
    }

    /// What a person would say of the last outcome; nothing, if all is well.
    pub fn message(&self, check: &Check) -> String {
        let n = self.in_a_row;
        match &self.last {
            None => Down::UNKNOWN.explain(check),
            Some(Ok(_)) if self.is_up() => String::new(),
            Some(Ok(_)) => format!("passed ({n} in a row, up after {})", check.rise),
            Some(Err(failure @ Failure::Unsent(_))) => check.explain(failure),
            Some(Err(failure)) if self.is_up() => format!(
                "{} ({n} in a row, down after {})",
                check.explain(failure),
                check.fall
            ),
            Some(Err(failure)) => format!("{} ({n} in a row)", check.explain(failure)),
        }
    }
}

// === impl Down ===

impl Down {
    const UNKNOWN: Self = Self {
        failure: None,
        in_a_row: 0,
    };

    fn explain(&self, check: &Check) -> String {
        match &self.failure {
            None => NOT_CHECKED.to_owned(),
            Some(failure) if self.in_a_row == 0 => check.explain(failure),
            Some(failure) => format!("{} ({} in a row)", check.explain(failure), self.in_a_row),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::{collection::vec, prelude::*};
    use rstest::rstest;

    use super::*;
    use crate::config::Config;

    const LATENCY: Duration = Duration::from_millis(3);

    fn virtual_server(rise: u32, fall: u32) -> VirtualServer {
        let config = format!(
            "interfaces: [{{ name: eth0 }}]\n\
             virtual_servers: [{{ name: shop, vip: 10.9.1.1, protocol: tcp, port: 80, \
             health: {{ checks: [icmp: {{ via: real }}], rise: {rise}, fall: {fall} }} }}]"
        );
        let mut config = Config::parse("lb.yaml", &config).unwrap();
        config.virtual_servers.remove(0)
    }

    fn address() -> IpAddr {
        [10, 9, 0, 11].into()
    }

    fn check(rise: u32, fall: u32) -> Arc<Check> {
        let virtual_server = virtual_server(rise, fall);
        let mut checks = Check::all_of("web", address(), &virtual_server);
        checks.next().unwrap()
    }

    fn outcome(passes: bool) -> Outcome {
        let failure = Failure::Silence("echo reply");
        if passes {
            Ok(Some(LATENCY))
        } else {
            Err(failure)
        }
    }

    /// The states (`U` up, `d` down) after each outcome (`+` passed, `-` failed), with a rise of 2 and a fall of 3.
    #[rstest]
    #[case::the_first_answer_counts_at_once(false, "+-+", "UUU")]
    #[case::silent_from_the_start(false, "--+-++", "dddddU")]
    #[case::it_falls_after_three(true, "+---", "UUUd")]
    #[case::it_rises_after_two(true, "---+++", "UUddUU")]
    #[case::two_failures_are_forgiven(true, "--+--+--+", "UUUUUUUUU")]
    #[case::single_answers_do_not_help(true, "---+-+-+-", "UUddddddd")]
    fn states_follow_rise_and_fall(
        #[case] is_up: bool,
        #[case] outcomes: &str,
        #[case] expected: &str,
    ) {
        let check = check(2, 3);
        let mut state = State::new(is_up);
        let seen: String = outcomes
            .chars()
            .map(|sign| {
                state.record(&check, outcome(sign == '+'));
                if state.is_up() { 'U' } else { 'd' }
            })
            .collect();
        assert_eq!(seen, expected);
    }

    #[test]
    fn the_reason_is_that_of_the_fall_and_the_message_counts_on() {
        let check = check(2, 3);
        let mut states = States::default();
        let virtual_server = virtual_server(2, 3);
        let of = |states: &States| states.of("web", address(), &virtual_server);
        let reason = |states: &States| of(states).unwrap_err();
        assert_eq!(reason(&states), "not checked yet");
        states.set([(Arc::clone(&check), false)].into_iter());
        assert_eq!(reason(&states), "not checked yet");
        assert!(!states.are_settled());
        assert!(states.record(&check, outcome(true)));
        assert_eq!(of(&states), Ok(()));
        assert!(states.are_settled());
        let state = states.get(&check).unwrap();
        assert_eq!(
            (
                state.passed(),
                state.latency(),
                state.message(&check).as_str()
            ),
            (true, Some(LATENCY), "")
        );

        assert!(!states.record(&check, outcome(false)));
        let message = |states: &States| states.get(&check).unwrap().message(&check);
        assert_eq!(
            message(&states),
            "no echo reply from 10.9.0.11 in 1s (1 in a row, down after 3)"
        );
        assert!(!states.record(&check, outcome(false)));
        assert!(states.record(&check, outcome(false)));
        assert!(!states.record(&check, outcome(false)));
        assert_eq!(
            reason(&states),
            "no echo reply from 10.9.0.11 in 1s (3 in a row)"
        );
        assert_eq!(
            message(&states),
            "no echo reply from 10.9.0.11 in 1s (4 in a row)"
        );
        assert_eq!(states.get(&check).unwrap().latency(), None);
        assert!(!states.record(&check, outcome(true)));
        assert_eq!(message(&states), "passed (1 in a row, up after 2)");
    }

    #[test]
    fn another_reason_replaces_the_first() {
        let check = check(2, 3);
        let mut states = States::default();
        states.set([(Arc::clone(&check), false)].into_iter());
        assert!(states.record(&check, outcome(false)));
        let unsent = Failure::Unsent("too many open files".to_owned());
        assert!(states.record(&check, Err(unsent.clone())));
        assert!(!states.record(&check, Err(unsent)));
        assert_eq!(
            states
                .of("web", address(), &virtual_server(2, 3))
                .unwrap_err(),
            "can't send to 10.9.0.11: too many open files"
        );
    }

    #[test]
    fn a_server_that_is_gone_is_asked_before_it_is_up_again() {
        let check = check(2, 3);
        let mut states = States::default();
        let is_up = |states: &States| states.get(&check).unwrap().is_up();
        states.set([(Arc::clone(&check), true)].into_iter());
        states.record(&check, outcome(false));
        states.forget(&check);
        assert!(!is_up(&states));
        assert!(states.record(&check, outcome(true)));
        assert!(is_up(&states));
        // One that was found dead stays so, and is no news again and again.
        for _ in 0..3 {
            states.record(&check, outcome(false));
        }
        states.forget(&check);
        assert!(!states.record(&check, outcome(false)));
        assert!(!states.record(&check, outcome(true)));
        assert!(states.record(&check, outcome(true)));
    }

    #[test]
    fn what_could_not_be_sent_takes_nobody_down() {
        let check = check(2, 3);
        let mut states = States::default();
        states.set([(Arc::clone(&check), true)].into_iter());
        let unsent = || Err(Failure::Unsent("too many open files".to_owned()));
        let mut record = |outcome| {
            states.record(&check, outcome);
            let state = states.get(&check).unwrap();
            (state.is_up(), state.passed(), state.message(&check))
        };
        record(outcome(true));
        let words = "can't send to 10.9.0.11: too many open files";
        for _ in 0..10 {
            assert_eq!(record(unsent()), (true, false, words.to_owned()));
        }
        // Two failures before it and one behind are three in a row.
        record(outcome(false));
        record(outcome(false));
        assert!(record(unsent()).0);
        assert!(!record(outcome(false)).0);
        assert!(!record(unsent()).0);
        record(outcome(true));
        assert!(record(outcome(true)).0);
    }

    #[test]
    fn checks_that_stay_keep_their_state_when_others_come_and_go() {
        let (first, second) = (check(2, 3), check(2, 4));
        let mut states = States::default();
        states.set([(Arc::clone(&first), true)].into_iter());
        for _ in 0..3 {
            states.record(&first, outcome(false));
        }
        states.set(
            [&first, &second]
                .map(|check| (Arc::clone(check), true))
                .into_iter(),
        );
        let is_up = |states: &States, check: &Check| states.get(check).map(State::is_up);
        assert_eq!(is_up(&states, &first), Some(false));
        assert_eq!(is_up(&states, &second), Some(true));
        states.set([(Arc::clone(&second), false)].into_iter());
        assert_eq!(is_up(&states, &first), None);
        assert_eq!(is_up(&states, &second), Some(true));
        assert!(!states.record(&first, outcome(true)), "it isn't followed");
    }

    proptest! {
        /// However a real server flaps, a change needs its equal outcomes in a row.
        #[test]
        fn nothing_oscillates_faster_than_rise_and_fall(
            rise in 1u32..=5, fall in 1u32..=5, outcomes in vec(any::<bool>(), 0..200),
        ) {
            let check = check(rise, fall);
            let mut state = State::new(true);
            let mut changes = 0;
            for (n, &passes) in outcomes.iter().enumerate() {
                let was_up = state.is_up();
                state.record(&check, outcome(passes));
                if state.is_up() == was_up {
                    continue;
                }
                changes += 1;
                let needed = if was_up { fall } else { rise } as usize;
                prop_assert!(n + 1 >= needed);
                prop_assert!(outcomes[n + 1 - needed..=n].iter().all(|&it| it != was_up));
            }
            prop_assert!(changes <= 2 * outcomes.len() / (rise + fall) as usize + 1);
        }

        /// As many equal outcomes as it takes always decide.
        #[test]
        fn enough_equal_outcomes_decide(
            rise in 1u32..=5, fall in 1u32..=5, outcomes in vec(any::<bool>(), 0..50), last in any::<bool>(),
        ) {
            let check = check(rise, fall);
            let mut state = State::new(false);
            let needed = if last { rise } else { fall };
            let end = std::iter::repeat_n(last, needed as usize);
            for passes in outcomes.into_iter().chain(end) {
                state.record(&check, outcome(passes));
            }
            prop_assert_eq!(state.is_up(), last);
        }
    }
}
