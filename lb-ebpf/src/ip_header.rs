//! New IP headers: the outer one of L3 DSR, and those of ICMP errors.

use lb_common::address::AddressWords;

use crate::{
    checksum::Checksum,
    frame::View,
    parse::{IPV4, IPV6},
};

/// TTL and hop limit of new packets: the default that IANA recommends (RFC 1700).
pub const TTL: u8 = 64;

/// Writes an IPv4 header without options, given its words as they lie in the packet, with a checksum of 0.
#[inline(always)]
pub fn write_ipv4(header: View<'_, IPV4>, words: [u32; 5]) {
    let checksum = words
        .into_iter()
        .fold(Checksum::default(), Checksum::add_u32);
    header.set_u32::<0>(words[0]);
    header.set_u32::<4>(words[1]);
    header.set_u32::<8>(words[2] | u32::from(checksum.finish()) << 16);
    header.set_u32::<12>(words[3]);
    header.set_u32::<16>(words[4]);
}

/// Writes an IPv6 header: its first word and the length of what follows it in host byte order.
#[inline(always)]
pub fn write_ipv6(
    header: View<'_, IPV6>,
    first: u32,
    length: u16,
    next_header: u8,
    source: AddressWords,
    destination: AddressWords,
) {
    header.set_u32::<0>(first.to_be());
    header.set_u16::<4>(length.to_be());
    header.set_u8::<6>(next_header);
    header.set_u8::<7>(TTL);
    header.set_u64::<8>(source[0]);
    header.set_u64::<16>(source[1]);
    header.set_u64::<24>(destination[0]);
    header.set_u64::<32>(destination[1]);
}
