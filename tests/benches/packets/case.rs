//! What is measured.

use crate::{
    balancer::{
        Forward, LEAST_CONNECTION, ON_CHANGE, RESPONSE_TIME, ROUND_ROBIN, SOURCE_HASH, STATEFUL,
        STATELESS, STICKY, Services, Spec, vip,
    },
    traffic::{Family, Kind, Traffic},
};

/// How much there is of everything: flows and packets are powers of two.
pub struct Scale {
    /// Flows that stay in the caches.
    hot: u32,
    many: u32,
    million: u32,
    /// `limits.sessions` where a million flows are at home.
    sessions: u32,
    /// Flows whose sessions leave no place of that table free.
    filling: u32,
    /// `limits.sessions` of a table that stays in the caches, and the sessions that are put there at a time.
    small: [u32; 2],
    real_servers: usize,
    /// In place of those, to see what more of them cost.
    other_real_servers: [usize; 2],
    virtual_servers: u32,
    /// Packets of a slice, where flows are hot.
    packets: u32,
    /// New sessions of a slice of a flood.
    flood: u32,
}

impl Scale {
    pub const FULL: Self = Self {
        hot: 1 << 10,
        many: 1 << 17,
        million: 1 << 20,
        sessions: 1_000_000,
        filling: 1 << 22,
        small: [4096, 1024],
        real_servers: 100,
        other_real_servers: [1, 4000],
        virtual_servers: 4096,
        packets: 1 << 16,
        flood: 1 << 19,
    };

    /// To see quickly whether each case does what it is to measure.
    pub const QUICK: Self = Self {
        hot: 1 << 6,
        many: 1 << 8,
        million: 1 << 9,
        sessions: 1 << 9,
        filling: 1 << 13,
        small: [256, 32],
        real_servers: 4,
        other_real_servers: [1, 16],
        virtual_servers: 16,
        packets: 1 << 8,
        flood: 1 << 8,
    };
}

#[derive(Clone)]
pub struct Case {
    pub name: String,
    /// What is sent, from packet 0 on; no two slices get packets of the same number.
    pub traffic: Traffic,
    pub family: Family,
    pub what: What,
    /// Batches of a slice, and packets in each.
    pub batches: u32,
    pub packets: u32,
}

/// What is measured.
#[derive(Clone)]
pub enum What {
    /// Floor A.
    Transmit,
    /// Floor B.
    Encapsulate,
    Balancer(Job),
}

/// What a balancer does.
#[derive(Clone)]
pub struct Job {
    pub spec: Spec,
    /// What it gets before each batch, all flows of each, after its session table was emptied.
    pub before: Vec<Traffic>,
    pub becomes: Becomes,
}

/// What becomes of each packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Becomes {
    /// It passes untouched.
    Passed,
    /// It is forwarded, and begins no session.
    Forwarded,
    /// It begins a session.
    NewSession,
    /// It begins a session, which takes another one's place.
    Eviction,
}

/// The floor that all else is compared with.
pub const FLOOR_B: &str = "IPv4 floor B: encapsulate";

/// All of them.
pub fn cases(scale: &Scale) -> Vec<Case> {
    let mut cases = Vec::new();
    for family in Family::ALL {
        floors(scale, family, &mut cases);
    }
    for forward in [Forward::L2dsr, Forward::L3dsr] {
        for family in Family::ALL {
            usual(scale, forward, family, &mut cases);
        }
    }
    for real_servers in scale.other_real_servers {
        let bench = Bench {
            prefix: format!("IPv4 IPIP, {}:", number(real_servers, "real server")),
            spec: Spec {
                forward: Forward::L3dsr,
                families: &[Family::V4],
                real_servers,
                services: Services::OfEachKind,
                sessions: scale.sessions,
            },
            family: Family::V4,
            packets: scale.packets,
        };
        cases.push(bench.established("established, hot", STATEFUL, scale.hot));
        cases.push(bench.stateless("stateless, hot", scale.hot));
    }
    for count in [1, scale.virtual_servers] {
        many_virtual_servers(scale, count, &mut cases);
    }
    cases
}

