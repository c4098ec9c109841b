//! The daemon and command line of `lb`.

pub mod api;
pub mod cli;
pub mod config;
pub mod control;
pub mod daemon;
pub mod dataplane;
pub mod decapsulator;
pub mod health;
mod icmp_socket;
pub mod net;
mod schedule;
