//! Notices when the configuration file changes.

use std::path::{Path, PathBuf};

use notify::{Event, EventKind, RecommendedWatcher, RecursiveMode, Watcher};
use tokio::{
    sync::mpsc,
    time::{Duration, Instant, sleep_until},
};

/// An editor may write a file in several steps.
const SETTLE: Duration = Duration::from_millis(100);

/// Watches the file's directory, because editors, and Kubernetes' symbolic links, replace the file instead of
/// writing to it.
pub struct ConfigFile {
    changes: mpsc::Receiver<()>,
    /// When a change that was seen has settled.
    settled: Option<Instant>,
    _watcher: RecommendedWatcher,
}

impl ConfigFile {
    /// Starts to watch.
    pub fn watch(path: &Path) -> notify::Result<Self> {
        let (sender, changes) = mpsc::channel(1);
        let mut watcher = notify::recommended_watcher(move |event: notify::Result<Event>| {
            let read_only =
                matches!(&event, Ok(event) if matches!(event.kind, EventKind::Access(_)));
            if !read_only {
                // A change that waits to be seen stands for this one, too.
                let _ = sender.try_send(());
            }
        })?;
        watcher.watch(&directory(path), RecursiveMode::NonRecursive)?;
        Ok(Self {
            changes,
            settled: None,
            _watcher: watcher,
        })
    }

    /// Returns when the file may have changed. Cancelled, it forgets nothing.
    pub async fn changed(&mut self) {
        let settled = match self.settled {
            Some(settled) => settled,
            None => {
                if self.changes.recv().await.is_none() {
                    std::future::pending::<()>().await;
                }
                *self.settled.insert(Instant::now() + SETTLE)
            }
        };
        sleep_until(settled).await;
        self.settled = None;
        while self.changes.try_recv().is_ok() {}
    }
}

fn directory(path: &Path) -> PathBuf {
    match path.parent() {
        Some(parent) if parent != Path::new("") => parent.to_owned(),
        _ => PathBuf::from("."),
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use tokio::time::timeout;

    use super::*;

    #[tokio::test]
    async fn a_change_is_seen_by_who_looks_in_between() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("lb.yaml");
        fs::write(&path, "old").unwrap();
        let mut file = ConfigFile::watch(&path).unwrap();
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
        assert!(timeout(SETTLE * 3, file.changed()).await.is_err());
    }
}
