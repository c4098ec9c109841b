//! Weights that follow how fast real servers answer their health checks.
//!
//! A server that answers in twice the time of the fastest one gets half of its configured weight. This is a
//! control loop: more sessions make a server slower, which takes sessions away from it, which makes it faster.
//! Such a loop swings if it answers late and strongly. Two things damp it:
//!
//! - Latencies are smoothed as TCP smooths its round-trip time (Jacobson and Karels, SIGCOMM 1988, appendix A): a
//!   sample moves the average by an eighth of the difference. So what a change of weights does is seen while it
//!   is small, not when it is past.
//! - A weight stays while it is within 10 % of what it should be, and then moves until it is within 7.5 %, no
//!   further. Such a step is 2.3 % at least. To turn it back, what the weight should be must cross the
//!   remaining 17.5 %: latency would have to rise seven times as steeply as load. A weight that moved all the
//!   way, 10 %, would be turned back by a latency that rises twice as steeply, and so on for ever.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use super::{Desired, State, WEIGHT_SCALE, desired::VirtualServer};
use crate::config::Predictor;

/// By how much a sample counts in the average.
const GAIN: f64 = 1.0 / 8.0;
/// The least part of its configured weight that a slow server gets, so that it still has sessions to be
/// measured under.
const LEAST: f64 = 1.0 / 16.0;
/// How far a weight may be from what it should be, as a ratio.
const TOLERANCE: f64 = 1.1;
/// How far it still is when it has moved.
const REMAINDER: f64 = 1.075;
/// Anything faster is noise, and 0 can't be compared.
const FASTEST: Duration = Duration::from_micros(1);

/// The response times of the real servers of one virtual server, and the weights that came of them.
#[derive(Debug, Default)]
pub struct ResponseTimes {
    /// Seconds.
    smoothed: BTreeMap<String, f64>,
    /// The part of its configured weight that each member got last.
    factors: BTreeMap<String, f64>,
}

impl ResponseTimes {
    /// Takes the time in which a member answered a health check into its average.
    pub fn record(&mut self, member: &str, latency: Duration) {
        let latency = latency.max(FASTEST).as_secs_f64();
        match self.smoothed.get_mut(member) {
            Some(smoothed) => *smoothed += (latency - *smoothed) * GAIN,
            None => {
                self.smoothed.insert(member.to_owned(), latency);
            }
        }
    }

    /// What each member should weigh now: [`WEIGHT_SCALE`] times its configured weight if it is as fast as the
    /// fastest of them, less if it is slower, down to a sixteenth of that. Members without samples are
    /// taken for neither fast nor slow. Those that are no members any more are forgotten: when they come back they
    /// may be other machines.
    ///
    /// The result changes no sooner than it must, so a new predictor table is due when it does.
    pub fn weights<'a>(
        &mut self,
        members: impl Iterator<Item = (&'a str, u16)>,
    ) -> BTreeMap<String, u16> {
        let configured: BTreeMap<_, _> = members.collect();
        self.smoothed
            .retain(|member, _| configured.contains_key(member.as_str()));
        let smoothed = |member: &&str| self.smoothed.get(*member).copied();
        let best = configured
            .keys()
            .filter_map(smoothed)
            .fold(f64::MAX, f64::min);
        let factor = |member| smoothed(member).map(|own| (best / own).max(LEAST));
        let mut known: Vec<_> = configured.keys().filter_map(factor).collect();
        known.sort_by(f64::total_cmp);
        let median = known.get(known.len() / 2).copied().unwrap_or(1.0);
        self.factors = configured
            .keys()
            .map(|member| {
                let wanted = factor(member).unwrap_or(median);
                let last = self.factors.get(*member);
                let factor = last.map_or(wanted, |&last| follow(last, wanted));
                ((*member).to_owned(), factor)
            })
            .collect();
        self.factors
            .iter()
            .map(|(member, factor)| {
                let weight =
                    f64::from(configured[member.as_str()]) * f64::from(WEIGHT_SCALE) * factor;
                (member.clone(), weight.round() as u16)
            })
            .collect()
    }
}

