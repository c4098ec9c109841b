//! What `lb status --json` prints.

use std::{collections::BTreeMap, net::IpAddr, path::PathBuf};

use serde::{Deserialize, Serialize};

use crate::config::Ports;

/// Everything.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Status {
    /// The configuration file.
    pub configuration: Configuration,
    /// In the order of the configuration file.
    pub virtual_servers: Vec<VirtualServer>,
    /// Where their packets arrive, in the order of the configuration file.
    pub interfaces: Vec<Interface>,
    /// Where their sessions are.
    pub session_table: SessionTable,
    /// Dropped packets, by reason.
    pub drops: BTreeMap<String, u64>,
    /// How full the maps are that a larger configuration could fill, by name.
    pub maps: BTreeMap<String, Fill>,
    /// Who says this.
    pub daemon: Daemon,
}

/// The daemon.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Daemon {
    /// Of `lb`.
    pub version: String,
    /// When it started, in seconds since 1970.
    pub started: u64,
}

/// An interface of the configuration.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Interface {
    /// Its name.
    pub name: String,
    /// Whether the balancer is attached to it.
    pub attached: bool,
}

/// How full a map is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Fill {
    /// Entries in use.
    pub entries: u32,
    /// Entries that there are.
    pub capacity: u32,
}

/// The configuration file, and what became of it.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Configuration {
    /// Its absolute path.
    pub file: PathBuf,
    /// When it was applied last, in seconds since 1970 (UTC).
    pub applied_at: u64,
    /// How often it was applied since the daemon started.
    pub reloads_applied: u64,
    /// How often it was refused.
    pub reloads_refused: u64,
    /// Why the file as it is now is not applied; null if it is.
    pub error: Option<String>,
}

/// The session table.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct SessionTable {
    /// How many IPv4 sessions it holds.
    pub capacity_v4: u32,
    /// How many IPv6 sessions it holds.
    pub capacity_v6: u32,
    /// IPv4 sessions that were there when the table was last swept, closing ones among them.
    pub sessions_v4: u64,
    /// The same for IPv6.
    pub sessions_v6: u64,
    /// What happened because there was no room or no time: how many sessions were `evicted`, and how many flows
    /// went `unrecorded`.
    #[serde(flatten)]
    pub events: BTreeMap<String, u64>,
}

/// One virtual server.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct VirtualServer {
    /// Its name.
    pub name: String,
    /// Its VIP.
    pub vip: IpAddr,
    /// `tcp` or `udp`.
    pub protocol: String,
    /// As in the configuration: `80`, `[80, 443]`, `"8000-8100"`, `"any"`.
    pub port: Ports,
    /// As in the configuration.
    pub forward: String,
    /// As in the configuration.
    pub predictor: String,
    /// `up` or `down`.
    pub state: String,
    /// With `session.mode: on_change`: in how many seconds a change of its real servers is complete. Null if none is under
    /// way.
    pub settling: Option<u64>,
    /// Its sessions.
    pub sessions: Sessions,
    /// What it forwarded.
    #[serde(flatten)]
    pub traffic: Traffic,
    /// Those bound to it, and then those that were, as long as they have sessions left, and the sorry server, while it
    /// serves, has sessions left or can't be reached.
    pub real_servers: Vec<RealServer>,
}

/// A real server of a virtual server.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RealServer {
    /// Its name.
    pub name: String,
    /// Its address.
    pub address: IpAddr,
    /// Its weight in this virtual server.
    pub weight: u16,
    /// `up`, `down` or `draining`.
    pub state: String,
    /// Why it is down; empty if it isn't.
    pub reason: String,
    /// Whether it is the sorry server.
    pub sorry: bool,
    /// Its health checks.
    pub checks: Vec<Check>,
    /// Its sessions in this virtual server.
    pub sessions: Sessions,
    /// What it got from this virtual server.
    #[serde(flatten)]
    pub traffic: Traffic,
}

