//! `lb status`

use std::{
    collections::BTreeMap,
    fmt::Write,
    io::{self, IsTerminal, Write as _},
    net::IpAddr,
    path::{Path, PathBuf},
    time::Duration,
};

use anstyle::{AnsiColor, Style};
use anyhow::{Result, bail};
use clap::Args;
use crossterm::{
    cursor::MoveTo,
    execute,
    terminal::{self, Clear, ClearType, DisableLineWrap, EnableLineWrap},
};
use tokio::time::sleep;

use super::{Socket, block_on, end_quietly, seconds};
use crate::{
    api::{
        self,
        client::{self, ClientError},
        status::{Check, RealServer, Sessions, Traffic, VirtualServer},
    },
    config::{Config, DEFAULT_PIN_PATH, DEFAULT_SOCKET},
    dataplane::Pins,
};

/// Show virtual servers, their real servers, health, sessions and rates
///
/// What is down stands on top. Colours are for terminals alone; the environment variable NO_COLOR switches them off.
#[derive(Args)]
#[command(
    after_help = "Examples:\n  lb status\n  lb status --watch 5\n  lb status --json | jq .drops"
)]
pub struct Status {
    #[command(flatten)]
    socket: Socket,
    /// Take the control socket and the pin path from this configuration file
    #[arg(long, value_name = "FILE", conflicts_with = "socket")]
    config: Option<PathBuf>,
    /// Print JSON
    #[arg(long)]
    json: bool,
    /// Show it again and again, every so many seconds (2, if it isn't said)
    #[arg(
        long,
        value_name = "SECONDS",
        num_args = 0..=1,
        default_missing_value = "2",
        value_parser = seconds
    )]
    watch: Option<u32>,
}

impl Status {
    /// Prints the status.
    pub fn run(mut self) -> Result<()> {
        let pins = match &self.config {
            Some(file) => {
                let config = Config::load(file)?;
                self.socket.socket = config.control.socket;
                Some(Pins::new(&config.pin_path))
            }
            None if self.socket.socket == Path::new(DEFAULT_SOCKET) => {
                Some(Pins::new(Path::new(DEFAULT_PIN_PATH)))
            }
            None => None,
        };
        let printed = match self.watch {
            None => block_on(async { self.print().await }),
            Some(seconds) => block_on(self.watch(Duration::from_secs(seconds.into()))),
        };
        let nobody_answers = |error: &anyhow::Error| {
            matches!(error.downcast_ref(), Some(ClientError::NoDaemon { .. }))
        };
        match end_quietly(printed) {
            Err(error) if nobody_answers(&error) && pins.is_some_and(|it| it.forward_alone()) => {
                bail!(
                    "{error}\nforwarding goes on without a daemon, and nobody checks the real servers"
                )
            }
            outcome => outcome,
        }
    }

    async fn print(&self) -> Result<()> {
        let text = self.text().await?;
        Ok(anstream::stdout().write_all(text.as_bytes())?)
    }

    /// Prints it in the place of the last one, and without a terminal below it. A daemon that is gone may come back.
    async fn watch(&self, every: Duration) -> Result<()> {
        let mut stdout = io::stdout();
        let is_screen = stdout.is_terminal() && !self.json;
        loop {
            let mut text = match self.text().await {
                Ok(text) => text,
                Err(error) if is_screen => format!("{:#}\n", anyhow::Error::from(error)),
                Err(error) => {
                    eprintln!("{:#}", anyhow::Error::from(error));
                    sleep(every).await;
                    continue;
                }
            };
            if is_screen {
                // A serial console says that it has no rows.
                let (_, rows) = terminal::size()?;
                let rows = usize::from(rows).checked_sub(1).unwrap_or(usize::MAX);
                text = text.split_inclusive('\n').take(rows).collect();
                execute!(stdout, MoveTo(0, 0), Clear(ClearType::All), DisableLineWrap)?;
            } else {
                text.push('\n');
            }
            anstream::stdout().write_all(text.as_bytes())?;
            if is_screen {
                execute!(stdout, EnableLineWrap)?;
            }
            stdout.flush()?;
            sleep(every).await;
        }
    }

    async fn text(&self) -> Result<String, ClientError> {
        let status = client::status(&self.socket.socket).await?;
        Ok(if self.json {
            serde_json::to_string_pretty(&status)? + "\n"
        } else {
            problems(&status) + &table(&status)
        })
    }
}

