//! `lb status`

use std::{
    fmt::Write,
    io::{self, Write as _},
    time::Duration,
};

use anyhow::Result;
use clap::Args;

use super::{Socket, block_on, end_quietly};
use crate::api::{
    self, client,
    status::{Check, Sessions, Traffic},
};

/// Show virtual servers, their real servers, health, sessions and rates
#[derive(Args)]
#[command(after_help = "Examples:\n  lb status\n  lb status --json | jq .drops")]
pub struct Status {
    #[command(flatten)]
    socket: Socket,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

impl Status {
    /// Prints the status.
    pub fn run(self) -> Result<()> {
        let status = block_on(async { Ok(client::status(&self.socket.socket).await?) })?;
        let text = if self.json {
            serde_json::to_string_pretty(&status)? + "\n"
        } else {
            table(&status)
        };
        end_quietly(io::stdout().write_all(text.as_bytes()).map_err(Into::into))
    }
}

const COLUMNS: usize = 12;

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
        let address = match server.vip {
            std::net::IpAddr::V4(vip) => format!("{} {vip}:{}", server.protocol, server.port),
            std::net::IpAddr::V6(vip) => format!("{} [{vip}]:{}", server.protocol, server.port),
        };
        let about = format!("{} {}", server.forward, server.predictor);
        let weight = String::new();
        rows.push(row(
            &server.name,
            address,
            &server.state,
            weight,
            &server.sessions,
            &server.traffic,
            about,
        ));
        for real in &server.real_servers {
            let about = match (real.sorry, real.reason.as_str()) {
                (false, "") => checks(&real.checks),
                (false, reason) => reason.to_owned(),
                (true, "") => "sorry server".to_owned(),
                (true, reason) => format!("sorry server: {reason}"),
            };
            rows.push(row(
                &format!("  {}", real.name),
                real.address.to_string(),
                &real.state,
                real.weight.to_string(),
                &real.sessions,
                &real.traffic,
                about,
            ));
        }
    }
    let widths: [usize; COLUMNS] =
        std::array::from_fn(|column| rows.iter().map(|row| row[column].len()).max().unwrap_or(0));
    let mut table = String::new();
    if let Some(error) = &status.configuration.error {
        let _ = writeln!(table, "configuration not applied: {error}\n");
    }
    for row in &rows {
        let mut line = String::new();
        for (column, (cell, width)) in row.iter().zip(widths).enumerate() {
            let number = (3..COLUMNS - 1).contains(&column);
            let _ = if number {
                write!(line, "{cell:>width$}  ")
            } else {
                write!(line, "{cell:<width$}  ")
            };
        }
        table.push_str(line.trim_end());
        table.push('\n');
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

    #[test]
    fn columns_line_up_and_reasons_follow() {
        let status = serde_json::from_value(serde_json::json!({
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
            "session_table": {
                "capacity_v4": 1000, "capacity_v6": 1000, "evicted": 5, "unrecorded": 0,
            },
            "drops": { "no_real_server": 3, "too_big": 0 },
        }));
        assert_eq!(
            table(&status.unwrap()),
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
}
