//! Raw sockets that checks share: sending by the path of each.

use std::{
    io::{self, IoSlice},
    net::{IpAddr, Ipv4Addr, SocketAddr, SocketAddrV6, UdpSocket as StdUdpSocket},
    os::fd::AsRawFd,
};

use futures::future::OptionFuture;
use nix::sys::socket::{
    ControlMessage, MsgFlags, SockaddrStorage, sendmsg, setsockopt,
    sockopt::{self, RcvBufForce, SndBufForce},
};
use socket2::Domain;
use tokio::net::UdpSocket;

use super::destination::{Destination, Steering};

/// Messages to machines whose MAC address is being asked for wait in the kernel, and take room in the socket's buffer
/// for seconds: about 1 kB each. They must not keep others from being sent.
const BUFFER: usize = 64 << 20;
/// Messages that are taken before others get a turn: a flood must not keep checks from being sent.
pub(super) const BATCH: usize = 256;

/// A raw socket of each IP version.
pub(super) struct RawSockets {
    v4: UdpSocket,
    /// `None` on a host without IPv6.
    v6: Option<UdpSocket>,
}

impl RawSockets {
    /// Opens both.
    ///
    /// # Errors
    /// Not root.
    pub(super) fn open(open: impl Fn(Domain) -> io::Result<UdpSocket>) -> io::Result<Self> {
        let with_buffers = |domain| -> io::Result<UdpSocket> {
            let socket = open(domain)?;
            setsockopt(&socket, SndBufForce, &BUFFER)?;
            setsockopt(&socket, RcvBufForce, &BUFFER)?;
            Ok(socket)
        };
        Ok(Self {
            v4: with_buffers(Domain::IPV4)?,
            v6: match with_buffers(Domain::IPV6) {
                Err(error) if error.raw_os_error() == Some(libc::EAFNOSUPPORT) => None,
                socket => Some(socket?),
            },
        })
    }

    /// The sockets that there are.
    pub(super) fn iter(&self) -> impl Iterator<Item = &UdpSocket> {
        [Some(&self.v4), self.v6.as_ref()].into_iter().flatten()
    }

    /// Sends what follows the IP header.
    ///
    /// # Errors
    /// The kernel's: there is no route, for one.
    pub(super) fn send(&self, message: &[u8], destination: Destination) -> io::Result<()> {
        let socket = match destination.address {
            IpAddr::V4(_) => Some(&self.v4),
            IpAddr::V6(_) => self.v6.as_ref(),
        };
        let socket = socket.ok_or(io::Error::from_raw_os_error(libc::EAFNOSUPPORT))?;
        let to = SockaddrStorage::from(SocketAddr::new(destination.address, 0));
        let message = [IoSlice::new(message)];
        let send = |from: &[ControlMessage<'_>]| {
            sendmsg(
                socket.as_raw_fd(),
                &message,
                from,
                MsgFlags::empty(),
                Some(&to),
            )
        };
        let Some(Steering { mark, source, .. }) = destination.steering else {
            send(&[])?;
            return Ok(());
        };
        setsockopt(socket, sockopt::Mark, &mark)?;
        match source {
            IpAddr::V4(source) => {
                let from = libc::in_pktinfo {
                    ipi_ifindex: 0,
                    ipi_spec_dst: libc::in_addr {
                        s_addr: u32::from(source).to_be(),
                    },
                    ipi_addr: libc::in_addr { s_addr: 0 },
                };
                send(&[ControlMessage::Ipv4PacketInfo(&from)])?;
            }
            IpAddr::V6(source) => {
                let from = libc::in6_pktinfo {
                    ipi6_addr: libc::in6_addr {
                        s6_addr: source.octets(),
                    },
                    ipi6_ifindex: 0,
                };
                send(&[ControlMessage::Ipv6PacketInfo(&from)])?;
            }
        }
        Ok(())
    }

    /// Waits until there may be messages, and gives the first that are there, without IP headers, to `take` with
    /// their senders.
    pub(super) async fn receive(&self, mut take: impl FnMut(IpAddr, &[u8])) {
        // An error comes with the next message, too.
        let _ = tokio::select! {
            ready = self.v4.readable() => ready,
            Some(ready) = OptionFuture::from(self.v6.as_ref().map(UdpSocket::readable)) => ready,
        };
        let mut buffer = [0; 2048];
        for socket in self.iter() {
            // An error of one message must not hide those behind it; the last one is that there are no more.
            for _ in 0..BATCH {
                match socket.try_recv_from(&mut buffer) {
                    Ok((length, source)) => {
                        let packet = &buffer[..length];
                        let message = match source {
                            SocketAddr::V4(_) => without_ip_header(packet),
                            SocketAddr::V6(_) => Some(packet),
                        };
                        if let Some(message) = message {
                            take(source.ip(), message);
                        }
                    }
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                    Err(_) => {}
                }
            }
        }
    }
}

/// The address that packets to a destination come from.
///
/// # Errors
/// There is no route.
pub(super) fn source(destination: Destination) -> io::Result<IpAddr> {
    if let Some(Steering { source, .. }) = destination.steering {
        return Ok(source);
    }
    let any: SocketAddr = match destination.address {
        IpAddr::V4(_) => (Ipv4Addr::UNSPECIFIED, 0).into(),
        IpAddr::V6(_) => SocketAddrV6::new(0.into(), 0, 0, 0).into(),
    };
    let socket = StdUdpSocket::bind(any)?;
    // Any port: nothing is sent.
    socket.connect((destination.address, 9))?;
    Ok(socket.local_addr()?.ip())
}

fn without_ip_header(packet: &[u8]) -> Option<&[u8]> {
    let words = packet.first()? & 0xf;
    packet.get(4 * usize::from(words)..)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ip_options_are_cut_off() {
        for words in [5, 6, 15] {
            let mut packet = vec![9; 4 * words + 8];
            packet[0] = 0x40 | words as u8;
            assert_eq!(without_ip_header(&packet), Some(&[9; 8][..]));
            assert_eq!(without_ip_header(&packet[..4 * words - 1]), None);
        }
        assert_eq!(without_ip_header(&[]), None);
    }
}
