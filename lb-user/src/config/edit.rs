//! Binds and unbinds in the text of a configuration file.
//!
//! The loader says what the file means, before and after; the change must be that one binding (or those of one group) and
//! nothing else. What isn't changed keeps its bytes: comments, order, style.

mod list;
mod tree;

use std::collections::BTreeSet;

use serde_yaml::Spanned;

use self::{list::Change, tree::Node};
use super::error::{Diagnostics, Position};
use super::groups::{Groups, groups};
use super::name::Name;
use super::schema::{self, BindEntry};
use super::suggest::did_you_mean;
use super::value::{Entry, Parsed};
use super::{Binding, Config, LoadError, validate, yaml};

/// A changed text.
#[derive(Debug)]
pub struct Edit {
    /// What to write to the file: it is right.
    pub text: String,
    /// The real servers that are bound now, or not any more; those of a group in its order.
    pub servers: Vec<String>,
}

/// Why the file can't be changed as wanted.
#[derive(Debug, thiserror::Error)]
pub enum EditError {
    /// It is wrong as it is.
    #[error(transparent)]
    Load(#[from] LoadError),
    /// There is no such virtual server.
    #[error("{file_name} has no virtual server `{name}`{suggestion}")]
    UnknownVirtualServer {
        /// The file.
        file_name: String,
        /// What was asked for.
        name: String,
        /// Empty, or a question.
        suggestion: String,
    },
    /// There is no such real server, and no such group.
    #[error("{file_name} has no real server or group `{name}`{suggestion}")]
    UnknownServer {
        /// The file.
        file_name: String,
        /// What was asked for.
        name: String,
        /// Empty, or a question.
        suggestion: String,
    },
    /// A group with a weight.
    #[error("`{group}` is a group: its real servers have their own weights; leave out --weight")]
    GroupWeight {
        /// The group.
        group: String,
    },
    /// It is bound, as wanted or with another weight.
    #[error(
        "`{name}` is bound to `{virtual_server}` already ({file_name}:{line}): edit that line for another weight, or to end a drain"
    )]
    Bound {
        /// The file.
        file_name: String,
        /// Where that is written.
        line: u64,
        /// The real server or group.
        name: String,
        /// The virtual server.
        virtual_server: String,
    },
    /// It is bound with all others of a group.
    #[error(
        "`{server}` is bound to `{virtual_server}` already, by group `{group}` ({file_name}:{line})"
    )]
    BoundByGroup {
        /// The file.
        file_name: String,
        /// Where the group is bound.
        line: u64,
        /// The real server.
        server: String,
        /// The group.
        group: String,
        /// The virtual server.
        virtual_server: String,
    },
    /// It isn't bound.
    #[error("`{name}` is not bound to `{virtual_server}`")]
    NotBound {
        /// The real server or group.
        name: String,
        /// The virtual server.
        virtual_server: String,
        /// What the name means, without what is bound by another name.
        unbound: Vec<String>,
    },
    /// It can't be unbound without the others of its group, or from one virtual server alone.
    #[error(
        "`{server}` is bound to `{virtual_server}` by group `{group}`: unbind `{group}`, or take `{server}` out of the group in {file_name}{others}"
    )]
    OnlyByGroup {
        /// The file.
        file_name: String,
        /// The real server.
        server: String,
        /// The group.
        group: String,
        /// The virtual server.
        virtual_server: String,
        /// Empty, or what else binds the group.
        others: String,
    },
    /// The text may stand for other places, too.
    #[error(
        "{file_name}:{line}: the `bind` of `{virtual_server}` can't be changed alone, because of an anchor, an alias or a merge: edit it by hand"
    )]
    Shared {
        /// The file.
        file_name: String,
        /// Where the virtual server is.
        line: u64,
        /// The virtual server.
        virtual_server: String,
    },
    /// The loader would refuse the changed file.
    #[error("that would make the file wrong: {0}")]
    Invalid(LoadError),
}

