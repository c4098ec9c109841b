//! Solicited-node multicast: makes NICs and snooping switches deliver the neighbour solicitations
//! for IPv6 VIPs, which are no addresses of this host's interfaces.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::net::Ipv6Addr;

use nix::errno::Errno;
use socket2::{Domain, Protocol, Socket, Type};
use thiserror::Error;

/// The group that neighbour solicitations for `address` are sent to (RFC 4291 section 2.7.1).
#[must_use]
pub fn solicited_node(address: Ipv6Addr) -> Ipv6Addr {
    let [.., high, low] = address.segments();
    Ipv6Addr::new(0xff02, 0, 0, 0, 0, 1, 0xff00 | high & 0xff, low)
}

/// The memberships of this host in the solicited-node groups of its VIPs; all end with this.
#[derive(Debug, Default)]
pub struct Memberships {
    /// UDP sockets that only hold memberships: as many as `net.core.optmem_max`, some thousand
    /// memberships for a socket, makes necessary.
    sockets: Vec<Socket>,
    /// The index of the socket that holds each.
    joined: BTreeMap<Membership, usize>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Membership {
    ifindex: u32,
    group: Ipv6Addr,
}

/// A group that could not be joined.
#[derive(Debug, Error)]
#[error(
    "cannot join multicast group {group} on interface {ifindex}, so IPv6 VIPs may not be found there: {source}"
)]
pub struct JoinError {
    /// The interface's index.
    pub ifindex: u32,
    /// The solicited-node group.
    pub group: Ipv6Addr,
    /// What the kernel said.
    pub source: io::Error,
}

impl Memberships {
    /// Joins and leaves so that the groups of `vips` are joined on the interfaces with these
    /// indexes, and no others. Call it again when either set changes; an interface that was created
    /// anew has a new index.
    ///
    /// Returns the groups that could not be joined (the interface is gone, or has IPv6 disabled).
    /// The next call tries them again.
    pub fn set(&mut self, ifindexes: &BTreeSet<u32>, vips: &BTreeSet<Ipv6Addr>) -> Vec<JoinError> {
        let wanted: BTreeSet<Membership> = ifindexes
            .iter()
            .flat_map(|&ifindex| vips.iter().map(move |&vip| (ifindex, solicited_node(vip))))
            .map(|(ifindex, group)| Membership { ifindex, group })
            .collect();

        self.joined.retain(|membership, &mut socket| {
            let keep = wanted.contains(membership);
            if !keep {
                // It fails if the interface is gone, and the membership with it.
                let _ =
                    self.sockets[socket].leave_multicast_v6(&membership.group, membership.ifindex);
            }
            keep
        });

        let mut failed = Vec::new();
        for membership in wanted {
            if self.joined.contains_key(&membership) {
                continue;
            }
            let Membership { ifindex, group } = membership;
            match self.join(membership) {
                Ok(socket) => {
                    self.joined.insert(membership, socket);
                }
                Err(source) => failed.push(JoinError {
                    ifindex,
                    group,
                    source,
                }),
            }
        }
        failed
    }

    /// Joins by any socket that has room; returns its index.
    fn join(&mut self, Membership { ifindex, group }: Membership) -> io::Result<usize> {
        for (index, socket) in self.sockets.iter().enumerate().rev() {
            match socket.join_multicast_v6(&group, ifindex) {
                Err(error) if error.raw_os_error() == Some(Errno::ENOMEM as i32) => {}
                result => return result.map(|()| index),
            }
        }
        let socket = Socket::new(Domain::IPV6, Type::DGRAM, Some(Protocol::UDP))?;
        socket.join_multicast_v6(&group, ifindex)?;
        self.sockets.push(socket);
        Ok(self.sockets.len() - 1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_group_ends_in_the_last_24_bits_of_the_address() {
        let group = |address: &str| solicited_node(address.parse().unwrap()).to_string();
        // The example of RFC 4291 section 2.7.1.
        assert_eq!(group("4037::1:800:200e:8c6c"), "ff02::1:ff0e:8c6c");
        assert_eq!(group("2001:db8::1"), "ff02::1:ff00:1");
        assert_eq!(group("2001:db8::ffff:ffff"), "ff02::1:ffff:ffff");
    }
}
