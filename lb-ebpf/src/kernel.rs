//! What the kernel programs have in common: the library's [`Packet`](crate::Packet) over an XDP context and over a socket buffer, the
//! panic handler, the licence.

pub mod packet;
pub mod socket_buffer;

pub use packet::XdpPacket;
pub use socket_buffer::SocketBuffer;

#[panic_handler]
fn panic(_info: &core::panic::PanicInfo<'_>) -> ! {
    loop {}
}

#[unsafe(link_section = "license")]
#[unsafe(no_mangle)]
static LICENSE: [u8; 13] = *b"Dual MIT/GPL\0";
