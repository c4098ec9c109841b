//! The table of packet tests: what becomes of a frame, byte for byte.
//!
//! Each case runs through the packet logic compiled for this process (`host::`, without root) and through the
//! program in the kernel (`kernel::`). Inputs and expectations come from etherparse.

mod backend;
mod case;
mod cases;
mod differential;
mod fixture;
mod frames;
mod limits;
mod outer;
mod outer_headers;
mod properties;
mod report;
mod seeds;
mod sessions;
mod trace;
mod verifier;

/// Each subject as a test on each backend.
macro_rules! on_both {
    ($($subject:ident)*) => {
        mod host {
            use crate::{backend::Host, case::check, cases};

            $(
                #[test]
                fn $subject() {
                    check(&mut Host::new(), cases::$subject::cases());
                }
            )*
        }

        mod kernel {
            use crate::{backend::Kernel, case::check, cases};

            $(
                #[test]
                fn $subject() {
                    Kernel::run_in_namespace(|kernel| check(kernel, cases::$subject::cases()));
                }
            )*
        }
    };
}

on_both! {
    echo
    extension_headers
    find
    fragments
    icmp_errors
    l2dsr
    l3dsr
    malformed
    martians
    neighbours
    nested
    not_ours
    too_big
    truncated
    vlan
}
