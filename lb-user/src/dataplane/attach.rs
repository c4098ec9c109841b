//! Attaches a program to interfaces, by links that are pinned and so outlive the process.

use std::{
    collections::{HashMap, HashSet},
    error::Error,
    fs, io,
    path::{Path, PathBuf},
};

use aya::programs::{
    ProgramError,
    links::{FdLink, PinnedLink},
    xdp::{XdpLink, XdpLinkId, XdpMode as AyaMode},
};
use tracing::{info, warn};

use super::{Pins, Program, pins::PinError};
use crate::{
    config::{Interface, XdpMode},
    net::View,
};

/// Why a program can't be attached to an interface.
#[derive(Debug, thiserror::Error)]
pub enum AttachError {
    /// There is no such interface.
    #[error("interface {interface} does not exist")]
    NoInterface {
        /// Its name.
        interface: String,
    },
    /// Another program is there.
    #[error(
        "another XDP program is attached to {interface} (`ip link show {interface}` names it): if it is one of lb with other pins, end it with `lb stop --pin-path` or `lb decap --stop --pin-path`, else with `ip link set {interface} xdp off`"
    )]
    Busy {
        /// Its name.
        interface: String,
    },
    /// The driver has no XDP.
    #[error("{interface} can't run XDP in {mode} mode; try {other} mode")]
    Refused {
        /// Its name.
        interface: String,
        /// How it was tried.
        mode: XdpMode,
        /// What could be tried instead.
        other: XdpMode,
        /// What the kernel says.
        source: ProgramError,
    },
    /// A link is alive, but not on an interface here.
    #[error(
        "{pin} is the link of another network namespace's {interface}: run lb there, or give this one a pin_path of its own"
    )]
    Elsewhere {
        /// The interface's name.
        interface: String,
        /// The link's pin.
        pin: PathBuf,
    },
    /// A link is alive, in another mode than is wanted.
    #[error(
        "XDP is attached to {interface} in {attached} mode, and {wanted} mode is asked for: end it with `lb stop` (or `lb decap --stop`) first"
    )]
    OtherMode {
        /// The interface's name.
        interface: String,
        /// How the link is attached.
        attached: XdpMode,
        /// How it should be.
        wanted: XdpMode,
    },
    /// A link can't be used.
    #[error("can't use the link of {interface}")]
    Link {
        /// Its interface's name.
        interface: String,
        /// Why not.
        source: Box<dyn Error + Send + Sync>,
    },
    /// A pin can't be made or removed.
    #[error(transparent)]
    Pin(#[from] PinError),
}

/// The interfaces that a program is attached to.
#[derive(Default)]
pub struct Attachments {
    links: HashMap<String, Attachment>,
    /// What was last said of interfaces that can't be served.
    problems: HashMap<String, String>,
}

struct Attachment {
    link: XdpLinkId,
    ifindex: u32,
}

impl Attachments {
    /// Attaches the program to an interface, if it isn't yet; a pinned link of an earlier process gets the new
    /// program in one step, so that no packet is lost.
    pub fn attach(
        &mut self,
        program: &mut Program,
        pins: &Pins,
        interface: &Interface,
    ) -> Result<(), AttachError> {
        let name = &interface.name;
        let no_interface = |_| AttachError::NoInterface {
            interface: name.clone(),
        };
        let ifindex = nix::net::if_::if_nametoindex(name.as_str()).map_err(no_interface)?;
        if let Some(attached) = self.links.get(name) {
            if attached.ifindex == ifindex {
                return Ok(());
            }
            // The interface was deleted and made again, and the link went with the old one.
            self.detach(program, pins, name)?;
        }
        let pin = pins.link(name);
        let taken_over = if pin.exists() {
            take_over(program, &pin, name)?
        } else {
            None
        };
        let link = match taken_over {
            Some(link) => {
                info!(interface = %name, "took the interface over");
                link
            }
            None => attach_new(program, &pin, interface)?,
        };
        self.links
            .insert(name.clone(), Attachment { link, ifindex });
        Ok(())
    }

    /// Lets go of all links: the names of their interfaces. [`Self::attach`] then gives each its program anew.
    pub fn release(&mut self, program: &mut Program) -> HashSet<String> {
        let links = self.links.drain().map(|(name, attached)| {
            // The pin is what holds the link.
            let _ = program.xdp().detach(attached.link);
            name
        });
        links.collect()
    }

    /// Whether the program is attached to an interface of this name.
    pub fn is_attached(&self, interface: &str) -> bool {
        let ifindex = nix::net::if_::if_nametoindex(interface);
        let attached = self.links.get(interface);
        attached.is_some_and(|attached| ifindex == Ok(attached.ifindex))
    }