const BOLD: Style = Style::new().bold();
const RED: Style = Style::new().fg_color(Some(anstyle::Color::Ansi(AnsiColor::Red)));
const YELLOW: Style = Style::new().fg_color(Some(anstyle::Color::Ansi(AnsiColor::Yellow)));
const GREEN: Style = Style::new().fg_color(Some(anstyle::Color::Ansi(AnsiColor::Green)));

/// What is shown of a state, to be seen at first sight.
fn style(state: &str) -> Style {
    match state {
        "up" => GREEN,
        "draining" => YELLOW,
        "down" => RED,
        _ => Style::new(),
    }
}

/// What somebody should look at, on top of all that is well; nothing, if there is nothing.
fn problems(status: &api::Status) -> String {
    let virtual_servers = status.virtual_servers.iter();
    let virtual_servers = virtual_servers.map(|it| (it.name.as_str(), it.state == "down"));
    let real_servers = status
        .virtual_servers
        .iter()
        .flat_map(|it| &it.real_servers);
    let real_servers = real_servers.map(|it| (it.name.as_str(), it.state == "down"));
    let interfaces = status.interfaces.iter();
    let interfaces = interfaces.map(|it| (it.name.as_str(), !it.attached));
    let configuration = match &status.configuration.error {
        None => String::new(),
        Some(error) => format!("{RED}configuration not applied{RED:#}: {error}\n"),
    };
    let mut lines = [
        configuration,
        failing("virtual servers down", virtual_servers),
        failing("real servers down", real_servers),
        failing("interfaces without the balancer", interfaces),
    ]
    .concat();
    if !lines.is_empty() {
        lines.push('\n');
    }
    lines
}

/// So many names of what fails are listed.
const MOST_NAMES: usize = 8;

/// A line such as `2 of 5 real servers down: web-1, web-2`. One that fails anywhere fails.
fn failing<'a>(what: &str, all: impl Iterator<Item = (&'a str, bool)>) -> String {
    let mut by_name = BTreeMap::new();
    for (name, fails) in all {
        *by_name.entry(name).or_default() |= fails;
    }
    let failing = by_name.iter().filter(|&(_, &fails)| fails);
    let names: Vec<_> = failing.map(|(&name, _)| name).collect();
    if names.is_empty() {
        return String::new();
    }
    let (count, all) = (names.len(), by_name.len());
    let rest = match count.saturating_sub(MOST_NAMES) {
        0 => String::new(),
        rest => format!(" and {rest} more"),
    };
    let names = names[..count.min(MOST_NAMES)].join(", ");
    format!("{RED}{count} of {all} {what}{RED:#}: {names}{rest}\n")
}

const COLUMNS: usize = 12;
const STATE: usize = 2;

/// Columns that line up, one line for each virtual server and below it one for each of its real servers.
fn table(status: &api::Status) -> String {
    let mut rows = vec![
        [
            "NAME", "ADDRESS", "STATE", "WEIGHT", "ACTIVE", "TOTAL", "CPS", "PACKETS", "BYTES",
            "PPS", "BPS", "",
        ]
        .map(str::to_owned),
    ];
    for server in &status.virtual_servers {
        let weight = String::new();
        rows.push(row(
            &server.name,
            address(server),
            &server.state,
            weight,
            &server.sessions,
            &server.traffic,
            about_service(server),
        ));
        for real in &server.real_servers {
            rows.push(row(
                &format!("  {}", real.name),
                real.address.to_string(),
                &real.state,
                real.weight.to_string(),
                &real.sessions,
                &real.traffic,
                about(real),
            ));
        }
    }
    let widths: [usize; COLUMNS] =
        std::array::from_fn(|column| rows.iter().map(|row| row[column].len()).max().unwrap_or(0));
    let mut table = String::new();
    for (number, row) in rows.iter().enumerate() {
        let is_header = number == 0;
        let mut line = String::new();
        for (column, (cell, width)) in row.iter().zip(widths).enumerate() {
            let is_number = (3..COLUMNS - 1).contains(&column);
            let style = if column == STATE {
                style(cell)
            } else {
                Style::new()
            };
            let _ = if is_number {
                write!(line, "{cell:>width$}  ")
            } else {
                write!(line, "{style}{cell:<width$}{style:#}  ")
            };
        }
        let style = if is_header { BOLD } else { Style::new() };
        let line = line.trim_end();
        let _ = writeln!(table, "{style}{line}{style:#}");
    }
    let events = status.session_table.events.iter();
    let lines = events.map(|(event, count)| ("sessions", event, count));
    let drops = status.drops.iter();
    let lines = lines.chain(drops.map(|(reason, count)| ("dropped", reason, count)));
    for (what, how, count) in lines.filter(|&(_, _, &count)| count > 0) {
        let _ = writeln!(table, "{what}, {how}: {count}");
    }
    table
}

