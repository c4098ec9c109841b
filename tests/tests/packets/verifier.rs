//! What the programs cost.

use rstest::rstest;

use crate::backend::{Kernel, program_info};

/// Bounds with room to grow: to double what it was when they were set should not happen unseen.
#[rstest]
#[case::shortcut("balancer", 50_000, 64 << 10, 48 << 10)]
#[case::whole_path("whole_path", 250_000, 192 << 10, 96 << 10)]
fn the_programs_stay_small(
    #[case] name: &str,
    #[case] most_verified: u32,
    #[case] most_translated: u32,
    #[case] most_jitted: u32,
) {
    Kernel::run_in_namespace(|kernel| {
        let info = program_info(kernel, name);
        let verified = info.verified_instruction_count().expect("Linux 5.16");
        let translated = info.size_translated().expect("root may see it");
        let jitted = info.size_jitted();
        println!(
            "{verified} instructions verified, {translated} bytes translated, {jitted} jitted"
        );
        // The kernel's own bound is a million (linux/bpf.h, BPF_COMPLEXITY_LIMIT_INSNS).
        assert!(verified < most_verified, "{verified} instructions verified");
        assert!(
            translated < most_translated,
            "{translated} bytes translated"
        );
        assert!(jitted < most_jitted, "{jitted} bytes jitted");
    });
}
