//! Removing labs: one that ends, and those that a killed run left behind.

use std::{
    collections::BTreeSet,
    fs,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
    thread::sleep,
    time::Duration,
};

use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};

use crate::namespace::{self, ip_batch};

/// Labs of tests are named after their process: `lb-test-PID-NUMBER`.
pub(crate) const TEST_PREFIX: &str = "lb-test-";

/// The directory that holds a lab's files.
pub(crate) fn directory(lab: &str) -> PathBuf {
    Path::new("/run").join(lab)
}

/// The pins of a lab's balancer.
pub(crate) fn pin_path(lab: &str) -> PathBuf {
    Path::new("/sys/fs/bpf").join(lab)
}

/// The pins of `lb decap` on a lab's hosts.
pub(crate) fn decap_pin_path(lab: &str) -> PathBuf {
    Path::new("/sys/fs/bpf").join(format!("{lab}-decap"))
}

/// Removes a lab: the processes inside its namespaces, the namespaces, its pins and its files. What is
/// not there is not missed.
pub fn remove(lab: &str) {
    let namespaces: Vec<String> = entries(namespace::DIRECTORY)
        .filter(|name| name.starts_with(&format!("{lab}-")))
        .collect();
    kill_processes_in(&namespaces);
    if !namespaces.is_empty() {
        let deletions = namespaces.iter().map(|name| format!("netns del {name}"));
        if let Err(error) = ip_batch(None, deletions) {
            eprintln!("lab {lab}: {error}");
        }
    }
    let _ = fs::remove_dir_all(pin_path(lab));
    let _ = fs::remove_dir_all(decap_pin_path(lab));
    let _ = fs::remove_dir_all(directory(lab));
}

/// Removes the labs of test processes that are no longer alive.
pub fn remove_dead_labs() {
    let dead = |name: &String| {
        let pid = name.strip_prefix(TEST_PREFIX)?.split('-').next()?;
        let lab: Vec<&str> = name.splitn(5, '-').take(4).collect();
        (!Path::new("/proc").join(pid).exists()).then(|| lab.join("-"))
    };
    let labs: BTreeSet<String> = [namespace::DIRECTORY, "/run", "/sys/fs/bpf"]
        .into_iter()
        .flat_map(entries)
        .filter_map(|name| dead(&name))
        .collect();
    labs.iter().for_each(|lab| remove(lab));
}

/// Kills every process inside the namespaces, and waits until they are gone.
fn kill_processes_in(namespaces: &[String]) {
    let inodes: BTreeSet<u64> = namespaces
        .iter()
        .filter_map(|name| fs::metadata(Path::new(namespace::DIRECTORY).join(name)).ok())
        .map(|metadata| metadata.ino())
        .collect();
    let inside = |pid: &i32| {
        fs::metadata(format!("/proc/{pid}/ns/net")).is_ok_and(|net| inodes.contains(&net.ino()))
    };
    for _ in 0..100 {
        let pids: Vec<i32> = entries("/proc")
            .filter_map(|pid| pid.parse().ok())
            .filter(inside)
            .collect();
        if pids.is_empty() {
            return;
        }
        for pid in pids {
            // It may have ended in between.
            let _ = kill(Pid::from_raw(pid), Signal::SIGKILL);
        }
        sleep(Duration::from_millis(10));
    }
}

/// The names in a directory; none if it is not there.
fn entries(directory: impl AsRef<Path>) -> impl Iterator<Item = String> {
    let entries = fs::read_dir(directory).into_iter().flatten().flatten();
    entries.filter_map(|entry| entry.file_name().into_string().ok())
}
