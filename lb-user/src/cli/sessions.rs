//! `lb sessions`

use std::{
    io::{self, BufWriter, Write},
    net::{IpAddr, SocketAddr},
};

use anyhow::{Context, Result};
use clap::Args;

use super::{Socket, block_on, end_quietly};
use crate::api::{Session, client, sessions::Filter};

/// List the sessions in the session table
///
/// Age and idle time are in seconds; the age is right to half a minute.
#[derive(Args)]
#[command(
    after_help = "Examples:\n  lb sessions --vip 10.9.1.1 --real web-1\n  lb sessions --json | jq '.sessions | length'"
)]
pub struct Sessions {
    #[command(flatten)]
    socket: Socket,
    /// Only those of this VIP
    #[arg(long, value_name = "IP")]
    vip: Option<IpAddr>,
    /// Only those on this real server
    #[arg(long, value_name = "NAME-OR-ADDRESS")]
    real: Option<String>,
    /// Only those of this virtual server
    #[arg(long, value_name = "NAME")]
    virtual_server: Option<String>,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

impl Sessions {
    /// Prints the sessions while they come in: there may be millions.
    pub fn run(self) -> Result<()> {
        let filter = Filter {
            vip: self.vip,
            real: self.real,
            virtual_server: self.virtual_server,
        };
        end_quietly(block_on(async {
            let sessions = client::sessions(&self.socket.socket, &filter).await?;
            print(sessions, self.json).await
        }))
    }
}

async fn print(mut sessions: client::Sessions, json: bool) -> Result<()> {
    let mut output = BufWriter::new(io::stdout().lock());
    if json {
        write!(output, "{{\"sessions\": [")?;
    } else {
        writeln!(output, "{}", header())?;
    }
    let mut separator = "\n";
    while let Some(lines) = sessions.next().await? {
        for line in lines.split_inclusive(|&byte| byte == b'\n') {
            let line = line.trim_ascii_end();
            if json {
                output.write_all(separator.as_bytes())?;
                output.write_all(line)?;
                separator = ",\n";
            } else {
                let session = serde_json::from_slice(line);
                let session = session.context("the lb daemon's answer is not understood")?;
                writeln!(output, "{}", row(&session))?;
            }
        }
        output.flush()?;
    }
    if json {
        writeln!(output, "\n]}}")?;
    }
    Ok(output.flush()?)
}

fn header() -> String {
    columns([
        "CLIENT",
        "VIP",
        "PROTOCOL",
        "STATE",
        "AGE",
        "IDLE",
        "VIRTUAL SERVER",
        "REAL SERVER",
        "ADDRESS",
    ])
}

fn row(session: &Session<'_>) -> String {
    columns([
        &SocketAddr::new(session.client, session.client_port).to_string(),
        &SocketAddr::new(session.vip, session.port).to_string(),
        session.protocol,
        session.state,
        &session.age_seconds.to_string(),
        &session.idle_seconds.to_string(),
        session.virtual_server,
        session.real_server,
        &session.address.to_string(),
    ])
}

/// Columns as wide as the longest IPv6 address and port; what is of any length stands last.
fn columns(cells: [&str; 9]) -> String {
    let [
        client,
        vip,
        protocol,
        state,
        age,
        idle,
        virtual_server,
        real_server,
        address,
    ] = cells;
    format!(
        "{client:<47}  {vip:<47}  {protocol:<8}  {state:<11}  {age:>6}  {idle:>6}  {virtual_server:<16}  {real_server:<16}  {address}"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_line_up_up_to_the_longest_addresses() {
        let longest = "ffff:ffff:ffff:ffff:ffff:ffff:ffff:fff1";
        let session = |client: &str, vip: &str, address: &str| {
            row(&Session {
                virtual_server: "shop",
                vip: vip.parse().unwrap(),
                protocol: "tcp",
                port: 65535,
                client: client.parse().unwrap(),
                client_port: 65535,
                real_server: "web-1",
                address: address.parse().unwrap(),
                state: "established",
                age_seconds: 70_334,
                idle_seconds: 7,
            })
        };
        let rows = [
            header(),
            session("10.9.0.100", "10.9.1.1", "10.9.0.11"),
            session(longest, longest, longest),
        ];
        assert_eq!(
            rows,
            [
                "CLIENT                                           VIP                                              PROTOCOL  STATE           AGE    IDLE  VIRTUAL SERVER    REAL SERVER       ADDRESS",
                "10.9.0.100:65535                                 10.9.1.1:65535                                   tcp       established   70334       7  shop              web-1             10.9.0.11",
                "[ffff:ffff:ffff:ffff:ffff:ffff:ffff:fff1]:65535  [ffff:ffff:ffff:ffff:ffff:ffff:ffff:fff1]:65535  tcp       established   70334       7  shop              web-1             ffff:ffff:ffff:ffff:ffff:ffff:ffff:fff1",
            ]
        );
    }
}
