//! What strangers send to do harm.

mod relay;
