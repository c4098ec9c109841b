//! Any balancer, and anything that happens to it.
//!
//! A [`Scenario`](scenario::Scenario) is made of any bytes: virtual servers, and frames that come while real servers go down,
//! come back and drain, and time goes by. [`check`] says what must hold whatever the bytes are: that is what libFuzzer
//! tries to disprove (`targets/`). The packet tests run scenarios through the programs in the kernel, and compare.

pub mod check;
pub mod configuration;
pub mod control_socket;
pub mod decapsulator;
pub mod memory;
pub mod network;
pub mod oracle;
pub mod packet;
pub mod scenario;
pub mod steering;
