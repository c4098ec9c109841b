//! A trace as a table.

use std::{
    io::{self, Write},
    net::{IpAddr, SocketAddr},
};

use anyhow::Result;

use super::{Output, why};
use crate::api::trace::{Line, Packet};

/// A line for each packet.
pub struct Text<W>(W);

impl<W: Write> Text<W> {
    /// Begins with a heading.
    pub fn new(mut output: W) -> Result<Self> {
        let heading = columns([
            "TIME (UTC)",
            "CPU",
            "INTERFACE",
            "LENGTH",
            "PACKET",
            "FLAGS",
            "VERDICT",
            "WHY",
            "VIRTUAL SERVER",
            "REAL SERVER",
            "CLIENT > VIP",
        ]);
        writeln!(output, "{heading}")?;
        Ok(Self(output))
    }
}

impl<W: Write> Output for Text<W> {
    fn write(&mut self, line: &Line<'_>, _json: &[u8]) -> Result<()> {
        // What is lost is told at the end.
        if let Line::Packet(packet) = line {
            writeln!(self.0, "{}", row(packet))?;
        }
        Ok(())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.0.flush()
    }
}

fn row(packet: &Packet<'_>) -> String {
    let end = |address, port: Option<u16>| match port {
        Some(port) => SocketAddr::new(address, port).to_string(),
        None => IpAddr::to_string(&address),
    };
    columns([
        packet
            .time
            .get("YYYY-MM-DDT".len().."YYYY-MM-DDThh:mm:ss.uuuuuu".len())
            .unwrap_or("-"),
        &packet.cpu.to_string(),
        &packet.interface,
        &packet.length.to_string(),
        packet.packet,
        packet.tcp_flags.as_deref().unwrap_or("-"),
        packet.verdict,
        why(packet),
        packet.virtual_server.unwrap_or("-"),
        packet.real_server.unwrap_or("-"),
        &format!(
            "{} > {}",
            end(packet.client, packet.client_port),
            end(packet.vip, packet.port)
        ),
    ])
}

/// Columns as wide as the longest of what they hold, names as a rule; what is of any length stands last.
fn columns(cells: [&str; 11]) -> String {
    let [
        time,
        cpu,
        interface,
        length,
        packet,
        flags,
        verdict,
        why,
        virtual_server,
        real_server,
        flow,
    ] = cells;
    format!(
        "{time:<15}  {cpu:>3}  {interface:<15}  {length:>6}  {packet:<10}  {flags:<6}  {verdict:<9}  {why:<21}  {virtual_server:<16}  {real_server:<16}  {flow}"
    )
}

#[cfg(test)]
mod tests {
    use lb_common::{DropReason, TraceSession, TraceVerdict, TracedPacket};

    use super::*;
    use crate::api::trace::a_packet;

    #[test]
    fn columns_line_up() {
        let forwarded = a_packet();
        let asked = Packet {
            packet: "neighbor",
            tcp_flags: None,
            client: "2001:db8::1".parse().unwrap(),
            client_port: None,
            vip: "2001:db8:9:1::1".parse().unwrap(),
            port: None,
            verdict: "answered",
            session: None,
            virtual_server: None,
            real_server: None,
            ..forwarded.clone()
        };
        let dropped = Packet {
            verdict: "dropped",
            reason: Some("unknown_session_reset"),
            ..forwarded.clone()
        };
        let mut text = Text::new(Vec::new()).unwrap();
        for packet in [forwarded, asked, dropped] {
            text.write(&Line::Packet(Box::new(packet)), b"").unwrap();
        }
        assert_eq!(
            String::from_utf8(text.0).unwrap(),
            "\
TIME (UTC)       CPU  INTERFACE        LENGTH  PACKET      FLAGS   VERDICT    WHY                    VIRTUAL SERVER    REAL SERVER       CLIENT > VIP
01:15:07.123456    3  eth0                 74  tcp         S       forwarded  new                    shop              web-1             10.9.0.100:40000 > 10.9.1.1:80
01:15:07.123456    3  eth0                 74  neighbor    -       answered   -                      -                 -                 2001:db8::1 > 2001:db8:9:1::1
01:15:07.123456    3  eth0                 74  tcp         S       dropped    unknown_session_reset  shop              web-1             10.9.0.100:40000 > 10.9.1.1:80
"
        );
    }

    #[test]
    fn what_may_stand_in_a_column_has_room_there() {
        let reasons = DropReason::ALL.into_iter().map(DropReason::name);
        let sessions = TraceSession::ALL.iter().map(|session| session.name());
        let verdicts = TraceVerdict::ALL.iter().map(|verdict| verdict.name());
        let packets = TracedPacket::ALL.iter().map(|packet| packet.name());
        let longest = |names: &mut dyn Iterator<Item = &str>| names.map(str::len).max();
        assert_eq!(longest(&mut reasons.chain(sessions)), Some(21));
        assert_eq!(longest(&mut { verdicts }), Some(9));
        assert_eq!(longest(&mut { packets }), Some(10));
    }
}
