//! `lb status`

use std::fmt::Write;

use anyhow::Result;
use clap::Args;

use super::{Socket, block_on};
use crate::api::{self, client, status::Traffic};

/// Show virtual servers, their real servers, health and rates
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
        if self.json {
            println!("{}", serde_json::to_string_pretty(&status)?);
        } else {
            print!("{}", table(&status));
        }
        Ok(())
    }
}

/// Columns that line up, one line for each virtual server and below it one for each of its real servers.
fn table(status: &api::Status) -> String {
    let mut rows = vec![
        [
            "NAME", "ADDRESS", "STATE", "WEIGHT", "PACKETS", "BYTES", "PPS", "BPS", "",
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
            &server.traffic,
            about,
        ));
        for real in &server.real_servers {
            rows.push(row(
                &format!("  {}", real.name),
                real.address.to_string(),
                &real.state,
                real.weight.to_string(),
                &real.traffic,
                real.reason.clone(),
            ));
        }
    }
    let widths: [usize; 9] =
        std::array::from_fn(|column| rows.iter().map(|row| row[column].len()).max().unwrap_or(0));
    let mut table = String::new();
    for row in &rows {
        let mut line = String::new();
        for (column, (cell, width)) in row.iter().zip(widths).enumerate() {
            let number = (3..8).contains(&column);
            let _ = if number {
                write!(line, "{cell:>width$}  ")
            } else {
                write!(line, "{cell:<width$}  ")
            };
        }
        table.push_str(line.trim_end());
        table.push('\n');
    }
    for (reason, count) in status.drops.iter().filter(|&(_, &count)| count > 0) {
        let _ = writeln!(table, "dropped, {reason}: {count}");
    }
    table
}

fn row(
    name: &str,
    address: String,
    state: &str,
    weight: String,
    traffic: &Traffic,
    about: String,
) -> [String; 9] {
    [
        name.to_owned(),
        address,
        state.to_owned(),
        weight,
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
                    "sessions": { "active": 0, "total": 0, "per_second": 0 },
                    "packets": 1234, "bytes": 56789, "packets_per_second": 10, "bits_per_second": 8000,
                    "real_servers": [{
                        "name": "web-1", "address": "10.9.0.11", "weight": 1000, "state": "down",
                        "reason": "no answer to ARP for 10.9.0.11 on eth0", "checks": [],
                        "sessions": { "active": 0, "total": 0, "per_second": 0 },
                        "packets": 7, "bytes": 8, "packets_per_second": 0, "bits_per_second": 0,
                    }],
                },
                {
                    "name": "a-long-name", "vip": "2001:db8:9:1::1", "protocol": "udp", "port": "any",
                    "forward": "l3dsr", "predictor": "hash", "state": "down",
                    "sessions": { "active": 0, "total": 0, "per_second": 0 },
                    "packets": 0, "bytes": 0, "packets_per_second": 0, "bits_per_second": 0,
                    "real_servers": [],
                },
            ],
            "drops": { "no_real_server": 3, "too_big": 0 },
        }));
        assert_eq!(
            table(&status.unwrap()),
            "\
NAME         ADDRESS                    STATE  WEIGHT  PACKETS  BYTES  PPS   BPS
shop         tcp 10.9.1.1:[80, 443]     up                1234  56789   10  8000  l2dsr hash
  web-1      10.9.0.11                  down     1000        7      8    0     0  no answer to ARP for 10.9.0.11 on eth0
a-long-name  udp [2001:db8:9:1::1]:any  down                 0      0    0     0  l3dsr hash
dropped, no_real_server: 3
"
        );
    }
}