/// Protocol, VIP and ports.
pub(super) fn address(server: &VirtualServer) -> String {
    let VirtualServer {
        protocol,
        vip,
        port,
        ..
    } = server;
    match vip {
        IpAddr::V4(vip) => format!("{protocol} {vip}:{port}"),
        IpAddr::V6(vip) => format!("{protocol} [{vip}]:{port}"),
    }
}

/// How a virtual server forwards and chooses, and whether it settles.
pub(super) fn about_service(server: &VirtualServer) -> String {
    let VirtualServer {
        forward, predictor, ..
    } = server;
    match server.settling {
        None => format!("{forward} {predictor}"),
        Some(seconds) => format!("{forward} {predictor}, settling for {seconds} s"),
    }
}

/// Why a real server is down, else what its checks have brought.
pub(super) fn about(real: &RealServer) -> String {
    match (real.sorry, real.reason.as_str()) {
        (false, "") => checks(&real.checks),
        (false, reason) => reason.to_owned(),
        (true, "") => "sorry server".to_owned(),
        (true, reason) => format!("sorry server: {reason}"),
    }
}

/// What each check of a real server has brought.
fn checks(checks: &[Check]) -> String {
    let checks = checks.iter().map(|check| match check.message.as_str() {
        "" => format!(
            "{} {:.1?}",
            check.kind,
            Duration::from_micros(check.latency_us)
        ),
        message => format!("{}: {message}", check.kind),
    });
    checks.collect::<Vec<_>>().join(", ")
}

