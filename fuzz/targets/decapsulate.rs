//! Any frame, to a real server that decapsulates.
#![no_main]

use lb_fuzz::{check, decapsulator::Decapsulator};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|frame: &[u8]| {
    for allows_part in [false, true] {
        let (fate, output) = Decapsulator { allows_part }.run(frame);
        check::decapsulated(frame, fate, &output);
    }
});
