//! The network namespace that checks by the data path are sent in.
//!
//! It belongs to the thread that made it and has nothing in it but one end of a pair of veth devices. The other end is on
//! the host, and programs there take what comes out to real servers, and answers back in
//! ([`crate::dataplane::steering`]). So checks are ordinary sockets, whatever routes, filters and reverse-path checks the
//! host has, and with the thread all of it goes, however the process ends.

use std::{
    collections::BTreeSet,
    fs::{self, File},
    io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    os::fd::AsRawFd,
    path::Path,
};

use futures::TryStreamExt;
use lb_common::health::{DEVICE_MAC, PORTS, SYN_PORTS};
use netlink_packet_route::{
    address::AddressHeaderFlags,
    link::{AfSpecInet6, AfSpecUnspec, In6AddrGenMode, LinkAttribute},
};
use nix::sched::{CloneFlags, unshare};
use rtnetlink::{AddressAddRequest, Handle, LinkUnspec, LinkVeth, RouteMessageBuilder};

/// The device inside.
pub const INNER: &str = "health";
/// As large as it gets: how much fits a path is looked at before anything is sent.
const MTU: u32 = 65_535;

/// Why there is no such namespace.
#[derive(Debug, thiserror::Error)]
pub enum NamespaceError {
    /// The kernel doesn't make one.
    #[error("can't {what}: {error}")]
    Io {
        /// To do what.
        what: &'static str,
        /// Why not.
        error: io::Error,
    },
    /// Its devices can't be set up.
    #[error("can't {what}: {error}")]
    Netlink {
        /// To do what.
        what: &'static str,
        /// Why not.
        error: rtnetlink::Error,
    },
}

/// The namespace of the calling thread, from now on.
pub(super) struct Namespace {
    handle: Handle,
    /// The loopback device has the addresses: the device to the host would lose its routes with its last one.
    loopback: u32,
    addresses: BTreeSet<IpAddr>,
}

/// The device on the host that leads there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OuterDevice {
    /// Its name.
    pub name: String,
    /// Its index.
    pub ifindex: u32,
}

impl Namespace {
    /// Takes the calling thread, whose runtime it is, into a namespace of its own.
    ///
    /// # Errors
    /// Not root; no veth devices.
    pub(super) async fn enter() -> Result<(Self, OuterDevice), NamespaceError> {
        let io = |what| move |error| NamespaceError::Io { what, error };
        let netlink = |what| move |error| NamespaceError::Netlink { what, error };
        const HOST: &str = "open this host's network namespace";
        let host = File::open("/proc/thread-self/ns/net").map_err(io(HOST))?;
        let outer = connection().map_err(io(HOST))?;
        unshare(CloneFlags::CLONE_NEWNET)
            .map_err(|errno| io("make a network namespace for health checks")(errno.into()))?;
        let inner = connection().map_err(io("open a netlink socket"))?;
        settings().map_err(io("set up the network namespace of health checks"))?;

        // That of a daemon which ended just now may still be there.
        let number = getrandom::u32().map_err(io::Error::other);
        let name = format!("lb-hc{:08x}", number.map_err(io("get a random number"))?);
        let pair = LinkVeth::new(INNER, &name)
            .mtu(MTU)
            .address(DEVICE_MAC.to_vec())
            .build();
        const DEVICES: &str = "make veth devices for health checks";
        let made = inner.link().add(pair).execute().await;
        made.map_err(netlink(DEVICES))?;
        let device = index(&inner, INNER).await.map_err(netlink(DEVICES))?;
        let other_end = index(&inner, &name).await.map_err(netlink(DEVICES))?;
        let to_the_host = LinkUnspec::new_with_index(other_end)
            .mtu(MTU)
            .setns_by_fd(host.as_raw_fd())
            .build();
        let moved = inner.link().set(to_the_host).execute().await;
        moved.map_err(netlink(DEVICES))?;
        let ifindex = index(&outer, &name).await.map_err(netlink(DEVICES))?;
        let up = LinkUnspec::new_with_index(ifindex)
            .append_extra_attribute(without_link_local_address())
            .up()
            .build();
        let up = outer.link().set(up).execute().await;
        up.map_err(netlink(DEVICES))?;
        // Without ARP frames need no address of anybody, and without segments of several packets each is as it
        // will be on the wire.
        let up = LinkUnspec::new_with_index(device)
            .arp(false)
            .append_extra_attribute(LinkAttribute::GsoMaxSegs(1))
            .append_extra_attribute(without_link_local_address())
            .up()
            .build();
        let up = inner.link().set(up).execute().await;
        up.map_err(netlink(DEVICES))?;
        let loopback = index(&inner, "lo").await.map_err(netlink(DEVICES))?;
        let up = LinkUnspec::new_with_index(loopback).up().build();
        let up = inner.link().set(up).execute().await;
        up.map_err(netlink(DEVICES))?;
        let routed = route_everything(&inner, device).await;
        routed.map_err(netlink(DEVICES))?;
        let namespace = Self {
            handle: inner,
            loopback,
            addresses: BTreeSet::new(),
        };
        Ok((namespace, OuterDevice { name, ifindex }))
    }

