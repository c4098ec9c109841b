//! Half-open checks: a TCP SYN is answered by a SYN-ACK, and we answer that by a RST, so that the server's application
//! never hears of it.
//!
//! ```text
//!  0                   1                   2                   3
//!  0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1
//! +-------------------------------+-------------------------------+
//! |          source port          |       destination port        |  0
//! +---------------------------------------------------------------+
//! |                        sequence number                        |  4
//! +---------------------------------------------------------------+
//! |                     acknowledgment number                     |  8
//! +-------+-----------+-----------+-------------------------------+
//! | words |           |   flags   |            window             | 12
//! +-------+-----------+-----------+-------------------------------+
//! ```

use std::{cell::Cell, io, net::IpAddr};

use etherparse::{Ipv4HeaderSlice, Ipv6HeaderSlice, TcpHeader, TcpOptionElement};
use lb_common::{health::SYN_PORTS, protocol::TCP};
use socket2::Domain;

use super::{
    Failure,
    destination::{Awaited, Destination},
    expected::Expected,
    raw::{self, RawSockets},
};
use crate::raw_socket::{self, Field};

const FLAGS: u8 = SYN | RST | ACK;
const SYN: u8 = 0x02;
const RST: u8 = 0x04;
const ACK: u8 = 0x10;
const SYN_ACK: u8 = SYN | ACK;
const RST_ACK: u8 = RST | ACK;
const UNREACHABLE_V4: u8 = 3;
const UNREACHABLE_V6: u8 = 1;
const ICMP_HEADER: usize = 8;

/// What tells the answer to a SYN from others.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Sent {
    to: IpAddr,
    port: u16,
    from_port: u16,
    /// Nobody who doesn't see the SYN can guess it.
    sequence: u32,
}

/// Sends SYNs and gets the answers to them.
pub(super) struct SynSockets {
    segments: RawSockets,
    unreachable: RawSockets,
    next_port: Cell<u16>,
    expected: Expected<Sent, Result<(), Failure>>,
}

impl SynSockets {
    /// # Errors
    /// Not root.
    pub(super) fn open() -> io::Result<Self> {
        let ports = [Field::DestinationPortFrom(*SYN_PORTS.start())];
        Ok(Self {
            segments: RawSockets::open(|domain| raw_socket::tcp(domain, &ports))?,
            unreachable: RawSockets::open(|domain| {
                let kind = if domain == Domain::IPV4 {
                    UNREACHABLE_V4
                } else {
                    UNREACHABLE_V6
                };
                raw_socket::icmp(domain, &[Field::Type(kind)])
            })?,
            next_port: Cell::new(*SYN_PORTS.start()),
            expected: Expected::default(),
        })
    }

    /// Sends a SYN and waits for what comes of it.
    pub(super) async fn ask(
        &self,
        destination: Destination,
        port: u16,
        awaited: &Awaited,
    ) -> Result<(), Failure> {
        awaited.set("SYN-ACK");
        let sequence = getrandom::u32().map_err(|error| Failure::Unsent(error.to_string()))?;
        let source = raw::source(destination)?;
        let sent = Sent {
            to: destination.address,
            port,
            from_port: self.port(),
            sequence,
        };
        let mut syn = TcpHeader::new(sent.from_port, port, sequence, u16::MAX);
        syn.syn = true;
        // As each SYN of a client has one.
        let segment_size = TcpOptionElement::MaximumSegmentSize(1400);
        syn.set_options(&[segment_size]).expect("there is room");
        let sender = Sender {
            sockets: &self.segments,
            destination,
            source,
        };
        let mut reset = TcpHeader::new(sent.from_port, port, sequence.wrapping_add(1), 0);
        reset.rst = true;
        // Also when the SYN-ACK comes too late for the check.
        let mut reset = ResetOnDrop(Some((sender, reset)));
        let outcome = self.expected.ask(sent, || sender.send(syn)).await?;
        if outcome.is_err() {
            reset.0 = None;
        }
        outcome
    }

    fn port(&self) -> u16 {
        let port = self.next_port.get();
        let next = port.checked_add(1).unwrap_or(*SYN_PORTS.start());
        self.next_port.set(next);
        port
    }

