//! What the configuration accepts and means, and what it says about a file that is wrong.

mod errors;
mod examples;
mod model;
mod robustness;
