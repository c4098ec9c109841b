//! From the schema to the [`Config`].
//!
//! Here and in the files for its parts, each function records what is wrong and goes on, so that one
//! run reports everything; what it returns counts only if nothing was recorded in the end.

use std::collections::HashSet;

use serde_yaml::Spanned;

use super::bindings::Servers;
use super::error::{Diagnostic, Diagnostics};
use super::interface_name::InterfaceName;
use super::model::{Config, Control, Interface, Limits, Metrics, Tunnel};
use super::path::{PinPath, SocketPath};
use super::prefix::SourcePrefix;
use super::real_servers::real_servers;
use super::value::{Field, Number, Word};
use super::virtual_servers::virtual_servers;
use super::{DEFAULT_METRICS, DEFAULT_PIN_PATH, DEFAULT_SOCKET, schema};
use crate::dataplane::Sizes;

const MOST_INTERFACES: usize = Sizes::INTERFACES as usize;

/// Checks a whole file.
///
/// # Errors
/// Everything that is wrong with it, in the order of the file.
pub fn config(file: &Spanned<schema::File>) -> Result<Config, Vec<Diagnostic>> {
    let mut errors = Diagnostics::default();
    let interfaces = interfaces(file, &mut errors);
    let schema::File {
        pin_path,
        control,
        metrics,
        limits,
        tunnel,
        ..
    } = &file.value;
    let pin_path = errors
        .value("pin_path", pin_path)
        .map_or(DEFAULT_PIN_PATH.into(), |PinPath(path)| path.clone());
    let socket = control
        .as_ref()
        .and_then(|control| errors.value("control.socket", &control.socket))
        .map_or(DEFAULT_SOCKET.into(), |SocketPath(path)| path.clone());
    let metrics = metrics.as_ref().map(|metrics| Metrics {
        listen: *errors
            .value("metrics.listen", &metrics.listen)
            .unwrap_or(&DEFAULT_METRICS),
    });
    let limits = self::limits(
        limits.as_ref().unwrap_or(&schema::Limits::default()),
        &mut errors,
    );
    let tunnel = tunnel.as_ref().map_or(Tunnel::default(), |tunnel| {
        self::tunnel(tunnel, &mut errors)
    });
    let real_servers = real_servers(&file.value, limits, &mut errors);
    let servers = Servers::new(&file.value, &real_servers, &mut errors);
    let virtual_servers = virtual_servers(&file.value, &servers, limits, &mut errors);
    errors.unless_any(Config {
        interfaces,
        pin_path,
        control: Control { socket },
        metrics,
        limits,
        tunnel,
        real_servers,
        virtual_servers,
    })
}

fn interfaces(file: &Spanned<schema::File>, errors: &mut Diagnostics) -> Vec<Interface> {
    const EXPECTED: &str = "expected at least one, such as `interfaces: [{ name: eth0 }]`";
    let Some(entries) = &file.value.interfaces else {
        errors.add(file, format!("missing key `interfaces`: {EXPECTED}"));
        return Vec::new();
    };
    if entries.value.is_empty() {
        errors.add(
            entries,
            format!("interfaces: the list is empty: {EXPECTED}"),
        );
    }
    if let Some(excess) = entries.value.get(MOST_INTERFACES) {
        errors.add(
            excess,
            format!("interfaces: expected at most {MOST_INTERFACES}"),
        );
    }
    let mut names = HashSet::new();
    let mut interfaces = Vec::new();
    for entry in &entries.value {
        let xdp = errors.value("xdp", &entry.value.xdp).map(|Word(xdp)| *xdp);
        let field = &entry.value.name;
        let Some(InterfaceName(name)) = errors.required(entry, "name", field) else {
            continue;
        };
        if let (false, Some(field)) = (names.insert(name), field) {
            errors.add(
                field,
                format!("name: interface `{name}` is in the list twice"),
            );
        }
        interfaces.push(Interface {
            name: name.clone(),
            xdp: xdp.unwrap_or_default(),
        });
    }
    interfaces
}

fn limits(written: &schema::Limits, errors: &mut Diagnostics) -> Limits {
    let schema::Limits {
        sessions,
        sessions_v6,
        sticky,
        cps_per_cpu,
        virtual_servers,
        real_servers,
    } = written;
    let default = Limits::DEFAULT;
    let sessions = number("limits.sessions", sessions, errors).unwrap_or(default.sessions);
    Limits {
        sessions,
        sessions_v6: number("limits.sessions_v6", sessions_v6, errors).unwrap_or(sessions),
        sticky: number("limits.sticky", sticky, errors).unwrap_or(default.sticky),
        cps_per_cpu: number("limits.cps_per_cpu", cps_per_cpu, errors)
            .unwrap_or(default.cps_per_cpu),
        virtual_servers: number("limits.virtual_servers", virtual_servers, errors)
            .unwrap_or(default.virtual_servers),
        real_servers: number("limits.real_servers", real_servers, errors)
            .unwrap_or(default.real_servers),
    }
}

fn number<const MIN: u32, const MAX: u32>(
    key: &str,
    field: &Option<Field<Number<u32, MIN, MAX>>>,
    errors: &mut Diagnostics,
) -> Option<u32> {
    errors.value(key, field).map(|Number(number)| *number)
}

fn tunnel(written: &schema::Tunnel, errors: &mut Diagnostics) -> Tunnel {
    let source_v4 = errors.value("tunnel.source_v4", &written.source_v4);
    let source_v6 = errors.value("tunnel.source_v6", &written.source_v6);
    Tunnel {
        source_v4: source_v4.map(|SourcePrefix(prefix)| *prefix),
        source_v6: source_v6.map(|SourcePrefix(prefix)| *prefix),
    }
}
