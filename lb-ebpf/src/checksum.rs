//! The Internet checksum (RFC 1071).

/// A sum in progress. It takes words as they lie in the packet: the sum does not depend on the byte order
/// (RFC 1071 section 2).
#[derive(Clone, Copy, Default)]
pub struct Checksum(u64);

impl Checksum {
    /// Adds four bytes.
    #[inline(always)]
    pub const fn add_u32(self, loaded: u32) -> Self {
        Self(self.0 + loaded as u64)
    }

    /// Adds eight bytes.
    #[inline(always)]
    pub const fn add_u64(self, loaded: u64) -> Self {
        self.add_u32(loaded as u32).add_u32((loaded >> 32) as u32)
    }

    /// The checksum as it is stored in a packet.
    #[inline(always)]
    pub const fn finish(self) -> u16 {
        // After this there are less than 32 bits, of as many words as a packet has. Added to itself with its halves swapped, a
        // word has the sum of both in its upper half, what the lower half carries included.
        let sum = ((self.0 & 0xffff) + (self.0 >> 16)) as u32;
        let twice = sum.wrapping_mul(0x1_0001).wrapping_add(sum >> 16);
        !((twice >> 16) as u16)
    }
}

/// A stored checksum after two bytes that it covers have changed (RFC 1624 equation 3). All as they lie in
/// the packet.
#[inline(always)]
pub const fn update(checksum: u16, old: u16, new: u16) -> u16 {
    let sum = !checksum as u32 + !old as u32 + new as u32;
    let sum = (sum & 0xffff) + (sum >> 16);
    !((sum & 0xffff) + (sum >> 16)) as u16
}

#[cfg(test)]
mod tests;
