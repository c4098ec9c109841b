//! The pins: what keeps a program working without a process, and what the next process takes over.

use std::{
    collections::BTreeSet,
    fs::{self, File},
    io,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
};

use aya::programs::links::PinnedLink;
use nix::{
    errno::Errno,
    fcntl::{Flock, FlockArg},
    mount::{MsFlags, mount},
    sys::{
        stat::{major, minor},
        statfs::{FsType, statfs},
    },
};
use tracing::warn;

/// Where a BPF file system is on most machines.
const USUAL_PLACE: &str = "/sys/fs/bpf";

/// What goes wrong with the pins.
#[derive(Debug, thiserror::Error)]
pub enum PinError {
    /// Another daemon has them.
    #[error(
        "another lb is running on pin_path {path}: stop it first, or give this one a pin_path of its own"
    )]
    InUse {
        /// The pin path.
        path: PathBuf,
    },
    /// Pins need a BPF file system.
    #[error(
        "pin_path {path} is not on a BPF file system: mount one (mount -t bpf bpf /sys/fs/bpf)"
    )]
    NotBpf {
        /// The pin path.
        path: PathBuf,
    },
    /// The file system refuses.
    #[error("can't {what} {path}: {error}")]
    Io {
        /// To do what.
        what: &'static str,
        /// With what.
        path: PathBuf,
        /// Why not.
        error: io::Error,
    },
}

fn failed(what: &'static str, path: &Path) -> impl FnOnce(io::Error) -> PinError {
    let path = path.to_owned();
    move |error| PinError::Io { what, path, error }
}

/// What stands for an interface in the BPF file system, which keeps dots for itself (kernel/bpf/inode.c,
/// `bpf_lookup`). An interface's name has no colon (net/core/dev.c, `dev_valid_name`): one stands for
/// the other.
pub fn file_name(interface: &str) -> String {
    interface.replace('.', ":")
}

/// Removes a directory and what is in it, if it is there.
fn remove_directory(path: &Path) -> Result<(), PinError> {
    let entries = match fs::read_dir(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        entries => entries.map_err(failed("list", path))?,
    };
    for entry in entries {
        let entry = entry.map_err(failed("list", path))?.path();
        fs::remove_file(&entry).map_err(failed("remove", &entry))?;
    }
    fs::remove_dir(path).map_err(failed("remove", path))
}

/// The interfaces that something in a directory stands for; none if there is no directory.
pub fn interfaces_in(directory: &Path) -> Result<Vec<String>, PinError> {
    let entries = match fs::read_dir(directory) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries.map_err(failed("list", directory))?,
    };
    entries
        .map(|entry| {
            let entry = entry.map_err(failed("list", directory))?;
            Ok(entry.file_name().to_string_lossy().replace(':', "."))
        })
        .collect()
}

/// The maps in use.
const MAPS: &str = "maps";
/// Maps that are to take their place.
const NEXT_MAPS: &str = "maps-next";
/// Maps whose place was taken, and whose sessions are not all in the new ones yet.
const FORMER_MAPS: &str = "maps-former";

/// The directory `pin_path` and what lies in it.
#[derive(Clone, Debug)]
pub struct Pins {
    root: PathBuf,
    /// The directory with the maps.
    maps: &'static str,
}

/// The right to use the pins, until it is dropped or the process ends.
#[derive(Debug)]
pub struct Lock {
    _directory: Flock<File>,
}

/// The pins of a process that starts with them. What it pins goes again when this is dropped, unless it says
/// [`Self::keep`].
#[derive(Debug)]
pub struct Claim {
    pins: Pins,
    before: BTreeSet<PathBuf>,
    is_kept: bool,
    _lock: Lock,
}

// === impl Claim ===

impl Claim {
    /// What was claimed.
    pub const fn pins(&self) -> &Pins {
        &self.pins
    }

    /// The start succeeded.
    pub const fn keep(&mut self) {
        self.is_kept = true;
    }
}

impl Drop for Claim {
    fn drop(&mut self) {
        // New maps that packets may use already stay: the next daemon goes on from there.
        let is_undone = !self.is_kept && self.pins.former().is_none();
        if is_undone && let Err(error) = self.pins.remove_all_but(&self.before) {
            warn!("{error}");
        }
    }
}

// === impl Pins ===

impl Pins {
    /// Pins below `root`.
    pub fn new(root: &Path) -> Self {
        Self {
            root: root.to_owned(),
            maps: MAPS,
        }
    }

