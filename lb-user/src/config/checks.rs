//! The health checks of a virtual server, from schema to model.

use super::check::{DnsCheck, HealthCheck, HttpCheck, IcmpCheck, PortCheck, UdpCheck, Via};
use super::dns::{DnsName, RecordType};
use super::error::{Diagnostics, Position};
use super::http::http;
use super::model::Protocol;
use super::ports::Ports;
use super::schema::{self, CheckEntry, CheckKind};
use super::value::{Entry, Field, Number, Text, Word};

/// The port of a check that says none: it goes to the virtual server's.
const UNWRITTEN: u16 = 0;

/// A check as it is written, for any virtual server.
#[derive(Debug, Clone)]
pub struct WrittenCheck {
    /// Where it is used.
    at: Position,
    /// Its port may be [`UNWRITTEN`].
    check: HealthCheck,
}

/// The virtual server whose checks they are.
#[derive(Debug, Clone, Copy)]
pub struct Service<'a> {
    pub name: &'a str,
    pub protocol: Protocol,
    pub ports: &'a Ports,
}

/// Reads the checks of a virtual server or of `defaults`; `None` if anything is wrong in themselves.
pub fn written(entries: &[CheckEntry], errors: &mut Diagnostics) -> Option<Vec<WrittenCheck>> {
    let before = errors.count();
    let checks = entries.iter().filter_map(|entry| {
        let at = Position::used(entry);
        check(entry, errors).map(|check| WrittenCheck { at, check })
    });
    let checks = checks.collect();
    (errors.count() == before).then_some(checks)
}

/// The checks as they are for a virtual server; `None` if one of them can't be.
pub fn resolved(
    written: &[WrittenCheck],
    service: Service<'_>,
    errors: &mut Diagnostics,
) -> Option<Vec<HealthCheck>> {
    let before = errors.count();
    let mut checks = Vec::new();
    for WrittenCheck { at, check } in written {
        match resolve(check.clone(), service) {
            Ok(check) if checks.contains(&check) => {
                errors.add(*at, format!("check: {check} is in the list twice"));
            }
            Ok(check) => checks.push(check),
            Err(problem) => errors.add(*at, problem),
        }
    }
    (errors.count() == before).then_some(checks)
}

/// A port that isn't written becomes the virtual server's.
fn resolve(
    mut check: HealthCheck,
    Service {
        name,
        protocol,
        ports,
    }: Service<'_>,
) -> Result<HealthCheck, String> {
    let kind = check.to_string();
    if let Some((by, port)) = destination(&mut check)
        && *port == UNWRITTEN
    {
        let needs = |why| format!("check: {kind} needs `port: PORT`: {why}");
        if by != protocol {
            return Err(needs(format!("`{name}` has no {by} port")));
        }
        let first = ports.first();
        *port = first.ok_or_else(|| needs(format!("`{name}` takes any port")))?;
    }
    Ok(check)
}

/// What carries a check, and the port that it goes to, if it goes to one.
const fn destination(check: &mut HealthCheck) -> Option<(Protocol, &mut u16)> {
    match check {
        HealthCheck::Arp | HealthCheck::Icmp(_) => None,
        HealthCheck::Syn(PortCheck { port, .. })
        | HealthCheck::Tcp(PortCheck { port, .. })
        | HealthCheck::Http(HttpCheck { port, .. }) => Some((Protocol::Tcp, port)),
        HealthCheck::Dns(DnsCheck { port, .. }) | HealthCheck::Udp(UdpCheck { port, .. }) => {
            Some((Protocol::Udp, port))
        }
    }
}

/// The check, if it is right in itself.
fn check(entry: &CheckEntry, errors: &mut Diagnostics) -> Option<HealthCheck> {
    match &entry.value {
        Entry::Short(kind) => {
            let Word(kind) = errors.parsed(entry, "check", kind)?;
            short(entry, *kind, errors)
        }
        Entry::Long(check) => long(entry, check, errors),
    }
}

