//! One health check, and what comes of it.

use std::{
    fmt,
    net::{IpAddr, SocketAddr},
    sync::Arc,
    time::Duration,
};

use crate::config::{Forward, HealthCheck, Via, VirtualServer};

/// A check of one real server. Virtual servers that ask for equal ones share it: it is sent once.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Check {
    /// The real server's name.
    pub server: String,
    /// The real server's address.
    pub address: IpAddr,
    /// Which way it goes; `None`: straight to the real server's address.
    pub path: Option<Path>,
    /// What is sent.
    pub what: HealthCheck,
    /// As in [`crate::config::Health`].
    pub interval: Duration,
    /// As in [`crate::config::Health`].
    pub timeout: Duration,
    /// As in [`crate::config::Health`].
    pub rise: u32,
    /// As in [`crate::config::Health`].
    pub fall: u32,
}

/// The way of a client's packets to a real server.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Path {
    /// What they are sent to.
    pub vip: IpAddr,
    /// How they are forwarded.
    pub forward: Forward,
}

impl Check {
    /// All checks of a real server of a virtual server.
    pub fn all_of(
        server: &str,
        address: IpAddr,
        virtual_server: &VirtualServer,
    ) -> impl Iterator<Item = Arc<Self>> {
        let health = &virtual_server.health;
        health.checks.iter().map(move |what| {
            let path = Path {
                vip: virtual_server.vip,
                forward: virtual_server.forward,
            };
            Arc::new(Self {
                server: server.to_owned(),
                address,
                path: (what.via() == Some(Via::Vip)).then_some(path),
                what: what.clone(),
                interval: health.interval,
                timeout: health.timeout,
                rise: health.rise,
                fall: health.fall,
            })
        })
    }

    /// The address that it is sent to.
    pub fn destination(&self) -> IpAddr {
        self.path.map_or(self.address, |path| path.vip)
    }

    /// Where it is sent, as a person would say it.
    pub const fn target(&self) -> impl fmt::Display {
        Target(self)
    }

    /// What a person would say of a failure.
    pub fn explain(&self, failure: &Failure) -> String {
        let target = self.target();
        match failure {
            Failure::Silence(answer) => {
                format!("no {answer} from {target} in {:?}", self.timeout)
            }
            Failure::Refused => format!("connection refused by {target}"),
            Failure::Unreachable(reason) => format!("{target} is unreachable: {reason}"),
            Failure::Answer(answer) => format!("{answer} from {target}"),
            Failure::Impossible(reason) => format!("can't check {target}: {reason}"),
            Failure::Unsent(reason) => format!("can't send to {target}: {reason}"),
        }
    }
}

/// Where a check is sent, as a person would say it.
struct Target<'a>(&'a Check);

impl fmt::Display for Target<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let check = self.0;
        match check.what.port() {
            Some(port) => SocketAddr::new(check.destination(), port).fmt(f)?,
            None => check.destination().fmt(f)?,
        }
        match check.path {
            Some(_) => write!(f, " through {}", check.server),
            None => Ok(()),
        }
    }
}

/// How long the answer took, if that is known, or why the check failed.
pub type Outcome = Result<Option<Duration>, Failure>;

/// Why a check failed. [`Check::explain`] says it in words.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Failure {
    /// It was sent, and this did not come in time: `SYN-ACK`, `echo reply`.
    Silence(&'static str),
    /// The connection was refused, by a TCP RST.
    Refused,
    /// An ICMP error came, or the host's own network says so: `port unreachable (from 10.9.0.11)`.
    Unreachable(String),
    /// The wrong answer came: `status 503 (expected 200-399)`.
    Answer(String),
    /// It can't pass, for this reason, until somebody changes the configuration or the network.
    Impossible(String),
    /// This host couldn't send it for want of something: sockets, ports, memory. That tells nothing of the real server.
    Unsent(String),
}
