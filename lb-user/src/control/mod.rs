//! From the configuration and the state of the network to the contents of the maps.

pub mod allocator;
pub mod desired;
pub mod directory;
pub mod maglev;
pub mod reconcile;

pub use desired::{Desired, State};
pub use reconcile::{Platform, PlatformError, ReconcileError, Reconciler};