    /// Lets checks come from these addresses of the host, and from no others: one that the host has given up may be a
    /// VIP now.
    ///
    /// # Errors
    /// The kernel's.
    pub(super) async fn use_addresses(
        &mut self,
        addresses: &BTreeSet<IpAddr>,
    ) -> Result<(), NamespaceError> {
        let netlink = |what| move |error| NamespaceError::Netlink { what, error };
        for address in self.addresses.clone().difference(addresses) {
            let message = self.request(*address).message_mut().clone();
            let removed = self.handle.address().del(message).execute().await;
            removed.map_err(netlink("give up an address of health checks"))?;
            self.addresses.remove(address);
        }
        for &address in addresses {
            if !self.addresses.contains(&address) {
                let added = self.request(address).replace().execute().await;
                added.map_err(netlink("take an address for health checks"))?;
                self.addresses.insert(address);
            }
        }
        Ok(())
    }

    fn request(&self, address: IpAddr) -> AddressAddRequest {
        let bits = if address.is_ipv4() { 32 } else { 128 };
        let mut request = self.handle.address().add(self.loopback, address, bits);
        // It is in use elsewhere, and nobody here needs to ask.
        request.message_mut().header.flags |= AddressHeaderFlags::Nodad;
        request
    }
}

fn connection() -> io::Result<Handle> {
    let (connection, handle, _) = rtnetlink::new_connection()?;
    tokio::spawn(connection);
    Ok(handle)
}

async fn route_everything(handle: &Handle, device: u32) -> Result<(), rtnetlink::Error> {
    let v4 = RouteMessageBuilder::<Ipv4Addr>::new().output_interface(device);
    handle.route().add(v4.build()).execute().await?;
    let v6 = RouteMessageBuilder::<Ipv6Addr>::new().output_interface(device);
    // Where IPv6 is switched off its checks will say so.
    let _ = handle.route().add(v6.build()).execute().await;
    Ok(())
}

async fn index(handle: &Handle, name: &str) -> Result<u32, rtnetlink::Error> {
    let mut links = handle.link().get().match_name(name.to_owned()).execute();
    let link = links.try_next().await?;
    Ok(link.map_or(0, |link| link.header.index))
}

/// Answers come by another way than questions leave.
fn settings() -> io::Result<()> {
    let ports = format!("{} {}", PORTS.start(), SYN_PORTS.start() - 1);
    set("ipv4/ip_local_port_range", &ports)?;
    set("ipv4/conf/all/rp_filter", "0")?;
    set("ipv4/conf/default/rp_filter", "0")
}

/// So that the kernel has nothing to say there itself.
fn without_link_local_address() -> LinkAttribute {
    let none = AfSpecInet6::AddrGenMode(In6AddrGenMode::None);
    LinkAttribute::AfSpecUnspec(vec![AfSpecUnspec::Inet6(vec![none])])
}

/// The files are those of the thread's own namespace (kernel: net/sysctl_net.c, `net_ctl_header_lookup`).
fn set(setting: &str, value: &str) -> io::Result<()> {
    fs::write(Path::new("/proc/sys/net").join(setting), value)
}
