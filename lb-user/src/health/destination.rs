//! Where the packets of a check go.

use std::{
    cell::Cell,
    io,
    net::{IpAddr, SocketAddr},
};

use super::arp::Segment;
use crate::config::MacAddress;
use nix::sys::socket::{setsockopt, sockopt};
use socket2::{Domain, Protocol, Socket, Type};
use tokio::net::{TcpSocket, TcpStream, UdpSocket};

/// What a check waits for: the answer that there was none of, once its time is over (`SYN-ACK`, `response`).
pub(super) type Awaited = Cell<&'static str>;

/// Which way a check goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Route {
    /// By the routes of the host.
    Host,
    /// By a real server's own DSR path.
    Steered(Steering),
    /// To all machines of a segment; with a MAC address, only the answer of that one counts.
    Segment(Segment, Option<MacAddress>),
    /// There is none yet to the real server, which is down for that alone.
    Wait,
    /// There is none, for this reason.
    None(String),
}

/// An address to send to, and the way there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Destination {
    pub address: IpAddr,
    /// `None`: by the routes of the host.
    pub steering: Option<Steering>,
}

/// By a real server's own DSR path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Steering {
    /// The mark of the packets: it says which path.
    pub mark: u32,
    /// The address that they come from.
    pub source: IpAddr,
    /// The largest IP packet in bytes that fits the path, inside of an outer header.
    pub mtu: u32,
}

impl Destination {
    /// A TCP connection that is reset when it is closed: a check leaves nothing behind.
    ///
    /// # Errors
    /// Those of `connect(2)`.
    pub(super) async fn connect(self, port: u16) -> io::Result<TcpStream> {
        let socket = self.socket(Type::STREAM, Protocol::TCP)?;
        socket.set_tcp_nodelay(true)?;
        let stream = TcpSocket::from_std_stream(socket.into());
        stream.set_zero_linger()?;
        if let Some(Steering { mtu, .. }) = self.steering {
            setsockopt(&stream, sockopt::TcpMaxSeg, &segment(self.address, mtu))?;
        }
        stream.connect(SocketAddr::new(self.address, port)).await
    }

    /// A UDP socket that is connected, so that it hears ICMP errors.
    ///
    /// # Errors
    /// Those of `connect(2)`.
    pub(super) fn udp(self, port: u16) -> io::Result<UdpSocket> {
        let socket = self.socket(Type::DGRAM, Protocol::UDP)?;
        socket.connect(&SocketAddr::new(self.address, port).into())?;
        UdpSocket::from_std(socket.into())
    }

    fn socket(self, kind: Type, protocol: Protocol) -> io::Result<Socket> {
        let socket = Socket::new(
            Domain::for_address(SocketAddr::new(self.address, 0)),
            kind,
            Some(protocol),
        )?;
        socket.set_nonblocking(true)?;
        if let Some(Steering { mark, source, .. }) = self.steering {
            socket.set_mark(mark)?;
            // Connections to different places may come from one port, if it is chosen once both ends are known.
            setsockopt(&socket, sockopt::IpBindAddressNoPort, &true)?;
            socket.bind(&SocketAddr::new(source, 0).into())?;
        }
        Ok(socket)
    }
}

/// How many bytes a TCP segment may have so that its packet fits (RFC 9293 section 3.7.1).
fn segment(address: IpAddr, mtu: u32) -> u32 {
    const TCP_HEADER: u32 = 20;
    let ip_header = if address.is_ipv4() { 20 } else { 40 };
    // That of Ethernet, if more fits: the answers come by other ways.
    mtu.min(1500) - ip_header - TCP_HEADER
}