fn floors(scale: &Scale, family: Family, cases: &mut Vec<Case>) {
    for (name, what) in [
        ("floor A: transmit", What::Transmit),
        ("floor B: encapsulate", What::Encapsulate),
    ] {
        cases.push(Case {
            name: format!("{} {name}", family.name()),
            traffic: Traffic::new(Kind::Ack, vip(family), STATEFUL, scale.hot),
            family,
            what,
            batches: 1,
            // All else is compared with them.
            packets: 8 * scale.packets,
        });
    }
}

/// The cases of one way to forward.
fn usual(scale: &Scale, forward: Forward, family: Family, cases: &mut Vec<Case>) {
    let way = match forward {
        Forward::L2dsr => "L2 DSR",
        Forward::L3dsr => "IPIP",
    };
    let bench = Bench {
        prefix: format!("{} {way}:", family.name()),
        spec: Spec {
            forward,
            families: &Family::ALL,
            real_servers: scale.real_servers,
            services: Services::OfEachKind,
            sessions: scale.sessions,
        },
        family,
        packets: scale.packets,
    };
    cases.extend([
        bench.established("established, hot", STATEFUL, scale.hot),
        bench.established("established, 128k flows", STATEFUL, scale.many),
        bench.established("established, 1M flows", STATEFUL, scale.million),
        bench.follow("UDP, hot", Kind::Udp, &[Kind::Udp; 2], STATEFUL, scale.hot),
        bench.stateless("stateless, hot", scale.hot),
        bench.stateless("stateless, 1M flows", scale.million),
        bench.table_alone("on_change, hot", ON_CHANGE, scale.hot),
        bench.table_alone("on_change, 1M flows", ON_CHANGE, scale.million),
        bench.follow(
            "ICMP error, hot",
            Kind::IcmpError,
            &[Kind::Syn, Kind::Ack],
            STATEFUL,
            scale.hot,
        ),
        bench.follow(
            "later fragment, hot",
            Kind::LaterFragment,
            &[Kind::FirstFragment],
            STATEFUL,
            scale.hot,
        ),
        bench.flood("flood of new sessions", scale.flood),
        bench.eviction("flood, full table", scale),
    ]);
    if forward == Forward::L3dsr {
        cases.push(bench.passed("not for a VIP", STATEFUL, scale.hot));
    }
    let [sessions, at_a_time] = scale.small;
    let bench = bench.with_sessions(sessions);
    let batches = scale.packets / 2 / at_a_time;
    for (name, port, flows_of_client) in [
        ("new session, hot", STATEFUL, 1 << 14),
        ("new session, sticky", STICKY, 1 << 3),
        ("new session, source hash", SOURCE_HASH, 1),
        ("new session, round robin", ROUND_ROBIN, 1 << 14),
        ("new session, least connection", LEAST_CONNECTION, 1 << 14),
        ("new session, response time", RESPONSE_TIME, 1 << 14),
    ] {
        cases.push(bench.new_sessions(name, port, flows_of_client, [batches, at_a_time]));
    }
}

/// So many virtual servers, all stateful or all stateless.
fn many_virtual_servers(scale: &Scale, count: u32, cases: &mut Vec<Case>) {
    let bench = |port| Bench {
        prefix: format!("IPv4 IPIP, {}:", number(count as usize, "virtual server")),
        spec: Spec {
            forward: Forward::L3dsr,
            families: &[Family::V4],
            real_servers: scale.real_servers.min(16),
            services: Services::Many { count, port },
            sessions: scale.sessions,
        },
        family: Family::V4,
        packets: scale.packets,
    };
    let (stateful, stateless) = (bench(STATEFUL), bench(STATELESS));
    cases.extend([
        stateful.established("established, hot", STATEFUL, scale.hot),
        stateless.stateless("stateless, hot", scale.hot),
        stateful.passed("not for a VIP", STATEFUL, scale.hot),
    ]);
    if count > 1 {
        for mut case in [
            stateful.established("established, spread", STATEFUL, 2 * count),
            stateless.stateless("stateless, spread", 2 * count),
        ] {
            case.spread_over(count);
            cases.push(case);
        }
    }
}

