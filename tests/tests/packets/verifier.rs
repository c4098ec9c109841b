//! What the program costs.

use crate::backend::{Kernel, balancer_info};

/// Bounds with room to grow: to double what it was when they were set should not happen unseen.
#[test]
fn the_program_stays_small() {
    Kernel::run_in_namespace(|kernel| {
        let info = balancer_info(kernel);
        let verified = info.verified_instruction_count().expect("Linux 5.16");
        let translated = info.size_translated().expect("root may see it");
        let jitted = info.size_jitted();
        println!(
            "{verified} instructions verified, {translated} bytes translated, {jitted} jitted"
        );
        // The kernel's own bound is a million (linux/bpf.h, BPF_COMPLEXITY_LIMIT_INSNS).
        assert!(verified < 250_000, "{verified} instructions verified");
        assert!(translated < 192 << 10, "{translated} bytes translated");
        assert!(jitted < 96 << 10, "{jitted} bytes jitted");
    });
}
