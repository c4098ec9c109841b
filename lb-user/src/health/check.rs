//! One health check, and what comes of it.

use std::{net::IpAddr, time::Duration};

use crate::config::{CheckKind, Health};

/// A check of one real server. Virtual servers that ask for equal ones share it: it is sent once.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Check {
    /// The real server's.
    pub address: IpAddr,
    /// What is sent.
    pub kind: CheckKind,
    /// As in [`Health`].
    pub interval: Duration,
    /// As in [`Health`].
    pub timeout: Duration,
    /// As in [`Health`].
    pub rise: u32,
    /// As in [`Health`].
    pub fall: u32,
}

impl Check {
    /// All checks of the real server with this address.
    pub fn all_of(address: IpAddr, health: &Health) -> impl Iterator<Item = Self> {
        health.checks.iter().map(move |&kind| Self {
            address,
            kind,
            interval: health.interval,
            timeout: health.timeout,
            rise: health.rise,
            fall: health.fall,
        })
    }
}

/// How long the answer took, or why the check failed.
pub type Outcome = Result<Duration, Failure>;

/// Why a check failed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Failure {
    /// It was sent, and nothing came back.
    #[error("no echo reply from {address} in {timeout:?}")]
    NoReply {
        /// The real server's.
        address: IpAddr,
        /// That of the check.
        timeout: Duration,
    },
    /// This host couldn't send it.
    #[error("can't send an echo request to {address}: {reason}")]
    Unsent {
        /// The real server's.
        address: IpAddr,
        /// The kernel's reason.
        reason: String,
    },
}
