//! The capabilities of whoever asks, which `lb run` would have.

use caps::Capability;

use super::Finding;
use crate::privileges::{self, DAEMON, START, names};

const SUBJECT: &str = "capabilities";

/// Those that the calling thread lacks.
pub fn missing() -> Vec<Capability> {
    let needed = [&DAEMON[..], &[START]].concat();
    // The kernel always tells a thread its own.
    privileges::missing(&needed).unwrap_or(needed)
}

/// `steers`: there are health checks by the data path.
pub fn findings(steers: bool, missing: Vec<Capability>) -> Vec<Finding> {
    let (at_start, always): (Vec<_>, Vec<_>) = missing.into_iter().partition(|&it| it == START);
    let mut findings = Vec::new();
    if !always.is_empty() {
        let missing = names(&always);
        findings.push(Finding::stops(
            SUBJECT,
            format!("{missing} missing: run lb as root, or as a unit with AmbientCapabilities="),
        ));
    }
    if !at_start.is_empty() {
        let message = format!(
            "{START} missing, which lb run needs while it starts to make a place for health checks via the VIP: give it that, or give the checks `via: real`"
        );
        findings.push(match steers {
            true => Finding::stops(SUBJECT, message),
            false => Finding::warning(SUBJECT, message),
        });
    }
    if findings.is_empty() {
        findings.push(Finding::ok(SUBJECT, "all that lb run needs"));
    }
    findings
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;
    use crate::doctor::Severity::{self, Ok, Stops, Warning};

    #[rstest]
    #[case::all(&[], true, &[Ok])]
    #[case::for_checks(&[START], true, &[Stops])]
    #[case::for_checks_that_may_come(&[START], false, &[Warning])]
    #[case::one(&[Capability::CAP_BPF], false, &[Stops])]
    #[case::both(&[START, Capability::CAP_NET_RAW], false, &[Stops, Warning])]
    fn capabilities_that_are_missing_stop_what_needs_them(
        #[case] missing: &[Capability],
        #[case] steers: bool,
        #[case] severities: &[Severity],
    ) {
        let findings = findings(steers, missing.to_vec());
        let found: Vec<_> = findings.iter().map(|it| it.severity).collect();
        assert_eq!(found, severities, "{findings:?}");
        for missing in missing {
            let name = missing.to_string();
            assert!(findings.iter().any(|it| it.message.contains(&name)));
        }
    }
}
