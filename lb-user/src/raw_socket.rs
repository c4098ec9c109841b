//! Raw sockets for ICMP and TCP, which get the messages that are wanted and no others.

use std::{ffi::c_int, io, os::fd::AsRawFd};

use libc::{
    BPF_B, BPF_H, BPF_IMM, BPF_IND, BPF_JEQ, BPF_JGE, BPF_JMP, BPF_K, BPF_LD, BPF_LDX, BPF_MSH,
    BPF_RET,
};
use nix::errno::Errno;
use socket2::{Domain, Protocol, SockFilter, Socket, Type};
use tokio::net::UdpSocket;

/// What a field of a message must be.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Field {
    /// The type of an ICMP message.
    Type(u8),
    /// The identifier of an echo request or reply (RFC 792, RFC 4443 section 4).
    Identifier(u16),
    /// The destination of a TCP segment, or a higher one.
    DestinationPortFrom(u16),
    /// Any byte, by its offset.
    Byte(u32, u8),
    /// Any two bytes, by their offset.
    Half(u32, u16),
}

/// A socket that gets the ICMP messages in which all these fields are as wanted. With IPv4 they begin with the IP
/// header. Datagrams are sent and received as with UDP; ports mean nothing.
///
/// # Errors
/// Not root, or no IP of this version (`EAFNOSUPPORT`).
pub(crate) fn icmp(domain: Domain, wanted: &[Field]) -> io::Result<UdpSocket> {
    let protocol = if domain == Domain::IPV4 {
        Protocol::ICMPV4
    } else {
        Protocol::ICMPV6
    };
    open(domain, protocol, wanted)
}

/// As [`icmp`], for TCP segments; whoever sends one computes its checksum.
///
/// # Errors
/// As [`icmp`].
pub(crate) fn tcp(domain: Domain, wanted: &[Field]) -> io::Result<UdpSocket> {
    open(domain, Protocol::TCP, wanted)
}

fn open(domain: Domain, protocol: Protocol, wanted: &[Field]) -> io::Result<UdpSocket> {
    let socket = Socket::new(domain, Type::RAW, Some(protocol))?;
    socket.attach_filter(&program(domain, wanted))?;
    socket.set_nonblocking(true)?;
    UdpSocket::from_std(socket.into())
}

/// Lets no packet of a socket be fragmented, neither here nor on the way, whatever was told of the way before.
///
/// # Errors
/// Those of `setsockopt(2)`.
pub(crate) fn dont_fragment(socket: &UdpSocket, domain: Domain) -> io::Result<()> {
    if domain == Domain::IPV4 {
        let probe = libc::IP_PMTUDISC_PROBE;
        set_option(socket, libc::IPPROTO_IP, libc::IP_MTU_DISCOVER, probe)
    } else {
        let probe = libc::IPV6_PMTUDISC_PROBE;
        set_option(socket, libc::IPPROTO_IPV6, libc::IPV6_MTU_DISCOVER, probe)?;
        set_option(socket, libc::IPPROTO_IPV6, libc::IPV6_DONTFRAG, 1)
    }
}

fn set_option(socket: &UdpSocket, level: c_int, option: c_int, value: c_int) -> io::Result<()> {
    let size = size_of_val(&value) as libc::socklen_t;
    let value = (&raw const value).cast();
    // SAFETY: the value is there, and has that size.
    let result = unsafe { libc::setsockopt(socket.as_raw_fd(), level, option, value, size) };
    Ok(Errno::result(result).map(drop)?)
}

