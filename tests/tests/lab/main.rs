//! The real `lb`, with real clients and servers, in the network lab.
//!
//! Needs root and `target/release/lb` (or `LB_BINARY`).

mod counters;
mod decap;
mod distribution;
mod forwarding;
mod frames;
mod interfaces;
mod l3dsr;
mod lifecycle;
mod neighbours;
mod own_traffic;
mod ports;
mod real_servers;
mod reload;
mod support;
mod vlan;
