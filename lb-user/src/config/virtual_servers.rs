//! Virtual servers, from schema to model.

use std::collections::HashMap;
use std::net::IpAddr;

use serde_yaml::Spanned;

use super::address::HostAddress;
use super::bindings::{Servers, Service};
use super::claims::{Claims, Owner};
use super::error::{Diagnostics, Position};
use super::model::{Binding, Forward, Limits, Predictor, Protocol, VirtualServer};
use super::name::Name;
use super::ports::Ports;
use super::value::{Field, Number, Word};
use super::{schema, unsupported};

/// The virtual servers that are right, in the order of the file.
pub fn virtual_servers(
    file: &schema::File,
    servers: &Servers<'_>,
    limits: Limits,
    errors: &mut Diagnostics,
) -> Vec<VirtualServer> {
    let entries = file.virtual_servers.as_deref().unwrap_or_default();
    if let Some(excess) = entries.get(limits.virtual_servers as usize) {
        let limit = limits.virtual_servers;
        errors.add(
            excess,
            format!("more virtual servers than limits.virtual_servers: {limit}"),
        );
    }
    let defaults = file
        .defaults
        .as_ref()
        .map(|defaults| self::defaults(defaults, errors));
    let defaults = defaults.unwrap_or_default();
    let mut names = HashMap::new();
    let mut claims = Claims::default();
    let mut list = Vec::new();
    for entry in entries {
        list.extend(virtual_server(
            entry,
            defaults,
            servers,
            &mut names,
            &mut claims,
            errors,
        ));
    }
    list
}

/// What is written of the keys that `defaults` and a virtual server both have: `None` if nothing,
/// `Some(None)` if something wrong (recorded already).
#[derive(Debug, Default, Clone, Copy)]
struct Settings<'a> {
    protocol: Option<Option<Protocol>>,
    forward: Option<Option<Forward>>,
    predictor: Option<Option<Predictor>>,
    minimum_up: Option<&'a Field<schema::MinimumUp>>,
}

impl<'a> Settings<'a> {
    fn new(written: &'a schema::VirtualServer, errors: &mut Diagnostics) -> Self {
        unsupported::virtual_server(written, errors);
        let schema::VirtualServer {
            protocol,
            forward,
            predictor,
            minimum_up,
            ..
        } = written;
        let mut word = |protocol| errors.value("protocol", protocol).map(|Word(word)| *word);
        let protocol = protocol.is_some().then(|| word(protocol));
        let forward = forward
            .is_some()
            .then(|| unsupported::forward(forward, errors));
        let predictor = predictor
            .is_some()
            .then(|| unsupported::predictor(predictor, errors));
        errors.value("minimum_up", minimum_up);
        Self {
            protocol,
            forward,
            predictor,
            minimum_up: minimum_up.as_ref(),
        }
    }

    fn or(self, defaults: Self) -> Self {
        Self {
            protocol: self.protocol.or(defaults.protocol),
            forward: self.forward.or(defaults.forward),
            predictor: self.predictor.or(defaults.predictor),
            minimum_up: self.minimum_up.or(defaults.minimum_up),
        }
    }
}

fn defaults<'a>(written: &'a schema::VirtualServer, errors: &mut Diagnostics) -> Settings<'a> {
    let schema::VirtualServer {
        name,
        vip,
        port,
        bind,
        ..
    } = written;
    let mut refuse = |key, position: Option<Position>| {
        if let Some(position) = position {
            errors.add(
                position,
                format!("defaults: `{key}` belongs to one virtual server alone"),
            );
        }
    };
    refuse("name", name.as_ref().map(Position::from));
    refuse("vip", vip.as_ref().map(Position::from));
    refuse("port", port.as_ref().map(Position::from));
    refuse("bind", bind.as_ref().map(Position::from));
    Settings::new(written, errors)
}

fn virtual_server<'a>(
    entry: &'a Spanned<schema::VirtualServer>,
    defaults: Settings<'a>,
    servers: &Servers<'a>,
    names: &mut HashMap<&'a str, u64>,
    claims: &mut Claims<'a>,
    errors: &mut Diagnostics,
) -> Option<VirtualServer> {
    let written = &entry.value;
    let line = Position::from(entry).line;
    let settings = Settings::new(written, errors).or(defaults);

    let name = errors
        .required(entry, "name", &written.name)
        .map(|Name(name)| name);
    if let Some(name) = name
        && let Some(first) = names.insert(name, line)
    {
        errors.add(
            entry,
            format!("name: another virtual server is called `{name}` (line {first})"),
        );
    }

    let vip = errors
        .required(entry, "vip", &written.vip)
        .map(|HostAddress(vip)| *vip);
    if let (Some(vip), Some(field)) = (vip, &written.vip) {
        if let Some(server) = servers.with_address(vip) {
            errors.add(
                field,
                format!("vip: {vip} is the address of real server `{server}`"),
            );
        }
        check_sticky(vip, written, errors);
    }

    if settings.protocol.is_none() {
        errors.add(entry, "missing key `protocol`");
    }
    let protocol = settings.protocol.flatten();

    let ports = match &written.port {
        Some(port) => Ports::from_value(port, errors),
        None => {
            errors.add(entry, "missing key `port`");
            None
        }
    };
    if let (Some(name), Some(vip), Some(protocol), Some(ports), Some(port)) =
        (name, vip, protocol, &ports, &written.port)
        && let Err(problem) = claims.claim((vip, protocol), ports, Owner { name, line })
    {
        errors.add(port, problem);
    }

    let forward = settings.forward.unwrap_or(Some(Forward::L2dsr));
    let bind = written
        .bind
        .as_ref()
        .map(|bind| bind.value.as_slice())
        .unwrap_or_default();
    let bind = servers.bindings(bind, Service { vip, forward }, errors);

    let minimum_up = minimum_up(settings.minimum_up, &bind, errors);
    Some(VirtualServer {
        name: name?.clone(),
        vip: vip?,
        protocol: protocol?,
        ports: ports?,
        forward: forward?,
        predictor: settings.predictor.unwrap_or(Some(Predictor::Hash))?,
        bind,
        minimum_up,
    })
}

/// Draining servers count: draining one must not make a file wrong that was right.
fn minimum_up(
    written: Option<&Field<schema::MinimumUp>>,
    bind: &[Binding],
    errors: &mut Diagnostics,
) -> u32 {
    let Some(field) = written else { return 1 };
    let Ok(Number(minimum)) = field.value.0 else {
        return 1;
    };
    let bound = bind.len();
    if bound > 0 && minimum as usize > bound {
        errors.add(
            field,
            format!("minimum_up: {minimum} is more than the {bound} real servers bound"),
        );
    }
    minimum
}

/// A section that says nothing to an IPv6 VIP is a mistake; one with both prefixes can be copied from
/// virtual server to virtual server.
fn check_sticky(vip: IpAddr, written: &schema::VirtualServer, errors: &mut Diagnostics) {
    if let Some(sticky) = &written.sticky
        && let Some(prefix) = &sticky.value.prefix_v4
        && sticky.value.prefix_v6.is_none()
        && vip.is_ipv6()
    {
        errors.add(
            prefix,
            format!("sticky.prefix_v4: VIP {vip} is IPv6: expected prefix_v6"),
        );
    }
}