/// A program of the classic BPF (the kernel's `Documentation/networking/filter.rst`). Offsets are those behind an IPv4
/// header, or else from the first byte on.
pub(crate) fn program(domain: Domain, wanted: &[Field]) -> Vec<SockFilter> {
    const EVERYTHING: u32 = u32::MAX;
    let length_of_ip_header = if domain == Domain::IPV4 {
        instruction(BPF_LDX | BPF_B | BPF_MSH, 0)
    } else {
        instruction(BPF_LDX | BPF_IMM, 0)
    };
    let mut program = vec![length_of_ip_header];
    for (index, field) in wanted.iter().enumerate() {
        let (size, offset, compare, value) = match *field {
            Field::Type(value) => (BPF_B, 0, BPF_JEQ, value.into()),
            Field::Identifier(value) => (BPF_H, 4, BPF_JEQ, value.into()),
            Field::DestinationPortFrom(port) => (BPF_H, 2, BPF_JGE, port.into()),
            Field::Byte(offset, value) => (BPF_B, offset, BPF_JEQ, value.into()),
            Field::Half(offset, value) => (BPF_H, offset, BPF_JEQ, value.into()),
        };
        // Past the instructions for the other fields, and the one that takes the message.
        let to_the_end = 2 * (wanted.len() - 1 - index) as u8 + 1;
        program.extend([
            instruction(BPF_LD | size | BPF_IND, offset),
            SockFilter::new((BPF_JMP | compare | BPF_K) as u16, 0, to_the_end, value),
        ]);
    }
    program.extend([
        instruction(BPF_RET | BPF_K, EVERYTHING),
        instruction(BPF_RET | BPF_K, 0),
    ]);
    program
}

const fn instruction(code: u32, k: u32) -> SockFilter {
    SockFilter::new(code as u16, 0, 0, k)
}

#[cfg(test)]
mod tests {
    use std::os::{fd::OwnedFd, unix::net::UnixDatagram};

    use rstest::rstest;

    use super::*;

    const WANTED: [Field; 2] = [Field::Type(129), Field::Identifier(0x1234)];
    const HEADER: [u8; 20] = [0x45; 20];
    const LONG_HEADER: [u8; 60] = [0x4f; 60];

    /// Whether a socket gets a message through the filter. The kernel shows filters the datagrams of Unix sockets as they are.
    fn takes(domain: Domain, wanted: &[Field], message: &[u8]) -> bool {
        let (from, to) = UnixDatagram::pair().unwrap();
        to.set_nonblocking(true).unwrap();
        let to = Socket::from(OwnedFd::from(to));
        to.attach_filter(&program(domain, wanted)).unwrap();
        let to = UnixDatagram::from(OwnedFd::from(to));
        from.send(message).unwrap();
        to.recv(&mut [0; 128]).is_ok()
    }

    #[rstest]
    #[case::wanted([129, 0, 9, 9, 0x12, 0x34, 9, 9], true)]
    #[case::other_type([128, 0, 9, 9, 0x12, 0x34, 9, 9], false)]
    #[case::other_identifier([129, 0, 9, 9, 0x34, 0x12, 9, 9], false)]
    #[case::other_in_both([0, 0, 9, 9, 0, 0, 9, 9], false)]
    fn only_wanted_messages_are_taken(#[case] message: [u8; 8], #[case] taken: bool) {
        assert_eq!(takes(Domain::IPV6, &WANTED, &message), taken);
        for header in [&HEADER[..], &LONG_HEADER] {
            let packet = [header, &message].concat();
            assert_eq!(takes(Domain::IPV4, &WANTED, &packet), taken);
        }
        let ports = [Field::DestinationPortFrom(0x0909)];
        assert!(takes(Domain::IPV6, &ports, &message));
        assert!(!takes(
            Domain::IPV6,
            &[Field::DestinationPortFrom(0x090a)],
            &message
        ));
        let by_type = takes(Domain::IPV6, &WANTED[..1], &message);
        assert_eq!(by_type, message[0] == 129);
    }

    #[test]
    fn messages_that_end_too_soon_are_not_taken() {
        assert!(!takes(Domain::IPV6, &WANTED, &[129, 0, 9, 9, 0x12]));
        assert!(!takes(Domain::IPV4, &WANTED, &HEADER));
    }
}