fn row(
    name: &str,
    address: String,
    state: &str,
    weight: String,
    sessions: &Sessions,
    traffic: &Traffic,
    about: String,
) -> [String; COLUMNS] {
    [
        name.to_owned(),
        address,
        state.to_owned(),
        weight,
        sessions.active.to_string(),
        sessions.total.to_string(),
        sessions.per_second.to_string(),
        traffic.packets.to_string(),
        traffic.bytes.to_string(),
        traffic.packets_per_second.to_string(),
        traffic.bits_per_second.to_string(),
        about,
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn status() -> api::Status {
        let status = serde_json::from_value(serde_json::json!({
            "configuration": {
                "file": "/etc/lb/lb.yaml", "applied_at": 0, "reloads_applied": 0, "reloads_refused": 1, "error": "lb.yaml:1:1: bad",
            },
            "virtual_servers": [
                {
                    "name": "shop", "vip": "10.9.1.1", "protocol": "tcp", "port": [80, 443],
                    "forward": "l2dsr", "predictor": "hash", "state": "up",
                    "sessions": { "active": 1200, "total": 98765, "per_second": 43 },
                    "packets": 1234, "bytes": 56789, "packets_per_second": 10, "bits_per_second": 8000,
                    "real_servers": [
                        {
                            "name": "web-1", "address": "10.9.0.11", "weight": 1000, "state": "down",
                            "reason": "no answer to ARP for 10.9.0.11 on eth0", "sorry": false,
                            "checks": [{ "kind": "arp", "target": "10.9.0.11", "ok": false, "latency_us": 0, "message": "not checked yet" }],
                            "sessions": { "active": 0, "total": 0, "per_second": 0 },
                            "packets": 7, "bytes": 8, "packets_per_second": 0, "bits_per_second": 0,
                        },
                        {
                            "name": "web-2", "address": "10.9.0.12", "weight": 1, "state": "up",
                            "reason": "", "sorry": false,
                            "checks": [
                                { "kind": "arp", "target": "10.9.0.11", "ok": true, "latency_us": 215, "message": "" },
                                { "kind": "http", "target": "10.9.1.1:80 through web-2", "ok": true, "latency_us": 12345, "message": "" },
                                {
                                    "kind": "syn", "target": "10.9.1.1:80 through web-2", "ok": false, "latency_us": 0,
                                    "message": "no SYN-ACK (1 in a row, down after 3)",
                                },
                            ],
                            "sessions": { "active": 0, "total": 0, "per_second": 0 },
                            "packets": 7, "bytes": 8, "packets_per_second": 0, "bits_per_second": 0,
                        },
                    ],
                },
                {
                    "name": "a-long-name", "vip": "2001:db8:9:1::1", "protocol": "udp", "port": "any",
                    "forward": "l3dsr", "predictor": "hash", "state": "down",
                    "sessions": { "active": 0, "total": 0, "per_second": 0 },
                    "packets": 0, "bytes": 0, "packets_per_second": 0, "bits_per_second": 0,
                    "real_servers": [
                        {
                            "name": "sorry-1", "address": "2001:db8:9::11", "weight": 1, "state": "up",
                            "reason": "", "sorry": true, "checks": [],
                            "sessions": { "active": 0, "total": 0, "per_second": 0 },
                            "packets": 0, "bytes": 0, "packets_per_second": 0, "bits_per_second": 0,
                        },
                        {
                            "name": "sorry-2", "address": "2001:db8:9::12", "weight": 1, "state": "down",
                            "reason": "no route", "sorry": true, "checks": [],
                            "sessions": { "active": 0, "total": 0, "per_second": 0 },
                            "packets": 0, "bytes": 0, "packets_per_second": 0, "bits_per_second": 0,
                        },
                    ],
                },
            ],
            "interfaces": [{ "name": "eth0", "attached": true }, { "name": "eth1", "attached": false }],
            "session_table": {
                "capacity_v4": 1000, "capacity_v6": 1000, "sessions_v4": 5, "sessions_v6": 0,
                "evicted": 5, "unrecorded": 0,
            },
            "drops": { "no_real_server": 3, "too_big": 0 },
            "maps": {},
            "daemon": { "version": "0.1.0", "started": 1_700_000_000 },
        }));
        status.unwrap()
    }

    /// As it is without a terminal.
    fn plain(text: &str) -> String {
        anstream::adapter::strip_str(text).to_string()
    }

    #[test]
    fn columns_line_up_and_reasons_follow() {
        assert_eq!(
            plain(&table(&status())),
            "\
NAME         ADDRESS                    STATE  WEIGHT  ACTIVE  TOTAL  CPS  PACKETS  BYTES  PPS   BPS
shop         tcp 10.9.1.1:[80, 443]     up               1200  98765   43     1234  56789   10  8000  l2dsr hash
  web-1      10.9.0.11                  down     1000       0      0    0        7      8    0     0  no answer to ARP for 10.9.0.11 on eth0
  web-2      10.9.0.12                  up          1       0      0    0        7      8    0     0  arp 215.0µs, http 12.3ms, syn: no SYN-ACK (1 in a row, down after 3)
a-long-name  udp [2001:db8:9:1::1]:any  down                0      0    0        0      0    0     0  l3dsr hash
  sorry-1    2001:db8:9::11             up          1       0      0    0        0      0    0     0  sorry server
  sorry-2    2001:db8:9::12             down        1       0      0    0        0      0    0     0  sorry server: no route
sessions, evicted: 5
dropped, no_real_server: 3
"
        );
    }

    #[test]
    fn what_is_down_stands_on_top() {
        let mut status = status();
        assert_eq!(
            plain(&problems(&status)),
            "\
configuration not applied: lb.yaml:1:1: bad
1 of 2 virtual servers down: a-long-name
2 of 4 real servers down: sorry-2, web-1
1 of 2 interfaces without the balancer: eth1

"
        );
        let shop = &mut status.virtual_servers[0];
        let web = shop.real_servers[0].clone();
        shop.real_servers = (10..30)
            .map(|n| RealServer {
                name: format!("web-{n}"),
                ..web.clone()
            })
            .collect();
        let text = plain(&problems(&status));
        let names = "sorry-2, web-10, web-11, web-12, web-13, web-14, web-15, web-16 and 13 more";
        let line = format!("21 of 22 real servers down: {names}");
        assert!(text.lines().any(|it| it == line), "{text}");
        assert_eq!(problems(&api::Status::default()), "");
    }

    #[test]
    fn states_have_colours() {
        let text = table(&status());
        for state in ["\x1b[31mdown \x1b[0m", "\x1b[32mup   \x1b[0m"] {
            assert!(text.contains(state), "{text:?}");
        }
    }
}
