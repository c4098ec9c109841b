//! Everything that may be written in the file, each value with its place.
//!
//! A key that is absent or empty is `None`. A value of the wrong kind is kept as the reason why it is
//! wrong ([`Field`]), so that `validate` can report all of them; an unknown or duplicate key ends the
//! reading.

use std::collections::HashMap;
use std::net::SocketAddr;

use ipnet::{Ipv4Net, Ipv6Net};
use serde::Deserialize;
use serde_yaml::Spanned;
use strum::{Display, EnumString, VariantNames};

use super::address::HostAddress;
use super::check::{Method, Via};
use super::dns::{DnsName, RecordType};
use super::duration::{HOUR, SECOND, Within, WithinOrNone};
use super::http::{HeaderText, Host, HostName, Pattern, UrlPath};
use super::interface_name::InterfaceName;
use super::mac::MacAddress;
use super::model::{OnDown, OnUnknown, Protocol, SessionMode, XdpMode};
use super::name::Name;
use super::path::{PinPath, SocketPath};
use super::prefix::SourcePrefix;
use super::value::{Entry, Field, FromValue, NoneWord, Number, Text, Value, Word};

/// Entries of a table in the kernel.
pub type TableSize = Number<u32, 1, 65_535>;
/// Sessions or clients that are remembered.
pub type SessionCount = Number<u32, 1, 16_777_216>;
/// For how long a session or a client is remembered: 1 s to 48 h.
pub type MemoryTime = Within<SECOND, { 48 * HOUR }>;
/// A real server's share of new sessions. Weights mean something only in relation to each other,
/// and a predictor table has no room for finer shares.
pub type Weight = Number<u16, 0, 1000>;
/// A TCP or UDP port.
pub type Port = Number<u16, 1, 65_535>;
/// How many healthy servers keep a virtual server up.
pub type MinimumUp = Number<u32, 1, 65_535>;
/// How many checks in a row change a server's state.
pub type CheckCount = Number<u32, 1, 100>;

/// A mapping whose keys are names that the operator chooses.
pub type Named<T> = HashMap<Spanned<String>, T>;
/// `10.9.0.11` or `{ address: 10.9.0.11, weight: 2 }`.
pub type RealServerEntry = Spanned<Entry<HostAddress, RealServer>>;
/// `web-1` or `{ server: web-1, weight: 2 }`.
pub type BindEntry = Spanned<Entry<Name, Binding>>;
/// `{ timeout: 10m }`, or `none` where `defaults` has one.
pub type StickyEntry = Spanned<Entry<NoneWord, Sticky>>;
/// `syn` or `syn: { port: 80 }`.
pub type CheckEntry = Spanned<Entry<Word<CheckKind>, Check>>;

