//! The number of the layout of the balancer's maps: what a new version of `lb` knows an older one's maps by.
//!
//! It changes with the size or the meaning of anything that lies in a map, but not with the number of entries. The daemon
//! brings the content of maps with a number that it knows into new ones, and refuses others.

/// The number of this layout. It is never 0, which [`crate::Control::layout`] is until the maps are filled.
///
/// Who raises it describes the former one to the daemon (`lb-user/src/dataplane/former.rs`), and writes down the new one
/// for the test below.
#[cfg(not(feature = "layout-variant"))]
pub const LAYOUT: u32 = 5;

/// That of the layout for the tests of upgrades, which no release has: longer names, and the parts of
/// [`crate::session::State`] in another order.
#[cfg(feature = "layout-variant")]
pub const LAYOUT: u32 = u32::MAX;

#[cfg(all(test, not(feature = "layout-variant")))]
mod tests;
