//! How `lb top` looks.

use ratatui::{
    Frame,
    layout::{Constraint, Layout, Rect},
    style::{Color, Style, Stylize},
    text::Line as Text,
    widgets::{Block, Cell, Clear, Paragraph, Row, Table, TableState},
};

use super::{
    history::{History, SAMPLES},
    model::{Line, Model, Sort},
};
use crate::{
    api::Status,
    cli::status::{about, about_service, address},
};

const HELP: [&str; 9] = [
    "up down j k      move; PgUp PgDn Home End",
    "left right h l   choose the column to sort by",
    "r                reverse the order",
    "Enter, Space     expand or collapse a virtual server",
    "a                expand or collapse all",
    "/                filter by name or address; Enter keeps it, Esc clears it",
    "?                this help",
    "q, Esc, Ctrl-C   quit",
    "                 any key goes back",
];

/// Draws everything.
pub fn draw(frame: &mut Frame<'_>, model: &mut Model) {
    let [head, body, foot] = Layout::vertical([
        Constraint::Length(1),
        Constraint::Fill(1),
        Constraint::Length(1),
    ])
    .areas(frame.area());
    frame.render_widget(self::head(model), head);
    // Without the line of titles.
    model.page = usize::from(body.height.saturating_sub(1));
    let least = (model.selected + 1).saturating_sub(model.page);
    let most = model.lines().len().saturating_sub(model.page);
    model.first = model.first.max(least).min(model.selected.min(most));
    draw_table(frame, model, body);
    frame.render_widget(self::foot(model), foot);
    if model.helps {
        draw_help(frame, body);
    }
}

/// What is wrong, or what there is.
fn head(model: &Model) -> Text<'_> {
    match (&model.problem, &model.status) {
        (Some(problem), _) => Text::from(format!("no daemon: {problem}")).white().on_red(),
        (None, None) => Text::from("waiting for the daemon"),
        (None, Some(status)) => Text::from(summary(status)).bold(),
    }
}

fn summary(status: &Status) -> String {
    let servers = &status.virtual_servers;
    let real_servers = || servers.iter().flat_map(|it| &it.real_servers);
    let down = servers.iter().filter(|it| it.state == "down").count();
    let real_down = real_servers().filter(|it| it.state == "down").count();
    let active: u64 = servers.iter().map(|it| it.sessions.active).sum();
    let drops: u64 = status.drops.values().sum();
    format!(
        "virtual servers {} ({down} down)  real servers bound {} ({real_down} down)  active sessions {active}  dropped {drops}",
        servers.len(),
        real_servers().count(),
    )
}

fn foot(model: &Model) -> Text<'_> {
    let Model {
        sort,
        filter,
        writes_filter,
        ..
    } = model;
    if *writes_filter {
        return Text::from(format!("/{filter}█"));
    }
    let order = if model.reverse { ", reversed" } else { "" };
    let filter = match filter.as_str() {
        "" => String::new(),
        filter => format!("  filter {filter}"),
    };
    Text::from(format!(
        "sorted by {sort}{order}{filter}  / filter  ? help  q quit"
    ))
    .dim()
}

fn draw_help(frame: &mut Frame<'_>, area: Rect) {
    let width = HELP.iter().map(|line| line.len()).max().unwrap_or(0) as u16 + 4;
    let area = area.centered(
        Constraint::Length(width),
        Constraint::Length(HELP.len() as u16 + 2),
    );
    let lines: Vec<_> = HELP
        .iter()
        .map(|&line| Text::from(format!(" {line}")))
        .collect();
    let help = Paragraph::new(lines).block(Block::bordered().title(" lb top "));
    frame.render_widget(Clear, area);
    frame.render_widget(help, area);
}

