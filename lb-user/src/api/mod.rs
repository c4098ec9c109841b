//! The control socket: HTTP with JSON over a Unix socket, for the commands of this binary.

pub mod client;
pub mod drop_sessions;
pub mod server;
pub mod sessions;
pub mod status;
pub mod trace;

pub use drop_sessions::DropSessions;
pub use sessions::Session;
pub use status::Status;

/// Answers with a [`Status`].
const STATUS: &str = "/v1/status";
/// Answers with a [`Session`] on each line, of those that a [`sessions::Filter`] in the query asks for.
const SESSIONS: &str = "/v1/sessions";
/// Applies the configuration file; answers with a list of what has changed.
const RELOAD: &str = "/v1/reload";
/// Drops the sessions that a [`DropSessions`] in the query names; answers with how many were active.
const DROP_SESSIONS: &str = "/v1/drop_sessions";
/// Answers, as long as the client listens, with a [`trace::Line`] on each line about the packets that a [`trace::Filter`] in the
/// query asks for.
const TRACE: &str = "/v1/trace";
/// Ends forwarding and the daemon.
const STOP: &str = "/v1/stop";
