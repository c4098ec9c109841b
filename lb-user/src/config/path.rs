//! Paths of files and directories.

use std::path::{Path, PathBuf};

use super::value::{FromValue, Value};

/// A path that doesn't depend on the directory the daemon was started in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AbsolutePath(pub PathBuf);

impl FromValue for AbsolutePath {
    fn from_value(value: &Value) -> Result<Self, String> {
        const EXPECTED: &str = "an absolute path";
        let text = value.text(EXPECTED)?;
        if text.starts_with('/') && !text.contains('\0') {
            Ok(Self(text.into()))
        } else {
            Err(value.expected(EXPECTED))
        }
    }
}

/// A directory of its own on a BPF file system, which takes no dots in names (kernel/bpf/inode.c, `bpf_lookup`).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PinPath(pub PathBuf);

impl FromValue for PinPath {
    fn from_value(value: &Value) -> Result<Self, String> {
        const EXPECTED: &str = "a directory below /sys/fs/bpf, without dots in its name";
        let AbsolutePath(path) = AbsolutePath::from_value(value)?;
        let whole = path.as_path() == Path::new("/sys/fs/bpf");
        match path.file_name() {
            Some(name) if !whole && !name.as_encoded_bytes().contains(&b'.') => Ok(Self(path)),
            _ => Err(value.expected(EXPECTED)),
        }
    }
}

/// The path of a Unix socket, short enough for the kernel (unix(7): `sun_path` is 108 bytes with the
/// final NUL).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SocketPath(pub PathBuf);

impl FromValue for SocketPath {
    fn from_value(value: &Value) -> Result<Self, String> {
        let AbsolutePath(path) = AbsolutePath::from_value(value)?;
        if path.as_os_str().len() <= 107 {
            Ok(Self(path))
        } else {
            Err(value.expected("a socket path of at most 107 bytes"))
        }
    }
}
