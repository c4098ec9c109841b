//! Echo requests (RFC 792, RFC 4443 section 4), as ping(8) sends them.

use std::{
    io::{self, Read},
    net::{IpAddr, SocketAddr},
    time::Duration,
};

use socket2::{Domain, Protocol, Socket, Type};

use crate::Host;

impl Host {
    /// Sends an echo request and waits for the reply. The kernel fills in the checksum and the identifier,
    /// checks those of replies, and takes replies from `to` alone.
    ///
    /// # Errors
    /// None comes in time, or one with other data: [`io::ErrorKind::InvalidData`].
    pub fn ping(&self, to: impl Into<IpAddr>, within: Duration) -> io::Result<()> {
        const DATA: &[u8] = b"are you there?";
        let to = to.into();
        let (domain, protocol, request, reply) = match to {
            IpAddr::V4(_) => (Domain::IPV4, Protocol::ICMPV4, 8, 0),
            IpAddr::V6(_) => (Domain::IPV6, Protocol::ICMPV6, 128, 129),
        };
        let mut socket = self.run(|| Socket::new(domain, Type::DGRAM, Some(protocol)))?;
        socket.connect(&SocketAddr::new(to, 0).into())?;
        socket.set_read_timeout(Some(within))?;
        // Type, code, checksum, identifier, sequence number.
        socket.send(&[&[request, 0, 0, 0, 0, 0, 0, 1], DATA].concat())?;
        let mut buffer = [0; 64];
        let length = socket.read(&mut buffer)?;
        let answer = &buffer[..length];
        if answer.starts_with(&[reply, 0]) && answer.ends_with(DATA) {
            Ok(())
        } else {
            Err(io::ErrorKind::InvalidData.into())
        }
    }
}
