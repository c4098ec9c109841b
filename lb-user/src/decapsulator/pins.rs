//! Where `lb decap` pins what it loads.

use std::{
    fs, io,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result, ensure};

use crate::dataplane::{Pins, attach, pins};

/// The pins for the interfaces of one network namespace. Network namespaces may share a BPF file system, and
/// their interfaces have the same names; so each has a directory, named after its inode, with a
/// directory for each interface.
#[derive(Debug)]
pub struct NamespacePins {
    pin_path: PathBuf,
    directory: PathBuf,
}

impl NamespacePins {
    /// Those of the calling thread's network namespace.
    pub fn current(pin_path: &Path) -> Result<Self> {
        const NAMESPACE: &str = "/proc/thread-self/ns/net";
        let metadata = fs::metadata(NAMESPACE)
            .with_context(|| format!("can't read {NAMESPACE}: is /proc mounted?"))?;
        Ok(Self {
            pin_path: pin_path.to_owned(),
            directory: pin_path.join(metadata.ino().to_string()),
        })
    }

    /// Those of an interface.
    pub fn interface(&self, name: &str) -> Pins {
        Pins::new(&self.directory.join(pins::file_name(name)))
    }

    /// The pins that exist, of these interfaces, or of all if none is named.
    pub fn pinned(&self, interfaces: &[String]) -> Result<Vec<(String, Pins)>> {
        let names = match interfaces {
            [] => pins::interfaces_in(&self.directory)?,
            named => named.to_vec(),
        };
        ensure!(
            !names.is_empty(),
            "lb decap has nothing in place in this network namespace: there is no {} (is --pin-path another?)",
            self.directory.display()
        );
        let with_pins = names.into_iter().map(|name| {
            let pins = self.interface(&name);
            ensure!(
                pins.exist(),
                "lb decap has nothing in place on {name}: there is no {} (is --pin-path another?)",
                pins.root().display()
            );
            Ok((name, pins))
        });
        with_pins.collect()
    }

    /// Removes what was pinned for interfaces that are gone, with their network namespace or without it, unless a process waits
    /// for one to be back. Whether there was anything.
    pub fn remove_gone(&self) -> Result<bool> {
        let mut any = false;
        for namespace in self.namespaces()? {
            for name in pins::interfaces_in(&namespace)? {
                let pins = Pins::new(&namespace.join(pins::file_name(&name)));
                // What can't be told of another namespace is its own affair.
                let are_gone = attach::are_gone(&pins).unwrap_or(false);
                if are_gone && let Ok(_lock) = pins.lock() {
                    pins.remove()?;
                    any = true;
                }
            }
        }
        Ok(any)
    }

    /// The directories of all network namespaces.
    fn namespaces(&self) -> io::Result<Vec<PathBuf>> {
        let entries = match fs::read_dir(&self.pin_path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            entries => entries?,
        };
        let paths: Vec<_> = entries
            .map(|it| Ok(it?.path()))
            .collect::<io::Result<_>>()?;
        Ok(paths.into_iter().filter(|it| it.is_dir()).collect())
    }

    /// Removes the directories that nothing is in any more.
    pub fn remove_empty(&self) {
        let namespaces = self.namespaces().unwrap_or_default();
        for directory in namespaces.iter().chain([&self.pin_path]) {
            // It stays while anything is in it.
            let _ = fs::remove_dir(directory);
        }
    }
}