    /// Attaches the program to those of the interfaces that it can be attached to now, and warns of each other one
    /// once.
    pub fn follow(&mut self, program: &mut Program, pins: &Pins, interfaces: &[Interface]) {
        for interface in interfaces {
            let name = &interface.name;
            let Err(error) = self.attach(program, pins, interface) else {
                self.problems.remove(name);
                continue;
            };
            let problem = format!("{:#}", anyhow::Error::from(error));
            if self.problems.get(name) != Some(&problem) {
                warn!("{problem}; trying again when the network changes");
                self.problems.insert(name.clone(), problem);
            }
        }
    }

    /// Detaches the program from every interface but these.
    pub fn retain(
        &mut self,
        program: &mut Program,
        pins: &Pins,
        interfaces: &[Interface],
    ) -> Result<(), AttachError> {
        for name in pins.linked_interfaces()? {
            if !interfaces.iter().any(|interface| interface.name == name) {
                self.detach(program, pins, &name)?;
                info!(interface = %name, "detached");
            }
        }
        Ok(())
    }

    fn detach(
        &mut self,
        program: &mut Program,
        pins: &Pins,
        name: &str,
    ) -> Result<(), AttachError> {
        if let Some(attached) = self.links.remove(name) {
            // The pin is what holds the link, and it is removed next.
            let _ = program.xdp().detach(attached.link);
        }
        Ok(pins.unlink_interface(name)?)
    }
}

/// Makes sure that an interface is there, and that no other XDP program is.
pub fn check_interface(
    pins: &Pins,
    network: &View,
    Interface { name, .. }: &Interface,
) -> Result<(), AttachError> {
    let interface = name.clone();
    match network.interfaces.get(name) {
        None => Err(AttachError::NoInterface { interface }),
        Some(known) if known.xdp.is_some() && !pins.link(name).exists() => {
            Err(AttachError::Busy { interface })
        }
        Some(_) => Ok(()),
    }
}

/// Makes sure that the pinned links are of interfaces in this network namespace, or of none any more, and are attached
/// in the mode that is wanted. Network namespaces may share a BPF file system, and what is pinned for one must not be
/// filled with the network of another; and a link keeps its mode for life.
pub fn check_links(
    pins: &Pins,
    network: &View,
    interfaces: &[Interface],
) -> Result<(), AttachError> {
    for pinned_for in pins.linked_interfaces()? {
        let pin = pins.link(&pinned_for);
        let link = FdLink::from(PinnedLink::from_pin(&pin).map_err(unusable(&pinned_for))?);
        let info = link.info().map_err(unusable(&pinned_for))?;
        let ifindex = interface_of(info.id()).map_err(unusable(&pinned_for))?;
        if ifindex == 0 {
            continue;
        }
        // By its index: it may have another name now.
        let here = network.interfaces.iter().find_map(|(name, interface)| {
            let xdp = interface.xdp.filter(|xdp| xdp.id == info.program_id())?;
            (interface.ifindex == ifindex).then_some((name, xdp))
        });
        let Some((name, xdp)) = here else {
            return Err(AttachError::Elsewhere {
                interface: pinned_for,
                pin,
            });
        };
        let attached = if xdp.generic {
            XdpMode::Generic
        } else {
            XdpMode::Native
        };
        let configured = interfaces.iter().find(|interface| interface.name == *name);
        if let Some(&Interface { xdp: wanted, .. }) = configured
            && wanted != XdpMode::Auto
            && wanted != attached
        {
            return Err(AttachError::OtherMode {
                interface: name.clone(),
                attached,
                wanted,
            });
        }
    }
    Ok(())
}

/// Whether all interfaces that something is pinned for are gone, perhaps with their network namespace, and some were there.
pub fn are_gone(pins: &Pins) -> Result<bool, AttachError> {
    let interfaces = pins.linked_interfaces()?;
    for name in &interfaces {
        let pinned = PinnedLink::from_pin(pins.link(name)).map_err(unusable(name))?;
        let link = FdLink::from(pinned);
        let info = link.info().map_err(unusable(name))?;
        if interface_of(info.id()).map_err(unusable(name))? != 0 {
            return Ok(false);
        }
    }
    Ok(!interfaces.is_empty())
}