    /// Waits until there may be answers, and takes those that are there.
    pub(super) async fn receive(&self) {
        tokio::select! {
            () = self.segments.receive(|source, segment| self.take(source, segment)) => {}
            () = self.unreachable.receive(|source, message| self.take_error(source, message)) => {}
        }
    }

    fn take(&self, to: IpAddr, segment: &[u8]) {
        if let Some((sent, outcome)) = answer(to, segment) {
            self.expected.answer(&sent, outcome);
        }
    }

    fn take_error(&self, from: IpAddr, message: &[u8]) {
        if let Some((sent, reason)) = unreachable(message) {
            let reason = format!("{reason} (says {from})");
            self.expected
                .answer(&sent, Err(Failure::Unreachable(reason)));
        }
    }
}

/// Sends the segments of a check.
#[derive(Clone, Copy)]
struct Sender<'a> {
    sockets: &'a RawSockets,
    destination: Destination,
    source: IpAddr,
}

impl Sender<'_> {
    fn send(self, header: TcpHeader) -> io::Result<()> {
        let segment = bytes(header, self.source, self.destination.address);
        self.sockets.send(&segment, self.destination)
    }
}

/// Ends the connection that a SYN may have half opened. If the RST is lost the server's kernel forgets it by itself.
struct ResetOnDrop<'a>(Option<(Sender<'a>, TcpHeader)>);

impl Drop for ResetOnDrop<'_> {
    fn drop(&mut self) {
        if let Some((sender, reset)) = self.0.take() {
            let _ = sender.send(reset);
        }
    }
}

/// What a segment answers, if it answers a SYN.
fn answer(to: IpAddr, segment: &[u8]) -> Option<(Sent, Result<(), Failure>)> {
    let &[a, b, c, d, _, _, _, _, e, f, g, h, _, flags] = segment.first_chunk()?;
    let outcome = match flags & FLAGS {
        SYN_ACK => Ok(()),
        RST_ACK => Err(Failure::Refused),
        _ => return None,
    };
    let sent = Sent {
        to,
        port: u16::from_be_bytes([a, b]),
        from_port: u16::from_be_bytes([c, d]),
        sequence: u32::from_be_bytes([e, f, g, h]).wrapping_sub(1),
    };
    Some((sent, outcome))
}

/// Which SYN an ICMP error quotes, and what it says (RFC 792, RFC 4443).
fn unreachable(message: &[u8]) -> Option<(Sent, &'static str)> {
    let code = *message.get(1)?;
    let quote = message.get(ICMP_HEADER..)?;
    let (to, protocol, segment, reason) = match quote.first()? >> 4 {
        4 => {
            let header = Ipv4HeaderSlice::from_slice(quote).ok()?;
            let segment = &quote[header.slice().len()..];
            let reason = match code {
                0 => "network unreachable",
                1 => "host unreachable",
                2 => "protocol unreachable",
                3 => "port unreachable",
                9 | 10 | 13 => "administratively prohibited",
                _ => "unreachable",
            };
            (
                IpAddr::from(header.destination_addr()),
                header.protocol(),
                segment,
                reason,
            )
        }
        _ => {
            let header = Ipv6HeaderSlice::from_slice(quote).ok()?;
            let segment = &quote[header.slice().len()..];
            let reason = match code {
                0 => "no route",
                1 | 5 | 6 => "administratively prohibited",
                3 => "address unreachable",
                4 => "port unreachable",
                _ => "unreachable",
            };
            (
                header.destination_addr().into(),
                header.next_header(),
                segment,
                reason,
            )
        }
    };
    let &[a, b, c, d, e, f, g, h] = segment.first_chunk()?;
    let sent = Sent {
        to,
        port: u16::from_be_bytes([c, d]),
        from_port: u16::from_be_bytes([a, b]),
        sequence: u32::from_be_bytes([e, f, g, h]),
    };
    (protocol.0 == TCP).then_some((sent, reason))
}

fn bytes(mut header: TcpHeader, source: IpAddr, destination: IpAddr) -> Vec<u8> {
    let checksum = match (source, destination) {
        (IpAddr::V4(source), IpAddr::V4(destination)) => {
            header.calc_checksum_ipv4_raw(source.octets(), destination.octets(), &[])
        }
        (IpAddr::V6(source), IpAddr::V6(destination)) => {
            header.calc_checksum_ipv6_raw(source.octets(), destination.octets(), &[])
        }
        _ => unreachable!("a packet has addresses of one IP version"),
    };
    header.checksum = checksum.expect("a header alone is short");
    header.to_bytes().to_vec()
}

