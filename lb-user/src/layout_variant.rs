//! The binary `lb` with maps of another layout, for the tests of upgrades alone.

use std::process::ExitCode;

fn main() -> ExitCode {
    lb_user::cli::main()
}
