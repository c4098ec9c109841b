//! The table: one file for each subject, one entry for each frame.

pub mod echo;
pub mod extension_headers;
pub mod find;
pub mod fragments;
pub mod icmp_errors;
pub mod l2dsr;
pub mod l3dsr;
pub mod malformed;
pub mod martians;
pub mod neighbours;
pub mod nested;
pub mod not_ours;
pub mod too_big;
pub mod truncated;
pub mod vlan;

use crate::case::Case;

/// Every case of every subject.
pub fn all() -> Vec<Case> {
    [
        echo::cases(),
        extension_headers::cases(),
        find::cases(),
        fragments::cases(),
        icmp_errors::cases(),
        l2dsr::cases(),
        l3dsr::cases(),
        malformed::cases(),
        martians::cases(),
        neighbours::cases(),
        nested::cases(),
        not_ours::cases(),
        too_big::cases(),
        truncated::cases(),
        vlan::cases(),
    ]
    .into_iter()
    .flatten()
    .collect()
}
