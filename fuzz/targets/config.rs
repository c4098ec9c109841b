//! Any configuration file.
#![no_main]

use lb_fuzz::configuration;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|file: &[u8]| configuration::check(file));