/// A column: its title, its width, what it shows, and how much it matters where there is little room.
struct Column {
    title: &'static str,
    width: Width,
    sort: Option<Sort>,
    /// Of two the one with the lesser rank stays.
    rank: u8,
    cell: fn(Line<'_>, Option<&History>) -> String,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Width {
    /// As wide as its widest cell, on the left or on the right.
    Left,
    Right,
    /// What is left.
    Rest,
}

const COLUMNS: [Column; 15] = [
    column(
        "NAME",
        Width::Left,
        Some(Sort::Name),
        0,
        |line, _| match line {
            Line::Virtual(server, true) => format!("- {}", server.name),
            Line::Virtual(server, false) => format!("+ {}", server.name),
            Line::Real(_, real) => format!("    {}", real.name),
        },
    ),
    column("ADDRESS", Width::Left, None, 5, |line, _| match line {
        Line::Virtual(server, _) => address(server),
        Line::Real(_, real) => real.address.to_string(),
    }),
    column("STATE", Width::Left, Some(Sort::State), 1, |line, _| {
        line.state().to_owned()
    }),
    column("WEIGHT", Width::Right, None, 9, |line, _| match line {
        Line::Virtual(..) => String::new(),
        Line::Real(_, real) => real.weight.to_string(),
    }),
    column("ACTIVE", Width::Right, Some(Sort::Active), 2, |line, _| {
        short(line.sessions().active)
    }),
    column("", Width::Left, None, 8, |_, history| {
        history.map_or(String::new(), |it| it.active.sparkline())
    }),
    column("TOTAL", Width::Right, Some(Sort::Total), 10, |line, _| {
        short(line.sessions().total)
    }),
    column("CPS", Width::Right, Some(Sort::Cps), 2, |line, _| {
        short(line.sessions().per_second)
    }),
    column("", Width::Left, None, 7, |_, history| {
        history.map_or(String::new(), |it| it.new.sparkline())
    }),
    column("PACKETS", Width::Right, None, 11, |line, _| {
        short(line.traffic().packets)
    }),
    column("BYTES", Width::Right, None, 11, |line, _| {
        short(line.traffic().bytes)
    }),
    column("PPS", Width::Right, Some(Sort::Pps), 3, |line, _| {
        short(line.traffic().packets_per_second)
    }),
    column("", Width::Left, None, 6, |_, history| {
        history.map_or(String::new(), |it| it.packets.sparkline())
    }),
    column("BPS", Width::Right, Some(Sort::Bps), 4, |line, _| {
        short(line.traffic().bits_per_second)
    }),
    column("", Width::Rest, None, 1, |line, _| match line {
        Line::Virtual(server, _) => about_service(server),
        Line::Real(_, real) => about(real),
    }),
];

const fn column(
    title: &'static str,
    width: Width,
    sort: Option<Sort>,
    rank: u8,
    cell: fn(Line<'_>, Option<&History>) -> String,
) -> Column {
    Column {
        title,
        width,
        sort,
        rank,
        cell,
    }
}

fn draw_table(frame: &mut Frame<'_>, model: &Model, area: Rect) {
    let lines = model.lines();
    // Cells of lines that are out of sight cost time, and make columns no wider.
    let shown = lines.iter().copied().skip(model.first);
    let shown: Vec<_> = shown.take(model.page).collect();
    let cells: Vec<Vec<String>> = COLUMNS
        .iter()
        .map(|column| {
            let cell = |&line: &Line<'_>| (column.cell)(line, model.histories.get(&line.key()));
            shown.iter().map(cell).collect()
        })
        .collect();
    let columns = fitting(&cells, area.width);
    let titles = columns.iter().map(|&(index, _)| {
        let column = &COLUMNS[index];
        let title = aligned(column, column.title.to_owned());
        if column.sort == Some(model.sort) {
            title.reversed()
        } else {
            title
        }
    });
    let rows = shown.iter().enumerate().map(|(number, line)| {
        let cells = columns.iter().map(|&(index, _)| {
            let cell = aligned(&COLUMNS[index], cells[index][number].clone());
            match COLUMNS[index].sort {
                Some(Sort::State) => cell.style(style(line.state())),
                _ => cell,
            }
        });
        let row = Row::new(cells.collect::<Vec<_>>());
        if matches!(line, Line::Virtual(..)) {
            row.bold()
        } else {
            row
        }
    });
    let widths = columns.iter().map(|&(_, width)| width);
    let table = Table::new(rows.collect::<Vec<_>>(), widths)
        .header(Row::new(titles.collect::<Vec<_>>()).bold())
        .row_highlight_style(Style::new().bg(Color::DarkGray));
    let selected = (!shown.is_empty()).then_some(model.selected - model.first);
    let mut state = TableState::new().with_selected(selected);
    frame.render_stateful_widget(table, area, &mut state);
}

fn aligned(column: &Column, text: String) -> Cell<'static> {
    Cell::from(match column.width {
        Width::Right => Text::from(text).right_aligned(),
        Width::Left | Width::Rest => Text::from(text),
    })
}

/// For reasons, which are read only if there is room for them.
const LEAST_REST: u16 = 20;

/// The columns that there is room for, with their widths: those that matter most.
fn fitting(cells: &[Vec<String>], room: u16) -> Vec<(usize, Constraint)> {
    let width = |index: usize| {
        let column = &COLUMNS[index];
        let cells = cells[index].iter().map(|cell| cell.chars().count());
        let widest = cells.max().unwrap_or(0).max(column.title.len()) as u16;
        match (column.width, column.title) {
            (Width::Rest, _) => LEAST_REST,
            // It must not become wider with each sample.
            (_, "") => SAMPLES as u16,
            // One long word must leave room for the state.
            (Width::Left, _) => widest.min(room / 2),
            (Width::Right, _) => widest,
        }
    };
    let mut by_rank: Vec<_> = (0..COLUMNS.len()).collect();
    by_rank.sort_by_key(|&index| COLUMNS[index].rank);
    let mut left = room;
    let mut fitting: Vec<_> = by_rank
        .into_iter()
        .map_while(|index| {
            let width = width(index);
            left = left.checked_sub(width + 1)?;
            Some((index, width))
        })
        .collect();
    fitting.sort_unstable();
    let constraint = |(index, width): (usize, u16)| {
        let constraint = match COLUMNS[index].width {
            Width::Rest => Constraint::Fill(1),
            Width::Left | Width::Right => Constraint::Length(width),
        };
        (index, constraint)
    };
    fitting.into_iter().map(constraint).collect()
}

fn style(state: &str) -> Style {
    match state {
        "up" => Style::new().green(),
        "draining" => Style::new().yellow(),
        _ => Style::new().red(),
    }
}

/// A number in four digits or less and its thousands: `9999`, `12.3k`, `456M`.
fn short(number: u64) -> String {
    const UNITS: [&str; 7] = ["", "k", "M", "G", "T", "P", "E"];
    if number < 10_000 {
        return number.to_string();
    }
    let mut unit = 0;
    let mut rest = number as f64;
    while rest >= 999.5 {
        rest /= 1000.0;
        unit += 1;
    }
    let digits = if rest < 99.95 { 1 } else { 0 };
    format!("{rest:.digits$}{}", UNITS[unit])
}

#[cfg(test)]
mod tests;
