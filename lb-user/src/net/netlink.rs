//! The kernel's side of rtnetlink(7): events from one socket, questions and answers over another.
//!
//! Two sockets, because events may fill a socket's receive buffer, and an answer that finds it full
//! is lost.

use std::io;
use std::net::IpAddr;
use std::time::Duration;

use futures::StreamExt;
use futures::channel::mpsc::UnboundedReceiver;
use netlink_packet_route::address::AddressMessage;
use netlink_packet_route::link::{LinkAttribute, LinkExtentMask, LinkMessage};
use netlink_packet_route::neighbour::{
    NeighbourAttribute, NeighbourFlags, NeighbourMessage, NeighbourState,
};
use netlink_packet_route::route::RouteMessage;
use netlink_packet_route::{AddressFamily, RouteNetlinkMessage};
use nix::errno::Errno;
use nix::sys::socket::{setsockopt, sockopt};
use rtnetlink::packet_core::{
    NLM_F_ACK, NLM_F_CREATE, NLM_F_DUMP, NLM_F_REQUEST, NetlinkMessage, NetlinkPayload,
};
use rtnetlink::sys::{AsyncSocket, SocketAddr};
use rtnetlink::{Handle, MulticastGroup, RouteMessageBuilder};
use thiserror::Error;
use tokio::task::JoinSet;
use tokio::time::timeout;

use super::neighbour::{NeighbourKey, Nudge};

const GROUPS: [MulticastGroup; 8] = [
    MulticastGroup::Link,
    MulticastGroup::Neigh,
    MulticastGroup::Ipv4Ifaddr,
    MulticastGroup::Ipv6Ifaddr,
    MulticastGroup::Ipv4Route,
    MulticastGroup::Ipv6Route,
    MulticastGroup::Ipv4Rule,
    MulticastGroup::Ipv6Rule,
];

/// Receive buffer for events, in bytes of socket memory: some ten thousand of them.
const EVENT_BUFFER: usize = 16 << 20;

/// The kernel answers at once; this is for an answer that was lost.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(5);

/// Why the kernel can't be asked about the network.
#[derive(Debug, Error)]
pub enum NetError {
    /// A netlink socket can't be opened.
    #[error("cannot open a netlink socket: {0}")]
    Open(io::Error),
    /// The socket broke.
    #[error("the netlink socket to the kernel broke")]
    Broken,
    /// The kernel's answer was lost.
    #[error("the kernel did not answer a netlink request within {} s", ANSWER_TIMEOUT.as_secs())]
    NoAnswer,
    /// The kernel refused to list what it knows.
    #[error("the kernel refused to list its {what}: {error}")]
    Refused {
        /// What was asked for.
        what: &'static str,
        /// The error code of the kernel's reply.
        error: Errno,
    },
}

pub(super) enum Event {
    Change(RouteNetlinkMessage),
    /// Events were lost: the receive buffer was full.
    Overrun,
}

pub(super) struct Netlink {
    handle: Handle,
    events: UnboundedReceiver<(NetlinkMessage<RouteNetlinkMessage>, SocketAddr)>,
    /// They serve the sockets, and end when this is dropped.
    _connections: JoinSet<()>,
}

impl Netlink {
    /// Opens the sockets, in the network namespace of the calling thread. Events are kept from here
    /// on.
    pub(super) fn connect() -> Result<Self, NetError> {
        let (mut listening, _, events) =
            rtnetlink::new_multicast_connection(&GROUPS).map_err(NetError::Open)?;
        let socket = listening.socket_mut().socket_mut();
        if setsockopt(socket, sockopt::RcvBufForce, &EVENT_BUFFER).is_err() {
            // Without CAP_NET_ADMIN: as much as net.core.rmem_max allows.
            setsockopt(socket, sockopt::RcvBuf, &EVENT_BUFFER)
                .map_err(|error| NetError::Open(error.into()))?;
        }
        let (asking, handle, _) = rtnetlink::new_connection().map_err(NetError::Open)?;

        let mut connections = JoinSet::new();
        connections.spawn(listening);
        connections.spawn(asking);
        Ok(Self {
            handle,
            events,
            _connections: connections,
        })
    }

    pub(super) async fn next_event(&mut self) -> Result<Event, NetError> {
        loop {
            let (message, _) = self.events.next().await.ok_or(NetError::Broken)?;
            match message.payload {
                NetlinkPayload::InnerMessage(message) => return Ok(Event::Change(message)),
                NetlinkPayload::Overrun(_) => return Ok(Event::Overrun),
                _ => {}
            }
        }
    }

