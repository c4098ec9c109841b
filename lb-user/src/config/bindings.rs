//! Which real servers a virtual server's `bind` and `sorry` mean.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use foldhash::{HashMap, HashMapExt};

use super::error::{Diagnostics, Position};
use super::groups::{Groups, groups};
use super::model::{Binding, Forward, RealServer};
use super::name::Name;
use super::schema::{self, BindEntry};
use super::suggest::did_you_mean;
use super::value::{Entry, Field, Number};

/// All that a name in `bind` can mean.
#[derive(Debug)]
pub struct Servers<'a> {
    /// Every name of a real server in the file, also of those that are wrong in themselves.
    names: BTreeSet<&'a str>,
    right: HashMap<&'a str, &'a RealServer>,
    by_address: HashMap<IpAddr, &'a str>,
    groups: Groups<'a>,
}

/// What the real servers must fit; a part is `None` if it is wrong in itself.
#[derive(Debug, Clone, Copy)]
pub struct Service {
    pub vip: Option<IpAddr>,
    pub forward: Option<Forward>,
}

impl Service {
    fn fits(self, name: &str, server: &RealServer) -> Result<(), String> {
        let address = server.address;
        match self {
            Self {
                vip: Some(vip),
                forward: Some(Forward::L2dsr),
            } if vip.is_ipv4() != address.is_ipv4() => Err(format!(
                "real server `{name}` ({address}) and VIP {vip}: l2dsr needs both IPv4 or both IPv6"
            )),
            _ => Ok(()),
        }
    }
}

/// One real server that `bind` asks for.
#[derive(Debug, Clone, Copy)]
struct Wanted<'a> {
    at: Position,
    server: &'a str,
    /// `None`: the real server's own.
    weight: Option<u16>,
    drain: bool,
}

impl<'a> Servers<'a> {
    /// `right` are the file's real servers without those that are wrong. Checks the groups too.
    pub fn new(
        file: &'a schema::File,
        right: &'a BTreeMap<String, RealServer>,
        errors: &mut Diagnostics,
    ) -> Self {
        let names = file
            .real_servers
            .iter()
            .flatten()
            .map(|(name, _)| name.value.as_str());
        let names = names.collect();
        let addresses = right
            .iter()
            .map(|(name, server)| (server.address, name.as_str()));
        let right = right.iter().map(|(name, server)| (name.as_str(), server));
        Self {
            right: right.collect(),
            by_address: addresses.collect(),
            groups: groups(file, &names, errors),
            names,
        }
    }

    /// The name of a real server that has this address.
    pub fn with_address(&self, address: IpAddr) -> Option<&'a str> {
        self.by_address.get(&address).copied()
    }

    /// The real servers that `bind` names, in its order; `None` if anything about them is wrong.
    pub fn bindings(
        &self,
        bind: &'a [BindEntry],
        service: Service,
        errors: &mut Diagnostics,
    ) -> Option<Vec<Binding>> {
        let before = errors.count();
        let mut wanted = Vec::with_capacity(bind.len());
        for entry in bind {
            self.add_wanted(entry, &mut wanted, errors);
        }
        let mut lines = HashMap::with_capacity(wanted.len());
        for Wanted { at, server, .. } in &wanted {
            if let Some(line) = lines.insert(server, at.line) {
                let problem =
                    format!("bind: real server `{server}` is bound already (line {line})");
                errors.add(*at, problem);
            }
        }
        let bindings: Vec<_> = wanted
            .into_iter()
            .map(|wanted| self.binding(wanted, service, errors))
            .collect();
        if errors.count() > before {
            return None;
        }
        bindings.into_iter().collect()
    }

    /// The real server that `sorry` names, beside those that are bound.
    pub fn sorry(
        &self,
        field: &Option<Field<Name>>,
        bound: &[Binding],
        service: Service,
        errors: &mut Diagnostics,
    ) -> Option<String> {
        let Name(name) = errors.value("sorry", field)?;
        let problem = if self.groups.contains_key(name.as_str()) {
            Some(format!("`{name}` is a group: name a real server"))
        } else if !self.names.contains(name.as_str()) {
            let suggestion = did_you_mean(name, self.names.iter().copied());
            Some(format!("unknown real server `{name}`{suggestion}"))
        } else if bound.iter().any(|binding| binding.server == *name) {
            Some(format!("real server `{name}` is bound: name another one"))
        } else {
            let server = self.right.get(name.as_str())?;
            service.fits(name, server).err()
        };
        if let (Some(problem), Some(field)) = (problem, field) {
            errors.add(Position::used(field), format!("sorry: {problem}"));
        }
        Some(name.clone())
    }

    /// One real server, or those of a group.
    fn add_wanted(
        &self,
        entry: &'a BindEntry,
        all: &mut Vec<Wanted<'a>>,
        errors: &mut Diagnostics,
    ) {
        match &entry.value {
            Entry::Short(name) => {
                let Some(Name(name)) = errors.parsed(entry, "bind", name) else {
                    return;
                };
                let wanted = |server| Wanted {
                    at: entry.into(),
                    server,
                    weight: None,
                    drain: false,
                };
                match self.groups.get(name.as_str()) {
                    Some(members) => all.extend(members.iter().copied().map(wanted)),
                    None => all.push(wanted(name)),
                }
            }
            Entry::Long(binding) => {
                let schema::Binding {
                    server: field,
                    weight,
                    drain,
                } = &**binding;
                let weight = errors.value("weight", weight).map(|Number(weight)| *weight);
                let drain = errors.value("drain", drain).is_some_and(|drain| *drain);
                let Some(Name(server)) = errors.required(entry, "server", field) else {
                    return;
                };
                let at = field.as_ref().map_or(entry.into(), Position::from);
                if self.groups.contains_key(server.as_str()) {
                    let problem = format!(
                        "server: `{server}` is a group: bind it as `- {server}`, or name a real server"
                    );
                    errors.add(at, problem);
                    return;
                }
                all.push(Wanted {
                    at,
                    server,
                    weight,
                    drain,
                });
            }
        }
    }

    fn binding(
        &self,
        Wanted {
            at,
            server: name,
            weight,
            drain,
        }: Wanted<'_>,
        service: Service,
        errors: &mut Diagnostics,
    ) -> Option<Binding> {
        let Some(&server) = self.right.get(name) else {
            if !self.names.contains(name) {
                let known = self.names.iter().chain(self.groups.keys()).copied();
                let suggestion = did_you_mean(name, known);
                errors.add(
                    at,
                    format!("bind: unknown real server or group `{name}`{suggestion}"),
                );
            }
            return None;
        };
        if let Err(problem) = service.fits(name, server) {
            errors.add(at, format!("bind: {problem}"));
        }
        let weight = weight.unwrap_or(server.weight);
        Some(Binding {
            server: name.to_owned(),
            weight,
            drain: drain || weight == 0,
        })
    }
}