/// The last result of a health check.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Check {
    /// As in the configuration.
    pub kind: String,
    /// Where it is sent: `10.9.1.1:80 through web-1`, or the real server's own address.
    pub target: String,
    /// Whether it passed.
    pub ok: bool,
    /// How long it took.
    pub latency_us: u64,
    /// What a person would say of it.
    pub message: String,
}

/// Sessions of a virtual server or of a bound real server. A stateless virtual server has none.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Sessions {
    /// Those that their clients have not closed.
    pub active: u64,
    /// Since the counters began. For a real server also those that moved there.
    pub total: u64,
    /// New ones in the last second.
    pub per_second: u64,
}

/// Forwarded packets.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Traffic {
    /// Since the counters began.
    pub packets: u64,
    /// Ethernet headers included.
    pub bytes: u64,
    /// In the last second.
    pub packets_per_second: u64,
    /// In the last second.
    pub bits_per_second: u64,
}

#[cfg(test)]
mod tests {
    use lb_common::SessionEvent;
    use serde_json::{Value, json, to_value};

    use super::*;

    /// Programs of operators read these keys: more may come, none may go.
    #[test]
    fn the_keys_are_those_that_were_promised() {
        let sessions = Sessions::default();
        let traffic = Traffic::default();
        let check = Check {
            kind: "arp".to_owned(),
            target: "10.9.0.11".to_owned(),
            ok: true,
            latency_us: 1,
            message: String::new(),
        };
        let real_server = RealServer {
            name: "web-1".to_owned(),
            address: "10.9.0.11".parse().unwrap(),
            weight: 1,
            state: "up".to_owned(),
            reason: String::new(),
            sorry: false,
            checks: vec![check],
            sessions,
            traffic,
        };
        let virtual_server = VirtualServer {
            name: "shop".to_owned(),
            vip: "10.9.1.1".parse().unwrap(),
            protocol: "tcp".to_owned(),
            port: serde_json::from_value(json!(80)).unwrap(),
            forward: "l2dsr".to_owned(),
            predictor: "hash".to_owned(),
            state: "up".to_owned(),
            settling: Some(12),
            sessions,
            traffic,
            real_servers: vec![real_server],
        };
        let status = to_value(Status {
            configuration: Configuration::default(),
            virtual_servers: vec![virtual_server],
            session_table: SessionTable {
                events: SessionEvent::ALL
                    .map(|event| (event.name().to_owned(), 0))
                    .into(),
                ..SessionTable::default()
            },
            drops: BTreeMap::from([("too_big".to_owned(), 1)]),
            maps: BTreeMap::from([("bindings".to_owned(), Fill::default())]),
            ..Status::default()
        })
        .unwrap();
        let virtual_server = &status["virtual_servers"][0];
        let real_server = &virtual_server["real_servers"][0];
        for (value, keys) in [
            (
                &status,
                "configuration virtual_servers interfaces session_table drops maps daemon",
            ),
            (
                &status["configuration"],
                "file applied_at reloads_applied reloads_refused error",
            ),
            (
                &status["session_table"],
                "capacity_v4 capacity_v6 sessions_v4 sessions_v6 evicted unrecorded",
            ),
            (
                virtual_server,
                "name vip protocol port forward predictor state settling sessions packets bytes real_servers",
            ),
            (
                real_server,
                "name address weight state reason sorry checks sessions packets bytes",
            ),
            (&virtual_server["sessions"], "active total per_second"),
            (&real_server["sessions"], "active total per_second"),
            (
                &real_server["checks"][0],
                "kind target ok latency_us message",
            ),
            (&status["drops"], "too_big"),
            (&status["maps"]["bindings"], "entries capacity"),
            (&status["daemon"], "version started"),
        ] {
            for key in keys.split(' ') {
                assert!(value.get(key).is_some(), "no {key} in {value:#}");
            }
        }
        assert_eq!(virtual_server["port"], Value::from(80));
    }
}
