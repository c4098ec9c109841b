//! How many sessions a table of the size that [`buckets_for`] gives really holds.

// A million of them: too many for Miri.
#![cfg(not(miri))]

use std::{
    array,
    net::{Ipv4Addr, Ipv6Addr},
    ops::Range,
    sync::atomic::AtomicU64,
};

use lb_common::{
    Address,
    session::{Phase, SLOTS, Secrets, SessionKey, State, V4, V6, buckets, buckets_for},
};
use lb_ebpf::session_table::{Bucket, are_full, find, make_room, record};
use rstest::rstest;

/// Sessions evicted, of those recorded: 0.05 %.
const TOLERATED: f64 = 0.0005;

/// A family of flows: client address and port of each.
type Clients = fn(u32) -> (u32, u16);

/// A port after the other, then the next address.
fn ports(flow: u32) -> (u32, u16) {
    (flow >> 16, flow as u16)
}

/// An address after the other.
fn addresses(flow: u32) -> (u32, u16) {
    (flow, 40_000)
}

/// The first host of each network, with a few even ports.
fn networks(flow: u32) -> (u32, u16) {
    (flow >> 4 << 8, 1024 + 2 * (flow as u16 % 16))
}

const SECRETS: Secrets = [0x9216_d5d9_8979_fb1b, 0xd131_0ba6_98df_b5ad];
const VIRTUAL_SERVER: u32 = 1;

struct Table<const W: usize>(Vec<Bucket<W>>);

impl<const W: usize> Table<W> {
    fn for_sessions(sessions: u32) -> Self {
        let bucket = |_| array::from_fn(|_| AtomicU64::new(0));
        Self((0..buckets_for(sessions)).map(bucket).collect())
    }

    fn buckets<const N: usize>(&self, key: &SessionKey<N>) -> [&Bucket<W>; 2] {
        let count = self.0.len() as u32;
        buckets(key, VIRTUAL_SERVER.into(), &SECRETS, count).map(|bucket| &self.0[bucket as usize])
    }
}

/// The keys of flows.
trait Layout<const N: usize> {
    fn key(clients: Clients, number: u32) -> SessionKey<N>;
}
struct Flows;

impl Layout<V4> for Flows {
    fn key(clients: Clients, number: u32) -> SessionKey<V4> {
        let (host, port) = clients(number);
        let source = Address::from(Ipv4Addr::from(0x0a09_0000 + host)).words();
        SessionKey::v4(source, port, 80)
    }
}

impl Layout<V6> for Flows {
    fn key(clients: Clients, number: u32) -> SessionKey<V6> {
        let (host, port) = clients(number);
        let address = Ipv6Addr::from(0x2001_0db8 << 96 | u128::from(host));
        let source = Address::from(address).words();
        SessionKey::v6(source, port, 80)
    }
}

/// A table in which each flow is recorded as its number says.
struct Churn<const N: usize, const W: usize> {
    table: Table<W>,
    clients: Clients,
}

impl<const N: usize, const W: usize> Churn<N, W>
where
    Flows: Layout<N>,
{
    /// Whether the flow's session took the place of another.
    fn record(&self, flow: u32) -> bool {
        let key = Flows::key(self.clients, flow);
        let now = flow / 10_000;
        let state = State::new(
            VIRTUAL_SERVER,
            flow % State::BINDINGS,
            Phase::Established,
            now,
        );
        let buckets_of = |key: &SessionKey<N>, _| Some(self.table.buckets(key));
        let buckets = self.table.buckets(&key);
        if are_full(buckets) {
            assert!(!make_room(buckets, now, buckets_of).is_session());
        }
        let recorded = record(buckets, &key, state, now).unwrap();
        assert!(recorded.created && !recorded.duplicate.is_session());
        recorded.replaced.is_session()
    }

    /// Whether the flow has a session.
    fn has(&self, flow: u32) -> bool {
        let key = Flows::key(self.clients, flow);
        find(self.table.buckets(&key), &key, VIRTUAL_SERVER).is_some_and(|found| {
            assert_eq!(found.state.binding(), flow % State::BINDINGS);
            true
        })
    }

    /// Ends the flow's session, if it has one.
    fn end(&self, flow: u32) {
        let key = Flows::key(self.clients, flow);
        if let Some(found) = find(self.table.buckets(&key), &key, VIRTUAL_SERVER) {
            assert!(found.end().is_some());
        }
    }

    /// Share of the flows whose session is in their second bucket.
    fn in_second(&self, flows: Range<u32>) -> f64 {
        share(flows, |flow| {
            let key = Flows::key(self.clients, flow);
            let [first, second] = self.table.buckets(&key);
            find([first, first], &key, VIRTUAL_SERVER).is_none()
                && find([second, second], &key, VIRTUAL_SERVER).is_some()
        })
    }
}

/// Share of the flows for which this holds.
fn share(flows: Range<u32>, holds: impl Fn(u32) -> bool) -> f64 {
    let count = f64::from(flows.end - flows.start);
    flows.filter(|&flow| holds(flow)).count() as f64 / count
}

/// Fills a table made for so many sessions; then three times as many come, each after the oldest has ended.
fn fill_and_churn<const N: usize, const W: usize>(clients: Clients, sessions: u32)
where
    Flows: Layout<N>,
{
    let churn = Churn::<N, W> {
        table: Table::for_sessions(sessions),
        clients,
    };
    let filling = share(0..sessions, |flow| churn.record(flow));
    assert_eq!(share(0..sessions, |flow| !churn.has(flow)), filling);
    let churning = share(sessions..4 * sessions, |flow| {
        churn.end(flow - sessions);
        churn.record(flow)
    });
    let second = churn.in_second(3 * sessions..4 * sessions);
    println!("evicted: {filling:.6}, then {churning:.6}; in the second bucket: {second:.3}");
    assert!(filling < TOLERATED, "filling: {filling}");
    assert!(churning < TOLERATED, "churning: {churning}");
    assert!(second < 0.27, "in the second bucket: {second}");
}

const W4: usize = SLOTS * (V4 + 1);
const W6: usize = SLOTS * (V6 + 1);

#[rstest]
#[case::a_million(ports, 1_000_000)]
#[case::addresses_in_a_row(addresses, 300_000)]
#[case::networks_in_a_row(networks, 300_000)]
#[ignore = "minutes, and 1.3 GB: run it with --release"]
#[case::as_many_as_can_be(ports, 16_777_216)]
fn a_table_holds_the_sessions_it_is_made_for(
    #[case] clients: Clients,
    #[case] sessions: u32,
    #[values(fill_and_churn::<V4, W4>, fill_and_churn::<V6, W6>)] fill_and_churn: fn(Clients, u32),
) {
    fill_and_churn(clients, sessions);
}
