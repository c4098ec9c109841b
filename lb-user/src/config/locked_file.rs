//! The configuration file, for who changes it: others wait, and it is replaced in one step.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Write},
    os::unix::fs::{MetadataExt, fchown},
    path::{Path, PathBuf},
    thread::sleep,
    time::{Duration, Instant},
};

use nix::{
    errno::Errno,
    fcntl::{AT_FDCWD, Flock, FlockArg, RenameFlags, renameat2},
};

use super::{LoadError, read};

/// Why the file can't be replaced.
#[derive(Debug, thiserror::Error)]
pub enum FileError {
    /// It can't be read.
    #[error(transparent)]
    Read(#[from] LoadError),
    /// It can't be written, or its directory can't.
    #[error("can't change {path}: {error}")]
    Write {
        /// The file, links followed.
        path: PathBuf,
        /// The operating system's reason.
        error: io::Error,
    },
    /// Somebody else has written to it since it was read. That is kept.
    #[error("{path} was changed by somebody else at the same time, and is left so: try again")]
    Changed {
        /// The file, links followed.
        path: PathBuf,
    },
}

/// A file that no other [`LockedFile`] stands for.
pub struct LockedFile {
    path: PathBuf,
    bytes: Vec<u8>,
    /// On the directory: the file itself is another one after each change.
    _lock: Flock<File>,
}

impl LockedFile {
    /// Reads a file, links followed, once all others who have it are done.
    ///
    /// # Errors
    /// If it can't be read or may not be written.
    pub fn open(path: &Path) -> Result<Self, FileError> {
        let failed = |path: &Path, error| FileError::Write {
            path: path.to_owned(),
            error,
        };
        let path = fs::canonicalize(path).map_err(|error| failed(path, error))?;
        let lock = || {
            OpenOptions::new().write(true).open(&path)?;
            let directory = File::open(directory(&path))?;
            locked(directory)
        };
        let lock = lock().map_err(|error| failed(&path, error))?;
        Ok(Self {
            bytes: read(&path)?,
            path,
            _lock: lock,
        })
    }

    /// What is in it.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// Replaces its content in one step, and has it written to disk. Owner and mode stay.
    ///
    /// # Errors
    /// If that can't be done, or if somebody else has changed it; then it is as it was.
    pub fn replace(&mut self, bytes: &[u8]) -> Result<(), FileError> {
        let failed = |error| FileError::Write {
            path: self.path.clone(),
            error,
        };
        if !self.swap(bytes).map_err(failed)? {
            return Err(FileError::Changed {
                path: self.path.clone(),
            });
        }
        self.bytes = bytes.to_owned();
        Ok(())
    }

    /// Whether the content was as it was read last, and is replaced.
    fn swap(&self, bytes: &[u8]) -> io::Result<bool> {
        let directory = directory(&self.path);
        let old = fs::metadata(&self.path)?;
        let mut new = tempfile::Builder::new()
            .prefix(".lb-")
            .tempfile_in(directory)?;
        new.write_all(bytes)?;
        fchown(&new, Some(old.uid()), Some(old.gid()))?;
        new.as_file().set_permissions(old.permissions())?;
        new.as_file().sync_all()?;
        let exchange = || {
            let (here, flags) = (AT_FDCWD, RenameFlags::RENAME_EXCHANGE);
            renameat2(here, new.path(), here, &self.path, flags)
        };
        match exchange() {
            Ok(()) => {
                // What was there to the last moment is in the other file now, which goes.
                if !fs::read(new.path()).is_ok_and(|old| old == self.bytes) {
                    exchange()?;
                    return Ok(false);
                }
            }
            // NFS, for one, exchanges no files.
            Err(Errno::EINVAL) => {
                if fs::read(&self.path)? != self.bytes {
                    return Ok(false);
                }
                new.persist(&self.path)?;
            }
            Err(error) => return Err(error.into()),
        }
        // It is replaced, whether or not a crash would undo that. The daemon reads it once this is done: until then it is open
        // for writing.
        let _ = File::open(directory).and_then(|directory| directory.sync_all());
        Ok(true)
    }
}

/// Waits for others who are about to change the file, but not for somebody who holds on to its directory.
fn locked(mut directory: File) -> io::Result<Flock<File>> {
    const PATIENCE: Duration = Duration::from_secs(60);
    const TRY_EVERY: Duration = Duration::from_millis(50);

    let deadline = Instant::now() + PATIENCE;
    loop {
        match Flock::lock(directory, FlockArg::LockExclusiveNonblock) {
            Ok(lock) => return Ok(lock),
            Err((same, Errno::EWOULDBLOCK)) if Instant::now() < deadline => directory = same,
            Err((_, Errno::EWOULDBLOCK)) => {
                return Err(io::Error::other(
                    "another process has locked its directory (lslocks tells which)",
                ));
            }
            Err((_, error)) => return Err(error.into()),
        }
        sleep(TRY_EVERY);
    }
}

fn directory(path: &Path) -> &Path {
    path.parent().unwrap_or(path)
}

#[cfg(test)]
mod tests {
    use std::{
        fs::Permissions,
        os::unix::fs::{PermissionsExt, symlink},
    };

