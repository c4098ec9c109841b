//! Any frame, to the steering of health checks: the first four bytes are its mark.
#![no_main]

use lb_fuzz::steering;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    if let Some((mark, frame)) = bytes.split_first_chunk() {
        steering::check(u32::from_le_bytes(*mark), frame);
    }
});
