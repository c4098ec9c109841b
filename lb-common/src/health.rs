//! Health checks that go by a real server's own path: what the steering programs and `lb` agree on.

use core::ops::RangeInclusive;

/// The ports of this host that checks by the data path come from: above those that Linux gives to others by default
/// (`net.ipv4.ip_local_port_range`).
pub const PORTS: RangeInclusive<u16> = 61_000..=65_535;
/// Those of [`PORTS`] that no socket has: half-open checks come from there.
pub const SYN_PORTS: RangeInclusive<u16> = 65_472..=65_535;

/// MAC address of the device that checks leave and answers come to.
pub const DEVICE_MAC: [u8; 6] = [0x02, 0x6c, 0x62, 0, 0, 1];
/// What a check's frame has as the first half of its destination, in front of the path's index.
pub const PATH_MAC: [u8; 2] = [0x02, 0x6c];
