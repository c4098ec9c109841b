//! What the kernel tells of a network device: offloads and queues (ethtool), and what its driver can do with XDP (the generic
//! netlink family `netdev`, since Linux 6.3; kernel: Documentation/netlink/specs/netdev.yaml).

use std::{io, thread};

use ethtool::{EthtoolAttr, EthtoolChannelAttr, EthtoolFeatureAttr, EthtoolHandle};
use futures::{StreamExt, TryStreamExt};
use genetlink::GenetlinkHandle;
use netlink_packet_core::{
    DecodeError, DefaultNla, Emitable, NLM_F_REQUEST, NetlinkMessage, NetlinkPayload, Nla,
    NlasIterator, Parseable, ParseableParametrized,
};
use netlink_packet_generic::{GenlFamily, GenlHeader, GenlMessage};

use crate::net::{Interface, View};

/// A device; what it doesn't tell is `None` or off.
#[derive(Clone, Debug)]
pub struct Device {
    /// What rtnetlink tells.
    pub interface: Interface,
    /// The names of the features that are on, as `ethtool -k` shows them in the kernel's words.
    pub features: Vec<String>,
    /// Queues that packets are received by.
    pub rx_queues: Option<u32>,
    /// CPUs that could serve one.
    pub cpus: u32,
    /// What the driver can do with XDP.
    pub xdp: Option<XdpFeatures>,
    /// Whether there are VLAN devices on this host.
    pub has_vlans: bool,
}

/// What a driver can do with XDP.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct XdpFeatures(u64);

impl XdpFeatures {
    const BASIC: u64 = 1;
    const REDIRECT: u64 = 1 << 1;
    const BUFFERS: u64 = 1 << 5;

    /// Native mode.
    pub const fn is_native(self) -> bool {
        self.0 & Self::BASIC != 0
    }

    /// Send packets that came in by the device to another one.
    pub const fn redirects(self) -> bool {
        self.0 & Self::REDIRECT != 0
    }

    /// Receive packets that don't fit one buffer.
    pub const fn takes_several_buffers(self) -> bool {
        self.0 & Self::BUFFERS != 0
    }
}

/// A connection to the kernel, which lasts as long as its handle.
///
/// # Errors
/// No sockets are left.
pub fn connect() -> io::Result<EthtoolHandle> {
    let (connection, kernel, _) = ethtool::new_connection()?;
    tokio::spawn(connection);
    Ok(kernel)
}

impl Device {
    /// Asks the kernel, in the network namespace of that connection; `None` if there is no such device.
    pub async fn ask(kernel: &mut EthtoolHandle, name: &str, network: &View) -> Option<Self> {
        let interface = network.interfaces.get(name)?.clone();
        let is_vlan = |it: &Interface| it.kind.as_deref() == Some("vlan");
        Some(Self {
            features: features(kernel, name).await.unwrap_or_default(),
            rx_queues: rx_queues(kernel, name).await,
            cpus: thread::available_parallelism().map_or(1, |cpus| cpus.get() as u32),
            xdp: xdp(&mut kernel.handle, interface.ifindex).await,
            has_vlans: network.interfaces.values().any(is_vlan),
            interface,
        })
    }

    /// Whether a feature is on.
    pub fn has(&self, feature: &str) -> bool {
        self.features.iter().any(|it| it == feature)
    }
}

async fn features(kernel: &mut EthtoolHandle, name: &str) -> Option<Vec<String>> {
    let replies = kernel.feature().get(Some(name)).execute().await.ok()?;
    let replies: Vec<_> = replies.try_collect().await.ok()?;
    let attributes = replies.into_iter().flat_map(|reply| reply.payload.nlas);
    let active = attributes.filter_map(|attribute| match attribute {
        EthtoolAttr::Feature(EthtoolFeatureAttr::Active(bits)) => Some(bits),
        _ => None,
    });
    let on = active.flatten().filter(|bit| bit.value);
    Some(on.map(|bit| bit.name).collect())
}