/// The index of the interface of an XDP link, of which this process has a descriptor; 0 when it is gone
/// (kernel: net/core/dev.c, `bpf_xdp_link_show_fdinfo`).
fn interface_of(link: u32) -> io::Result<u32> {
    let id = format!("link_id:\t{link}\n");
    for descriptor in fs::read_dir("/proc/self/fdinfo")? {
        // A descriptor may be closed meanwhile.
        let text = fs::read_to_string(descriptor?.path()).unwrap_or_default();
        let ifindex = || {
            text.lines()
                .find_map(|line| line.strip_prefix("ifindex:\t"))
        };
        if text.contains(&id)
            && let Some(Ok(ifindex)) = ifindex().map(str::parse)
        {
            return Ok(ifindex);
        }
    }
    Err(io::Error::other(
        "/proc/self/fdinfo does not tell its interface",
    ))
}

fn unusable<E: Into<Box<dyn Error + Send + Sync>>>(interface: &str) -> impl Fn(E) -> AttachError {
    move |error| AttachError::Link {
        interface: interface.to_owned(),
        source: error.into(),
    }
}

/// Gives the pinned link our program; `None` if the link's interface is gone.
fn take_over(
    program: &mut Program,
    pin: &Path,
    name: &str,
) -> Result<Option<XdpLinkId>, AttachError> {
    let pinned = PinnedLink::from_pin(pin).map_err(unusable(name))?;
    let link = XdpLink::try_from(FdLink::from(pinned)).map_err(unusable(name))?;
    match program.xdp().attach_to_link(link) {
        Ok(link) => Ok(Some(link)),
        Err(error) if errno(&error) == Some(libc::ENOLINK) => {
            fs::remove_file(pin).map_err(unusable(name))?;
            Ok(None)
        }
        Err(error) => Err(unusable(name)(error)),
    }
}

fn attach_new(
    program: &mut Program,
    pin: &Path,
    interface: &Interface,
) -> Result<XdpLinkId, AttachError> {
    let name = &interface.name;
    let (mode, link) = match interface.xdp {
        XdpMode::Native => (XdpMode::Native, try_attach(program, name, XdpMode::Native)?),
        XdpMode::Generic => (
            XdpMode::Generic,
            try_attach(program, name, XdpMode::Generic)?,
        ),
        XdpMode::Auto => match try_attach(program, name, XdpMode::Native) {
            Ok(link) => (XdpMode::Native, link),
            Err(AttachError::Refused { source, .. }) => {
                let reason = anyhow::Error::from(source);
                warn!(interface = %name, "no native XDP ({reason:#}): generic mode is slower");
                (
                    XdpMode::Generic,
                    try_attach(program, name, XdpMode::Generic)?,
                )
            }
            Err(error) => return Err(error),
        },
    };
    // aya falls back to an attachment without a link where the kernel has none; that can't be pinned.
    let link = program.xdp().take_link(link).map_err(unusable(name))?;
    let link = FdLink::try_from(link).map_err(unusable(name))?;
    let pinned = link.pin(pin).map_err(unusable(name))?;
    let link = XdpLink::try_from(FdLink::from(pinned)).map_err(unusable(name))?;
    info!(interface = %name, %mode, "attached");
    program.xdp().attach_to_link(link).map_err(unusable(name))
}

fn try_attach(program: &mut Program, name: &str, mode: XdpMode) -> Result<XdpLinkId, AttachError> {
    let (flags, other) = match mode {
        XdpMode::Generic => (AyaMode::Skb, XdpMode::Native),
        XdpMode::Native | XdpMode::Auto => (AyaMode::Driver, XdpMode::Generic),
    };
    program
        .xdp()
        .attach(name, flags)
        .map_err(|source| match errno(&source) {
            Some(libc::EBUSY | libc::EEXIST) => AttachError::Busy {
                interface: name.to_owned(),
            },
            _ => AttachError::Refused {
                interface: name.to_owned(),
                mode,
                other,
                source,
            },
        })
}

fn errno(error: &ProgramError) -> Option<i32> {
    match error {
        ProgramError::SyscallError(error) => error.io_error.raw_os_error(),
        _ => None,
    }
    .or_else(|| error.source()?.downcast_ref::<io::Error>()?.raw_os_error())
}

#[cfg(test)]
mod tests {
    use aya::sys::SyscallError;

    use super::*;

    #[test]
    fn an_error_tells_what_the_kernel_said() {
        let refused = ProgramError::SyscallError(SyscallError {
            call: "bpf_link_update",
            io_error: io::Error::from_raw_os_error(libc::EPERM),
        });
        let error = format!("{:#}", anyhow::Error::from(unusable("eth0")(refused)));
        assert!(error.starts_with("can't use the link of eth0: "), "{error}");
        assert!(error.contains("os error 1"), "{error}");
    }
}
