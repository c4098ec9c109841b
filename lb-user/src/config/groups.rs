//! Groups of real servers.

use std::collections::{BTreeMap, BTreeSet, HashSet};

use super::error::Diagnostics;
use super::name::{self, Name};
use super::schema;
use super::suggest::did_you_mean;
use super::value::Field;

/// The members of each group, in the order of the file.
pub type Groups<'a> = BTreeMap<&'a str, Vec<&'a str>>;

/// Reads the groups; `servers` are the names of all real servers in the file.
pub fn groups<'a>(
    file: &'a schema::File,
    servers: &BTreeSet<&'a str>,
    errors: &mut Diagnostics,
) -> Groups<'a> {
    let Some(written) = &file.groups else {
        return Groups::new();
    };
    let names: HashSet<&str> = written.keys().map(|name| name.value.as_str()).collect();
    let mut groups = Groups::new();
    for (key, fields) in written {
        let name = key.value.as_str();
        if let Err(problem) = name::check(name) {
            errors.add(key, format!("groups: {problem}"));
        }
        if servers.contains(name) {
            errors.add(
                key,
                format!("groups: `{name}` is a real server: a group needs another name"),
            );
        }
        let mut seen = HashSet::new();
        let mut members = Vec::new();
        for field in fields.iter().flatten() {
            match member(field, &names, servers, errors) {
                Some(member) if !seen.insert(member) => {
                    let problem = format!("groups: real server `{member}` is in the group twice");
                    errors.add(field, problem);
                }
                member => members.extend(member),
            }
        }
        groups.insert(name, members);
    }
    groups
}

fn member<'a>(
    field: &'a Field<Name>,
    groups: &HashSet<&str>,
    servers: &BTreeSet<&str>,
    errors: &mut Diagnostics,
) -> Option<&'a str> {
    let Name(name) = errors.parsed(field, "groups", &field.value)?;
    if servers.contains(name.as_str()) {
        return Some(name);
    }
    let problem = if groups.contains(name.as_str()) {
        format!("groups: `{name}` is a group: a group lists real servers")
    } else {
        let suggestion = did_you_mean(name, servers.iter().copied());
        format!("groups: unknown real server `{name}`{suggestion}")
    };
    errors.add(field, problem);
    None
}
