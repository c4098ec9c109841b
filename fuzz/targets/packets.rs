//! Any frames, to any balancer.
#![no_main]

use lb_fuzz::{check, scenario::Scenario};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|scenario: Scenario| check::scenario(&scenario));
