//! Which real servers a virtual server's `bind` means.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::net::IpAddr;

use serde_yaml::Spanned;

use super::error::{Diagnostics, Position};
use super::model::{Binding, Forward, RealServer};
use super::name::{self, Name};
use super::schema;
use super::suggest::did_you_mean;
use super::value::{Entry, Field, Number};

/// All that a name in `bind` can mean.
#[derive(Debug)]
pub struct Servers<'a> {
    /// Every name of a real server in the file, also of those that are wrong in themselves.
    names: BTreeSet<&'a str>,
    right: &'a BTreeMap<String, RealServer>,
    by_address: HashMap<IpAddr, &'a str>,
    groups: BTreeMap<&'a str, Vec<&'a str>>,
}

impl<'a> Servers<'a> {
    /// `right` are the file's real servers without those that are wrong. Checks the groups.
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
        let mut servers = Self {
            names: names.collect(),
            right,
            by_address: right
                .iter()
                .map(|(name, server)| (server.address, name.as_str()))
                .collect(),
            groups: BTreeMap::new(),
        };
        for (name, members) in file.groups.iter().flatten() {
            if let Err(problem) = name::check(&name.value) {
                errors.add(name, problem);
            }
            if servers.names.contains(name.value.as_str()) {
                errors.add(
                    name,
                    format!(
                        "`{}` is a real server: a group needs another name",
                        name.value
                    ),
                );
            }
            let members = members.as_deref().unwrap_or_default();
            let members = servers.members(members, errors);
            servers.groups.insert(&name.value, members);
        }
        servers
    }

    /// The name of a real server that has this address.
    pub fn with_address(&self, address: IpAddr) -> Option<&'a str> {
        self.by_address.get(&address).copied()
    }

    fn members(&self, members: &'a [Field<Name>], errors: &mut Diagnostics) -> Vec<&'a str> {
        let mut seen = HashSet::new();
        let mut names = Vec::new();
        for member in members {
            let Some(Name(name)) = errors.parsed(member, "groups", &member.value) else {
                continue;
            };
            if !seen.insert(name) {
                errors.add(
                    member,
                    format!("real server `{name}` is in the group twice"),
                );
            } else if !self.names.contains(name.as_str()) {
                let suggestion = did_you_mean(name, self.names.iter().copied());
                errors.add(member, format!("unknown real server `{name}`{suggestion}"));
            } else {
                names.push(name.as_str());
            }
        }
        names
    }

    /// The real servers that `bind` names, in its order.
    pub fn bindings(
        &self,
        bind: &'a [Spanned<Entry<Name, schema::Binding>>],
        service: Service,
        errors: &mut Diagnostics,
    ) -> Vec<Binding> {
        let mut bindings = Bindings {
            servers: self,
            service,
            lines: HashMap::new(),
            list: Vec::new(),
        };
        for entry in bind {
            match &entry.value {
                Entry::Short(name) => {
                    let Some(Name(name)) = errors.parsed(entry, "bind", name) else {
                        continue;
                    };
                    match self.groups.get(name.as_str()) {
                        Some(members) => {
                            for member in members {
                                bindings.add(entry, member, None, false, errors);
                            }
                        }
                        None => bindings.add(entry, name, None, false, errors),
                    }
                }
                Entry::Long(binding) => {
                    let weight = errors.value("weight", &binding.weight);
                    let drain = errors
                        .value("drain", &binding.drain)
                        .is_some_and(|drain| *drain);
                    let Some(Name(name)) = errors.required(entry, "server", &binding.server) else {
                        continue;
                    };
                    if self.groups.contains_key(name.as_str()) {
                        errors.add(entry, format!("server: `{name}` is a group: bind it as `- {name}`, or name a real server"));
                    } else {
                        bindings.add(
                            entry,
                            name,
                            weight.map(|Number(weight)| *weight),
                            drain,
                            errors,
                        );
                    }
                }
            }
        }
        bindings.list
    }
}

/// What real servers must fit; `None` if that is wrong in itself.
#[derive(Debug, Clone, Copy)]
pub struct Service {
    pub vip: Option<IpAddr>,
    pub forward: Option<Forward>,
}

/// The bindings of one virtual server so far.
struct Bindings<'s, 'a> {
    servers: &'s Servers<'a>,
    service: Service,
    /// Where each real server is bound.
    lines: HashMap<&'a str, u64>,
    list: Vec<Binding>,
}

impl<'a> Bindings<'_, 'a> {
    fn add<T>(
        &mut self,
        entry: &Spanned<T>,
        name: &'a str,
        weight: Option<u16>,
        drain: bool,
        errors: &mut Diagnostics,
    ) {
        let Servers {
            names,
            right,
            groups,
            ..
        } = self.servers;
        if !names.contains(name) {
            let known = names.iter().chain(groups.keys()).copied();
            let suggestion = did_you_mean(name, known);
            errors.add(
                entry,
                format!("bind: unknown real server or group `{name}`{suggestion}"),
            );
            return;
        }
        if let Some(line) = self.lines.insert(name, Position::from(entry).line) {
            errors.add(
                entry,
                format!("bind: real server `{name}` is bound already (line {line})"),
            );
            return;
        }
        let Some(server) = right.get(name) else {
            return;
        };
        if let Service {
            vip: Some(vip),
            forward: Some(Forward::L2dsr),
        } = self.service
            && vip.is_ipv4() != server.address.is_ipv4()
        {
            let address = server.address;
            errors.add(entry, format!("bind: real server `{name}` ({address}) and VIP {vip}: l2dsr needs both IPv4 or both IPv6"));
        }
        let weight = weight.unwrap_or(server.weight);
        self.list.push(Binding {
            server: name.to_owned(),
            weight,
            drain: drain || weight == 0,
        });
    }
}
