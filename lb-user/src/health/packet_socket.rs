//! Packet sockets: whole frames, of every interface (packet(7)).

use std::{io, mem::MaybeUninit};

use socket2::{Domain, SockAddr, SockAddrStorage, Socket, Type};
use tokio::io::unix::AsyncFd;

use super::raw::BATCH;
use crate::raw_socket::{self, Field};

/// Sends frames, and receives those that are wanted.
pub(super) struct PacketSocket {
    socket: AsyncFd<Socket>,
    ethertype: u16,
}

impl PacketSocket {
    /// For frames of this type in which all these fields are as wanted.
    ///
    /// # Errors
    /// Not root.
    pub(super) fn open(ethertype: u16, wanted: &[Field]) -> io::Result<Self> {
        // Protocol 0: it receives nothing until the filter is there.
        let socket = Socket::new(Domain::PACKET, Type::RAW, None)?;
        socket.attach_filter(&raw_socket::program(Domain::PACKET, wanted))?;
        socket.set_nonblocking(true)?;
        socket.bind(&address(ethertype, 0))?;
        Ok(Self {
            // SAFETY: the socket is closed with this value and not before.
            socket: unsafe { AsyncFd::register(socket)? },
            ethertype,
        })
    }

    /// Sends a frame out of an interface.
    ///
    /// # Errors
    /// The kernel's: the interface is down, for one.
    pub(super) fn send(&self, ifindex: u32, frame: &[u8]) -> io::Result<()> {
        let to = address(self.ethertype, ifindex);
        self.socket.get_ref().send_to(frame, &to).map(drop)
    }

    /// Waits until there may be frames, and gives the first that are there to `take` with the interfaces that they came in
    /// by.
    pub(super) async fn receive(&self, mut take: impl FnMut(u32, &[u8])) {
        let Ok(mut ready) = self.socket.readable().await else {
            return;
        };
        let mut buffer = [MaybeUninit::uninit(); 256];
        for _ in 0..BATCH {
            match ready.try_io(|socket| socket.get_ref().recv_from(&mut buffer)) {
                Ok(Ok((length, from))) => {
                    // SAFETY: so many bytes were received.
                    let frame = unsafe { buffer[..length].assume_init_ref() };
                    take(interface(&from), frame);
                }
                // The next one may be good.
                Ok(Err(_)) => {}
                Err(_) => return,
            }
        }
    }
}

fn address(ethertype: u16, ifindex: u32) -> SockAddr {
    let mut storage = SockAddrStorage::zeroed();
    // SAFETY: the storage is zeroed, and larger than and aligned for a sockaddr_ll.
    let address = unsafe { storage.view_as::<libc::sockaddr_ll>() };
    address.sll_family = libc::AF_PACKET as u16;
    address.sll_protocol = ethertype.to_be();
    address.sll_ifindex = ifindex as i32;
    // SAFETY: the storage holds a sockaddr_ll, of that length.
    unsafe { SockAddr::new(storage, size_of::<libc::sockaddr_ll>() as libc::socklen_t) }
}

fn interface(from: &SockAddr) -> u32 {
    // SAFETY: the address of a packet socket.
    let address = unsafe { &*from.as_ptr().cast::<libc::sockaddr_ll>() };
    address.sll_ifindex as u32
}
