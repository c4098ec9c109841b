//! What `lb top` shows, and what keys do to it.

use std::{cmp::Ordering, collections::HashSet};

use crossterm::event::{KeyCode, KeyEvent, KeyEventKind, KeyModifiers};
use strum::{Display, EnumIter, IntoEnumIterator};

use super::history::{Histories, Key};
use crate::api::{
    Status,
    status::{RealServer, Sessions, Traffic, VirtualServer},
};

/// Everything but the terminal.
#[derive(Default)]
pub struct Model {
    /// The last one that came.
    pub status: Option<Status>,
    /// Why none came after that.
    pub problem: Option<String>,
    /// What was seen of late.
    pub histories: Histories,
    /// By what virtual servers are sorted, and the real servers in each.
    pub sort: Sort,
    /// The other way round.
    pub reverse: bool,
    /// Only what has this in its name or address.
    pub filter: String,
    /// Keys write the filter.
    pub writes_filter: bool,
    /// Keys are explained.
    pub helps: bool,
    /// The selected line.
    pub selected: usize,
    /// The first line that is in sight.
    pub first: usize,
    /// Lines of a page.
    pub page: usize,
    /// Virtual servers whose real servers are not shown.
    collapsed: HashSet<String>,
}

/// A column that lines can be sorted by.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Display, EnumIter)]
#[strum(serialize_all = "UPPERCASE")]
pub enum Sort {
    /// As in the configuration file.
    #[default]
    File,
    /// By name.
    Name,
    /// What is down first.
    State,
    /// Most active sessions first.
    Active,
    /// Most sessions first.
    Total,
    /// Most new sessions first.
    Cps,
    /// Most packets in a second first.
    Pps,
    /// Most bits in a second first.
    Bps,
}

/// A line.
#[derive(Clone, Copy)]
pub enum Line<'a> {
    /// A virtual server, and whether its real servers are shown.
    Virtual(&'a VirtualServer, bool),
    /// One of its real servers.
    Real(&'a VirtualServer, &'a RealServer),
}

/// Whether to go on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Flow {
    /// Yes.
    Continue,
    /// No.
    Quit,
}

// === impl Model ===

impl Model {
    /// Takes in what the daemon says, or that it says nothing. Then what it said last stands.
    pub fn update(&mut self, status: Result<Status, String>) {
        match status {
            Ok(status) => {
                self.histories.sample(&status);
                self.status = Some(status);
                self.problem = None;
            }
            Err(problem) => self.problem = Some(problem),
        }
        self.select(self.selected);
    }

    /// Does what a key says.
    pub fn press(&mut self, key: KeyEvent) -> Flow {
        if key.kind == KeyEventKind::Release {
            return Flow::Continue;
        }
        match (key.code, key.modifiers.contains(KeyModifiers::CONTROL)) {
            (KeyCode::Char('c'), true) => return Flow::Quit,
            (_, true) => {}
            (code, false) if self.writes_filter => self.write_filter(code),
            (_, false) if self.helps => self.helps = false,
            (code, false) => return self.command(code),
        }
        Flow::Continue
    }

    fn write_filter(&mut self, code: KeyCode) {
        match code {
            KeyCode::Enter => self.writes_filter = false,
            KeyCode::Esc => {
                self.writes_filter = false;
                self.filter.clear();
            }
            KeyCode::Backspace => drop(self.filter.pop()),
            KeyCode::Char(letter) => self.filter.push(letter),
            _ => {}
        }
        self.select(0);
    }

    fn command(&mut self, code: KeyCode) -> Flow {
        let (selected, page) = (self.selected, self.page.max(1));
        match code {
            KeyCode::Char('q') | KeyCode::Esc => return Flow::Quit,
            KeyCode::Char('?') => self.helps = true,
            KeyCode::Char('/') => self.writes_filter = true,
            KeyCode::Char('r') => self.reverse = !self.reverse,
            KeyCode::Left | KeyCode::Char('h') => self.sort = self.sort.before(),
            KeyCode::Right | KeyCode::Char('l') => self.sort = self.sort.next(),
            KeyCode::Up | KeyCode::Char('k') => self.select(selected.saturating_sub(1)),
            KeyCode::Down | KeyCode::Char('j') => self.select(selected + 1),
            KeyCode::PageUp => self.select(selected.saturating_sub(page)),
            KeyCode::PageDown => self.select(selected + page),
            KeyCode::Home => self.select(0),
            KeyCode::End => self.select(usize::MAX),
            KeyCode::Enter | KeyCode::Char(' ') => self.toggle(),
            KeyCode::Char('a') => self.toggle_all(),
            _ => {}
        }
        Flow::Continue
    }

