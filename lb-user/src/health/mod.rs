//! Health checks: whether real servers answer, how fast, and if they don't, why.
//!
//! `Rounds` decides when which check is sent (fed with the time, no I/O); the file named after a check sends it and
//! waits for the answer. [`run()`] joins them on a thread of its own, so that nothing that the daemon does counts as
//! latency, and yields outcomes. [`States`] makes states of them: `rise` and `fall`.

mod arp;
mod body;
mod check;
mod destination;
mod dns;
mod expected;
mod http;
mod icmp;
mod namespace;
mod packet_socket;
mod raw;
mod rounds;
mod run;
mod socket_error;
mod states;
mod syn;
mod tcp;
#[cfg(test)]
mod test_servers;
mod tls;
mod udp;

pub use arp::Segment;
pub use check::{Check, Failure, Outcome, Path};
pub use destination::{Route, Steering};
pub use namespace::{INNER, NamespaceError, OuterDevice};
pub use run::{Checks, Outcomes, StartError, SteeredThread, run};
pub use states::{NOT_CHECKED, State, States};
