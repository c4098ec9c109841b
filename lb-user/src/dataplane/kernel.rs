//! What the programs need of the kernel.

use std::fmt;

use aya::{
    programs::ProgramType,
    sys::{BpfHelper, is_helper_supported},
};

/// Something that the programs need, and not all kernels have.
#[derive(Clone, Copy, Debug)]
pub struct Feature {
    name: &'static str,
    /// The version of Linux that it came with. Distributions add features to older ones: so the kernel itself is asked.
    since: &'static str,
    /// A helper that came with it, for programs of XDP.
    helper: BpfHelper,
}

impl Feature {
    /// The oldest Linux that has all.
    const ALL_SINCE: &str = "5.18";

    const ALL: [Self; 2] = [
        Self {
            name: "bpf_loop",
            since: "5.17",
            helper: BpfHelper::BPF_FUNC_loop,
        },
        Self {
            name: "XDP for packets in several buffers",
            since: Self::ALL_SINCE,
            helper: BpfHelper::BPF_FUNC_xdp_load_bytes,
        },
    ];

    /// Whether this kernel lacks it. If it doesn't say it has it: to load a program tells more.
    fn is_missing(&self) -> bool {
        matches!(
            is_helper_supported(ProgramType::Xdp, self.helper),
            Ok(false)
        )
    }
}

/// This kernel lacks something: at least one feature.
#[derive(Clone, Debug, thiserror::Error)]
pub struct TooOld(pub Vec<Feature>);

impl fmt::Display for TooOld {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("this kernel is too old for lb: it has ")?;
        for (index, Feature { name, since, .. }) in self.0.iter().enumerate() {
            let separator = if index == 0 { "" } else { ", " };
            write!(f, "{separator}no {name} (Linux {since})")?;
        }
        write!(f, "; use Linux {} or later", Feature::ALL_SINCE)
    }
}

/// Makes sure that the programs can be loaded, before anything is changed.
///
/// # Errors
/// [`TooOld`].
pub fn require() -> Result<(), TooOld> {
    let all = Feature::ALL.into_iter();
    let missing: Vec<_> = all.filter(Feature::is_missing).collect();
    if missing.is_empty() {
        return Ok(());
    }
    Err(TooOld(missing))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_kernel_that_is_too_old_is_told_what_it_lacks() {
        assert_eq!(
            TooOld(Feature::ALL.to_vec()).to_string(),
            "this kernel is too old for lb: it has no bpf_loop (Linux 5.17), \
             no XDP for packets in several buffers (Linux 5.18); use Linux 5.18 or later"
        );
    }
}
