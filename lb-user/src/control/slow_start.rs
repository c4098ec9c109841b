//! The weight of a real server that has just come up: it rises over a time, the ramp, so that cold caches and
//! connection pools aren't hit by a full share at once.
//!
//! It rises in steps, since each step is a new predictor table.

use std::{
    collections::HashMap,
    sync::Arc,
    time::{Duration, Instant},
};

use super::{Desired, State, WEIGHT_SCALE};
use crate::config::Predictor;

/// The most steps that a ramp has.
const MOST_STEPS: u64 = 32;

/// Since when the real servers are up that have come up lately.
#[derive(Clone, Debug, Default)]
pub struct SlowStarts {
    /// By names of virtual server and real server.
    up_since: HashMap<(String, String), Instant>,
}

impl SlowStarts {
    /// Gives the members of virtual servers that choose the least connections their shares: less than the weight to those
    /// that were not up `before`. How long it is until a share changes next.
    ///
    /// Those of the first state of all have been up for long.
    pub fn apply(
        &mut self,
        before: &Desired,
        next: &mut Desired,
        now: Instant,
    ) -> Option<Duration> {
        let is_first = before.virtual_servers.is_empty();
        let was_up = |virtual_server: &str, server: &str| {
            let before = before.virtual_servers.get(virtual_server);
            let member = before.and_then(|before| before.members.get(server));
            is_first || member.is_some_and(|member| member.state() == State::Up)
        };
        let mut up_since = HashMap::new();
        let mut due: Option<Duration> = None;
        for (name, virtual_server) in &mut next.virtual_servers {
            if virtual_server.predictor != Predictor::LeastConnection {
                continue;
            }
            let virtual_server = Arc::make_mut(virtual_server);
            for (server, member) in &mut virtual_server.members {
                member.share = member.weight * WEIGHT_SCALE;
                let Some(ramp) = virtual_server.slow_start else {
                    continue;
                };
                // The sorry server has nobody to share with.
                let is_sorry = virtual_server.sorry.as_ref() == Some(server);
                if member.state() != State::Up || is_sorry {
                    continue;
                }
                let key = (name.clone(), server.clone());
                let since = if was_up(name, server) {
                    self.up_since.get(&key).copied()
                } else {
                    Some(now)
                };
                let Some(since) = since else {
                    continue;
                };
                let up_for = now.duration_since(since);
                member.share = weight(member.weight, up_for, ramp);
                if let Some(step) = next_step(up_for, ramp) {
                    due = Some(due.map_or(step, |due| due.min(step)));
                    up_since.insert(key, since);
                }
            }
        }
        self.up_since = up_since;
        due
    }
}

/// The weight of a server that has been up for a time: its configured weight (0 to 1000) at first, and from there to
/// [`WEIGHT_SCALE`] times that at the end of the ramp, in a straight line.
fn weight(configured: u16, up_for: Duration, ramp: Duration) -> u16 {
    let full = configured * WEIGHT_SCALE;
    if up_for >= ramp {
        return full;
    }
    let risen = u32::from(full - configured) * taken(up_for, ramp) / steps(ramp);
    configured + risen as u16
}

/// How long it is until the weight changes next. `None` when the ramp is over.
fn next_step(up_for: Duration, ramp: Duration) -> Option<Duration> {
    if up_for >= ramp {
        return None;
    }
    // A step that falls between two nanoseconds has been taken at the second one.
    let next = ramp * (taken(up_for, ramp) + 1) / steps(ramp) + Duration::from_nanos(1);
    Some(next - up_for)
}

/// Steps are a second apart at least.
fn steps(ramp: Duration) -> u32 {
    ramp.as_secs().clamp(1, MOST_STEPS) as u32
}