    use super::*;

    /// Names of files in a directory.
    fn names(directory: &Path) -> Vec<String> {
        let entries = fs::read_dir(directory).unwrap();
        let names = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap());
        let mut names: Vec<_> = names.collect();
        names.sort();
        names
    }

    #[test]
    fn a_link_stays_a_link_and_its_target_keeps_its_mode() {
        let [links, files] = [(); 2].map(|()| tempfile::tempdir().unwrap());
        let (link, target) = (links.path().join("lb.yaml"), files.path().join("real.yaml"));
        fs::write(&target, "old").unwrap();
        fs::set_permissions(&target, Permissions::from_mode(0o640)).unwrap();
        let is_root = nix::unistd::geteuid().is_root();
        let owner = if is_root {
            65_534
        } else {
            nix::unistd::geteuid().as_raw()
        };
        std::os::unix::fs::chown(&target, Some(owner), None).unwrap();
        symlink(&target, &link).unwrap();
        let mut file = LockedFile::open(&link).unwrap();
        file.replace(b"new").unwrap();
        file.replace(b"newer").unwrap();
        assert!(fs::symlink_metadata(&link).unwrap().is_symlink());
        assert_eq!(fs::read(&link).unwrap(), b"newer");
        let metadata = fs::symlink_metadata(&target).unwrap();
        assert!(metadata.is_file());
        assert_eq!((metadata.mode() & 0o777, metadata.uid()), (0o640, owner));
        assert_eq!(names(links.path()), ["lb.yaml"]);
        assert_eq!(names(files.path()), ["real.yaml"]);
    }

    #[test]
    fn what_somebody_else_has_written_stays() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("lb.yaml");
        fs::write(&path, "old").unwrap();
        let mut file = LockedFile::open(&path).unwrap();
        fs::write(&path, "theirs").unwrap();
        let error = file.replace(b"ours").unwrap_err();
        assert!(matches!(error, FileError::Changed { .. }), "{error}");
        assert_eq!(fs::read(&path).unwrap(), b"theirs");
        assert_eq!(names(directory.path()), ["lb.yaml"]);
    }

    #[test]
    fn who_comes_second_reads_what_the_first_has_written() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("lb.yaml");
        fs::write(&path, "").unwrap();
        let write_one_more = || {
            let mut file = LockedFile::open(&path).unwrap();
            let longer = [file.bytes(), b"+"].concat();
            file.replace(&longer).unwrap();
        };
        std::thread::scope(|scope| {
            for _ in 0..8 {
                scope.spawn(write_one_more);
            }
        });
        assert_eq!(fs::read(&path).unwrap(), b"++++++++");
    }

    #[test]
    fn a_file_that_is_not_there_is_named() {
        let error = LockedFile::open(Path::new("/nowhere/lb.yaml"))
            .err()
            .unwrap();
        let words = "can't change /nowhere/lb.yaml: No such file or directory (os error 2)";
        assert_eq!(error.to_string(), words);
    }
}