fn number(count: usize, what: &str) -> String {
    let plural = if count == 1 { "" } else { "s" };
    format!("{count} {what}{plural}")
}

/// What some cases have in common.
struct Bench {
    prefix: String,
    spec: Spec,
    family: Family,
    /// Of a slice, if there aren't more flows.
    packets: u32,
}

impl Bench {
    fn with_sessions(self, sessions: u32) -> Self {
        let spec = Spec {
            sessions,
            ..self.spec
        };
        Self { spec, ..self }
    }

    fn case(&self, name: &str, traffic: Traffic, before: Vec<Traffic>, becomes: Becomes) -> Case {
        Case {
            name: format!("{} {name}", self.prefix),
            packets: self.packets.max(traffic.flows()),
            traffic,
            family: self.family,
            what: What::Balancer(Job {
                spec: self.spec,
                before,
                becomes,
            }),
            batches: 1,
        }
    }

    fn traffic(&self, kind: Kind, port: u16, flows: u32) -> Traffic {
        Traffic::new(kind, vip(self.family), port, flows)
    }

    /// Packets that go where others went before.
    fn follow(&self, name: &str, kind: Kind, before: &[Kind], port: u16, flows: u32) -> Case {
        let before = before.iter().map(|&kind| self.traffic(kind, port, flows));
        self.case(
            name,
            self.traffic(kind, port, flows),
            before.collect(),
            Becomes::Forwarded,
        )
    }

    fn established(&self, name: &str, port: u16, flows: u32) -> Case {
        // A session's first packet in a tick of the clock writes down the time: with the ACK before, as few as in a steady
        // stream do.
        self.follow(name, Kind::Ack, &[Kind::Syn, Kind::Ack], port, flows)
    }

    fn stateless(&self, name: &str, flows: u32) -> Case {
        self.table_alone(name, STATELESS, flows)
    }

    /// Flows that have no session.
    fn table_alone(&self, name: &str, port: u16, flows: u32) -> Case {
        self.follow(name, Kind::Ack, &[Kind::Ack], port, flows)
    }

    fn passed(&self, name: &str, port: u16, flows: u32) -> Case {
        let mut traffic = self.traffic(Kind::Ack, port, flows);
        // An address that no virtual server has.
        traffic.move_vip(1 << 20);
        let before = vec![traffic.clone()];
        self.case(name, traffic, before, Becomes::Passed)
    }

    /// Each packet begins a session, in a table that stays in the caches.
    fn new_sessions(
        &self,
        name: &str,
        port: u16,
        flows_of_client: u32,
        [batches, packets]: [u32; 2],
    ) -> Case {
        let traffic = self
            .traffic(Kind::Syn, port, Traffic::WITHOUT_END)
            .with_flows_of_client(flows_of_client);
        let case = self.case(name, traffic, Vec::new(), Becomes::NewSession);
        Case {
            batches,
            packets,
            ..case
        }
    }

    /// Each packet begins a session, in a table that was empty.
    fn flood(&self, name: &str, packets: u32) -> Case {
        let traffic = self.traffic(Kind::Syn, STATEFUL, Traffic::WITHOUT_END);
        let case = self.case(name, traffic, Vec::new(), Becomes::NewSession);
        Case { packets, ..case }
    }

    /// Each packet begins a session, in a table that is full of others that have sent a SYN.
    fn eviction(&self, name: &str, scale: &Scale) -> Case {
        let traffic = self.traffic(Kind::Syn, STATEFUL, Traffic::WITHOUT_END);
        // To another port than those of the flood.
        let others = self.traffic(Kind::Syn, SOURCE_HASH, scale.filling);
        let case = self.case(name, traffic, vec![others], Becomes::Eviction);
        Case {
            packets: scale.flood / 2,
            ..case
        }
    }
}

impl Case {
    /// Whether it is one of those that the others are compared with.
    pub const fn is_floor(&self) -> bool {
        !matches!(self.what, What::Balancer(_))
    }

    fn spread_over(&mut self, vips: u32) {
        self.traffic.spread_over(vips);
        if let What::Balancer(job) = &mut self.what {
            job.before.iter_mut().for_each(|it| it.spread_over(vips));
        }
    }
}
