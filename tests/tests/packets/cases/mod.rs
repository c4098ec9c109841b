//! The table: one file for each subject, one entry for each frame.

pub mod extension_headers;
pub mod find;
pub mod fragments;
pub mod icmp;
pub mod l2dsr;
pub mod malformed;
pub mod martians;
pub mod neighbours;
pub mod not_ours;
pub mod not_yet;
pub mod truncated;
pub mod vlan;

use crate::case::Case;

/// Every case of every subject.
pub fn all() -> Vec<Case> {
    [
        extension_headers::cases(),
        find::cases(),
        fragments::cases(),
        icmp::cases(),
        l2dsr::cases(),
        malformed::cases(),
        martians::cases(),
        neighbours::cases(),
        not_ours::cases(),
        truncated::cases(),
        vlan::cases(),
    ]
    .into_iter()
    .flatten()
    .collect()
}