/// `up_for` is less than `ramp`.
fn taken(up_for: Duration, ramp: Duration) -> u32 {
    (up_for.as_nanos() * u128::from(steps(ramp)) / ramp.as_nanos()) as u32
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use rstest::rstest;

    use super::*;
    use crate::{
        config::{Config, Predictor},
        control::desired::desired,
        health::States,
        net::View,
    };

    const RAMP: Duration = Duration::from_secs(30);

    /// The virtual server `shop` with servers of weight 2, of which these are up.
    fn shop(predictor: Predictor, up: &[&str]) -> Desired {
        let config = Config::parse(
            "lb.yaml",
            "{interfaces: [{name: eth0}], real_servers: {a: 10.9.0.1, b: 10.9.0.2}, virtual_servers: [\
             {name: shop, vip: 10.9.1.1, protocol: tcp, port: 80, bind: [{server: a, weight: 2}, {server: b, weight: 2}]}]}",
        );
        let mut desired = desired(
            &config.unwrap(),
            &View::default(),
            &HashMap::new(),
            &[],
            &States::default(),
        );
        let shop = Arc::make_mut(desired.virtual_servers.get_mut("shop").unwrap());
        shop.predictor = predictor;
        shop.slow_start = Some(RAMP);
        for (name, member) in &mut shop.members {
            if up.contains(&name.as_str()) {
                member.link = Ok(crate::control::desired::Link {
                    ifindex: 1,
                    source_mac: [2; 6],
                    destination_mac: [4; 6],
                    mtu: 1500,
                    outer_source: None,
                });
            }
        }
        desired
    }

    fn shares(desired: &Desired) -> Vec<u16> {
        let members = desired.virtual_servers["shop"].members.values();
        members.map(|member| member.share).collect()
    }

    #[test]
    fn a_server_that_comes_up_gets_its_share_little_by_little() {
        let (mut slow_starts, start) = (SlowStarts::default(), Instant::now());
        let mut apply = |before: &Desired, up: &[&str], seconds| {
            let mut next = shop(Predictor::LeastConnection, up);
            let now = start + Duration::from_secs(seconds);
            let due = slow_starts.apply(before, &mut next, now);
            (next, due)
        };
        // The first state of all is nothing new.
        let (one, due) = apply(&Desired::default(), &["a"], 0);
        assert_eq!((shares(&one)[0], due), (128, None));
        let (two, due) = apply(&one, &["a", "b"], 10);
        assert_eq!(shares(&two), [128, 2]);
        assert!(due.is_some_and(|due| due <= Duration::from_millis(1001)));
        let (two, due) = apply(&two, &["a", "b"], 25);
        assert_eq!(shares(&two), [128, 65]);
        assert!(due.is_some());
        let (two, due) = apply(&two, &["a", "b"], 40);
        assert_eq!((shares(&two), due), (vec![128, 128], None));
        // Down and up again.
        let (one, _) = apply(&two, &["b"], 50);
        let (two, due) = apply(&one, &["a", "b"], 60);
        assert_eq!((shares(&two), due.is_some()), (vec![2, 128], true));
    }

    #[test]
    fn the_sorry_server_has_no_slow_start() {
        let shop = |up: &[&str]| {
            let mut desired = shop(Predictor::LeastConnection, up);
            let shop = desired.virtual_servers.get_mut("shop").unwrap();
            Arc::make_mut(shop).sorry = Some("a".to_owned());
            desired
        };
        let mut next = shop(&["a"]);
        let due = SlowStarts::default().apply(&shop(&[]), &mut next, Instant::now());
        assert_eq!((shares(&next), due), (vec![128, 128], None));
    }

    #[test]
    fn other_predictors_have_no_slow_start() {
        let mut next = shop(Predictor::RoundRobin, &["a", "b"]);
        let before = shop(Predictor::RoundRobin, &["a"]);
        let due = SlowStarts::default().apply(&before, &mut next, Instant::now());
        assert_eq!((shares(&next), due), (vec![2, 2], None));
    }

    /// The weight after each step, and the time to it. There are at most 32 steps.
    fn ramp_up(configured: u16, ramp: Duration) -> Vec<(Duration, u16)> {
        let mut up_for = Duration::ZERO;
        let mut seen = vec![(up_for, weight(configured, up_for, ramp))];
        while let Some(wait) = next_step(up_for, ramp) {
            up_for += wait;
            seen.push((wait, weight(configured, up_for, ramp)));
            assert!(seen.len() <= 33, "{seen:?}");
        }
        seen
    }

    #[rstest]
    #[case::no_ramp(0, &[640])]
    #[case::shorter_than_a_step(500, &[10, 640])]
    #[case::of_a_few_steps(3_100, &[10, 220, 430, 640])]
    fn a_weight_rises_in_a_straight_line(#[case] millis: u64, #[case] weights: &[u16]) {
        let seen = ramp_up(10, Duration::from_millis(millis));
        let seen: Vec<_> = seen.into_iter().map(|(_, weight)| weight).collect();
        assert_eq!(seen, weights);
    }

    #[test]
    fn a_weight_rises_halfway_in_half_of_the_time() {
        let ramp = Duration::from_secs(320);
        assert_eq!(weight(1, Duration::from_secs(160), ramp), 32);
        assert_eq!(weight(1000, Duration::from_secs(160), ramp), 32_500);
        assert_eq!(weight(1000, Duration::from_secs(1_000_000), ramp), 64_000);
    }

    #[test]
    fn a_weight_of_zero_stays() {
        assert!(
            ramp_up(0, Duration::from_secs(5))
                .iter()
                .all(|&(_, weight)| weight == 0)
        );
    }

    proptest! {
        #[test]
        fn each_step_raises_the_weight(configured in 1u16..=1000, millis in 1u64..10_000_000) {
            let ramp = Duration::from_millis(millis);
            let seen = ramp_up(configured, ramp);
            prop_assert!(seen.is_sorted_by_key(|&(_, weight)| weight));
            prop_assert!(seen.windows(2).all(|pair| pair[0].1 < pair[1].1), "{seen:?}");
            let (first, rest) = seen.split_first().unwrap();
            prop_assert_eq!(first.1, configured);
            prop_assert_eq!(rest.last().unwrap().1, configured * WEIGHT_SCALE);
            let shortest = ramp.min(Duration::from_secs(1)) - Duration::from_nanos(1);
            prop_assert!(rest.iter().all(|&(wait, _)| wait >= shortest), "{seen:?}");
        }

        /// So a table that is made for another reason in the middle of a step is no new one.
        #[test]
        fn between_steps_the_weight_stands(millis in 1_000u64..10_000_000, at in 0.0..1.0, within in 0.0..1.0) {
            let ramp = Duration::from_millis(millis);
            let up_for = ramp.mul_f64(at);
            if let Some(wait) = next_step(up_for, ramp) {
                let last = (wait.mul_f64(within)).min(wait.saturating_sub(Duration::from_nanos(2)));
                prop_assert_eq!(weight(100, up_for + last, ramp), weight(100, up_for, ramp));
            }
        }
    }
}
