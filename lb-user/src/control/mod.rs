//! From the configuration and the state of the network to the contents of the maps.

pub mod allocator;
pub mod chain;
pub mod desired;
pub mod directory;
pub mod drop_sessions;
pub mod handover;
pub mod maglev;
pub mod on_change;
pub mod predictor_table;
pub mod reconcile;
pub mod response_time;
pub mod round_robin;
pub mod slow_start;
pub mod sweep;
pub mod transplant;

pub use desired::{Desired, State};
pub use reconcile::{Platform, PlatformError, ReconcileError, Reconciler};

/// What configured weights (0 to 1000) are multiplied by where parts of them are to be told apart. The product
/// fits `u16`.
pub const WEIGHT_SCALE: u16 = 64;
