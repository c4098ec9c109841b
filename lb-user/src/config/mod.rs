//! The configuration: one YAML file, parsed and validated as a whole.
//!
//! A file passes through three types: YAML text becomes the `schema` (what may be written, each value
//! with its place), and `validate` turns that into the [`Config`] that the rest of the daemon uses
//! (names resolved, groups expanded, defaults applied). Every problem found on the way is reported
//! with line and column; a file with a problem gives no [`Config`] at all.

mod address;
mod bindings;
mod check;
mod checks;
mod claims;
mod difference;
mod dns;
mod duration;
pub mod edit;
mod error;
mod groups;
mod health;
mod http;
mod interface_name;
mod locked_file;
mod mac;
mod model;
mod name;
mod path;
mod ports;
mod prefix;
mod real_servers;
mod schema;
mod session;
mod settings;
mod suggest;
mod unsupported;
mod validate;
mod value;
mod virtual_servers;
mod yaml;

use std::fs::File;
use std::io::Read;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::Path;

pub use check::{
    Body, DnsCheck, HealthCheck, HttpCheck, IcmpCheck, Method, PortCheck, Tls, UdpCheck, Via,
};
pub use difference::difference;
pub use error::{Diagnostic, LoadError, Position};
pub use interface_name::InterfaceName;
pub use locked_file::{FileError, LockedFile};
pub use mac::{MacAddress, MacAddressError};
pub use model::{
    Binding, Config, Control, Forward, Health, Interface, Limits, Metrics, OnDown, OnUnknown,
    Predictor, Protocol, RealServer, Session, SessionMode, Sticky, Tunnel, VirtualServer, XdpMode,
};
pub use ports::Ports;
pub use prefix::prefix;

/// The largest file that is read, in bytes: room for 65,535 virtual servers of a dozen lines each.
pub const MAX_FILE_SIZE: u64 = 32 << 20;

/// The `pin_path` of a file without one.
pub const DEFAULT_PIN_PATH: &str = "/sys/fs/bpf/lb";

/// The `control.socket` of a file without one.
pub const DEFAULT_SOCKET: &str = "/run/lb/lb.sock";

/// The `metrics.listen` of a file with an empty section `metrics`.
pub const DEFAULT_METRICS: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 9179);

/// A file's bytes.
///
/// # Errors
/// [`LoadError::Read`] or [`LoadError::TooLarge`].
pub fn read(path: &Path) -> Result<Vec<u8>, LoadError> {
    let file_name = path.display().to_string();
    let mut bytes = Vec::new();
    File::open(path)
        .and_then(|file| file.take(MAX_FILE_SIZE + 1).read_to_end(&mut bytes))
        .map_err(|error| LoadError::Read {
            file_name: file_name.clone(),
            error,
        })?;
    if bytes.len() as u64 > MAX_FILE_SIZE {
        return Err(LoadError::TooLarge { file_name });
    }
    Ok(bytes)
}

/// A file's bytes as text. `file_name` serves the message only.
///
/// # Errors
/// [`LoadError::Invalid`] if they are not UTF-8.
pub fn text<'a>(file_name: &str, bytes: &'a [u8]) -> Result<&'a str, LoadError> {
    str::from_utf8(bytes)
        .map_err(|error| LoadError::not_utf8(file_name.to_owned(), &bytes[..error.valid_up_to()]))
}

impl Config {
    /// Reads and validates a file.
    ///
    /// # Errors
    /// As [`read`] and [`Config::from_bytes`].
    pub fn load(path: &Path) -> Result<Self, LoadError> {
        Self::from_bytes(&path.display().to_string(), &read(path)?)
    }

    /// Validates a file's bytes. `file_name` serves the messages only.
    ///
    /// # Errors
    /// As [`text`] and [`Config::parse`].
    pub fn from_bytes(file_name: &str, bytes: &[u8]) -> Result<Self, LoadError> {
        Self::parse(file_name, text(file_name, bytes)?)
    }

    /// Validates a file's text. `file_name` serves the messages only.
    ///
    /// # Errors
    /// [`LoadError::Invalid`] with every problem found, in the order of the file. A mistake in the
    /// YAML itself, an unknown key or a duplicate one hides the problems behind it.
    pub fn parse(file_name: &str, text: &str) -> Result<Self, LoadError> {
        yaml::parse(text)
            .map_err(|diagnostic| vec![diagnostic])
            .and_then(|file| validate::config(&file))
            .map_err(|diagnostics| LoadError::invalid(file_name, diagnostics))
    }
}
