//! Routers' word that an encapsulated packet was too big for them (RFC 2003 section 4, RFC 2473 section 7): the kernel
//! gives such errors to its own tunnels alone, and has none here.

use std::{io, net::IpAddr};

use etherparse::{IpNumber, Ipv4HeaderSlice, Ipv6HeaderSlice};
use futures::future::OptionFuture;
use socket2::Domain;
use tokio::net::UdpSocket;

use crate::raw_socket::{self, Field};

const DESTINATION_UNREACHABLE: u8 = 3;
const FRAGMENTATION_NEEDED: u8 = 4;
const PACKET_TOO_BIG: u8 = 2;
/// Bytes of an ICMP message before the packet that it quotes.
const ICMP: usize = 8;

/// An encapsulated packet did not fit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct TooBig {
    /// The outer source.
    pub(super) source: IpAddr,
    /// The outer destination: a real server.
    pub(super) target: IpAddr,
    /// The largest packet that would have fit, outer header included.
    pub(super) mtu: u32,
}

/// Hears the errors that routers send to this host.
#[derive(Debug)]
pub(super) struct TooBigErrors {
    v4: UdpSocket,
    /// `None` on a host without IPv6.
    v6: Option<UdpSocket>,
}

impl TooBigErrors {
    /// # Errors
    /// Not root.
    pub(super) fn listen() -> io::Result<Self> {
        let errors = |domain, kind| raw_socket::icmp(domain, &[Field::Type(kind)]);
        Ok(Self {
            v4: errors(Domain::IPV4, DESTINATION_UNREACHABLE)?,
            v6: match errors(Domain::IPV6, PACKET_TOO_BIG) {
                Err(error) if error.raw_os_error() == Some(libc::EAFNOSUPPORT) => None,
                socket => Some(socket?),
            },
        })
    }

    /// The next error about an encapsulated packet.
    pub(super) async fn next(&self) -> io::Result<TooBig> {
        loop {
            let error = tokio::select! {
                message = receive(&self.v4) => in_ipv4(&message?),
                Some(message) = OptionFuture::from(self.v6.as_ref().map(receive)) => in_icmpv6(&message?),
            };
            if let Some(error) = error {
                return Ok(error);
            }
        }
    }
}

async fn receive(socket: &UdpSocket) -> io::Result<Vec<u8>> {
    // Routers quote no more than fits in 1280 bytes (RFC 4443 section 3.2).
    let mut message = [0; 1280];
    let length = socket.recv(&mut message).await?;
    Ok(message[..length].to_vec())
}

/// Reads an IPv4 packet with an ICMP message.
fn in_ipv4(packet: &[u8]) -> Option<TooBig> {
    let header = Ipv4HeaderSlice::from_slice(packet).ok()?;
    let message = &packet[header.slice().len()..];
    let &[kind, code, _, _, _, _, mtu_high, mtu_low] = message.first_chunk::<ICMP>()?;
    let quoted = Ipv4HeaderSlice::from_slice(&message[ICMP..]).ok()?;
    let is_ours = kind == DESTINATION_UNREACHABLE
        && code == FRAGMENTATION_NEEDED
        && is_encapsulation(quoted.protocol());
    is_ours.then(|| TooBig {
        source: quoted.source_addr().into(),
        target: quoted.destination_addr().into(),
        mtu: u16::from_be_bytes([mtu_high, mtu_low]).into(),
    })
}

/// Reads an ICMPv6 message.
fn in_icmpv6(message: &[u8]) -> Option<TooBig> {
    let &[kind, _, _, _, ref mtu @ ..] = message.first_chunk::<ICMP>()?;
    let quoted = Ipv6HeaderSlice::from_slice(&message[ICMP..]).ok()?;
    (kind == PACKET_TOO_BIG && is_encapsulation(quoted.next_header())).then(|| TooBig {
        source: quoted.source_addr().into(),
        target: quoted.destination_addr().into(),
        mtu: u32::from_be_bytes(*mtu),
    })
}

fn is_encapsulation(protocol: IpNumber) -> bool {
    matches!(protocol, IpNumber::IPV4 | IpNumber::IPV6)
}

#[cfg(test)]
mod tests {
    use etherparse::{Icmpv4Type, Icmpv6Type, PacketBuilder, icmpv4::DestUnreachableHeader};

    use super::*;

    const OUTER_V4: ([u8; 4], [u8; 4]) = ([10, 9, 0, 1], [10, 11, 0, 11]);

    /// An IPv4 packet from the balancer to a real server, cut off after its header.
    fn quote_v4(protocol: IpNumber) -> Vec<u8> {
        let header = etherparse::Ipv4Header::new(1000, 64, protocol, OUTER_V4.0, OUTER_V4.1);
        header.unwrap().to_bytes().to_vec()
    }

    fn error_v4(kind: DestUnreachableHeader, quote: &[u8]) -> Vec<u8> {
        let mut packet = Vec::new();
        PacketBuilder::ipv4([10, 9, 0, 254], OUTER_V4.0, 64)
            .icmpv4(Icmpv4Type::DestinationUnreachable(kind))
            .write(&mut packet, quote)
            .unwrap();
        packet
    }

    #[test]
    fn fragmentation_needed_tells_the_mtu_towards_a_server() {
        let too_big = DestUnreachableHeader::FragmentationNeeded { next_hop_mtu: 1400 };
        for protocol in [IpNumber::IPV4, IpNumber::IPV6] {
            assert_eq!(
                in_ipv4(&error_v4(too_big.clone(), &quote_v4(protocol))),
                Some(TooBig {
                    source: OUTER_V4.0.into(),
                    target: OUTER_V4.1.into(),
                    mtu: 1400
                })
            );
        }
        let quote = quote_v4(IpNumber::IPV4);
        for other in [
            error_v4(too_big.clone(), &quote_v4(IpNumber::TCP)),
            error_v4(DestUnreachableHeader::Host, &quote),
            error_v4(too_big.clone(), &quote[..19]),
            Vec::new(),
        ] {
            assert_eq!(in_ipv4(&other), None);
        }
        let whole = error_v4(too_big, &quote);
        (0..whole.len()).for_each(|length| assert_eq!(in_ipv4(&whole[..length]), None));
    }

    #[test]
    fn packet_too_big_tells_the_mtu_towards_a_server() {
        let (source, target): (std::net::Ipv6Addr, std::net::Ipv6Addr) = (
            "2001:db8:9::1".parse().unwrap(),
            "2001:db8:b::11".parse().unwrap(),
        );
        let error = |next_header| {
            let quote = etherparse::Ipv6Header {
                next_header,
                source: source.octets(),
                destination: target.octets(),
                ..Default::default()
            };
            let mut packet = Vec::new();
            PacketBuilder::ipv6(target.octets(), source.octets(), 64)
                .icmpv6(Icmpv6Type::PacketTooBig { mtu: 1400 })
                .write(&mut packet, &quote.to_bytes())
                .unwrap();
            packet.split_off(40)
        };
        assert_eq!(
            in_icmpv6(&error(IpNumber::IPV4)),
            Some(TooBig {
                source: source.into(),
                target: target.into(),
                mtu: 1400
            })
        );
        assert_eq!(in_icmpv6(&error(IpNumber::UDP)), None);
        let whole = error(IpNumber::IPV6);
        (0..whole.len()).for_each(|length| assert_eq!(in_icmpv6(&whole[..length]), None));
    }
}
