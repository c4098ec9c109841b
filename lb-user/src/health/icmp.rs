//! ICMP echo (RFC 792; RFC 4443 section 4), over one raw socket for each IP version.

use std::{cell::Cell, io, net::IpAddr};

use etherparse::{IcmpEchoHeader, Icmpv4Header, Icmpv4Type, Icmpv6Header, Icmpv6Type};
use lb_common::real_server::{OUTER_V4, OUTER_V6};
use socket2::Domain;

use super::{
    Failure,
    destination::{Awaited, Destination},
    expected::Expected,
    raw::RawSockets,
};
use crate::raw_socket::{self, Field};

const ECHO_REPLY_V4: u8 = 0;
const ECHO_REPLY_V6: u8 = 129;
const ICMP_HEADER: usize = 8;

/// Sends echo requests and gets the replies to them.
pub(super) struct EchoSockets {
    sockets: RawSockets,
    /// Tells our replies from those to others on this host.
    identifier: u16,
    sequence: Cell<u16>,
    /// By the address that the reply must come from, and the token in it.
    expected: Expected<(IpAddr, u64), ()>,
}

impl EchoSockets {
    /// For requests with this identifier, which nothing else on this host should use.
    ///
    /// # Errors
    /// Not root.
    pub(super) fn open(identifier: u16) -> io::Result<Self> {
        let sockets = RawSockets::open(|domain| {
            let is_v4 = domain == Domain::IPV4;
            let reply = if is_v4 { ECHO_REPLY_V4 } else { ECHO_REPLY_V6 };
            let wanted = [Field::Type(reply), Field::Identifier(identifier)];
            let socket = raw_socket::icmp(domain, &wanted)?;
            raw_socket::dont_fragment(&socket, domain)?;
            Ok(socket)
        })?;
        Ok(Self {
            sockets,
            identifier,
            sequence: Cell::default(),
            expected: Expected::default(),
        })
    }

    /// Sends a request and waits for the reply. With a `size`, that is the length of its IP packet.
    pub(super) async fn ask(
        &self,
        destination: Destination,
        size: Option<u16>,
        awaited: &Awaited,
    ) -> Result<(), Failure> {
        awaited.set("echo reply");
        if let (Some(size), Some(steering)) = (size, destination.steering)
            && u32::from(size) > steering.mtu
        {
            return Err(Failure::Impossible(format!(
                "an echo request of {size} bytes does not fit the MTU of {} on the way",
                steering.mtu
            )));
        }
        // Nobody who doesn't see the request can guess it.
        let token = getrandom::u64().map_err(|error| Failure::Unsent(error.to_string()))?;
        let address = destination.address;
        let message = self.request(address, token, size);
        let send = || self.sockets.send(&message, destination);
        self.expected.ask((address, token), send).await
    }

    fn request(&self, address: IpAddr, token: u64, size: Option<u16>) -> Vec<u8> {
        let echo = IcmpEchoHeader {
            id: self.identifier,
            seq: self.sequence.get(),
        };
        self.sequence.set(self.sequence.get().wrapping_add(1));
        let ip_header = match address {
            IpAddr::V4(_) => OUTER_V4,
            IpAddr::V6(_) => OUTER_V6,
        };
        let mut payload = token.to_be_bytes().to_vec();
        let room = usize::from(size.unwrap_or(0)).saturating_sub(ip_header as usize + ICMP_HEADER);
        payload.resize(room.max(payload.len()), 0);
        let mut message = match address {
            IpAddr::V4(_) => {
                let kind = Icmpv4Type::EchoRequest(echo);
                Icmpv4Header::with_checksum(kind, &payload)
                    .to_bytes()
                    .to_vec()
            }
            // The kernel fills in the checksum (RFC 3542 section 3.1).
            IpAddr::V6(_) => Icmpv6Header::new(Icmpv6Type::EchoRequest(echo))
                .to_bytes()
                .to_vec(),
        };
        message.extend(payload);
        message
    }

    /// Waits until there may be replies, and takes those that are there.
    pub(super) async fn receive(&self) {
        let take = |source, message: &[u8]| {
            if let Some(token) = token(message) {
                self.expected.answer(&(source, token), ());
            }
        };
        self.sockets.receive(take).await;
    }
}

/// What follows the header of an echo.
fn token(message: &[u8]) -> Option<u64> {
    let token = message.get(ICMP_HEADER..)?.first_chunk()?;
    Some(u64::from_be_bytes(*token))
}
