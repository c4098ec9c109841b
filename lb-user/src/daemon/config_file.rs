//! Notices when the configuration file changes.

use std::{
    path::{Path, PathBuf},
    time::Duration,
};

use notify::{Event, EventKind, RecommendedWatcher, RecursiveMode, Watcher};
use tokio::{sync::mpsc, time::sleep};

/// An editor may write a file in several steps.
const SETTLE: Duration = Duration::from_millis(100);

/// Watches the file's directory, because editors, and Kubernetes' symbolic links, replace the file instead of
/// writing to it.
pub struct ConfigFile {
    changes: mpsc::Receiver<()>,
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
            _watcher: watcher,
        })
    }

    /// Returns when the file may have changed.
    pub async fn changed(&mut self) {
        if self.changes.recv().await.is_none() {
            std::future::pending::<()>().await;
        }
        sleep(SETTLE).await;
        while self.changes.try_recv().is_ok() {}
    }
}

fn directory(path: &Path) -> PathBuf {
    match path.parent() {
        Some(parent) if parent != Path::new("") => parent.to_owned(),
        _ => PathBuf::from("."),
    }
}
