//! Virtual servers, from schema to model.

use std::collections::HashMap;
use std::net::IpAddr;

use serde_yaml::Spanned;

use super::address::HostAddress;
use super::bindings::{Servers, Service};
use super::checks;
use super::claims::{Claims, Owner};
use super::error::{Diagnostics, Position};
use super::health::{self, health};
use super::model::{Binding, Forward, Limits, Predictor, VirtualServer};
use super::name::Name;
use super::ports::Ports;
use super::schema;
use super::session::{contradictions, session, slow_start, sticky};
use super::settings::{Settings, Written, or_default};

const DEFAULT_FORWARD: Forward = Forward::L2dsr;
const DEFAULT_PREDICTOR: Predictor = Predictor::Hash;
const DEFAULT_MINIMUM_UP: u32 = 1;

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
    let mut reader = Reader {
        defaults: defaults.unwrap_or_default(),
        servers,
        lines: HashMap::new(),
        claims: Claims::default(),
        errors,
    };
    entries
        .iter()
        .filter_map(|entry| reader.virtual_server(entry))
        .collect()
}

fn defaults(written: &schema::VirtualServer, errors: &mut Diagnostics) -> Settings {
    let schema::VirtualServer {
        name,
        vip,
        port,
        bind,
        sorry,
        ..
    } = written;
    let unshared = [
        ("name", name.as_ref().map(Position::from)),
        ("vip", vip.as_ref().map(Position::from)),
        ("port", port.as_ref().map(Position::from)),
        ("bind", bind.as_ref().map(Position::from)),
        ("sorry", sorry.as_ref().map(Position::from)),
    ];
    for (key, position) in unshared {
        if let Some(position) = position {
            errors.add(
                position,
                format!("defaults: `{key}` belongs to one virtual server alone"),
            );
        }
    }
    Settings::new(written, errors)
}

/// Reads one virtual server after the other and knows what the former ones took.
struct Reader<'a, 'e> {
    defaults: Settings,
    servers: &'a Servers<'a>,
    /// Where each name is used.
    lines: HashMap<&'a str, u64>,
    claims: Claims<'a>,
    errors: &'e mut Diagnostics,
}

impl<'a> Reader<'a, '_> {
    fn virtual_server(
        &mut self,
        entry: &'a Spanned<schema::VirtualServer>,
    ) -> Option<VirtualServer> {
        let own = Settings::new(&entry.value, self.errors);
        let settings = own.clone().or(self.defaults.clone());
        let name = self.name(entry);
        let vip = self.vip(entry);
        let protocol = match settings.protocol {
            Some(protocol) => protocol.value,
            None => self.missing(entry, "protocol"),
        };
        let ports = match &entry.value.port {
            Some(port) => Ports::from_value(port, self.errors),
            None => self.missing(entry, "port"),
        };
        if let (Some(name), Some(vip), Some(protocol), Some(ports), Some(port)) =
            (name, vip, protocol, &ports, &entry.value.port)
        {
            let owner = Owner {
                name,
                line: Position::used(entry).line,
            };
            if let Err(problem) = self.claims.claim((vip, protocol), ports, owner) {
                self.errors.add(Position::used(port), problem);
            }
        }
        let forward = or_default(settings.forward, DEFAULT_FORWARD);
        let predictor = or_default(settings.predictor, DEFAULT_PREDICTOR);
        contradictions(&own, &settings, vip, predictor, self.errors);
        health::contradictions(&own, &settings, self.errors);
        let sticky = sticky(&settings, self.errors);
        let bind = entry
            .value
            .bind
            .as_ref()
            .map(|bind| bind.value.as_slice())
            .unwrap_or_default();
        let service = Service { vip, forward };
        let bind = self.servers.bindings(bind, service, self.errors);
        let sorry = self.servers.sorry(
            &entry.value.sorry,
            bind.as_deref().unwrap_or_default(),
            service,
            self.errors,
        );
        let minimum_up = self.minimum_up(settings.minimum_up, name, bind.as_deref());
        let health = match (name, protocol, &ports) {
            (Some(name), Some(protocol), Some(ports)) => {
                let service = checks::Service {
                    name,
                    protocol,
                    ports,
                };
                health(&settings.health, service, self.errors)
            }
            _ => None,
        };
        Some(VirtualServer {
            name: name?.to_owned(),
            vip: vip?,
            protocol: protocol?,
            ports: ports?,
            forward: forward?,
            predictor: predictor?,
            session: session(&settings.session, protocol?)?,
            sticky: sticky?,
            slow_start: slow_start(&settings, predictor?)?,
            bind: bind?,
            sorry,
            minimum_up: minimum_up?,
            health: health?,
        })
    }

    fn missing<T>(&mut self, entry: &Spanned<schema::VirtualServer>, key: &str) -> Option<T> {
        self.errors.add(entry, format!("missing key `{key}`"));
        None
    }

    fn name(&mut self, entry: &'a Spanned<schema::VirtualServer>) -> Option<&'a str> {
        let field = &entry.value.name;
        let Name(name) = self.errors.required(entry, "name", field)?;
        let line = Position::used(entry).line;
        if let (Some(first), Some(field)) = (self.lines.insert(name, line), field) {
            let problem = format!("name: another virtual server is called `{name}` (line {first})");
            self.errors.add(Position::used(field), problem);
        }
        Some(name)
    }

    fn vip(&mut self, entry: &Spanned<schema::VirtualServer>) -> Option<IpAddr> {
        let field = &entry.value.vip;
        let HostAddress(vip) = *self.errors.required(entry, "vip", field)?;
        if let (Some(server), Some(field)) = (self.servers.with_address(vip), field) {
            let problem = format!("vip: {vip} is the address of real server `{server}`");
            self.errors.add(field, problem);
        }
        Some(vip)
    }

    /// Draining servers count: draining one must not make a file wrong that was right. Without any
    /// real server the virtual server is down, whatever the minimum.
    fn minimum_up(
        &mut self,
        written: Option<Written<u32>>,
        name: Option<&str>,
        bind: Option<&[Binding]>,
    ) -> Option<u32> {
        let Some(Written { at, value }) = written else {
            return Some(DEFAULT_MINIMUM_UP);
        };
        let minimum = value?;
        let (name, bound) = (name?, bind?.len());
        if bound > 0 && minimum as usize > bound {
            let problem = format!(
                "minimum_up: expected at most {bound}, all that `{name}` binds, found {minimum}"
            );
            self.errors.add(at, problem);
        }
        Some(minimum)
    }
}
