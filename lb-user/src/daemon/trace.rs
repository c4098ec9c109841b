//! `lb trace`: while a client listens, a program that tells what it does is in the place of the balancer.

use std::{
    collections::HashMap,
    convert::Infallible,
    io, mem,
    net::{IpAddr, Ipv6Addr},
    time::{Duration, SystemTime},
};

use axum::body::Bytes;
use data_encoding::HEXLOWER;
use futures::{StreamExt, future, stream};
use ipnet::IpNet;
use lb_common::{Address, Name, TraceEvent, TraceFilter, TraceSession, TraceVerdict, TracedPacket};
use nix::{net::if_::if_indextoname, time::ClockId};
use tokio::{sync::oneshot, task::yield_now};
use tracing::info;

use super::{Daemon, session_list};
use crate::{
    api::{
        server::Trace,
        sessions,
        trace::{Filter, Line, Packet, Refusal},
    },
    dataplane::{AttachError, Program, Sizes, TraceEvents, clock, trace},
};

/// Events in an item: few enough that nobody waits for it.
const STEP: usize = 64;

/// A trace under way.
pub struct Tracing {
    /// The balancer that doesn't trace.
    resting: Program,
    /// Its other end goes with what the client reads.
    client: oneshot::Receiver<Infallible>,
}

/// Waits until the client of the trace is gone.
pub async fn ended(tracing: &mut Option<Tracing>) {
    match tracing {
        Some(tracing) => drop((&mut tracing.client).await),
        None => future::pending().await,
    }
}

impl Daemon {
    /// Begins a trace.
    pub(super) fn trace(&mut self, filter: &Filter) -> Result<Trace, Refusal> {
        if self.tracing.is_some() {
            return Err(Refusal::Busy);
        }
        let names = sessions::Filter {
            vip: filter.vip,
            real: filter.real.clone(),
            virtual_server: filter.virtual_server.clone(),
        };
        session_list::check(&names, &self.config, &self.desired).map_err(Refusal::Unknown)?;
        let sizes = Sizes::new(&self.config.limits);
        let (tracing, events) = trace::load(&self.pins, &sizes, in_kernel(filter))
            .map_err(|error| Refusal::Failed(format!("{:#}", anyhow::Error::from(error))))?;
        let (sender, client) = oneshot::channel();
        let (resting, outcome) = self.exchange_balancer(tracing);
        self.tracing = Some(Tracing { resting, client });
        if let Err(error) = outcome {
            self.end_trace();
            return Err(Refusal::Failed(format!("{:#}", anyhow::Error::from(error))));
        }
        info!("a trace begins");
        Ok(lines(events, sender))
    }

    /// Ends the trace, if there is one.
    pub(super) fn end_trace(&mut self) {
        if let Some(Tracing { resting, .. }) = self.tracing.take() {
            // Where this fails, `follow` tries again, and tells of what is in the way.
            let _ = self.exchange_balancer(resting);
            self.interfaces
                .follow(&mut self.balancer, &self.pins, &self.config);
            info!("the trace has ended");
        }
    }

    /// Puts another program on the interfaces, and returns the one that was there.
    fn exchange_balancer(&mut self, next: Program) -> (Program, Result<(), AttachError>) {
        let mut former = mem::replace(&mut self.balancer, next);
        let outcome =
            self.interfaces
                .replace(&mut former, &mut self.balancer, &self.pins, &self.config);
        (former, outcome)
    }
}

/// The filter, as the program wants it.
fn in_kernel(filter: &Filter) -> TraceFilter {
    let all = TraceFilter::all(filter.snap.clamp(1, TraceEvent::MOST_BYTES as u32));
    let none = all.vip;
    let name = |name: &Option<String>| {
        name.as_deref()
            .and_then(Name::new)
            .unwrap_or(all.real_server)
    };
    let real_address = filter.real.as_ref().and_then(|real| real.parse().ok());
    TraceFilter {
        vip: filter.vip.map_or(none, Address::from),
        client: filter.client.map_or(none, |client| client.network().into()),
        client_mask: filter.client.map_or(none, mask),
        real_address: real_address.map_or(none, |address: IpAddr| address.into()),
        virtual_server: name(&filter.virtual_server),
        real_server: match real_address {
            Some(_) => all.real_server,
            None => name(&filter.real),
        },
        sample: filter.sample.get(),
        drops: filter.drops.into(),
        ..all
    }
}