    pub(super) async fn links(&mut self) -> Result<Vec<LinkMessage>, NetError> {
        let mut filter = LinkMessage::default();
        filter
            .attributes
            .push(LinkAttribute::ExtMask(vec![LinkExtentMask::SkipStats]));
        let links = self
            .dump("interfaces", RouteNetlinkMessage::GetLink(filter))
            .await?;
        let link = |message| match message {
            RouteNetlinkMessage::NewLink(link) => Some(link),
            _ => None,
        };
        Ok(links.into_iter().filter_map(link).collect())
    }

    pub(super) async fn addresses(&mut self) -> Result<Vec<AddressMessage>, NetError> {
        let all = RouteNetlinkMessage::GetAddress(AddressMessage::default());
        let addresses = self.dump("addresses", all).await?;
        let address = |message| match message {
            RouteNetlinkMessage::NewAddress(address) => Some(address),
            _ => None,
        };
        Ok(addresses.into_iter().filter_map(address).collect())
    }

    pub(super) async fn neighbours(&mut self) -> Result<Vec<NeighbourMessage>, NetError> {
        let all = RouteNetlinkMessage::GetNeighbour(NeighbourMessage::default());
        let neighbours = self.dump("neighbours", all).await?;
        let neighbour = |message| match message {
            RouteNetlinkMessage::NewNeighbour(neighbour) => Some(neighbour),
            _ => None,
        };
        Ok(neighbours.into_iter().filter_map(neighbour).collect())
    }

    /// Asks by which route the kernel would send a packet to an address.
    pub(super) async fn route_to(
        &mut self,
        address: IpAddr,
    ) -> Result<Result<RouteMessage, Errno>, NetError> {
        let length = if address.is_ipv4() { 32 } else { 128 };
        let question = RouteMessageBuilder::<IpAddr>::new()
            .destination_prefix(address, length)
            .expect("a full-length prefix fits its address")
            .build();
        let replies = self
            .request(RouteNetlinkMessage::GetRoute(question), NLM_F_ACK)
            .await?;
        Ok(replies.and_then(|replies| {
            let route = replies.into_iter().find_map(|reply| match reply {
                RouteNetlinkMessage::NewRoute(route) => Some(route),
                _ => None,
            });
            route.ok_or(Errno::ENETUNREACH)
        }))
    }

    /// Makes the kernel resolve a neighbour.
    pub(super) async fn nudge(
        &mut self,
        key: NeighbourKey,
        nudge: Nudge,
    ) -> Result<Result<(), Errno>, NetError> {
        let mut message = NeighbourMessage::default();
        message.header.family = match key.address {
            IpAddr::V4(_) => AddressFamily::Inet,
            IpAddr::V6(_) => AddressFamily::Inet6,
        };
        message.header.ifindex = key.ifindex;
        message
            .attributes
            .push(NeighbourAttribute::Destination(key.address.into()));
        // Never NLM_F_REPLACE: it would clear an IPv6 neighbour's mark of being a router.
        let flags = match nudge {
            Nudge::Ask => {
                message.header.flags = NeighbourFlags::Use;
                NLM_F_ACK | NLM_F_CREATE
            }
            Nudge::Verify => {
                message.header.state = NeighbourState::Probe;
                NLM_F_ACK
            }
        };
        let replies = self
            .request(RouteNetlinkMessage::NewNeighbour(message), flags)
            .await?;
        Ok(replies.map(|_| ()))
    }

    async fn dump(
        &mut self,
        what: &'static str,
        message: RouteNetlinkMessage,
    ) -> Result<Vec<RouteNetlinkMessage>, NetError> {
        let replies = self.request(message, NLM_F_DUMP).await?;
        replies.map_err(|error| NetError::Refused { what, error })
    }

    /// Sends one request and collects the replies, or the kernel's refusal.
    async fn request(
        &mut self,
        message: RouteNetlinkMessage,
        flags: u16,
    ) -> Result<Result<Vec<RouteNetlinkMessage>, Errno>, NetError> {
        let mut message = NetlinkMessage::from(message);
        message.header.flags = NLM_F_REQUEST | flags;
        let mut replies = self.handle.request(message).map_err(|_| NetError::Broken)?;

        let collect = async {
            let mut messages = Vec::new();
            while let Some(reply) = replies.next().await {
                match reply.payload {
                    NetlinkPayload::InnerMessage(message) => messages.push(message),
                    NetlinkPayload::Error(error) => {
                        return Err(Errno::from_raw(error.raw_code().abs()));
                    }
                    _ => {}
                }
            }
            Ok(messages)
        };
        timeout(ANSWER_TIMEOUT, collect)
            .await
            .map_err(|_| NetError::NoAnswer)
    }
    /// Ends the connections to the kernel, as a broken socket does.
    #[cfg(test)]
    pub(super) async fn break_down(&mut self) {
        self._connections.shutdown().await;
    }
}
