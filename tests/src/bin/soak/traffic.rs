//! Clients that go on whatever happens, and what came of it.

use std::{
    collections::VecDeque,
    io,
    net::{IpAddr, SocketAddr},
    sync::{
        Mutex, RwLock, RwLockWriteGuard,
        atomic::{AtomicBool, Ordering},
    },
    thread::sleep,
    time::{Duration, Instant},
};

use anyhow::{Result, bail, ensure};
use lb_tests::{Host, TcpClient, UdpClient, interrupt};

use crate::{
    excuses::{Excuse, Excused, Excuses, Moment},
    random::Random,
    scene::CLIENT_ADDRESSES,
};

/// After each request, so that a small machine has time for the faults.
const PAUSE: Duration = Duration::from_millis(100);
/// TCP goes on trying for so long and longer.
const PATIENCE: Duration = Duration::from_secs(20);
/// Flows that each client keeps, and asks in turn.
const KEPT: usize = 4;
/// A flow is given up and begun anew at random, one in so many times.
const LIFE: usize = 50;
/// How often each client gets an answer until it counts as answered: once over every flow.
const ROUND: u64 = KEPT as u64 + 2;

/// How a client uses a virtual server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Manner {
    /// HTTP, a connection for each.
    Requests,
    /// A question and an answer now and then, over connections that stay.
    Connections,
    /// The same in datagrams.
    Datagrams,
}

/// A virtual server as a client sees it.
#[derive(Clone, Debug)]
pub struct Service {
    pub name: String,
    pub manner: Manner,
    pub address: SocketAddr,
    /// No change of other machines moves a flow.
    pub keeps_flows: bool,
}

/// What came of the questions to a service.
#[derive(Clone, Copy, Debug, Default)]
pub struct Tally {
    pub answered: u64,
    /// Failures that a fault excuses.
    pub excused: u64,
    /// The answer that took longest.
    pub slowest: Duration,
}

/// Questions to every service, by a thread for each.
#[derive(Debug)]
pub struct Traffic {
    services: Vec<(Service, Mutex<Tally>)>,
    excuses: Excuses,
    /// Whoever asks reads.
    gate: RwLock<()>,
    stopped: AtomicBool,
    /// The first one that nothing excuses.
    failure: Mutex<Option<String>>,
}

/// Stops the traffic when it goes: the scope of its threads waits for them.
pub struct StopAtEnd<'a>(pub &'a Traffic);

struct Failure {
    /// It had gone well until then.
    since: Moment,
    /// The flow was there.
    machine: Option<usize>,
    text: String,
}

/// A flow that stays.
trait Flow: Sized {
    fn open(client: &Host, source: IpAddr, to: SocketAddr) -> io::Result<Self>;
    /// Who answers.
    fn ask(&self) -> io::Result<String>;
}

/// A flow, who answers there, and when that was so.
struct Kept<F> {
    flow: F,
    server: String,
    since: Moment,
}

// === impl Flow ===

impl Flow for TcpClient {
    fn open(client: &Host, source: IpAddr, to: SocketAddr) -> io::Result<Self> {
        let start = Instant::now();
        loop {
            match client.tcp_from(source, to) {
                Err(error)
                    if error.kind() == io::ErrorKind::TimedOut && start.elapsed() < PATIENCE => {}
                outcome => return outcome,
            }
        }
    }

    fn ask(&self) -> io::Result<String> {
        self.ask_for(PATIENCE)
    }
}

impl Flow for UdpClient {
    fn open(client: &Host, source: IpAddr, to: SocketAddr) -> io::Result<Self> {
        Ok(client.udp_from(source, to))
    }

    /// Asks again, as clients of datagrams must: any network may lose some, and the lab's do when a flood fills their queues.
    fn ask(&self) -> io::Result<String> {
        let start = Instant::now();
        for question in 0.. {
            let question = format!("{start:?}-{question}");
            self.send(&question)?;
            loop {
                match self.receive() {
                    Ok(answer) if answer.payload == question => return Ok(answer.server),
                    // To a question before, which was asked again too early.
                    Ok(_) => {}
                    Err(_) if start.elapsed() < PATIENCE => break,
                    Err(error) => return Err(error),
                }
            }
        }
        unreachable!("numbers do not end")
    }
}

// === impl Traffic ===

impl Traffic {
    pub fn new(services: Vec<Service>) -> Self {
        let services = services.into_iter();
        Self {
            services: services.map(|it| (it, Mutex::default())).collect(),
            excuses: Excuses::default(),
            gate: RwLock::default(),
            stopped: AtomicBool::default(),
            failure: Mutex::default(),
        }
    }

    pub fn tallies(&self) -> impl ExactSizeIterator<Item = (&Service, Tally)> {
        let services = self.services.iter();
        services.map(|(service, tally)| (service, *tally.lock().unwrap()))
    }