#[cfg(test)]
mod tests {
    use etherparse::{IpNumber, Ipv4Header, Ipv6Header, TcpHeaderSlice};
    use rstest::rstest;

    use super::*;

    const V4: ([u8; 4], [u8; 4]) = ([10, 9, 0, 1], [10, 9, 1, 1]);
    const SENT: Sent = Sent {
        to: IpAddr::V4(std::net::Ipv4Addr::new(10, 9, 1, 1)),
        port: 80,
        from_port: 65_500,
        sequence: u32::MAX,
    };

    fn segment(change: impl FnOnce(&mut TcpHeader)) -> Vec<u8> {
        let mut header = TcpHeader::new(SENT.port, SENT.from_port, 7, 100);
        header.acknowledgment_number = SENT.sequence.wrapping_add(1);
        change(&mut header);
        header.to_bytes().to_vec()
    }

    #[rstest]
    #[case::syn_ack(|it: &mut TcpHeader| (it.syn, it.ack) = (true, true), Some(Ok(())))]
    #[case::reset(|it: &mut TcpHeader| (it.rst, it.ack) = (true, true), Some(Err(Failure::Refused)))]
    // To a segment of another connection (RFC 9293 section 3.10.7.4).
    #[case::challenge(|it: &mut TcpHeader| it.ack = true, None)]
    #[case::bare_reset(|it: &mut TcpHeader| it.rst = true, None)]
    #[case::syn(|it: &mut TcpHeader| it.syn = true, None)]
    fn answers_are_read(
        #[case] change: fn(&mut TcpHeader),
        #[case] expected: Option<Result<(), Failure>>,
    ) {
        let segment = segment(change);
        let expected = expected.map(|outcome| (SENT, outcome));
        assert_eq!(answer(SENT.to, &segment), expected);
        assert_eq!(answer(SENT.to, &segment[..13]), None);
    }

    fn syn() -> TcpHeader {
        TcpHeader::new(SENT.from_port, SENT.port, SENT.sequence, 100)
    }

    #[rstest]
    #[case(3, "port unreachable")]
    #[case(13, "administratively prohibited")]
    #[case(99, "unreachable")]
    fn icmp_errors_are_read(#[case] code: u8, #[case] reason: &str) {
        let segment = &syn().to_bytes()[..8];
        let header = Ipv4Header::new(20, 64, IpNumber::TCP, V4.0, V4.1).unwrap();
        let error = [
            &[3, code, 0, 0, 0, 0, 0, 0][..],
            &header.to_bytes(),
            segment,
        ]
        .concat();
        assert_eq!(unreachable(&error), Some((SENT, reason)));
        for length in 0..error.len() {
            assert_eq!(unreachable(&error[..length]), None, "{length} bytes");
        }
        let mut of_udp = header;
        of_udp.protocol = IpNumber::UDP;
        let error = [
            &[3, code, 0, 0, 0, 0, 0, 0][..],
            &of_udp.to_bytes(),
            segment,
        ]
        .concat();
        assert_eq!(unreachable(&error), None);
    }

    #[test]
    fn icmpv6_errors_are_read() {
        let header = Ipv6Header {
            payload_length: 20,
            next_header: IpNumber::TCP,
            destination: [9; 16],
            ..Ipv6Header::default()
        };
        let segment = &syn().to_bytes()[..8];
        let error = [&[1, 4, 0, 0, 0, 0, 0, 0][..], &header.to_bytes(), segment].concat();
        let sent = Sent {
            to: [9; 16].into(),
            ..SENT
        };
        assert_eq!(unreachable(&error), Some((sent, "port unreachable")));
        for length in 0..error.len() {
            assert_eq!(unreachable(&error[..length]), None, "{length} bytes");
        }
    }

    #[test]
    fn a_syn_is_whole() {
        let bytes = bytes(syn(), V4.0.into(), V4.1.into());
        let header = TcpHeaderSlice::from_slice(&bytes).unwrap();
        let expected = header.calc_checksum_ipv4_raw(V4.0, V4.1, &[]).unwrap();
        assert_eq!(header.checksum(), expected);
    }
}
