//! How packets tell the time.

use aya::programs::{ProgramError, TestRun, TestRunOptions};
use lb_common::Clock;
use nix::time::{ClockId, clock_getres};

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