    /// Excuses failures until the answer is dropped.
    pub fn excuse(&self, excuses: &[Excuse]) -> Excused<'_> {
        self.excuses.hold(excuses)
    }

    /// Waits until nobody asks; nobody does until the answer is dropped.
    pub fn pause(&self) -> RwLockWriteGuard<'_, ()> {
        self.gate.write().unwrap()
    }

    /// Waits until every client has been answered, over each of its flows.
    ///
    /// # Errors
    /// Something has failed that nothing excuses, now or before; or there is no answer.
    pub fn wait_for_answers(&self) -> Result<()> {
        let answered = || -> Vec<_> { self.tallies().map(|(_, tally)| tally.answered).collect() };
        let before = answered();
        let deadline = Instant::now() + 2 * PATIENCE;
        loop {
            interrupt::go_on_unless_interrupted()?;
            if let Some(failure) = self.failure() {
                bail!("{failure}");
            }
            let progress = answered().into_iter().zip(&before);
            let mut waiting = progress
                .zip(&self.services)
                .filter(|((now, before), _)| *now < *before + ROUND);
            let Some((_, (service, _))) = waiting.next() else {
                return Ok(());
            };
            ensure!(
                Instant::now() < deadline,
                "{} gets no answers from {} at {}",
                service.manner.client(),
                service.name,
                service.address
            );
            sleep(Duration::from_millis(10));
        }
    }

    /// What failed first that nothing excuses.
    pub fn failure(&self) -> Option<String> {
        self.failure.lock().unwrap().clone()
    }

    /// Asks one service until the traffic is stopped.
    pub fn send(&self, service: usize, client: &Host, mut random: Random) {
        match self.services[service].0.manner {
            Manner::Requests => self.repeat(service, |service| {
                self.request(service, client, &mut random)
            }),
            Manner::Connections => self.converse::<TcpClient>(service, client, random),
            Manner::Datagrams => self.converse::<UdpClient>(service, client, random),
        }
    }

    fn repeat(&self, service: usize, mut ask: impl FnMut(&Service) -> Result<(), Failure>) {
        let (service, tally) = &self.services[service];
        while !self.stopped.load(Ordering::Relaxed) {
            let gate = self.gate.read().unwrap();
            let start = Instant::now();
            let outcome = ask(service);
            let took = start.elapsed();
            drop(gate);
            match outcome {
                Ok(()) => {
                    let mut tally = tally.lock().unwrap();
                    tally.answered += 1;
                    tally.slowest = tally.slowest.max(took);
                }
                Err(failure) if self.is_excused(service, &failure) => {
                    tally.lock().unwrap().excused += 1;
                }
                Err(Failure { text, .. }) => {
                    let text = format!(
                        "{} of {} at {}, after {took:?}: {text}",
                        service.manner.client(),
                        service.name,
                        service.address
                    );
                    self.failure.lock().unwrap().get_or_insert(text);
                }
            }
            sleep(PAUSE);
        }
    }

    fn is_excused(&self, service: &Service, failure: &Failure) -> bool {
        let machines = Excuse::of_machines().filter(|excuse| {
            let on = failure.machine.map(Excuse::MachineDies);
            on.is_none_or(|on| on == *excuse)
        });
        let moves = (!service.keeps_flows).then_some(Excuse::TablesChange);
        self.excuses.held(machines.chain(moves), &failure.since)
    }

    fn request(
        &self,
        service: &Service,
        client: &Host,
        random: &mut Random,
    ) -> Result<(), Failure> {
        let since = self.excuses.now();
        let http = client.http().source(source(service, random));
        let report = http.timeout(PATIENCE).get(service.address, 1);
        match report.replies.first() {
            Some(reply) if reply.status == 200 => Ok(()),
            Some(reply) => Err(format!("{reply:?}")),
            None => Err(report.failures.concat()),
        }
        .map_err(|text| Failure {
            since,
            machine: None,
            text,
        })
    }

    /// Asks over flows that stay, and are replaced now and then.
    fn converse<F: Flow>(&self, service: usize, client: &Host, mut random: Random) {
        let mut kept = VecDeque::<Kept<F>>::new();
        self.repeat(service, |service| {
            if random.one_in(LIFE) {
                kept.pop_front();
            }
            let flow = if kept.len() < KEPT {
                self.open(service, client, &mut random)
            } else {
                let flow = kept.pop_front().expect("some are kept");
                self.ask_again(service, flow)
            };
            kept.push_back(flow?);
            Ok(())
        });
    }

    fn open<F: Flow>(
        &self,
        service: &Service,
        client: &Host,
        random: &mut Random,
    ) -> Result<Kept<F>, Failure> {
        let since = self.excuses.now();
        let flow = F::open(client, source(service, random), service.address);
        match flow.and_then(|flow| Ok((flow.ask()?, flow))) {
            Ok((server, flow)) => Ok(Kept {
                flow,
                server,
                since,
            }),
            Err(error) => Err(Failure {
                since,
                machine: None,
                text: format!("cannot begin a flow: {error}"),
            }),
        }
    }

    fn ask_again<F: Flow>(&self, service: &Service, kept: Kept<F>) -> Result<Kept<F>, Failure> {
        let Kept {
            flow,
            server,
            since,
        } = kept;
        let before_question = self.excuses.now();
        let text = match flow.ask() {
            Ok(now) if now == server || !service.keeps_flows => {
                return Ok(Kept {
                    flow,
                    server: now,
                    since: before_question,
                });
            }
            Ok(now) => format!("a flow on {server} moved to {now}"),
            Err(error) => format!("a flow on {server} broke: {error}"),
        };
        let machine = server
            .strip_prefix("web-")
            .and_then(|number| number.parse().ok());
        Err(Failure {
            since,
            machine: machine.filter(|_| service.keeps_flows),
            text,
        })
    }
}

impl Drop for StopAtEnd<'_> {
    fn drop(&mut self) {
        self.0.stopped.store(true, Ordering::Relaxed);
    }
}

impl Manner {
    /// For messages.
    pub const fn client(self) -> &'static str {
        match self {
            Self::Requests => "HTTP",
            Self::Connections => "TCP",
            Self::Datagrams => "UDP",
        }
    }
}

/// Any address of the client, as `Builder::client_addresses` gives them.
fn source(service: &Service, random: &mut Random) -> IpAddr {
    let number = 100 + random.below(CLIENT_ADDRESSES.into());
    let text = if service.address.is_ipv4() {
        format!("10.9.0.{number}")
    } else {
        format!("2001:db8:9::{number}")
    };
    text.parse().expect("an address")
}
