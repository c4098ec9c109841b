//! The real `lb`, with real clients and servers, in the network lab.
//!
//! Needs root and `target/release/lb` (or `LB_BINARY`).

mod bind;
mod check_answers;
mod check_paths;
mod checks;
mod counters;
mod decap;
mod distribution;
mod doctor;
mod drain;
mod echo;
mod forwarding;
mod fragments;
mod frames;
mod gateway;
mod health;
mod hostile;
mod icmp;
mod interfaces;
mod l3dsr;
mod lifecycle;
mod metrics;
mod mtu;
mod neighbours;
mod on_change;
mod own_traffic;
mod package;
mod pins;
mod ports;
mod predictors;
mod privileges;
mod real_servers;
mod reload;
mod return_path;
mod scale;
mod server_down;
mod session_maps;
mod sessions;
mod sessions_cli;
mod sorry;
mod sticky;
mod supervisor;
mod support;

mod trace;
mod tunnel_source;
mod unknown_sessions;
mod upgrade;
mod vlan;
