//! How packets tell the time.

use std::{fs, sync::LazyLock};

use aya::programs::{ProgramError, TestRun, TestRunOptions};
use lb_common::Clock;
use nix::time::{ClockId, clock_getres, clock_gettime};

use super::{LoadError, Object, Pins};

/// The clock of this kernel.
///
/// # Errors
/// The program that reads it can't be loaded or run.
pub fn read(pins: &Pins) -> Result<Clock, LoadError> {
    let failed = |source: ProgramError| LoadError::Program {
        name: "clock",
        source,
    };
    // Longer than what is written, because a frame is.
    const WORDS: usize = 4;
    let mut words = [0_u64; WORDS];
    let packet = [0; WORDS * size_of::<u64>()];
    let mut program = Object::CLOCK.load(pins, &[])?;
    let options = TestRunOptions {
        data_in: Some(&packet),
        data_out: Some(bytemuck::cast_slice_mut(&mut words)),
        ..TestRunOptions::new()
    };
    program.xdp().test_run(options).map_err(failed)?;
    // The coarse clock moves on at each tick (kernel/time/posix-timers.c, `posix_get_coarse_res`).
    let tick = clock_getres(ClockId::CLOCK_MONOTONIC_COARSE).expect("the kernel has this clock");
    let jiffy = tick.tv_nsec().cast_unsigned();
    let [now, jiffies, ..] = words;
    let offset = now.wrapping_sub(jiffies.wrapping_mul(jiffy));
    Ok(Clock { jiffy, offset })
}

/// The time that packets see, in nanoseconds: that of the machine's monotonic clock. In a time namespace
/// (time_namespaces(7)), as in a container that was moved from another machine, this process's own clock differs from it.
pub fn monotonic(clock: ClockId) -> u64 {
    static OFFSET: LazyLock<i64> = LazyLock::new(|| {
        let offsets = fs::read_to_string("/proc/self/timens_offsets");
        // Without the file there are no time namespaces.
        offsets.map_or(0, |text| namespace_offset(&text).unwrap_or(0))
    });

    let own = clock_gettime(clock).expect("the kernel has this clock");
    let own = own.tv_sec() * 1_000_000_000 + own.tv_nsec();
    (own - *OFFSET).cast_unsigned()
}

/// Nanoseconds that the monotonic clock of a time namespace is ahead of the machine's, in its file `timens_offsets`.
fn namespace_offset(text: &str) -> Option<i64> {
    let line = text
        .lines()
        .find_map(|line| line.strip_prefix("monotonic"))?;
    let mut numbers = line.split_whitespace().map(str::parse::<i64>);
    let (seconds, nanoseconds) = (numbers.next()?.ok()?, numbers.next()?.ok()?);
    Some(seconds * 1_000_000_000 + nanoseconds)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_namespace_says_how_far_its_clock_is_off() {
        for (line, offset) in [
            ("monotonic           0         0", 0),
            ("monotonic       86400         5", 86_400_000_000_005),
            // The nanoseconds count forward.
            ("monotonic         -10 500000000", -9_500_000_000),
        ] {
            let text = format!("{line}\nboottime            7         0\n");
            assert_eq!(namespace_offset(&text), Some(offset), "{line}");
        }
        assert_eq!(namespace_offset("boottime 7 0\n"), None);
    }
}