/// Where a factor goes that was `last` and should be `wanted`.
fn follow(last: f64, wanted: f64) -> f64 {
    if wanted > last * TOLERANCE {
        wanted / REMAINDER
    } else if wanted < last / TOLERANCE {
        wanted * REMAINDER
    } else {
        last
    }
}

/// The response times in all virtual servers that choose by them.
#[derive(Debug, Default)]
pub struct AllResponseTimes(BTreeMap<String, ResponseTimes>);

impl AllResponseTimes {
    /// As [`ResponseTimes::record`], for a member of a virtual server; of others nothing is kept.
    pub fn record(&mut self, virtual_server: &str, member: &str, latency: Duration) {
        if let Some(times) = self.0.get_mut(virtual_server) {
            times.record(member, latency);
        }
    }

    /// Gives the members that take new sessions their shares.
    pub fn apply(&mut self, next: &mut Desired) {
        self.0.retain(|name, _| {
            let server = next.virtual_servers.get(name);
            server.is_some_and(|server| chooses_by_response_time(server))
        });
        for (name, virtual_server) in &mut next.virtual_servers {
            if chooses_by_response_time(virtual_server) {
                let times = self.0.entry(name.clone()).or_default();
                let weights = times.weights(members(virtual_server));
                for (name, member) in &mut Arc::make_mut(virtual_server).members {
                    member.share = weights.get(name).copied().unwrap_or(member.share);
                }
            }
        }
    }

    /// Whether [`Self::apply`] would change a share.
    pub fn would_change(&mut self, now: &Desired) -> bool {
        self.0.iter_mut().any(|(name, times)| {
            now.virtual_servers.get(name).is_some_and(|virtual_server| {
                let mut weights = times.weights(members(virtual_server)).into_iter();
                weights.any(|(member, share)| virtual_server.members[&member].share != share)
            })
        })
    }
}

fn chooses_by_response_time(virtual_server: &VirtualServer) -> bool {
    virtual_server.predictor == Predictor::ResponseTime
}

