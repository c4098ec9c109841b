//! The daemon and command line of `lb`.

pub mod config;
pub mod net;
