//! Network device features, as `ethtool -K` sets them (which a fresh machine does not have).

use std::{io, net::UdpSocket, os::fd::AsRawFd};

use anyhow::{Context, Result};

// linux/ethtool.h
const ETHTOOL_GSTRINGS: u32 = 0x1b;
const ETHTOOL_GSSET_INFO: u32 = 0x37;
const ETHTOOL_SFEATURES: u32 = 0x3b;
const ETH_SS_FEATURES: u32 = 4;
const ETH_GSTRING_WORDS: usize = 8;

/// Switches features of a device of the calling thread's namespace on or off, by the names that
/// `ethtool -k` prints. Features that this kernel does not have are left out.
pub fn set(device: &str, wanted: &[(&str, bool)]) -> Result<()> {
    let names = names(device).with_context(|| format!("cannot list the features of {device}"))?;
    let blocks = names.len().div_ceil(32);
    // struct ethtool_sfeatures: command, number of blocks, then valid and requested for each block.
    let mut request = vec![0; 2 + 2 * blocks];
    request[..2].copy_from_slice(&[ETHTOOL_SFEATURES, blocks as u32]);
    for (name, on) in wanted {
        if let Some(bit) = names.iter().position(|known| known == name) {
            let block = &mut request[2 + 2 * (bit / 32)..];
            block[0] |= 1 << (bit % 32);
            block[1] |= u32::from(*on) << (bit % 32);
        }
    }
    ioctl(device, &mut request).with_context(|| format!("cannot set the features of {device}"))
}

/// The name of each feature, by its bit.
fn names(device: &str) -> io::Result<Vec<String>> {
    // struct ethtool_sset_info: command, reserved, mask of sets (64 bits), then one length for each.
    let mut info = [ETHTOOL_GSSET_INFO, 0, 1 << ETH_SS_FEATURES, 0, 0];
    ioctl(device, &mut info)?;
    let count = info[4] as usize;

    // struct ethtool_gstrings: command, set, length, then names of 32 bytes.
    let mut strings = vec![0; 3 + ETH_GSTRING_WORDS * count];
    strings[..3].copy_from_slice(&[ETHTOOL_GSTRINGS, ETH_SS_FEATURES, count as u32]);
    ioctl(device, &mut strings)?;
    let name = |words: &[u32]| {
        let bytes: Vec<u8> = words.iter().flat_map(|word| word.to_ne_bytes()).collect();
        String::from_utf8_lossy(bytes.split(|&byte| byte == 0).next().unwrap_or_default())
            .into_owned()
    };
    Ok(strings[3..]
        .chunks_exact(ETH_GSTRING_WORDS)
        .map(name)
        .collect())
}

/// SIOCETHTOOL with a command of the ethtool interface, which the kernel answers in place.
fn ioctl(device: &str, command: &mut [u32]) -> io::Result<()> {
    let socket = UdpSocket::bind("127.0.0.1:0").or_else(|_| UdpSocket::bind("0.0.0.0:0"))?;
    // SAFETY: zeros are a valid ifreq: it holds integers, characters and pointers.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    for (to, from) in request.ifr_name[..libc::IFNAMSIZ - 1]
        .iter_mut()
        .zip(device.bytes())
    {
        *to = from as libc::c_char;
    }
    request.ifr_ifru.ifru_data = command.as_mut_ptr().cast();
    // SAFETY: the socket is open, and ifr_data points to a command that is as long as its header
    // says, and outlives the call.
    match unsafe { libc::ioctl(socket.as_raw_fd(), libc::SIOCETHTOOL, &raw mut request) } {
        -1 => Err(io::Error::last_os_error()),
        _ => Ok(()),
    }
}
