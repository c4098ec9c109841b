//! Health checks: whether real servers answer, how fast, and if they don't, why.
//!
//! `Rounds` decides when which check is sent and what has become of it (fed with the time and with answers, no I/O);
//! `icmp.rs` sends and receives. [`run()`] joins them on a thread of its own, so that nothing that the daemon
//! does counts as latency, and yields outcomes. [`States`] makes states of them: `rise` and `fall`.

mod arp;
mod check;
mod destination;
mod expected;
mod icmp;
mod namespace;
mod packet_socket;
mod raw;
mod rounds;
mod run;
mod states;
mod syn;

pub use arp::Segment;
pub use check::{Check, Failure, Outcome, Path};
pub use destination::{Route, Steering};
pub use namespace::{INNER, NamespaceError, OuterDevice};
pub use run::{Checks, Outcomes, StartError, run, run_steered};
pub use states::{State, States};