/// A check that needs no options.
fn short(entry: &CheckEntry, kind: CheckKind, errors: &mut Diagnostics) -> Option<HealthCheck> {
    let port = PortCheck {
        via: Via::default(),
        port: UNWRITTEN,
    };
    let missing = match kind {
        CheckKind::Arp => return Some(HealthCheck::Arp),
        CheckKind::Icmp => return Some(HealthCheck::Icmp(icmp(&Default::default(), errors))),
        CheckKind::Syn => return Some(HealthCheck::Syn(port)),
        CheckKind::Tcp => return Some(HealthCheck::Tcp(port)),
        CheckKind::Http => return Some(HealthCheck::Http(http(&Default::default(), errors))),
        CheckKind::Dns => "dns needs the name to ask for: write `dns: { name: example.com }`",
        CheckKind::Udp => "udp needs what to send: write `udp: { send: ping }`",
    };
    errors.add(entry, format!("check: {missing}"));
    None
}

/// A check with options: the one that is there.
fn long(
    entry: &CheckEntry,
    schema::Check {
        icmp,
        syn,
        tcp,
        http,
        dns,
        udp,
    }: &schema::Check,
    errors: &mut Diagnostics,
) -> Option<HealthCheck> {
    let mut checks = Vec::new();
    checks.extend(
        icmp.iter()
            .map(|it| Some(HealthCheck::Icmp(self::icmp(it, errors)))),
    );
    checks.extend(
        syn.iter()
            .map(|it| Some(HealthCheck::Syn(port_check("syn", it, errors)))),
    );
    checks.extend(
        tcp.iter()
            .map(|it| Some(HealthCheck::Tcp(port_check("tcp", it, errors)))),
    );
    checks.extend(
        http.iter()
            .map(|it| Some(HealthCheck::Http(self::http(it, errors)))),
    );
    checks.extend(
        dns.iter()
            .map(|it| self::dns(entry, it, errors).map(HealthCheck::Dns)),
    );
    checks.extend(
        udp.iter()
            .map(|it| self::udp(entry, it, errors).map(HealthCheck::Udp)),
    );
    match <[_; 1]>::try_from(checks) {
        Ok([check]) => check,
        Err(_) => {
            let problem = "check: expected one kind with its options, such as `syn: { port: 80 }`";
            errors.add(entry, problem);
            None
        }
    }
}

fn icmp(written: &schema::IcmpCheck, errors: &mut Diagnostics) -> IcmpCheck {
    IcmpCheck {
        via: via("icmp", &written.via, errors),
        size: errors
            .value("icmp.size", &written.size)
            .map(|Number(size)| *size),
    }
}

fn port_check(kind: &str, written: &schema::PortCheck, errors: &mut Diagnostics) -> PortCheck {
    PortCheck {
        via: via(kind, &written.via, errors),
        port: port(kind, &written.port, errors),
    }
}

fn dns(
    entry: &CheckEntry,
    written: &schema::DnsCheck,
    errors: &mut Diagnostics,
) -> Option<DnsCheck> {
    let via = via("dns", &written.via, errors);
    let port = port("dns", &written.port, errors);
    let record = errors.value("dns.type", &written.record).copied();
    let RecordType(record) = record.unwrap_or_default();
    let DnsName(name) = errors.required(entry, "dns.name", &written.name)?;
    Some(DnsCheck {
        via,
        port,
        name: name.clone(),
        record: record.to_owned(),
    })
}

fn udp(
    entry: &CheckEntry,
    written: &schema::UdpCheck,
    errors: &mut Diagnostics,
) -> Option<UdpCheck> {
    let via = via("udp", &written.via, errors);
    let port = port("udp", &written.port, errors);
    let expect = errors.value("udp.expect", &written.expect);
    let Text(send) = errors.required(entry, "udp.send", &written.send)?;
    Some(UdpCheck {
        via,
        port,
        send: send.clone(),
        expect: expect.map(|Text(expect)| expect.clone()),
    })
}

/// Where a check of a kind is sent.
pub fn via(kind: &str, field: &Option<Field<Word<Via>>>, errors: &mut Diagnostics) -> Via {
    let via = errors.value(&format!("{kind}.via"), field);
    via.map_or(Via::default(), |Word(via)| *via)
}

/// The port that a check of a kind is sent to, or [`UNWRITTEN`].
pub fn port(kind: &str, field: &Option<Field<schema::Port>>, errors: &mut Diagnostics) -> u16 {
    let port = errors.value(&format!("{kind}.port"), field);
    port.map_or(UNWRITTEN, |Number(port)| *port)
}
