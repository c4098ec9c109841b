//! What a health check sends, and which answer passes.

use std::fmt;

use serde::Serialize;
use strum::{Display, EnumString, VariantNames};

/// A health check, with defaults applied.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum HealthCheck {
    /// The real server, or the machine that has its address, answers ARP (RFC 826) or neighbour solicitations (RFC
    /// 4861), and one machine alone.
    Arp,
    /// An ICMP echo request is answered (RFC 792, RFC 4443).
    Icmp(IcmpCheck),
    /// A TCP SYN is answered by a SYN-ACK. The connection is reset before it is established.
    Syn(PortCheck),
    /// A TCP connection is established.
    Tcp(PortCheck),
    /// An HTTP/1.1 request has the wanted response.
    Http(HttpCheck),
    /// A DNS query over UDP has an answer without an error.
    Dns(DnsCheck),
    /// A UDP datagram is answered.
    Udp(UdpCheck),
}

impl HealthCheck {
    /// Where it is sent; `None` if it isn't about an address of its own choice ([`Self::Arp`]).
    pub const fn via(&self) -> Option<Via> {
        match self {
            Self::Arp => None,
            Self::Icmp(IcmpCheck { via, .. })
            | Self::Syn(PortCheck { via, .. })
            | Self::Tcp(PortCheck { via, .. })
            | Self::Http(HttpCheck { via, .. })
            | Self::Dns(DnsCheck { via, .. })
            | Self::Udp(UdpCheck { via, .. }) => Some(*via),
        }
    }

    /// The port that it is sent to, if it is sent to one.
    pub const fn port(&self) -> Option<u16> {
        match self {
            Self::Arp | Self::Icmp(_) => None,
            Self::Syn(PortCheck { port, .. })
            | Self::Tcp(PortCheck { port, .. })
            | Self::Http(HttpCheck { port, .. })
            | Self::Dns(DnsCheck { port, .. })
            | Self::Udp(UdpCheck { port, .. }) => Some(*port),
        }
    }
}

/// Its kind, as the configuration calls it.
impl fmt::Display for HealthCheck {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Arp => "arp",
            Self::Icmp(_) => "icmp",
            Self::Syn(_) => "syn",
            Self::Tcp(_) => "tcp",
            Self::Http(_) => "http",
            Self::Dns(_) => "dns",
            Self::Udp(_) => "udp",
        })
    }
}

/// Where a check is sent.
#[derive(
    Debug,
    Default,
    Clone,
    Copy,
    PartialEq,
    Eq,
    PartialOrd,
    Ord,
    Hash,
    Serialize,
    Display,
    EnumString,
    VariantNames,
)]
#[serde(rename_all = "snake_case")]
#[strum(serialize_all = "snake_case")]
pub enum Via {
    /// To the VIP, by the real server's own L2 or L3 DSR path.
    #[default]
    Vip,
    /// To the real server's own address.
    Real,
}

/// See [`HealthCheck::Icmp`].
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
pub struct IcmpCheck {
    /// Where it is sent.
    pub via: Via,
    /// Bytes of the request's IP packet, which must not be fragmented; 64 to 9000. `None`: as few as it takes.
    pub size: Option<u16>,
}

/// A check that needs nothing but a port.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
pub struct PortCheck {
    /// Where it is sent.
    pub via: Via,
    /// The port there.
    pub port: u16,
}

/// See [`HealthCheck::Http`].
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
pub struct HttpCheck {
    /// Where it is sent.
    pub via: Via,
    /// The port there.
    pub port: u16,
    /// `None`: HTTP without TLS.
    pub tls: Option<Tls>,
    /// The method of the request.
    pub method: Method,
    /// Path and query.
    pub path: String,
    /// The header `Host`. `None`: the address, and the port if it isn't that of the scheme.
    pub host: Option<String>,
    /// More headers: names and values.
    pub headers: Vec<(String, String)>,
    /// First and last of the status codes that pass; at least one range.
    pub status: Vec<(u16, u16)>,
    /// What the body, or its first [`HttpCheck::BODY_LIMIT`] bytes, must have.
    pub body: Option<Body>,
}

impl HttpCheck {
    /// Bytes of a body that are looked at.
    pub const BODY_LIMIT: usize = 1 << 16;
}

/// HTTP over TLS.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
pub struct Tls {
    /// The name that is asked for (RFC 6066 section 3) and that the certificate must be for. `None`: that of
    /// [`HttpCheck::host`], if it is a name, else none.
    pub server_name: Option<String>,
    /// Whether the certificate must be valid: for the name, now, and by one of the authorities that this host trusts.
    pub verify: bool,
}

/// An HTTP method.
#[derive(
    Debug,
    Default,
    Clone,
    Copy,
    PartialEq,
    Eq,
    PartialOrd,
    Ord,
    Hash,
    Serialize,
    Display,
    EnumString,
    VariantNames,
)]
pub enum Method {
    /// GET.
    #[default]
    #[serde(rename = "GET")]
    #[strum(serialize = "GET", serialize = "get")]
    Get,
    /// HEAD: there is no body.
    #[serde(rename = "HEAD")]
    #[strum(serialize = "HEAD", serialize = "head")]
    Head,
}

/// What a body must have.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Body {
    /// This text somewhere.
    Contains(String),
    /// A match of this regular expression, which is a right one.
    Matches(String),
}

/// See [`HealthCheck::Dns`].
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
pub struct DnsCheck {
    /// Where it is sent.
    pub via: Via,
    /// The port there.
    pub port: u16,
    /// The name asked for; a right one.
    pub name: String,
    /// The type of the record asked for, such as `A`; one that DNS knows.
    pub record: String,
}

/// See [`HealthCheck::Udp`].
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
pub struct UdpCheck {
    /// Where it is sent.
    pub via: Via,
    /// The port there.
    pub port: u16,
    /// The payload.
    pub send: String,
    /// What the answer must have somewhere. `None`: any answer passes.
    pub expect: Option<String>,
}
