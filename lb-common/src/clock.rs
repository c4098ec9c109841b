//! How packets tell the time.

use bytemuck::{Pod, Zeroable};

/// What makes nanoseconds of the monotonic clock of the kernel's timer ticks, which a program reads by one load
/// (`bpf_jiffies64`), where asking for the time is a call of a function. Both stand still while the machine sleeps.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Pod, Zeroable)]
pub struct Clock {
    /// Nanoseconds of a timer tick.
    pub jiffy: u64,
    /// The time when the count of ticks was 0, as a number that wraps: the kernel begins to count five minutes before 2^32.
    pub offset: u64,
}

impl Clock {
    /// The time, as exact as a timer tick.
    #[inline(always)]
    pub const fn now(self, jiffies: u64) -> u64 {
        self.offset.wrapping_add(jiffies.wrapping_mul(self.jiffy))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_time_goes_on_while_the_count_of_ticks_passes_2_to_the_32() {
        // As with CONFIG_HZ=250 (include/linux/jiffies.h: INITIAL_JIFFIES).
        const AT_BOOT: u64 = (1 << 32) - 300 * 250;
        let jiffy = 4_000_000;
        let clock = Clock {
            jiffy,
            offset: 0_u64.wrapping_sub(AT_BOOT * jiffy),
        };
        assert_eq!(clock.now(AT_BOOT), 0);
        assert_eq!(clock.now((1 << 32) - 1), 299_996_000_000);
        assert_eq!(clock.now(1 << 32), 300_000_000_000);
    }
}
