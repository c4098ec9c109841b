//! ICMP echo (RFC 792; RFC 4443 section 4), over one raw socket for each IP version.

use std::{
    cell::Cell,
    io,
    net::{IpAddr, SocketAddr},
};

use etherparse::{IcmpEchoHeader, Icmpv4Header, Icmpv4Type, Icmpv6Header, Icmpv6Type};
use futures::future::OptionFuture;
use nix::sys::socket::{setsockopt, sockopt};
use socket2::Domain;
use tokio::net::UdpSocket;

use super::{
    Failure,
    destination::{Awaited, Destination},
    expected::Expected,
};

use crate::icmp_socket::{self, Field};

const ECHO_REPLY_V4: u8 = 0;
const ECHO_REPLY_V6: u8 = 129;
/// Requests to servers whose MAC address is being asked for wait in the kernel, and take room in the socket's buffer
/// for seconds: about 1 kB each. They must not keep others from being sent.
const BUFFER: usize = 64 << 20;

/// Sends echo requests and gets the replies to them.
pub(super) struct EchoSockets {
    v4: UdpSocket,
    /// `None` on a host without IPv6.
    v6: Option<UdpSocket>,
    /// Tells our replies from those to others on this host.
    identifier: u16,
    sequence: Cell<u16>,
    /// By the address that the reply must come from, and the token in it.
    expected: Expected<(IpAddr, u64), ()>,
}

impl EchoSockets {
    /// # Errors
    /// Not root.
    pub(super) fn open() -> io::Result<Self> {
        let identifier = getrandom::u32().map_err(io::Error::other)? as u16;
        let open = |domain, reply| -> io::Result<UdpSocket> {
            let wanted = [Field::Type(reply), Field::Identifier(identifier)];
            let socket = icmp_socket::open(domain, &wanted)?;
            setsockopt(&socket, sockopt::SndBufForce, &BUFFER)?;
            setsockopt(&socket, sockopt::RcvBufForce, &BUFFER)?;
            Ok(socket)
        };
        Ok(Self {
            v4: open(Domain::IPV4, ECHO_REPLY_V4)?,
            v6: match open(Domain::IPV6, ECHO_REPLY_V6) {
                Err(error) if error.raw_os_error() == Some(libc::EAFNOSUPPORT) => None,
                socket => Some(socket?),
            },
            identifier,
            sequence: Cell::default(),
            expected: Expected::default(),
        })
    }

    /// Sends a request and waits for the reply.
    pub(super) async fn ask(
        &self,
        destination: Destination,
        awaited: &Awaited,
    ) -> Result<(), Failure> {
        awaited.set("echo reply");
        // Nobody who doesn't see the request can guess it.
        let token = getrandom::u64().map_err(|error| Failure::Unsent(error.to_string()))?;
        let address = destination.address;
        let send = || self.send(address, token);
        self.expected.ask((address, token), send).await
    }

    fn send(&self, address: IpAddr, token: u64) -> io::Result<()> {
        let echo = IcmpEchoHeader {
            id: self.identifier,
            seq: self.sequence.get(),
        };
        self.sequence.set(self.sequence.get().wrapping_add(1));
        let token = token.to_be_bytes();
        let (socket, mut message) = match address {
            IpAddr::V4(_) => {
                let kind = Icmpv4Type::EchoRequest(echo);
                let header = Icmpv4Header::with_checksum(kind, &token);
                (&self.v4, header.to_bytes().to_vec())
            }
            IpAddr::V6(_) => {
                let socket = self.v6.as_ref();
                let socket = socket.ok_or(io::Error::from_raw_os_error(libc::EAFNOSUPPORT))?;
                // The kernel fills in the checksum (RFC 3542 section 3.1).
                let kind = Icmpv6Type::EchoRequest(echo);
                (socket, Icmpv6Header::new(kind).to_bytes().to_vec())
            }
        };
        message.extend(token);
        socket.try_send_to(&message, SocketAddr::new(address, 0))?;
        Ok(())
    }

    /// Waits until there may be replies, and takes those that are there.
    pub(super) async fn receive(&self) {
        // An error comes with the next message, too.
        let _ = tokio::select! {
            ready = self.v4.readable() => ready,
            Some(ready) = OptionFuture::from(self.v6.as_ref().map(UdpSocket::readable)) => ready,
        };
        let mut buffer = [0; 128];
        for socket in [Some(&self.v4), self.v6.as_ref()].into_iter().flatten() {
            // An error of one message must not hide those behind it; the last one is that there are no more.
            loop {
                match socket.try_recv_from(&mut buffer) {
                    Ok((length, source)) => {
                        let source = source.ip();
                        let packet = &buffer[..length];
                        let message = match source {
                            IpAddr::V4(_) => without_ip_header(packet),
                            IpAddr::V6(_) => Some(packet),
                        };
                        if let Some(token) = message.and_then(token) {
                            self.expected.answer(&(source, token), ());
                        }
                    }
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                    Err(_) => {}
                }
            }
        }
    }
}

fn without_ip_header(packet: &[u8]) -> Option<&[u8]> {
    let words = packet.first()? & 0xf;
    packet.get(4 * usize::from(words)..)
}

/// What follows the 8 bytes of an echo's header.
fn token(message: &[u8]) -> Option<u64> {
    let token = message.get(8..)?.first_chunk()?;
    Some(u64::from_be_bytes(*token))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_token_of_a_reply_is_found_behind_ip_options() {
        let token = 0x0102_0304_0506_0708;
        let mut message = vec![ECHO_REPLY_V4, 0, 0, 0, 1, 2, 3, 4];
        message.extend(u64::to_be_bytes(token));
        for words in [5, 6, 15] {
            let mut packet = vec![0; 4 * words];
            packet[0] = 0x40 | words as u8;
            packet.extend(&message);
            let found = without_ip_header(&packet).and_then(super::token);
            assert_eq!(found, Some(token));
            for length in 0..packet.len() {
                let cut = without_ip_header(&packet[..length]).and_then(super::token);
                assert_eq!(cut, None);
            }
        }
    }
}