    /// Selects a line, or the last one if there are fewer.
    fn select(&mut self, line: usize) {
        self.selected = line.min(self.lines().len().saturating_sub(1));
    }

    /// Expands or collapses the virtual server that the selected line belongs to.
    fn toggle(&mut self) {
        let lines = self.lines();
        let Some(line) = lines.get(self.selected) else {
            return;
        };
        let name = line.virtual_server().name.clone();
        if !self.collapsed.remove(&name) {
            self.collapsed.insert(name.clone());
        }
        let lines = self.lines();
        let line = lines
            .iter()
            .position(|line| line.key() == (name.clone(), None));
        self.selected = line.unwrap_or_default();
    }

    /// Collapses all virtual servers, or expands them if they are.
    fn toggle_all(&mut self) {
        let servers = self.status.iter().flat_map(|it| &it.virtual_servers);
        let all: HashSet<_> = servers.map(|it| it.name.clone()).collect();
        self.collapsed = if all.is_subset(&self.collapsed) {
            HashSet::new()
        } else {
            all
        };
        self.select(0);
    }

    /// The lines, sorted and filtered.
    pub fn lines(&self) -> Vec<Line<'_>> {
        let status = self.status.iter();
        let mut servers: Vec<_> = status.flat_map(|it| &it.virtual_servers).collect();
        self.order(&mut servers, |server| Line::Virtual(server, true));
        let mut lines = Vec::new();
        for server in servers {
            let is_expanded = !self.collapsed.contains(&server.name);
            let is_found = self.finds(&[&server.name, &server.vip.to_string()]);
            let real_servers = server.real_servers.iter();
            let mut real_servers: Vec<_> = real_servers
                .filter(|it| is_found || self.finds(&[&it.name, &it.address.to_string()]))
                .collect();
            if !is_found && real_servers.is_empty() {
                continue;
            }
            self.order(&mut real_servers, |real| Line::Real(server, real));
            lines.push(Line::Virtual(server, is_expanded));
            let shown = real_servers.into_iter().filter(|_| is_expanded);
            lines.extend(shown.map(|real| Line::Real(server, real)));
        }
        lines
    }

    fn order<'a, T>(&self, items: &mut [&'a T], line: impl Fn(&'a T) -> Line<'a>) {
        items.sort_by(|a, b| self.sort.compare(line(a), line(b)));
        if self.reverse {
            items.reverse();
        }
    }

    fn finds(&self, texts: &[&str]) -> bool {
        texts.iter().any(|text| text.contains(&self.filter))
    }
}

// === impl Sort ===

impl Sort {
    /// The next column, and after the last one the first.
    fn next(self) -> Self {
        let mut all = Self::iter().cycle().skip_while(|&it| it != self);
        all.nth(1).expect("it goes round")
    }

    fn before(self) -> Self {
        let mut all = Self::iter().rev().cycle().skip_while(|&it| it != self);
        all.nth(1).expect("it goes round")
    }

    fn compare(self, a: Line<'_>, b: Line<'_>) -> Ordering {
        let by = |number: fn(Line<'_>) -> u64| number(b).cmp(&number(a));
        match self {
            Self::File => Ordering::Equal,
            Self::Name => a.key().cmp(&b.key()),
            Self::State => a.state().cmp(b.state()),
            Self::Active => by(|it| it.sessions().active),
            Self::Total => by(|it| it.sessions().total),
            Self::Cps => by(|it| it.sessions().per_second),
            Self::Pps => by(|it| it.traffic().packets_per_second),
            Self::Bps => by(|it| it.traffic().bits_per_second),
        }
    }
}

// === impl Line ===

impl<'a> Line<'a> {
    /// The virtual server that it belongs to.
    const fn virtual_server(self) -> &'a VirtualServer {
        match self {
            Self::Virtual(server, _) | Self::Real(server, _) => server,
        }
    }

    /// Whose history it has.
    pub fn key(self) -> Key {
        match self {
            Self::Virtual(server, _) => (server.name.clone(), None),
            Self::Real(server, real) => (server.name.clone(), Some(real.name.clone())),
        }
    }

    /// `up`, `down` or `draining`.
    pub fn state(self) -> &'a str {
        match self {
            Self::Virtual(server, _) => &server.state,
            Self::Real(_, real) => &real.state,
        }
    }

    /// Its sessions.
    pub const fn sessions(self) -> &'a Sessions {
        match self {
            Self::Virtual(server, _) => &server.sessions,
            Self::Real(_, real) => &real.sessions,
        }
    }

    /// Its packets.
    pub const fn traffic(self) -> &'a Traffic {
        match self {
            Self::Virtual(server, _) => &server.traffic,
            Self::Real(_, real) => &real.traffic,
        }
    }
}
