//! What `lb trace --json` prints.

use std::{borrow::Cow, net::IpAddr, num::NonZeroU32};

use ipnet::IpNet;
use serde::{Deserialize, Serialize};

/// A line of a trace.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Line<'a> {
    /// A packet.
    #[serde(borrow)]
    Packet(Box<Packet<'a>>),
    /// Packets that there was no room to tell of, because the reader is too slow.
    Lost {
        /// So many since the trace began.
        lost: u64,
    },
}

/// A packet for a VIP, and what became of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Packet<'a> {
    /// When it came: RFC 3339, in UTC, with nanoseconds.
    pub time: Cow<'a, str>,
    /// The interface that it came in by.
    pub interface: Cow<'a, str>,
    /// The CPU that it was received on.
    pub cpu: u32,
    /// Bytes of the frame.
    pub length: u32,
    /// What it is: [`lb_common::TracedPacket`].
    pub packet: &'a str,
    /// Those that are set: `F`, `S`, `R`, `P`, `U`, and `.` for ACK.
    pub tcp_flags: Option<Cow<'a, str>>,
    /// Who sent it; of an ICMP error, the client of the flow that it is about.
    pub client: IpAddr,
    /// The client's port.
    pub client_port: Option<u16>,
    /// The VIP.
    pub vip: IpAddr,
    /// The VIP's port.
    pub port: Option<u16>,
    /// What became of it: [`lb_common::TraceVerdict`].
    pub verdict: &'a str,
    /// Why it counts as a drop, if it does: [`lb_common::DropReason`].
    pub reason: Option<&'a str>,
    /// How its real server was chosen: [`lb_common::TraceSession`].
    pub session: Option<&'a str>,
    /// The name of its virtual server.
    pub virtual_server: Option<&'a str>,
    /// The name of the real server that it goes to.
    pub real_server: Option<&'a str>,
    /// That server's address.
    pub address: Option<IpAddr>,
    /// The first bytes of the frame as it was received, in hexadecimal digits.
    pub bytes: Cow<'a, str>,
}

/// Which packets are wanted: those that all of it holds for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Filter {
    /// Those to this VIP.
    pub vip: Option<IpAddr>,
    /// Those from clients in this prefix.
    pub client: Option<IpNet>,
    /// Those of this virtual server, by name.
    pub virtual_server: Option<String>,
    /// Those to this real server, by name or address.
    pub real: Option<String>,
    /// Only those that count as drops.
    pub drops: bool,
    /// One in so many, by chance.
    pub sample: NonZeroU32,
    /// The first bytes of each that are told, at most.
    pub snap: u32,
}

/// Why there is no trace.
#[derive(Debug, thiserror::Error)]
pub enum Refusal {
    /// The filter names what does not exist.
    #[error("{0}")]
    Unknown(String),
    /// There is one.
    #[error("another `lb trace` is running, and there can be one at a time: end that first")]
    Busy,
    /// The program can't be loaded.
    #[error("{0}")]
    Failed(String),
}

/// One that began a session.
#[cfg(test)]
pub fn a_packet() -> Packet<'static> {
    Packet {
        time: "2026-11-22T01:15:07.123456789Z".into(),
        interface: "eth0".into(),
        cpu: 3,
        length: 74,
        packet: "tcp",
        tcp_flags: Some("S".into()),
        client: "10.9.0.100".parse().unwrap(),
        client_port: Some(40_000),
        vip: "10.9.1.1".parse().unwrap(),
        port: Some(80),
        verdict: "forwarded",
        reason: None,
        session: Some("new"),
        virtual_server: Some("shop"),
        real_server: Some("web-1"),
        address: Some("10.9.0.11".parse().unwrap()),
        bytes: "0200".into(),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{from_str, to_string};

    use super::*;

    /// Programs of operators read these keys: more may come, none may go.
    #[test]
    fn a_packet_is_a_line_of_json_with_the_promised_keys() {
        let packet = Line::Packet(Box::new(a_packet()));
        let line = to_string(&packet).unwrap();
        assert_eq!(
            line,
            r#"{"time":"2026-11-22T01:15:07.123456789Z","interface":"eth0","cpu":3,"length":74,"packet":"tcp","tcp_flags":"S","client":"10.9.0.100","client_port":40000,"vip":"10.9.1.1","port":80,"verdict":"forwarded","reason":null,"session":"new","virtual_server":"shop","real_server":"web-1","address":"10.9.0.11","bytes":"0200"}"#
        );
        assert_eq!(from_str::<Line<'_>>(&line).unwrap(), packet);
        let lost = Line::Lost { lost: 17 };
        assert_eq!(to_string(&lost).unwrap(), r#"{"lost":17}"#);
        assert_eq!(from_str::<Line<'_>>(r#"{"lost":17}"#).unwrap(), lost);
    }

    #[test]
    fn a_filter_goes_through_a_query() {
        let filter = Filter {
            vip: Some("2001:db8::1".parse().unwrap()),
            client: Some("10.9.0.0/24".parse().unwrap()),
            virtual_server: None,
            real: Some("a b&vip=%".to_owned()),
            drops: true,
            sample: NonZeroU32::MIN,
            snap: 128,
        };
        let query = serde_urlencoded::to_string(&filter).unwrap();
        assert_eq!(serde_urlencoded::from_str(&query), Ok(filter));
    }
}