    /// The directory itself.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// Where the program `name` is pinned.
    pub fn program(&self, name: &str) -> PathBuf {
        self.root.join("progs").join(name)
    }

    /// Where the link of an interface is pinned.
    pub fn link(&self, interface: &str) -> PathBuf {
        self.links().join(file_name(interface))
    }

    fn links(&self) -> PathBuf {
        self.root.join("links")
    }

    /// Where the map `name` is pinned.
    pub fn map(&self, name: &str) -> PathBuf {
        self.root.join(self.maps).join(name)
    }

    /// The same pins with other maps, which are to take the place of those in use.
    pub fn next(&self) -> Result<Self, PinError> {
        let next = self.with_maps(NEXT_MAPS);
        next.create()?;
        Ok(next)
    }

    /// The same pins with the maps that were in use, if their place was taken and nobody has said
    /// [`Self::forget_former`] since.
    pub fn former(&self) -> Option<Self> {
        let former = self.with_maps(FORMER_MAPS);
        former.maps().exists().then_some(former)
    }

    fn with_maps(&self, maps: &'static str) -> Self {
        Self {
            maps,
            ..self.clone()
        }
    }

    fn maps(&self) -> PathBuf {
        self.root.join(self.maps)
    }

    /// Puts the next maps in the place of those in use.
    pub fn replace_maps(&self) -> Result<(), PinError> {
        self.rename(MAPS, FORMER_MAPS)?;
        self.rename(NEXT_MAPS, MAPS)
    }

    fn rename(&self, from: &str, to: &str) -> Result<(), PinError> {
        let from = self.root.join(from);
        fs::rename(&from, self.root.join(to)).map_err(failed("rename", &from))
    }

    /// Removes the maps whose place was taken.
    pub fn forget_former(&self) -> Result<(), PinError> {
        // In one step: who is killed while they are removed one by one must not leave half of them for former maps.
        self.rename(FORMER_MAPS, NEXT_MAPS)?;
        remove_directory(&self.root.join(NEXT_MAPS))
    }

    /// Brings order into what a process left that ended while it replaced the maps.
    fn recover(&self) -> Result<(), PinError> {
        let next = self.with_maps(NEXT_MAPS).maps();
        if self.former().is_some() && next.exists() {
            return self.rename(NEXT_MAPS, MAPS);
        }
        // They were never in use, or are not any more.
        remove_directory(&next)
    }

    /// Makes the directories, and mounts the BPF file system at its usual place if it is missing there.
    pub fn create(&self) -> Result<(), PinError> {
        self.require_or_mount_bpf_fs()?;
        for path in self.directories() {
            fs::create_dir_all(&path).map_err(failed("create", &path))?;
        }
        Ok(())
    }

    fn require_or_mount_bpf_fs(&self) -> Result<(), PinError> {
        if !self.is_on_bpf_fs() && self.can_be_mounted() {
            mount(
                Some("bpf"),
                USUAL_PLACE,
                Some("bpf"),
                MsFlags::empty(),
                // As systemd does it: without, anybody may pin there.
                Some("mode=0700"),
            )
            .map_err(|errno| {
                failed("mount a BPF file system at", Path::new(USUAL_PLACE))(errno.into())
            })?;
        }
        self.place()
    }

    fn directories(&self) -> [PathBuf; 3] {
        ["progs", "links", self.maps].map(|directory| self.root.join(directory))
    }

    /// Also those that are there while the maps are replaced.
    fn all_directories(&self) -> [PathBuf; 5] {
        ["progs", "links", MAPS, NEXT_MAPS, FORMER_MAPS].map(|directory| self.root.join(directory))
    }

    fn is_on_bpf_fs(&self) -> bool {
        const BPF_FS_MAGIC: FsType = FsType(0xcafe_4a11);

        let existing = self.root.ancestors().find(|path| path.exists());
        existing
            .and_then(|path| statfs(path).ok())
            .is_some_and(|stat| stat.filesystem_type() == BPF_FS_MAGIC)
    }

    /// Whether a BPF file system that is missing there can be mounted at its usual place.
    pub fn can_be_mounted(&self) -> bool {
        self.root.starts_with(USUAL_PLACE)
    }

    /// Makes sure that the directory is, or can be made, on a BPF file system.
    ///
    /// # Errors
    /// [`PinError::NotBpf`].
    pub fn place(&self) -> Result<(), PinError> {
        if self.is_on_bpf_fs() {
            return Ok(());
        }
        Err(PinError::NotBpf {
            path: self.root.clone(),
        })
    }

