//! A name inside a map value.

use bytemuck::{Pod, Zeroable};

/// A name from the configuration, in UTF-8, filled up with zeros. It tells who reads the map with
/// bpftool what an entry is, and a daemon that starts which entry is whose.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Pod, Zeroable)]
pub struct Name {
    bytes: [u8; Name::MAX + 1],
}

impl Name {
    /// Bytes in the longest name.
    pub const MAX: usize = if cfg!(feature = "layout-variant") {
        127
    } else {
        63
    };

    /// `None` if `name` is longer than [`Name::MAX`] bytes.
    pub fn new(name: &str) -> Option<Self> {
        let mut bytes = [0; Self::MAX + 1];
        bytes[..Self::MAX]
            .get_mut(..name.len())?
            .copy_from_slice(name.as_bytes());
        Some(Self { bytes })
    }

    /// Whether there is no name.
    #[inline(always)]
    pub const fn is_empty(&self) -> bool {
        self.bytes[0] == 0
    }

    /// Whether both are the same name. As `==`, for the kernel, which has no `memcmp`.
    #[inline(always)]
    pub fn is(&self, other: &Self) -> bool {
        let pairs = self.bytes.iter().zip(&other.bytes);
        pairs.fold(0, |differences, (one, two)| differences | (one ^ two)) == 0
    }

    /// `None` if the entry holds no valid name.
    pub fn as_str(&self) -> Option<&str> {
        let length = self.bytes.iter().position(|&byte| byte == 0)?;
        core::str::from_utf8(&self.bytes[..length]).ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_keeps_its_text() {
        assert_eq!(Name::new("web-1").unwrap().as_str(), Some("web-1"));
        assert_eq!(Name::zeroed().as_str(), Some(""));
    }

    #[test]
    fn the_longest_name_fits_and_a_longer_one_is_refused() {
        let longest = core::str::from_utf8(&[b'x'; Name::MAX]).unwrap();
        assert_eq!(Name::new(longest).unwrap().as_str(), Some(longest));
        let longer = core::str::from_utf8(&[b'x'; Name::MAX + 1]).unwrap();
        assert_eq!(Name::new(longer), None);
    }
}
