//! Ethernet frames built by hand, sent and received.

use std::{
    io::{self, IoSliceMut},
    os::fd::{AsRawFd, RawFd},
    time::{Duration, Instant},
};

use nix::{
    cmsg_space,
    errno::Errno,
    net::if_::if_nametoindex,
    sys::socket::{ControlMessageOwned, MsgFlags, recvmsg},
};
use socket2::{Domain, SockAddr, SockAddrStorage, Socket, Type};

use crate::Namespace;

/// Sends and receives whole frames on one device (packet(7)).
#[derive(Debug)]
pub struct PacketSocket {
    socket: Socket,
}

impl PacketSocket {
    /// Opens a socket on a device of a namespace. It sees every frame that arrives there from now on,
    /// whomever it is addressed to.
    pub fn open(namespace: &Namespace, device: &str) -> Self {
        let open = || -> io::Result<Socket> {
            // Protocol 0: it receives nothing until it is bound to the device.
            let socket = Socket::new(Domain::PACKET, Type::RAW, None)?;
            enable(&socket, libc::PACKET_AUXDATA)?;
            enable(&socket, libc::PACKET_IGNORE_OUTGOING)?;
            socket.bind(&every_frame_of(if_nametoindex(device)?))?;
            Ok(socket)
        };
        let socket = namespace.run(open);
        let context = |error| {
            panic!(
                "no packet socket on {device} in {}: {error}",
                namespace.name()
            )
        };
        Self {
            socket: socket.unwrap_or_else(context),
        }
    }

    /// Sends one frame, from its destination MAC address on, without the checksum at its end.
    pub fn send(&self, frame: &[u8]) {
        self.socket.send(frame).expect("the frame fits the device");
    }

    /// Sends frames as fast as it can, from the beginning again and again, for so long and so many at most. Returns how many
    /// the device had room for.
    pub fn flood(&self, frames: &[Vec<u8>], time: Duration, most: usize) -> usize {
        let begin = Instant::now();
        let frames = frames.iter().cycle().take(most);
        let in_time = frames.take_while(|_| begin.elapsed() < time);
        in_time
            .filter(|frame| self.socket.send(frame).is_ok())
            .count()
    }

    /// The next frame that `wanted` accepts, with its VLAN tags; `None` if none comes in time.
    pub fn receive(&self, within: Duration, wanted: impl Fn(&[u8]) -> bool) -> Option<Vec<u8>> {
        let deadline = Instant::now() + within;
        loop {
            let left = deadline.checked_duration_since(Instant::now())?;
            // A timeout of zero would wait for ever.
            self.socket
                .set_read_timeout(Some(left.max(Duration::from_millis(1))))
                .expect("a socket");
            match next_frame(self.socket.as_raw_fd()) {
                Ok(frame) if wanted(&frame) => return Some(frame),
                Ok(_) | Err(Errno::EINTR) => {}
                Err(Errno::EAGAIN) => return None,
                Err(error) => panic!("cannot receive frames: {error}"),
            }
        }
    }
}

/// Receives a frame and puts back the outer VLAN tag, which the kernel takes out (packet(7),
/// PACKET_AUXDATA).
fn next_frame(socket: RawFd) -> nix::Result<Vec<u8>> {
    let mut buffer = vec![0; 1 << 16];
    let mut control = cmsg_space!(libc::tpacket_auxdata);
    let mut slices = [IoSliceMut::new(&mut buffer)];
    let message = recvmsg::<()>(socket, &mut slices, Some(&mut control), MsgFlags::empty())?;
    let tag = message.cmsgs()?.find_map(|message| match message {
        ControlMessageOwned::Unknown(auxdata) => vlan_tag(&auxdata.data_bytes),
        _ => None,
    });
    let length = message.bytes;
    buffer.truncate(length);
    buffer.splice(12..12, tag.into_iter().flatten());
    Ok(buffer)
}

/// The tag in a `struct tpacket_auxdata`, as it stood in the frame.
fn vlan_tag(auxdata: &[u8]) -> Option<[u8; 4]> {
    let [s0, s1, s2, s3, .., c0, c1, p0, p1]: [u8; size_of::<libc::tpacket_auxdata>()] =
        *auxdata.first_chunk()?;
    let tagged = u32::from_ne_bytes([s0, s1, s2, s3]) & libc::TP_STATUS_VLAN_VALID != 0;
    let [tci, tpid] = [[c0, c1], [p0, p1]].map(|field| u16::from_ne_bytes(field).to_be_bytes());
    tagged.then_some([tpid[0], tpid[1], tci[0], tci[1]])
}

/// Switches an option of packet(7) on.
fn enable(socket: &Socket, option: libc::c_int) -> io::Result<()> {
    let on: libc::c_int = 1;
    // SAFETY: the socket is open, and the value is an int that outlives the call.
    let result = unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            libc::SOL_PACKET,
            option,
            (&raw const on).cast(),
            size_of_val(&on) as libc::socklen_t,
        )
    };
    if result == 0 {
        Ok(())
    } else {
        Err(io::Error::last_os_error())
    }
}

/// Every frame of a device, as an address to bind to.
fn every_frame_of(device: u32) -> SockAddr {
    let mut storage = SockAddrStorage::zeroed();
    // SAFETY: the storage is zeroed, and larger than and aligned for a sockaddr_ll.
    let address = unsafe { storage.view_as::<libc::sockaddr_ll>() };
    address.sll_family = libc::AF_PACKET as u16;
    address.sll_protocol = (libc::ETH_P_ALL as u16).to_be();
    address.sll_ifindex = device as i32;
    // SAFETY: the storage holds a sockaddr_ll, of that length.
    unsafe { SockAddr::new(storage, size_of::<libc::sockaddr_ll>() as libc::socklen_t) }
}