/// Those that may take new sessions, with their weights. The sorry server has nobody to share with.
fn members(virtual_server: &VirtualServer) -> impl Iterator<Item = (&str, u16)> {
    let members = virtual_server.members.iter();
    members
        .filter(|(name, member)| member.state() == State::Up && !virtual_server.is_sorry(name))
        .map(|(name, member)| (name.as_str(), member.weight))
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use proptest::prelude::*;
    use rstest::rstest;

    use super::*;
    use crate::{
        config::Config,
        control::desired::{self, Link},
        health::States,
        net::View,
    };

    /// `fast` chooses by response time, `turns` doesn't; both have a and b, of weight 10, and c of weight 20, which is
    /// drained.
    fn desired(b: Result<(), &str>) -> Desired {
        let virtual_server = |predictor: &str| {
            format!(
                "predictor: {predictor}, health: {{ checks: [icmp: {{ via: real }}] }}, bind: [a, b, {{ server: c, drain: true }}]"
            )
        };
        let config = format!(
            "
interfaces: [{{ name: eth0 }}]
real_servers:
  a: {{ address: 10.9.0.1, weight: 10 }}
  b: {{ address: 10.9.0.2, weight: 10 }}
  c: {{ address: 10.9.0.3, weight: 20 }}
defaults: {{ protocol: tcp }}
virtual_servers:
  - {{ name: fast, vip: 10.9.1.1, port: 80, {} }}
  - {{ name: turns, vip: 10.9.1.1, port: 81, {} }}",
            virtual_server("response_time"),
            virtual_server("round_robin"),
        );
        let config = Config::parse("lb.yaml", &config).unwrap();
        let mut desired = desired::desired(
            &config,
            &View::default(),
            &HashMap::new(),
            &[],
            &States::default(),
        );
        for virtual_server in desired.virtual_servers.values_mut() {
            for (name, member) in &mut Arc::make_mut(virtual_server).members {
                let link = Link {
                    ifindex: 2,
                    source_mac: [2; 6],
                    destination_mac: [4; 6],
                    mtu: 1500,
                    outer_source: None,
                };
                member.link = match b {
                    Err(reason) if name == "b" => Err(reason.to_owned()),
                    _ => Ok(link),
                };
            }
        }
        desired
    }

    fn shares(desired: &Desired, virtual_server: &str) -> Vec<u16> {
        let members = desired.virtual_servers[virtual_server].members.values();
        members.map(|member| member.share).collect()
    }

    #[test]
    fn virtual_servers_that_choose_by_response_time_get_shares_of_it() {
        let mut times = AllResponseTimes::default();
        let mut next = desired(Ok(()));
        times.apply(&mut next);
        assert_eq!(shares(&next, "fast"), [640, 640, 20]);
        assert_eq!(shares(&next, "turns"), [10, 10, 20]);
        for virtual_server in ["fast", "turns", "another"] {
            times.record(virtual_server, "a", millis(10));
            assert!(!times.would_change(&next));
            times.record(virtual_server, "b", millis(20));
            assert_eq!(times.would_change(&next), virtual_server == "fast");
            times.apply(&mut next);
            assert!(!times.would_change(&next));
        }
        // Half of it, and what the damping leaves.
        assert_eq!(shares(&next, "fast"), [640, 344, 20]);
        assert_eq!(shares(&next, "turns"), [10, 10, 20]);
    }

    #[test]
    fn a_server_that_is_down_is_forgotten() {
        let mut times = AllResponseTimes::default();
        times.apply(&mut desired(Ok(())));
        times.record("fast", "a", millis(20));
        times.record("fast", "b", millis(10));
        let mut next = desired(Err("no echo reply"));
        times.apply(&mut next);
        assert_eq!(shares(&next, "fast")[0], 640, "nobody is faster now");
        let mut next = desired(Ok(()));
        times.apply(&mut next);
        assert_eq!(shares(&next, "fast"), [640, 640, 20]);
    }

    fn millis(millis: u64) -> Duration {
        Duration::from_millis(millis)
    }

    fn weights(times: &mut ResponseTimes, members: &[(&str, u16)]) -> Vec<u16> {
        times
            .weights(members.iter().copied())
            .into_values()
            .collect()
    }

    #[test]
    fn a_weight_is_in_inverse_proportion_to_the_response_time() {
        let mut times = ResponseTimes::default();
        times.record("a", millis(10));
        times.record("b", millis(20));
        times.record("c", millis(40));
        let weights = weights(&mut times, &[("a", 1), ("b", 10), ("c", 1000)]);
        assert_eq!(weights, [64, 320, 16_000]);
    }

    #[rstest]
    #[case::within_ten_percent(109, 100)]
    #[case::beyond(125, 86)]
    fn a_weight_moves_when_it_is_far_off(#[case] percent: u64, #[case] expected: u16) {
        let mut times = ResponseTimes::default();
        let members = [("a", 1), ("b", 100)];
        times.record("a", millis(100));
        times.record("b", millis(100));
        assert_eq!(weights(&mut times, &members), [64, 6400]);
        (0..100).for_each(|_| times.record("b", millis(percent)));
        assert_eq!(weights(&mut times, &members), [64, expected * 64]);
    }

    #[test]
    fn a_slow_server_keeps_a_sixteenth() {
        let mut times = ResponseTimes::default();
        times.record("a", Duration::ZERO);
        times.record("b", Duration::from_secs(60));
        assert_eq!(weights(&mut times, &[("a", 1), ("b", 1)]), [64, 4]);
    }

    #[test]
    fn without_samples_configured_weights_stand() {
        let mut times = ResponseTimes::default();
        assert_eq!(weights(&mut times, &[("a", 1), ("b", 1000)]), [64, 64_000]);
        assert!(weights(&mut times, &[]).is_empty());
    }

    #[test]
    fn a_server_without_samples_counts_as_neither_fast_nor_slow() {
        let mut times = ResponseTimes::default();
        times.record("a", millis(10));
        times.record("b", millis(20));
        times.record("c", millis(40));
        let members = [("a", 1), ("b", 1), ("c", 1), ("new", 2)];
        assert_eq!(weights(&mut times, &members), [64, 32, 16, 64]);
    }

    #[test]
    fn the_fastest_is_sought_among_the_members_alone() {
        let mut times = ResponseTimes::default();
        times.record("a", millis(10));
        times.record("b", millis(20));
        times.record("c", millis(20));
        assert_eq!(weights(&mut times, &[("b", 1), ("c", 1)]), [64, 64]);
    }

    #[test]
    fn a_forgotten_server_starts_anew() {
        let mut times = ResponseTimes::default();
        let members = [("a", 1), ("b", 1)];
        times.record("a", millis(10));
        times.record("b", millis(100));
        assert_eq!(weights(&mut times, &members), [64, 6]);
        assert_eq!(weights(&mut times, &members[..1]), [64]);
        assert_eq!(weights(&mut times, &members), [64, 64]);
        times.record("b", millis(20));
        assert_eq!(weights(&mut times, &members[1..]), [64]);
        assert_eq!(weights(&mut times, &members), [64, 64]);
    }

    #[test]
    fn a_changed_configured_weight_counts_at_once() {
        let mut times = ResponseTimes::default();
        times.record("a", millis(10));
        times.record("b", millis(20));
        assert_eq!(weights(&mut times, &[("a", 1), ("b", 10)]), [64, 320]);
        assert_eq!(weights(&mut times, &[("a", 1), ("b", 11)]), [64, 352]);
    }

    /// Noise of ±20 % is ±5 % when it is smoothed.
    #[test]
    fn noise_seldom_changes_a_weight() {
        let mut times = ResponseTimes::default();
        let names: Vec<_> = (0..8).map(|i| format!("server-{i}")).collect();
        let members: Vec<_> = names.iter().map(|name| (name.as_str(), 1)).collect();
        let mut last = weights(&mut times, &members);
        let mut changed = 0;
        for round in 0..1000 {
            for name in &names {
                times.record(name, Duration::from_secs_f64(0.01 * noise(name, round)));
            }
            let now = weights(&mut times, &members);
            changed += now
                .iter()
                .zip(&last)
                .filter(|(now, last)| now != last)
                .count();
            last = now;
        }
        assert!(changed < 8 * 1000 / 20, "{changed} changes");
    }

    /// 0.8 to 1.2, the same in each run.
    fn noise(name: &str, round: u64) -> f64 {
        0.8 + 0.4
            * f64::from(lb_common::hash::reduce(
                lb_common::hash::name(name, round),
                1000,
            ))
            / 1000.0
    }

    #[rstest]
    #[case::slower(10, 20)]
    #[case::much_slower(10, 160)]
    #[case::faster(20, 10)]
    #[case::much_faster(160, 10)]
    fn a_step_is_followed_within_forty_samples(#[case] before: u64, #[case] after: u64) {
        let mut times = ResponseTimes::default();
        let members = [("a", 100), ("b", 100)];
        let mut round = |latency| {
            times.record("a", millis(10));
            times.record("b", millis(latency));
            weights(&mut times, &members)[1]
        };
        let start = round(before);
        let seen: Vec<_> = (0..40).map(|_| round(after)).collect();
        let wanted = 64_000.0 / after as f64;
        let off = f64::from(seen[39]) / wanted;
        assert!((1.0 / 1.2..1.2).contains(&off), "{seen:?}");
        let falling = after > before;
        let one_way = [&[start], &seen[..]]
            .concat()
            .is_sorted_by(|a, b| if falling { a >= b } else { a <= b });
        assert!(one_way, "turned back: {start} {seen:?}");
    }

    /// How a server's latency follows from its load.
    #[derive(Clone, Copy, Debug)]
    enum Server {
        /// In a straight line, so many times the idle latency at its fair share.
        Linear(f64),
        /// As a queue (M/M/1), where all servers together are so busy: near 1, latency runs away.
        Queue(f64),
    }

    impl Server {
        /// `load` is a part of all sessions, `capacity` of all capacity.
        fn latency(self, load: f64, capacity: f64) -> Duration {
            let load = load / capacity;
            Duration::from_secs_f64(match self {
                Self::Linear(gain) => 0.001 * (1.0 + gain * load) / capacity,
                Self::Queue(busy) => 0.001 / capacity / (1.0 - (busy * load).min(0.99)),
            })
        }
    }

    /// The weights in each round of a closed loop: latency follows load, load follows weights, by one part in
    /// `lag` in each round (as old sessions end). The second server has twice the capacity of the first, and so on.
    fn closed_loop(server: Server, servers: usize, lag: f64, rounds: usize) -> Vec<Vec<u16>> {
        let names: Vec<_> = (0..servers).map(|i| format!("server-{i}")).collect();
        let members: Vec<_> = names.iter().map(|name| (name.as_str(), 100)).collect();
        let total = (servers * (servers + 1) / 2) as f64;
        let mut times = ResponseTimes::default();
        let mut loads = vec![1.0 / servers as f64; servers];
        let mut round = || {
            for ((name, load), i) in names.iter().zip(&loads).zip(1..) {
                times.record(name, server.latency(*load, f64::from(i) / total));
            }
            let weights = weights(&mut times, &members);
            let sum: f64 = weights.iter().copied().map(f64::from).sum();
            for (load, &weight) in loads.iter_mut().zip(&weights) {
                *load += (f64::from(weight) / sum - *load) / lag;
            }
            weights
        };
        (0..rounds).map(|_| round()).collect()
    }

    #[rstest]
    fn where_load_slows_servers_the_weights_come_to_rest(
        #[values(
            Server::Linear(0.1),
            Server::Linear(1.0),
            Server::Linear(1000.0),
            Server::Queue(0.3),
            Server::Queue(0.6),
            Server::Queue(0.8)
        )]
        server: Server,
        #[values(2, 5)] servers: usize,
        #[values(1.0, 5.0, 20.0)] lag: f64,
    ) {
        let weights = closed_loop(server, servers, lag, 1000);
        let end = &weights[999];
        let rest = weights.iter().rposition(|weights| weights != end);
        assert!(rest < Some(200), "still changing in round {rest:?}");
        assert!(
            end.is_sorted_by(|a, b| a < b),
            "{end:?} for capacities 1, 2, …"
        );
    }

    /// Latency that rises far more steeply than load, as on servers that are nearly full.
    #[rstest]
    fn where_load_overwhelms_servers_swings_stay_small(
        #[values(2, 5)] servers: usize,
        #[values(1.0, 5.0, 20.0)] lag: f64,
    ) {
        let weights = closed_loop(Server::Queue(0.95), servers, lag, 1000);
        for server in 0..servers {
            let late = weights[500..]
                .iter()
                .map(|weights| f64::from(weights[server]));
            let (low, high) = late.fold((f64::MAX, 0.0_f64), |(low, high), weight| {
                (low.min(weight), high.max(weight))
            });
            assert!(
                high / low < 1.3,
                "server {server} swings between {low} and {high}"
            );
        }
    }

    proptest! {
        /// So a caller may ask as often as it likes.
        #[test]
        fn without_new_samples_nothing_changes(
            samples in prop::collection::vec((0usize..4, 1u64..1000), 0..100),
            configured in prop::collection::vec(0u16..=1000, 4),
        ) {
            let names = ["a", "b", "c", "d"];
            let members: Vec<_> = names.into_iter().zip(configured.iter().copied()).collect();
            let mut times = ResponseTimes::default();
            for (member, latency) in samples {
                times.record(names[member], millis(latency));
                let first = weights(&mut times, &members);
                prop_assert_eq!(&weights(&mut times, &members), &first);
                for (weight, configured) in first.into_iter().zip(&configured) {
                    prop_assert!((configured * 4..=configured * 64).contains(&weight));
                }
            }
        }
    }
}