/// Binds a real server or a group, behind those that are bound. `weight`: of this binding alone.
///
/// # Errors
/// [`EditError`], all but `NotBound` and `OnlyByGroup`.
pub fn bind(
    file_name: &str,
    text: &str,
    virtual_server: &str,
    server: &str,
    weight: Option<u16>,
) -> Result<Edit, EditError> {
    let file =
        yaml::parse(text).map_err(|diagnostic| LoadError::invalid(file_name, vec![diagnostic]))?;
    let written = Written::new(file_name, text, &file, virtual_server)?;
    let servers = written.servers(server)?;
    if let (true, Some(_)) = (written.groups.contains_key(server), weight) {
        return Err(EditError::GroupWeight {
            group: server.to_owned(),
        });
    }
    if let Some((_, at)) = written.entry(server) {
        return Err(EditError::Bound {
            file_name: file_name.to_owned(),
            line: at.line,
            name: server.to_owned(),
            virtual_server: virtual_server.to_owned(),
        });
    }
    if let Some((group, at)) = written.group_of(server) {
        return Err(EditError::BoundByGroup {
            file_name: file_name.to_owned(),
            line: at.line,
            server: server.to_owned(),
            group: group.to_owned(),
            virtual_server: virtual_server.to_owned(),
        });
    }
    let name = yaml::quoted(server);
    let entry = match weight {
        None => name,
        Some(weight) => format!("{{ server: {name}, weight: {weight} }}"),
    };
    let mut expected = written.config.clone();
    for server in &servers {
        let weight = weight.unwrap_or(expected.real_servers[server].weight);
        expected.virtual_servers[written.index].bind.push(Binding {
            server: server.clone(),
            weight,
            drain: weight == 0,
        });
    }
    let change = written
        .node()
        .and_then(|node| list::append(text, node, &entry));
    written.edit(change, expected, servers)
}

/// Unbinds a real server or a group.
///
/// # Errors
/// [`EditError`], all but `GroupWeight`, `Bound` and `BoundByGroup`.
pub fn unbind(
    file_name: &str,
    text: &str,
    virtual_server: &str,
    server: &str,
) -> Result<Edit, EditError> {
    let file =
        yaml::parse(text).map_err(|diagnostic| LoadError::invalid(file_name, vec![diagnostic]))?;
    let written = Written::new(file_name, text, &file, virtual_server)?;
    let servers = written.servers(server)?;
    let Some((index, _)) = written.entry(server) else {
        return Err(written.not_bound(server, servers));
    };
    let mut expected = written.config.clone();
    expected.virtual_servers[written.index]
        .bind
        .retain(|binding| !servers.contains(&binding.server));
    let change = written
        .node()
        .and_then(|node| list::remove(text, node, index));
    written.edit(change, expected, servers)
}

/// A file that is right, and one of its virtual servers.
struct Written<'a> {
    file_name: &'a str,
    text: &'a str,
    config: Config,
    groups: Groups<'a>,
    virtual_servers: &'a [Spanned<schema::VirtualServer>],
    root: Option<Node>,
    /// Of the virtual server, in the file as in `config`.
    index: usize,
}

impl<'a> Written<'a> {
    fn new(
        file_name: &'a str,
        text: &'a str,
        file: &'a Spanned<schema::File>,
        virtual_server: &str,
    ) -> Result<Self, EditError> {
        let config = validate::config(file)
            .map_err(|diagnostics| LoadError::invalid(file_name, diagnostics))?;
        let names = || config.virtual_servers.iter().map(|it| it.name.as_str());
        let Some(index) = names().position(|name| name == virtual_server) else {
            return Err(EditError::UnknownVirtualServer {
                file_name: file_name.to_owned(),
                name: virtual_server.to_owned(),
                suggestion: did_you_mean(virtual_server, names()),
            });
        };
        let real_servers: BTreeSet<_> = file
            .value
            .real_servers
            .iter()
            .flatten()
            .map(|(name, _)| name.value.as_str())
            .collect();
        // They are right: the file is.
        let groups = groups(&file.value, &real_servers, &mut Diagnostics::default());
        Ok(Self {
            file_name,
            text,
            config,
            groups,
            virtual_servers: file.value.virtual_servers.as_deref().unwrap_or_default(),
            root: Node::parse(text),
            index,
        })
    }

