//! Health checks: whether real servers answer, how fast, and if they don't, why.
//!
//! `Rounds` decides when which check is sent (fed with the time, no I/O); the file named after a check sends it and
//! waits for the answer. [`run()`] joins them on a thread of its own, so that nothing that the daemon does counts as
//! latency, and yields outcomes. [`States`] makes states of them: `rise` and `fall`.

mod body;
mod check;
mod destination;
mod dns;
mod expected;
mod http;
mod icmp;
mod rounds;
mod run;
mod socket_error;
mod states;
mod tcp;
#[cfg(test)]
mod test_servers;
mod tls;
mod udp;

pub use check::{Check, Failure, Outcome, Path};
pub use run::run;
pub use states::{State, States};
