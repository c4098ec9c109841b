//! Tells a client that there is no connection: a TCP RST in answer to its packet, as from a closed port (RFC 9293
//! section 3.10.7.1).

use lb_common::{DropReason, protocol::TCP};

use crate::{
    Verdict,
    checksum::Checksum,
    frame::{Frame, Packet},
    ip_header::{TTL, write_ipv4, write_ipv6},
    parse::{
        ETHERNET, IPV4, IPV6, IpPacket, TCP_HEADER,
        tcp_flag::{ACK, FIN, RST, SYN},
    },
    tables::State,
};

/// Turns a TCP packet into the RST that answers it. `reason` is counted.
#[inline(always)]
pub fn answer(
    packet: &mut impl Packet,
    tables: &impl State,
    ip: &IpPacket,
    reason: DropReason,
) -> Verdict {
    let done = if ip.flow.is_ipv4() {
        Reset::to(packet.frame(), ip)
            .filter(|_| cut(packet, ip.offset() + IPV4 + TCP_HEADER))
            .and_then(|reset| reset.write_v4(packet.frame(), ip))
    } else {
        Reset::to(packet.frame(), ip)
            .filter(|_| cut(packet, ip.offset() + IPV6 + TCP_HEADER))
            .and_then(|reset| reset.write_v6(packet.frame(), ip))
    };
    match done {
        Some(()) => {
            tables.count_drop(reason);
            Verdict::Transmit
        }
        None => Verdict::Drop(reason),
    }
}

#[inline(always)]
fn cut(packet: &mut impl Packet, length: usize) -> bool {
    let excess = length as i32 - packet.len() as i32;
    excess == 0 || packet.adjust_tail(excess)
}

/// The words of the TCP header, as they lie in the packet.
struct Reset([u32; 5]);

impl Reset {
    /// The RST that answers a segment.
    ///
    /// ```text
    ///  0                   1                   2                   3
    ///  0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1
    /// +-------------------------------+-------------------------------+
    /// |          source port          |       destination port        |
    /// +-------------------------------+-------------------------------+
    /// |                        sequence number                        |
    /// +---------------------------------------------------------------+
    /// |                    acknowledgment number                      |
    /// +-------+-------+---------------+-------------------------------+
    /// | offset| zeros |     flags     |            window             |
    /// +-------+-------+---------------+-------------------------------+
    /// |           checksum            |        urgent pointer         |
    /// +-------------------------------+-------------------------------+
    /// ```
    #[inline(always)]
    fn to(frame: Frame<'_>, ip: &IpPacket) -> Option<Self> {
        const LENGTH: u8 = (TCP_HEADER as u8 / 4) << 4;

        if ip.header_length() == 0 {
            return None;
        }
        let segment = frame
            .skip_to(ip.offset() + ip.header_length())?
            .view::<TCP_HEADER>()?;
        let ports = segment.u32::<0>().rotate_left(16);
        let flags = segment.u8::<13>();
        let (sequence, acknowledgment, flags) = if flags & ACK != 0 {
            (segment.u32::<8>(), 0, RST)
        } else {
            let headers = ip.header_length() as u32 + u32::from(segment.u8::<12>() >> 4) * 4;
            let controls = u32::from(flags & SYN != 0) + u32::from(flags & FIN != 0);
            let length = ip.length.saturating_sub(headers) + controls;
            let end = u32::from_be(segment.u32::<4>()).wrapping_add(length);
            (0, end.to_be(), RST | ACK)
        };
        let offset_and_flags = u32::from_ne_bytes([LENGTH, flags, 0, 0]);
        Some(Self([ports, sequence, acknowledgment, offset_and_flags, 0]))
    }

    /// Writes headers from the VIP to the client.
    #[inline(always)]
    fn write_v4(&self, frame: Frame<'_>, ip: &IpPacket) -> Option<()> {
        const LENGTH: u16 = (IPV4 + TCP_HEADER) as u16;
        const DONT_FRAGMENT: u32 = u32::from_be(0x4000);

        turn_round(frame)?;
        let (source, destination) = (
            (ip.flow.destination[1] >> 32) as u32,
            (ip.flow.source[1] >> 32) as u32,
        );
        let packet = frame.skip(ip.offset())?;
        let words = [
            u32::from_be(0x4500_0000 | LENGTH as u32),
            DONT_FRAGMENT,
            u32::from_ne_bytes([TTL, TCP, 0, 0]),
            source,
            destination,
        ];
        write_ipv4(packet.view::<IPV4>()?, words);
        let addresses = Checksum::default().add_u32(source).add_u32(destination);
        self.write(packet.skip(IPV4)?, addresses)
    }

    /// As [`Self::write_v4`].
    #[inline(always)]
    fn write_v6(&self, frame: Frame<'_>, ip: &IpPacket) -> Option<()> {
        const VERSION_6: u32 = 6 << 28;

        turn_round(frame)?;
        let (source, destination) = (ip.flow.destination, ip.flow.source);
        let packet = frame.skip(ip.offset())?;
        let header = packet.view::<IPV6>()?;
        write_ipv6(
            header,
            VERSION_6,
            TCP_HEADER as u16,
            TCP,
            source,
            destination,
        );
        let addresses = Checksum::default()
            .add_u64(source[0])
            .add_u64(source[1])
            .add_u64(destination[0])
            .add_u64(destination[1]);
        self.write(packet.skip(IPV6)?, addresses)
    }

    /// `addresses` is the part of the pseudo-header that differs between the families.
    #[inline(always)]
    fn write(&self, segment: Frame<'_>, addresses: Checksum) -> Option<()> {
        let header = segment.view::<TCP_HEADER>()?;
        let checksum = self
            .0
            .into_iter()
            .fold(addresses, Checksum::add_u32)
            .add_u32(u32::from(TCP).to_be())
            .add_u32((TCP_HEADER as u32).to_be())
            .finish();
        header.set_u32::<0>(self.0[0]);
        header.set_u32::<4>(self.0[1]);
        header.set_u32::<8>(self.0[2]);
        header.set_u32::<12>(self.0[3]);
        header.set_u32::<16>(u32::from(checksum));
        Some(())
    }
}

/// The frame goes back to where it came from.
#[inline(always)]
fn turn_round(frame: Frame<'_>) -> Option<()> {
    let header = frame.view::<ETHERNET>()?;
    let (ours, theirs) = (header.mac::<0>(), header.mac::<6>());
    header.set_mac::<0>(theirs);
    header.set_mac::<6>(ours);
    Some(())
}
