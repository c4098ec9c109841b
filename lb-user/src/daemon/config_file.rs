//! Notices when the configuration file changes.

use std::{
    fs::{self, File},
    io,
    os::{fd::AsRawFd, unix::fs::MetadataExt},
    path::{Path, PathBuf},
};

use anyhow::{Context, Result};
use nix::errno::Errno;
use notify::{Event, EventKind, RecommendedWatcher, RecursiveMode, Watcher};
use tokio::{
    select,
    signal::unix::{SignalKind, signal},
    sync::mpsc,
    time::{Duration, Instant, Interval, MissedTickBehavior, interval, sleep_until},
};
use tracing::warn;

use crate::config;

/// Who writes a file in several steps pauses no longer between them.
const SETTLE: Duration = Duration::from_millis(100);
/// In a directory that is never quiet no change waits longer.
const AT_LATEST: Duration = Duration::from_secs(2);
/// A file that is back so soon was replaced.
const REPLACED_IN: Duration = Duration::from_secs(1);
/// How often the file is looked at, whatever the kernel tells.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// The file's bytes.
///
/// # Errors
/// [`config::LoadError`], with advice.
pub fn read(path: &Path) -> Result<Vec<u8>> {
    let bytes = config::read(path);
    let is_forbidden = matches!(&bytes, Err(config::LoadError::Read { error, .. })
        if error.kind() == io::ErrorKind::PermissionDenied);
    match is_forbidden {
        true => bytes.context(
            "the daemon reads only what its user may read, root, too: make that user the configuration's owner, or let all read it",
        ),
        false => Ok(bytes?),
    }
}

/// Watches the file's directory, because editors, and Kubernetes' symbolic links, replace the file instead of writing
/// to it. Looks at the file, too: it may be a link to another directory, or its directory may be replaced.
pub struct ConfigFile {
    path: PathBuf,
    events: mpsc::Receiver<()>,
    look: Interval,
    seen: Option<Stamp>,
    /// What is under way.
    change: Option<Change>,
    _watcher: Option<RecommendedWatcher>,
}

/// What differs when a file has changed: device, inode, size, and the time of the last change with its nanoseconds.
type Stamp = (u64, u64, u64, i64, i64);

struct Change {
    began: Instant,
    /// When the file is read, if nothing happens until then.
    due: Instant,
    gone_since: Option<Instant>,
    /// Who keeps the file open was told of.
    is_told: bool,
}

impl ConfigFile {
    /// Starts to watch. Where the kernel has no watches left, looking has to do. What was read before may be out of date: so
    /// the file counts as changed.
    ///
    /// # Errors
    /// If there can be no handler of a signal.
    pub fn watch(path: &Path) -> io::Result<Self> {
        // Who opens the file in the moment of a lease sends SIGIO, which would end the process. The handler stays.
        let _ = signal(SignalKind::io())?;
        let (sender, events) = mpsc::channel(1);
        let watcher = watcher(&directory(path), sender);
        let watcher = watcher.inspect_err(|error| {
            let path = path.display();
            warn!("can't watch {path} ({error}): its changes are seen within a second");
        });
        let mut look = interval(LOOK_EVERY);
        look.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut file = Self {
            path: path.to_owned(),
            events,
            look,
            seen: stamp(path),
            change: None,
            _watcher: watcher.ok(),
        };
        file.saw_a_step();
        Ok(file)
    }

    /// Returns when the file may have changed and is quiet: nobody has it open for writing, and it is not gone for a moment.
    /// Cancelled, it forgets nothing.
    pub async fn changed(&mut self) {
        loop {
            let due = self.change.as_ref().map(|change| change.due);
            let quiet = async {
                match due {
                    Some(due) => sleep_until(due).await,
                    None => std::future::pending().await,
                }
            };
            select! {
                biased;
                () = quiet => {
                    if !self.must_wait() {
                        self.change = None;
                        self.seen = stamp(&self.path);
                        return;
                    }
                }
                Some(()) = self.events.recv() => self.saw_a_step(),
                _ = self.look.tick() => {
                    let now = stamp(&self.path);
                    if now != self.seen {
                        self.seen = now;
                        self.saw_a_step();
                    }
                }
            }
        }
    }

    fn saw_a_step(&mut self) {
        let now = Instant::now();
        let change = self.change.get_or_insert(Change {
            began: now,
            due: now,
            gone_since: None,
            is_told: false,
        });
        change.due = (now + SETTLE).min(change.began + AT_LATEST);
    }

    /// Whether the file is not to be read yet. Then it is looked at again soon.
    fn must_wait(&mut self) -> bool {
        let Some(change) = &mut self.change else {
            return false;
        };
        let now = Instant::now();
        change.due = now + SETTLE;
        if !self.path.exists() {
            return now < *change.gone_since.get_or_insert(now) + REPLACED_IN;
        }
        change.gone_since = None;
        let is_open = is_open_for_writing(&self.path);
        if is_open && !change.is_told && now >= change.began + AT_LATEST {
            change.is_told = true;
            let path = self.path.display();
            warn!(
                "{path} is held open for writing since it was changed: it is applied when that ends, or as it is by `lb reload`"
            );
        }
        is_open
    }
}

/// Whether a process has the file open for writing, as far as that can be told: a read lease is refused then (kernel: fs/locks.c,
/// `check_conflicting_open`). Some file systems have no leases, and there is none on others' files.
fn is_open_for_writing(path: &Path) -> bool {
    let Ok(file) = File::open(path) else {
        return false;
    };
    // SAFETY: no memory is involved. The lease ends with the file.
    let result = unsafe { libc::fcntl(file.as_raw_fd(), libc::F_SETLEASE, libc::F_RDLCK) };
    Errno::result(result) == Err(Errno::EAGAIN)
}