/// Of their own and those that are for both directions.
async fn rx_queues(kernel: &mut EthtoolHandle, name: &str) -> Option<u32> {
    let replies = kernel.channel().get(Some(name)).execute().await.ok()?;
    let replies: Vec<_> = replies.try_collect().await.ok()?;
    let attributes = replies.into_iter().flat_map(|reply| reply.payload.nlas);
    let queues = attributes.map(|attribute| match attribute {
        EthtoolAttr::Channel(
            EthtoolChannelAttr::RxCount(count) | EthtoolChannelAttr::CombinedCount(count),
        ) => count,
        _ => 0,
    });
    Some(queues.sum()).filter(|&queues| queues > 0)
}

async fn xdp(kernel: &mut GenetlinkHandle, ifindex: u32) -> Option<XdpFeatures> {
    let question = NetDevice(vec![DefaultNla::new(
        NetDevice::IFINDEX,
        ifindex.to_ne_bytes().to_vec(),
    )]);
    let mut message = NetlinkMessage::from(GenlMessage::from_payload(question));
    message.header.flags = NLM_F_REQUEST;
    let mut replies = kernel.request(message).await.ok()?;
    while let Some(Ok(reply)) = replies.next().await {
        if let NetlinkPayload::InnerMessage(reply) = reply.payload {
            return reply.payload.xdp_features();
        }
    }
    None
}

/// `NETDEV_CMD_DEV_GET` and the answer to it: attributes.
#[derive(Clone, Debug)]
struct NetDevice(Vec<DefaultNla>);

impl NetDevice {
    const GET: u8 = 1;
    const IFINDEX: u16 = 1;
    const XDP_FEATURES: u16 = 3;

    fn xdp_features(&self) -> Option<XdpFeatures> {
        let mut attributes = self.0.iter();
        let features = attributes.find(|it| it.kind() == Self::XDP_FEATURES)?;
        let mut value = [0; 8];
        if features.value_len() != value.len() {
            return None;
        }
        features.emit_value(&mut value);
        Some(XdpFeatures(u64::from_ne_bytes(value)))
    }
}

impl GenlFamily for NetDevice {
    fn family_name() -> &'static str {
        "netdev"
    }

    fn command(&self) -> u8 {
        Self::GET
    }

    fn version(&self) -> u8 {
        1
    }
}

impl Emitable for NetDevice {
    fn emit(&self, buffer: &mut [u8]) {
        self.0.as_slice().emit(buffer);
    }

    fn buffer_len(&self) -> usize {
        self.0.as_slice().buffer_len()
    }
}

impl ParseableParametrized<[u8], GenlHeader> for NetDevice {
    fn parse_with_param(bytes: &[u8], _: GenlHeader) -> Result<Self, DecodeError> {
        let attributes = NlasIterator::new(bytes).map(|it| DefaultNla::parse(&it?));
        Ok(Self(attributes.collect::<Result<_, _>>()?))
    }
}

#[cfg(test)]
pub mod tests {
    use super::*;

    /// A device that is as it should be.
    pub fn good() -> Device {
        Device {
            interface: Interface {
                ifindex: 2,
                mac: Some([2; 6]),
                mtu: 1500,
                up: true,
                kind: None,
                xdp: None,
            },
            features: Vec::new(),
            rx_queues: Some(4),
            cpus: 4,
            xdp: Some(XdpFeatures(0x7f)),
            has_vlans: false,
        }
    }

    /// A driver without native mode, and one that has nothing but that.
    pub const NO_XDP: XdpFeatures = XdpFeatures(0);
    pub const BASIC_XDP: XdpFeatures = XdpFeatures(XdpFeatures::BASIC);

    #[tokio::test]
    async fn the_loopback_device_tells_its_features_and_has_no_native_mode() {
        let mut good = good();
        good.interface.ifindex = nix::net::if_::if_nametoindex("lo").unwrap();
        let mut network = View::default();
        network.interfaces.insert("lo".to_owned(), good.interface);
        let mut kernel = connect().unwrap();
        let lo = Device::ask(&mut kernel, "lo", &network).await.unwrap();
        assert!(lo.has("loopback") && !lo.has("rx-lro"), "{lo:?}");
        assert!(lo.xdp.is_some_and(|xdp| !xdp.is_native()), "{lo:?}");
        assert!(Device::ask(&mut kernel, "eth9", &network).await.is_none());
    }
}