    /// The real servers that a name means.
    fn servers(&self, name: &str) -> Result<Vec<String>, EditError> {
        if let Some(members) = self.groups.get(name) {
            return Ok(members.iter().map(|&member| member.to_owned()).collect());
        }
        let real_servers = || self.config.real_servers.keys().map(String::as_str);
        if real_servers().any(|server| server == name) {
            return Ok(vec![name.to_owned()]);
        }
        Err(EditError::UnknownServer {
            file_name: self.file_name.to_owned(),
            name: name.to_owned(),
            suggestion: did_you_mean(name, real_servers().chain(self.groups.keys().copied())),
        })
    }

    /// The names that a virtual server's `bind` lists, and where.
    fn entries(&self, index: usize) -> impl Iterator<Item = (&'a str, Position)> {
        let bind = self.virtual_servers[index].value.bind.iter();
        bind.flat_map(|bind| &bind.value)
            .map(|entry| (name(entry), Position::used(entry)))
    }

    /// Which entry of the virtual server's `bind` this name is, and where.
    fn entry(&self, name: &str) -> Option<(usize, Position)> {
        self.entries(self.index)
            .enumerate()
            .find(|(_, (entry, _))| *entry == name)
            .map(|(index, (_, at))| (index, at))
    }

    /// The group by which a real server is bound, and where.
    fn group_of(&self, server: &str) -> Option<(&'a str, Position)> {
        self.entries(self.index).find(|(name, _)| {
            let members = self.groups.get(name);
            members.is_some_and(|members| members.contains(&server))
        })
    }

    /// Why `server`, which means these `servers`, can't be unbound.
    fn not_bound(&self, server: &str, mut servers: Vec<String>) -> EditError {
        let config = &self.config.virtual_servers[self.index];
        let virtual_server = config.name.clone();
        let Some((group, _)) = self.group_of(server) else {
            servers.retain(|server| config.bind.iter().all(|bound| bound.server != *server));
            return EditError::NotBound {
                name: server.to_owned(),
                virtual_server,
                unbound: servers,
            };
        };
        let others: Vec<_> = (0..self.virtual_servers.len())
            .filter(|&index| index != self.index)
            .filter(|&index| self.entries(index).any(|(name, _)| name == group))
            .map(|index| format!("`{}`", self.config.virtual_servers[index].name))
            .collect();
        EditError::OnlyByGroup {
            file_name: self.file_name.to_owned(),
            server: server.to_owned(),
            group: group.to_owned(),
            virtual_server,
            others: match others.len() {
                0 => String::new(),
                1..=3 => format!(" (that unbinds it from {}, too)", others.join(", ")),
                many => format!(" (that unbinds it from {many} other virtual servers, too)"),
            },
        }
    }

    /// Where the virtual server is written, unless somebody else may be written there, too.
    fn node(&self) -> Option<&Node> {
        let (_, all) = self.root.as_ref()?.entry("virtual_servers")?;
        let node = all.item(self.index)?;
        // Merged keys are read, but not written there.
        let is_written = node.entry("bind").is_some();
        let is_read = self.virtual_servers[self.index].value.bind.is_some();
        (is_written || !is_read).then_some(node)
    }

    /// The text with the change, if that gives what is expected.
    fn edit(
        &self,
        change: Option<Change>,
        expected: Config,
        servers: Vec<String>,
    ) -> Result<Edit, EditError> {
        let shared = || EditError::Shared {
            file_name: self.file_name.to_owned(),
            line: Position::used(&self.virtual_servers[self.index]).line,
            virtual_server: self.config.virtual_servers[self.index].name.clone(),
        };
        let text = change.ok_or_else(shared)?.apply(self.text);
        let config = Config::parse(self.file_name, &text).map_err(EditError::Invalid)?;
        if config != expected {
            return Err(shared());
        }
        Ok(Edit { text, servers })
    }
}

/// What an entry of a file that is right names.
fn name(entry: &BindEntry) -> &str {
    let name = match &entry.value {
        Entry::Short(Parsed(name)) => name.as_ref().ok(),
        Entry::Long(binding) => {
            let server = binding.server.as_ref();
            server.and_then(|server| server.value.0.as_ref().ok())
        }
    };
    name.map_or("", |Name(name)| name)
}

#[cfg(test)]
mod tests;