fn watcher(directory: &Path, events: mpsc::Sender<()>) -> notify::Result<RecommendedWatcher> {
    let mut watcher = notify::recommended_watcher(move |event: notify::Result<Event>| {
        let read_only = matches!(&event, Ok(event) if matches!(event.kind, EventKind::Access(_)));
        if !read_only {
            // A change that waits to be seen stands for this one, too.
            let _ = events.try_send(());
        }
    })?;
    watcher.watch(directory, RecursiveMode::NonRecursive)?;
    Ok(watcher)
}

/// `None` if there is no file.
fn stamp(path: &Path) -> Option<Stamp> {
    let it = fs::metadata(path).ok()?;
    Some((it.dev(), it.ino(), it.size(), it.ctime(), it.ctime_nsec()))
}

fn directory(path: &Path) -> PathBuf {
    match path.parent() {
        Some(parent) if parent != Path::new("") => parent.to_owned(),
        _ => PathBuf::from("."),
    }
}

#[cfg(test)]
mod tests {
    use std::{io::Write, os::unix::fs::symlink};

    use tempfile::TempDir;
    use tokio::time::{sleep, timeout};

    use super::*;

    const PATIENCE: Duration = Duration::from_secs(5);

    fn watched() -> (TempDir, PathBuf, ConfigFile) {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("lb.yaml");
        fs::write(&path, "old").unwrap();
        let file = ConfigFile::watch(&path).unwrap();
        (directory, path, file)
    }

    #[tokio::test]
    async fn a_change_is_seen_by_who_looks_in_between() {
        let (directory, path, mut file) = watched();
        fs::write(directory.path().join("lb.yaml.new"), "new").unwrap();
        fs::rename(directory.path().join("lb.yaml.new"), &path).unwrap();
        let mut looks = 0..1000;
        let step = Duration::from_millis(10);
        assert!(loop {
            if timeout(step, file.changed()).await.is_ok() {
                break true;
            }
            if looks.next().is_none() {
                break false;
            }
        });
        assert!(timeout(LOOK_EVERY * 2, file.changed()).await.is_err());
    }

    #[tokio::test]
    async fn a_file_that_is_being_written_is_not_read() {
        let (_directory, path, mut file) = watched();
        let writer = tokio::spawn(async move {
            for step in 0..10 {
                fs::write(&path, "n".repeat(step)).unwrap();
                sleep(SETTLE / 5).await;
            }
        });
        timeout(PATIENCE, file.changed()).await.unwrap();
        assert!(writer.is_finished());
    }

    #[tokio::test]
    async fn a_file_that_is_open_for_writing_is_not_read() {
        let (_directory, path, mut file) = watched();
        let writer = tokio::spawn(async move {
            let mut file = File::create(&path).unwrap();
            let start = Instant::now();
            while start.elapsed() < AT_LATEST + SETTLE {
                file.write_all(b"new").unwrap();
                sleep(SETTLE * 3).await;
            }
        });
        timeout(PATIENCE, file.changed()).await.unwrap();
        assert!(writer.is_finished());
    }

    #[tokio::test]
    async fn a_file_that_is_gone_for_a_moment_is_read_when_it_is_back() {
        let (_directory, path, mut file) = watched();
        let replacer = tokio::spawn(async move {
            fs::remove_file(&path).unwrap();
            sleep(REPLACED_IN / 2).await;
            fs::write(&path, "new").unwrap();
        });
        timeout(PATIENCE, file.changed()).await.unwrap();
        assert!(replacer.is_finished());
    }

    #[tokio::test]
    async fn a_file_that_is_gone_for_good_has_changed() {
        let (_directory, path, mut file) = watched();
        fs::remove_file(&path).unwrap();
        let start = Instant::now();
        timeout(PATIENCE, file.changed()).await.unwrap();
        assert!(start.elapsed() >= REPLACED_IN);
        assert!(timeout(LOOK_EVERY * 2, file.changed()).await.is_err());
    }

    #[tokio::test]
    async fn a_directory_that_is_never_quiet_hides_no_change() {
        let (directory, _path, mut file) = watched();
        let noise = tokio::spawn(async move {
            loop {
                fs::write(directory.path().join("other"), "noise").unwrap();
                sleep(SETTLE / 5).await;
            }
        });
        timeout(PATIENCE, file.changed()).await.unwrap();
        noise.abort();
    }

    #[tokio::test]
    async fn a_file_behind_a_link_is_seen_and_one_in_a_new_directory() {
        let (directory, path, mut file) = watched();
        let elsewhere = tempfile::tempdir().unwrap();
        let target = elsewhere.path().join("real.yaml");
        fs::write(&target, "old").unwrap();
        fs::remove_file(&path).unwrap();
        symlink(&target, &path).unwrap();
        while timeout(LOOK_EVERY * 2, file.changed()).await.is_ok() {}
        fs::write(&target, "new").unwrap();
        timeout(PATIENCE, file.changed()).await.unwrap();

        let moved = directory.path().with_extension("moved");
        fs::rename(directory.path(), &moved).unwrap();
        fs::create_dir(directory.path()).unwrap();
        fs::write(&path, "in the new directory").unwrap();
        timeout(PATIENCE, file.changed()).await.unwrap();
        fs::remove_dir_all(moved).unwrap();
        while timeout(LOOK_EVERY * 2, file.changed()).await.is_ok() {}
        fs::write(&path, "once more").unwrap();
        timeout(PATIENCE, file.changed()).await.unwrap();
    }
}