    /// Whether the directory is there: it goes with the last pin.
    pub fn exist(&self) -> bool {
        self.root.exists()
    }

    /// Makes the directories and takes the pins for a process that starts.
    pub fn claim(self) -> Result<Claim, PinError> {
        self.require_or_mount_bpf_fs()?;
        fs::create_dir_all(&self.root).map_err(failed("create", &self.root))?;
        let lock = self.lock()?;
        self.recover()?;
        self.create()?;
        Ok(Claim {
            before: self.list()?,
            pins: self,
            is_kept: false,
            _lock: lock,
        })
    }

    /// Takes the pins for this process.
    pub fn lock(&self) -> Result<Lock, PinError> {
        let directory = File::open(&self.root).map_err(failed("open", &self.root))?;
        match Flock::lock(directory, FlockArg::LockExclusiveNonblock) {
            Ok(directory) => Ok(Lock {
                _directory: directory,
            }),
            Err((_, Errno::EWOULDBLOCK)) => Err(PinError::InUse {
                path: self.root.clone(),
            }),
            Err((_, errno)) => Err(failed("lock", &self.root)(errno.into())),
        }
    }

    /// The process that has [locked](Self::lock) the pins.
    pub fn holder(&self) -> Option<u32> {
        let known = fs::metadata(&self.root).ok()?;
        let (major, minor) = (major(known.dev()), minor(known.dev()));
        let file = format!("{major:02x}:{minor:02x}:{}", known.ino());
        locked_by(&fs::read_to_string("/proc/locks").ok()?, &file)
    }

    /// Whether a balancer is pinned and no process runs that keeps it true.
    pub fn forward_alone(&self) -> bool {
        let is_linked = self.linked_interfaces().is_ok_and(|all| !all.is_empty());
        is_linked && self.holder().is_none()
    }

    /// The interfaces that have a pinned link.
    pub fn linked_interfaces(&self) -> Result<Vec<String>, PinError> {
        interfaces_in(&self.links())
    }

    /// Removes a pin. A link that nothing else holds is detached by that.
    pub fn unlink_interface(&self, interface: &str) -> Result<(), PinError> {
        let path = self.link(interface);
        // Detached at once if a descriptor is the last to go, but some time later if the pin is
        // (kernel/bpf/syscall.c, `bpf_link_release` and `bpf_link_put`).
        let _last = PinnedLink::from_pin(&path);
        fs::remove_file(&path).map_err(failed("remove", &path))
    }

    fn list(&self) -> Result<BTreeSet<PathBuf>, PinError> {
        let mut pins = BTreeSet::new();
        for directory in self.all_directories() {
            let entries = match fs::read_dir(&directory) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                entries => entries.map_err(failed("list", &directory))?,
            };
            for entry in entries {
                pins.insert(entry.map_err(failed("list", &directory))?.path());
            }
        }
        Ok(pins)
    }

    /// Removes all pins: forwarding ends, and the maps go with their last user. What else is there stays, and is an
    /// error, like a directory that is not on a BPF file system.
    pub fn remove(&self) -> Result<(), PinError> {
        self.remove_all_but(&BTreeSet::new())
    }

    fn remove_all_but(&self, kept: &BTreeSet<PathBuf>) -> Result<(), PinError> {
        self.place()?;
        for interface in self.linked_interfaces()? {
            if !kept.contains(&self.link(&interface)) {
                self.unlink_interface(&interface)?;
            }
        }
        for pin in self.list()?.difference(kept) {
            fs::remove_file(pin).map_err(failed("remove", pin))?;
        }
        if !kept.is_empty() {
            return remove_directory(&self.root.join(NEXT_MAPS));
        }
        for directory in self.all_directories().iter().filter(|path| path.exists()) {
            fs::remove_dir(directory).map_err(failed("remove", directory))?;
        }
        fs::remove_dir(&self.root).map_err(failed("remove", &self.root))
    }
}

/// Lines are such as `1: FLOCK  ADVISORY  WRITE 708 00:13:14 0 EOF` (proc_locks(5)), the file as its device's numbers and its
/// inode.
fn locked_by(locks: &str, file: &str) -> Option<u32> {
    locks.lines().find_map(|line| {
        let fields: Vec<_> = line.split_whitespace().collect();
        let is_it = *fields.get(1)? == "FLOCK" && *fields.get(5)? == file;
        is_it.then(|| fields[4].parse().ok())?
    })
}

#[cfg(test)]
mod tests;
