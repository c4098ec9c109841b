//! What a process of `lb` may do: the capabilities that it needs (capabilities(7)), and giving up all others.

use caps::{CapSet, Capability, errors::CapsError};
use nix::{errno::Errno, sys::prctl};

/// What loads and attaches programs: maps and programs (bpf(2)), a verifier that trusts pointers and adds no barriers
/// against speculation, and links of interfaces.
pub const PROGRAMS: [Capability; 3] = [
    Capability::CAP_BPF,
    Capability::CAP_PERFMON,
    Capability::CAP_NET_ADMIN,
];

/// What the daemon has as long as it runs: [`PROGRAMS`], and raw and packet sockets for health checks.
pub const DAEMON: [Capability; 4] = [
    Capability::CAP_BPF,
    Capability::CAP_PERFMON,
    Capability::CAP_NET_ADMIN,
    Capability::CAP_NET_RAW,
];

/// What a process has while it starts, if it was started with it: to mount the BPF file system and to make the network
/// namespace of health checks.
pub const START: Capability = Capability::CAP_SYS_ADMIN;

/// Gives up others for good.
const LIMIT_OTHERS: Capability = Capability::CAP_SETPCAP;

/// Why a process can't go on with the capabilities that it has.
#[derive(Debug, thiserror::Error)]
pub enum PrivilegeError {
    /// It has too few.
    #[error(
        "{command} needs {missing}: run it as root, or give it what it lacks (AmbientCapabilities= in a unit of systemd)"
    )]
    Missing {
        /// What was started.
        command: &'static str,
        /// The capabilities that it lacks.
        missing: String,
    },
    /// It can't give up others.
    #[error("can't give up capabilities: {0}")]
    Capabilities(#[from] CapsError),
    /// It can't renounce those of programs that it might execute.
    #[error("can't set no_new_privs: {0}")]
    NoNewPrivileges(Errno),
}

/// Which of these the calling thread lacks.
///
/// # Errors
/// The kernel's.
pub fn missing(needed: &[Capability]) -> Result<Vec<Capability>, CapsError> {
    let has = caps::read(None, CapSet::Effective)?;
    let needed = needed.iter().copied();
    Ok(needed.filter(|it| !has.contains(it)).collect())
}

/// Their names, in a row.
pub fn names(capabilities: &[Capability]) -> String {
    let names = capabilities.iter().map(Capability::to_string);
    names.collect::<Vec<_>>().join(", ")
}

/// Makes sure that the calling thread has these.
///
/// # Errors
/// [`PrivilegeError::Missing`].
pub fn require(command: &'static str, needed: &[Capability]) -> Result<(), PrivilegeError> {
    let missing = missing(needed)?;
    if missing.is_empty() {
        return Ok(());
    }
    Err(PrivilegeError::Missing {
        command,
        missing: names(&missing),
    })
}

/// As [`keep_only`], and what is needed to start.
///
/// # Errors
/// As there.
pub fn keep_for_start(kept: &[Capability]) -> Result<(), PrivilegeError> {
    keep_only(&[kept, &[START, LIMIT_OTHERS]].concat())
}

/// The calling thread, and each that it makes from now on, has no other capabilities than those of these that it has now,
/// and gets none by executing a program. So it is subject to the permissions of files, as root, too.
///
/// # Errors
/// The kernel's.
pub fn keep_only(kept: &[Capability]) -> Result<(), PrivilegeError> {
    if missing(&[LIMIT_OTHERS])?.is_empty() {
        for other in caps::read(None, CapSet::Bounding)? {
            if !kept.contains(&other) {
                caps::drop(None, CapSet::Bounding, other)?;
            }
        }
    }
    let mut left = caps::read(None, CapSet::Permitted)?;
    left.retain(|capability| kept.contains(capability));
    // Each set is a part of those that follow.
    caps::clear(None, CapSet::Ambient)?;
    caps::set(None, CapSet::Effective, &left)?;
    caps::set(None, CapSet::Permitted, &left)?;
    caps::clear(None, CapSet::Inheritable)?;
    prctl::set_no_new_privs().map_err(PrivilegeError::NoNewPrivileges)
}

#[cfg(test)]
mod tests {
    use std::{fs, thread};

    use super::*;

    /// Of the calling thread, as the kernel shows it.
    fn status(key: &str) -> String {
        let status = fs::read_to_string("/proc/thread-self/status").unwrap();
        let mut lines = status.lines();
        let line = lines.find_map(|line| line.strip_prefix(key)).unwrap();
        line.trim_start_matches(':').trim().to_owned()
    }

    #[test]
    fn a_thread_that_gave_up_capabilities_has_none_and_neither_have_those_that_it_makes() {
        let thread = thread::spawn(|| {
            keep_only(&[]).unwrap();
            let of_a_child = || ["CapInh", "CapPrm", "CapEff", "CapAmb"].map(status);
            let sets = thread::spawn(of_a_child).join().unwrap();
            assert!(sets.iter().all(|set| set == "0000000000000000"), "{sets:?}");
            assert_eq!(status("NoNewPrivs"), "1");
            let error = require("lb run", &DAEMON).unwrap_err().to_string();
            let needs =
                "lb run needs CAP_BPF, CAP_PERFMON, CAP_NET_ADMIN, CAP_NET_RAW: run it as root";
            assert!(error.starts_with(needs), "{error}");
        });
        thread.join().unwrap();
    }
}
