//! Paths of files and directories.

use std::path::PathBuf;

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