/// The bits of an address that a prefix tells, those of the family among them.
fn mask(prefix: IpNet) -> Address {
    let rest = u32::from(prefix.max_prefix_len() - prefix.prefix_len());
    Ipv6Addr::from(u128::MAX.checked_shl(rest).unwrap_or(0)).into()
}

/// What the client reads, made when it has room for it. `client` goes with it.
fn lines(events: TraceEvents, client: oneshot::Sender<Infallible>) -> Trace {
    let story = Story {
        events,
        interfaces: HashMap::new(),
        lost: 0,
        _client: client,
    };
    stream::try_unfold(story, |mut story| async {
        // The daemon and its other clients wait for no more than one item.
        yield_now().await;
        let lines = story.next().await?;
        Ok(Some((lines, story)))
    })
    .boxed()
}

/// A trace, as it is told.
struct Story {
    events: TraceEvents,
    /// Names by index, as they were when the first packet came.
    interfaces: HashMap<u32, String>,
    /// Events that the client knows to be lost.
    lost: u64,
    _client: oneshot::Sender<Infallible>,
}

impl Story {
    /// The next few lines, or none.
    async fn next(&mut self) -> io::Result<Bytes> {
        let mut lines = String::new();
        let interfaces = &mut self.interfaces;
        let booted = booted();
        let tell = |event: &TraceEvent, bytes: &[u8]| {
            let interface = interfaces
                .entry(event.ifindex)
                .or_insert_with(|| interface_name(event.ifindex));
            let packet = packet(event, bytes, interface, booted);
            push(&mut lines, &Line::Packet(Box::new(packet)));
        };
        self.events.read(STEP, tell).await?;
        let lost = self.events.lost().map_err(io::Error::other)?;
        if lost != self.lost {
            self.lost = lost;
            push(&mut lines, &Line::Lost { lost });
        }
        Ok(lines.into())
    }
}

fn push(lines: &mut String, line: &Line<'_>) {
    lines.push_str(&serde_json::to_string(line).expect("a line is JSON"));
    lines.push('\n');
}

/// When the clock of packets began, as the other clock says now.
fn booted() -> SystemTime {
    SystemTime::now() - Duration::from_nanos(clock::monotonic(ClockId::CLOCK_MONOTONIC))
}

fn interface_name(ifindex: u32) -> String {
    let name = if_indextoname(ifindex).ok();
    let name = name.and_then(|name| name.into_string().ok());
    name.unwrap_or_else(|| format!("#{ifindex}"))
}

/// The flags that are set, as tcpdump writes them.
fn tcp_flags(flags: u8) -> String {
    const LETTERS: [(u8, char); 6] = [
        (0x01, 'F'),
        (0x02, 'S'),
        (0x04, 'R'),
        (0x08, 'P'),
        (0x20, 'U'),
        (0x10, '.'),
    ];
    let letters = LETTERS.into_iter().filter(|(flag, _)| flags & flag != 0);
    letters.map(|(_, letter)| letter).collect()
}

/// An event in an operator's words.
fn packet<'a>(
    event: &'a TraceEvent,
    bytes: &[u8],
    interface: &'a str,
    booted: SystemTime,
) -> Packet<'a> {
    let time = booted + Duration::from_nanos(event.time);
    let given = |name: &'a Name| name.as_str().filter(|name| !name.is_empty());
    let kind = TracedPacket::at(event.packet);
    let port = |port: u16| (port != 0).then_some(port);
    let has_server = event.real_address.words() != [0, 0];
    Packet {
        time: humantime::format_rfc3339_nanos(time).to_string().into(),
        interface: interface.into(),
        cpu: event.cpu,
        length: event.length,
        packet: kind.map_or("", TracedPacket::name),
        tcp_flags: (kind == Some(TracedPacket::Tcp)).then(|| tcp_flags(event.tcp_flags).into()),
        client: event.client.into(),
        client_port: port(event.client_port),
        vip: event.vip.into(),
        port: port(event.vip_port),
        verdict: TraceVerdict::at(event.verdict).map_or("", TraceVerdict::name),
        reason: event.drop_reason().map(|reason| reason.name()),
        session: TraceSession::at(event.session).map(TraceSession::name),
        virtual_server: given(&event.virtual_server),
        real_server: given(&event.real_server),
        address: has_server.then(|| event.real_address.into()),
        bytes: HEXLOWER.encode(bytes).into(),
    }
}
