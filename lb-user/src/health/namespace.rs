//! The network namespace that checks by the data path are sent in.
//!
//! It belongs to the thread that made it and has nothing in it but, while there are such checks, one end of a pair of veth
//! devices. The other end is on the host, and programs there take what comes out to real servers, and answers back in
//! ([`crate::dataplane::steering`]). So checks are ordinary sockets, whatever routes, filters and reverse-path checks the
//! host has, and with the thread all of it goes, however the process ends.
//!
//! To make a network namespace, or to enter one, takes CAP_SYS_ADMIN (kernel: kernel/nsproxy.c, `unshare_nsproxy_namespaces`;
//! net/core/net_namespace.c, `netns_install`), which is as good as root. All else in it takes CAP_NET_ADMIN. So it is made
//! when the daemon starts, whether or not there are checks for it, and the daemon does without CAP_SYS_ADMIN from then on.

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
use nix::{
    errno::Errno,
    sched::{CloneFlags, unshare},
};
use rtnetlink::{AddressAddRequest, Handle, LinkUnspec, LinkVeth, RouteMessageBuilder};

/// The device inside.
pub const INNER: &str = "health";
/// As large as it gets: how much fits a path is looked at before anything is sent.
const MTU: u32 = 65_535;

/// Why there is no such namespace.
#[derive(Debug, thiserror::Error)]
pub enum NamespaceError {
    /// The process was started without CAP_SYS_ADMIN.
    #[error(
        "can't make a network namespace for health checks: start lb with CAP_SYS_ADMIN, too, which it gives up then, or give the checks `via: real`"
    )]
    NotAllowed,
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
    host: File,
    outside: Handle,
    inside: Handle,
}

/// The devices there.
pub(super) struct Devices {
    handle: Handle,
    inner: u32,
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
    /// No CAP_SYS_ADMIN.
    pub(super) fn enter() -> Result<Self, NamespaceError> {
        let io = |what| move |error| NamespaceError::Io { what, error };
        const HOST: &str = "open this host's network namespace";
        let host = File::open("/proc/thread-self/ns/net").map_err(io(HOST))?;
        let outside = connection().map_err(io(HOST))?;
        unshare(CloneFlags::CLONE_NEWNET).map_err(|errno| match errno {
            Errno::EPERM => NamespaceError::NotAllowed,
            errno => io("make a network namespace for health checks")(errno.into()),
        })?;
        let inside = connection().map_err(io("open a netlink socket"))?;
        settings().map_err(io("set up the network namespace of health checks"))?;
        Ok(Self {
            host,
            outside,
            inside,
        })
    }

    /// Makes the devices.
    ///
    /// # Errors
    /// No veth devices.
    pub(super) async fn connect(&self) -> Result<(Devices, OuterDevice), NamespaceError> {
        // That of a daemon which ended just now may still be there.
        let number = getrandom::u32().map_err(|error| NamespaceError::Io {
            what: "get a random number",
            error: io::Error::other(error),
        })?;
        let made = self.make_devices(format!("lb-hc{number:08x}")).await;
        made.map_err(|error| NamespaceError::Netlink {
            what: "make veth devices for health checks",
            error,
        })
    }

    async fn make_devices(&self, name: String) -> Result<(Devices, OuterDevice), rtnetlink::Error> {
        let Self {
            host,
            outside,
            inside,
        } = self;
        let pair = LinkVeth::new(INNER, &name)
            .mtu(MTU)
            .address(DEVICE_MAC.to_vec())
            .build();
        inside.link().add(pair).execute().await?;
        let inner = index(inside, INNER).await?;
        let to_the_host = LinkUnspec::new_with_index(index(inside, &name).await?)
            .mtu(MTU)
            .setns_by_fd(host.as_raw_fd())
            .build();
        inside.link().set(to_the_host).execute().await?;
        let ifindex = index(outside, &name).await?;
        let up = LinkUnspec::new_with_index(ifindex)
            .append_extra_attribute(without_link_local_address())
            .up()
            .build();
        outside.link().set(up).execute().await?;
        // Without ARP frames need no address of anybody, and without segments of several packets each is as it
        // will be on the wire.
        let up = LinkUnspec::new_with_index(inner)
            .arp(false)
            .append_extra_attribute(LinkAttribute::GsoMaxSegs(1))
            .append_extra_attribute(without_link_local_address())
            .up()
            .build();
        inside.link().set(up).execute().await?;
        let loopback = index(inside, "lo").await?;
        let up = LinkUnspec::new_with_index(loopback).up().build();
        inside.link().set(up).execute().await?;
        route_everything(inside, inner).await?;
        let devices = Devices {
            handle: inside.clone(),
            inner,
            loopback,
            addresses: BTreeSet::new(),
        };
        Ok((devices, OuterDevice { name, ifindex }))
    }
}

impl Devices {
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

    /// Leaves the namespace as empty as it was.
    ///
    /// # Errors
    /// The kernel's.
    pub(super) async fn remove(mut self) -> Result<(), NamespaceError> {
        self.use_addresses(&BTreeSet::new()).await?;
        // The other end of the pair goes with it.
        let removed = self.handle.link().del(self.inner).execute().await;
        removed.map_err(|error| NamespaceError::Netlink {
            what: "remove the veth devices of health checks",
            error,
        })
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
