//! The kernel side: programs, links and maps, loaded, attached and pinned.

pub mod array;
pub mod attach;
mod batch;
pub mod clock;
pub mod counters;
pub mod former;
pub mod kernel;
pub mod layout;
pub mod load;
pub mod object;
pub mod pins;
pub mod sessions;
pub mod steering;
pub mod tables;
pub mod trace;

pub use array::Array;
pub use attach::{AttachError, Attachments};
pub use counters::CounterMaps;
pub use former::Former;
pub use load::LoadError;
pub use object::{Object, Program};
pub use pins::{PinError, Pins};
pub use sessions::SessionTables;
pub use steering::SteeringPrograms;
pub use tables::{Sizes, Tables};
pub use trace::TraceEvents;
