//! The control socket: HTTP with JSON over a Unix socket, for the commands of this binary.

pub mod client;
pub mod server;
pub mod status;

pub use status::Status;

/// Answers with a [`Status`].
const STATUS: &str = "/v1/status";
/// Ends forwarding and the daemon.
const STOP: &str = "/v1/stop";