/// The whole file.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct File {
    pub interfaces: Option<Spanned<Vec<Spanned<Interface>>>>,
    pub pin_path: Option<Field<PinPath>>,
    pub control: Option<Control>,
    pub metrics: Option<Metrics>,
    pub limits: Option<Limits>,
    pub tunnel: Option<Tunnel>,
    pub real_servers: Option<Named<RealServerEntry>>,
    pub groups: Option<Named<Option<Vec<Field<Name>>>>>,
    /// `name`, `vip`, `port`, `bind` and `sorry` are refused here.
    pub defaults: Option<VirtualServer>,
    pub virtual_servers: Option<Vec<Spanned<VirtualServer>>>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Interface {
    pub name: Option<Field<InterfaceName>>,
    pub xdp: Option<Field<Word<XdpMode>>>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Control {
    pub socket: Option<Field<SocketPath>>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Metrics {
    pub listen: Option<Field<SocketAddr>>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Tunnel {
    pub source_v4: Option<Field<SourcePrefix<Ipv4Net>>>,
    pub source_v6: Option<Field<SourcePrefix<Ipv6Net>>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Limits {
    pub sessions: Option<Field<SessionCount>>,
    pub sessions_v6: Option<Field<SessionCount>>,
    pub sticky: Option<Field<SessionCount>>,
    pub cps_per_cpu: Option<Field<Number<u32, 1, 100_000_000>>>,
    pub virtual_servers: Option<Field<Number<u32, 1, 32_767>>>,
    pub real_servers: Option<Field<TableSize>>,
}

/// The long form; the short one is the address alone.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RealServer {
    pub address: Option<Field<HostAddress>>,
    pub weight: Option<Field<Weight>>,
    pub mac: Option<Field<MacAddress>>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct VirtualServer {
    pub name: Option<Field<Name>>,
    pub vip: Option<Field<HostAddress>>,
    pub protocol: Option<Field<Word<Protocol>>>,
    pub port: Option<Spanned<Value>>,
    pub forward: Option<Field<Word<Forward>>>,
    pub predictor: Option<Field<Word<Predictor>>>,
    pub session: Option<Session>,
    pub sticky: Option<StickyEntry>,
    pub slow_start: Option<Field<WithinOrNone<SECOND, HOUR>>>,
    pub bind: Option<Spanned<Vec<BindEntry>>>,
    pub sorry: Option<Field<Name>>,
    pub minimum_up: Option<Field<MinimumUp>>,
    pub health: Option<Health>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Display, EnumString, VariantNames)]
#[strum(serialize_all = "snake_case")]
pub enum Forward {
    L2dsr,
    L3dsr,
    Nat,
    Fullnat,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Display, EnumString, VariantNames)]
#[strum(serialize_all = "snake_case")]
pub enum Predictor {
    Hash,
    SourceHash,
    RoundRobin,
    LeastConnection,
    ResponseTime,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Session {
    pub mode: Option<Field<Word<SessionMode>>>,
    pub idle_timeout: Option<Field<MemoryTime>>,
    pub on_unknown: Option<Field<Word<OnUnknown>>>,
    pub on_down: Option<Field<Word<OnDown>>>,
    pub settle: Option<Field<Within<SECOND, HOUR>>>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Sticky {
    pub timeout: Option<Field<MemoryTime>>,
    pub prefix_v4: Option<Field<Number<u8, 1, 32>>>,
    pub prefix_v6: Option<Field<Number<u8, 1, 128>>>,
}

/// The long form; the short one is the name of a real server or a group.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Binding {
    pub server: Option<Field<Name>>,
    pub weight: Option<Field<Weight>>,
    pub drain: Option<Field<bool>>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Health {
    pub interval: Option<Field<Within<100, HOUR>>>,
    pub timeout: Option<Field<Within<10, HOUR>>>,
    pub rise: Option<Field<CheckCount>>,
    pub fall: Option<Field<CheckCount>>,
    pub checks: Option<Spanned<Vec<CheckEntry>>>,
}

/// What a check is called where it has no options.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Display, EnumString, VariantNames)]
#[strum(serialize_all = "snake_case")]
pub enum CheckKind {
    Arp,
    Icmp,
    Syn,
    Tcp,
    Http,
    Dns,
    Udp,
}

/// The long form, `kind: { options }`, with exactly one kind; the short one is a [`CheckKind`].
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Check {
    pub icmp: Option<IcmpCheck>,
    pub syn: Option<PortCheck>,
    pub tcp: Option<PortCheck>,
    pub http: Option<HttpCheck>,
    pub dns: Option<DnsCheck>,
    pub udp: Option<UdpCheck>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct IcmpCheck {
    pub size: Option<Field<Number<u16, 64, 9000>>>,
    pub via: Option<Field<Word<Via>>>,
}

/// A check that needs nothing but a port.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PortCheck {
    pub port: Option<Field<Port>>,
    pub via: Option<Field<Word<Via>>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct HttpCheck {
    pub path: Option<Field<UrlPath>>,
    pub host: Option<Field<Host>>,
    pub method: Option<Field<Word<Method>>>,
    pub headers: Option<Named<Field<HeaderText>>>,
    pub status: Option<Spanned<Value>>,
    pub body: Option<Field<Text>>,
    pub body_regex: Option<Field<Pattern>>,
    pub tls: Option<Field<bool>>,
    pub sni: Option<Field<HostName>>,
    pub verify: Option<Field<bool>>,
    pub port: Option<Field<Port>>,
    pub via: Option<Field<Word<Via>>>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DnsCheck {
    pub name: Option<Field<DnsName>>,
    #[serde(rename = "type")]
    pub record: Option<Field<RecordType>>,
    pub port: Option<Field<Port>>,
    pub via: Option<Field<Word<Via>>>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct UdpCheck {
    pub send: Option<Field<Text>>,
    pub expect: Option<Field<Text>>,
    pub port: Option<Field<Port>>,
    pub via: Option<Field<Word<Via>>>,
}

impl FromValue for SocketAddr {
    fn from_value(value: &Value) -> Result<Self, String> {
        const EXPECTED: &str = "an address and port such as 127.0.0.1:9179";
        let address = value.text(EXPECTED)?.parse().ok();
        address
            .filter(|address: &Self| address.port() != 0)
            .ok_or_else(|| value.expected(EXPECTED))
    }
}
