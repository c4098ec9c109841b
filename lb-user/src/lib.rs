//! The daemon and command line of `lb`.

pub mod api;
pub mod cli;
pub mod config;
pub mod control;
pub mod daemon;
pub mod dataplane;
pub mod decapsulator;
pub mod doctor;
pub mod health;
pub mod metrics;
pub mod net;
pub mod privileges;
mod raw_socket;
mod schedule;
