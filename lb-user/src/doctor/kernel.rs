//! The kernel: its version, and what it was built with or told.

use std::path::Path;

use super::{Finding, host::setting};
use crate::dataplane::{
    SteeringPrograms,
    kernel::{self, TooOld},
};

const SUBJECT: &str = "kernel";

/// What the kernel is like; what it doesn't tell is `None`.
#[derive(Clone, Debug)]
pub struct Kernel {
    release: String,
    too_old: Option<TooOld>,
    /// Links of tc programs, which checks by the data path need.
    has_tcx: bool,
    has_btf: bool,
    /// Programs are translated for the processor, not interpreted. Only the first network namespace has the setting.
    jit: Option<u8>,
    /// Against spraying: 2 slows programs of root, too (kernel: Documentation/admin-guide/sysctl/net.rst).
    jit_harden: Option<u8>,
}

impl Kernel {
    /// Asks this host.
    pub fn ask() -> Self {
        Self {
            release: setting("kernel/osrelease").unwrap_or_default(),
            too_old: kernel::require().err(),
            has_tcx: SteeringPrograms::require_kernel().is_ok(),
            has_btf: Path::new("/sys/kernel/btf/vmlinux").exists(),
            jit: setting("net/core/bpf_jit_enable"),
            jit_harden: setting("net/core/bpf_jit_harden"),
        }
    }
}

/// `steers`: there are health checks by the data path.
pub fn findings(steers: bool, kernel: &Kernel) -> Vec<Finding> {
    let mut findings = Vec::new();
    let mut add = |finding| findings.push(finding);
    match &kernel.too_old {
        Some(too_old) => add(Finding::stops(SUBJECT, too_old.to_string())),
        None if kernel.has_tcx => add(Finding::ok(SUBJECT, format!("Linux {}", kernel.release))),
        None if steers => add(Finding::stops(
            SUBJECT,
            "older than Linux 6.6, which health checks via the VIP need: use a newer one, or give the checks `via: real`",
        )),
        None => add(Finding::warning(
            SUBJECT,
            "older than Linux 6.6: health checks via the VIP are refused, those with `via: real` are not",
        )),
    }
    if !kernel.has_btf {
        add(Finding::stops(
            SUBJECT,
            "no BTF (/sys/kernel/btf/vmlinux), which programs are verified with: use a kernel with CONFIG_DEBUG_INFO_BTF",
        ));
    }
    if kernel.jit == Some(0) {
        add(Finding::warning(
            SUBJECT,
            "programs are interpreted, which is many times slower: sysctl -w net.core.bpf_jit_enable=1",
        ));
    }
    if kernel.jit_harden == Some(2) {
        add(Finding::warning(
            SUBJECT,
            "programs of root are hardened, which makes them slower: sysctl -w net.core.bpf_jit_harden=1",
        ));
    }
    findings
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;
    use crate::doctor::Severity::{self, Ok, Stops, Warning};

    const GOOD: Kernel = Kernel {
        release: String::new(),
        too_old: None,
        has_tcx: true,
        has_btf: true,
        jit: Some(1),
        jit_harden: Some(0),
    };

    #[rstest]
    #[case::good(GOOD, true, &[Ok])]
    #[case::ancient(Kernel { too_old: Some(TooOld(Vec::new())), ..GOOD }, false, &[Stops])]
    #[case::old(Kernel { has_tcx: false, ..GOOD }, false, &[Warning])]
    #[case::too_old_for_checks(Kernel { has_tcx: false, ..GOOD }, true, &[Stops])]
    #[case::without_btf(Kernel { has_btf: false, ..GOOD }, true, &[Ok, Stops])]
    #[case::without_jit(Kernel { jit: Some(0), ..GOOD }, true, &[Ok, Warning])]
    #[case::hardened(Kernel { jit_harden: Some(2), ..GOOD }, true, &[Ok, Warning])]
    #[case::in_a_namespace(Kernel { jit: None, jit_harden: None, ..GOOD }, true, &[Ok])]
    fn each_lack_of_a_kernel_is_found(
        #[case] kernel: Kernel,
        #[case] steers: bool,
        #[case] severities: &[Severity],
    ) {
        let findings = findings(steers, &kernel);
        let found: Vec<_> = findings.iter().map(|it| it.severity).collect();
        assert_eq!(found, severities, "{findings:?}");
    }
}
