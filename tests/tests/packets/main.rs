//! The table of packet tests: what becomes of a frame, byte for byte.
//!
//! Each case runs through the packet logic compiled for this process (`host::`, without root) and through the
//! program in the kernel (`kernel::`). Inputs and expectations come from etherparse.

mod backend;
mod case;
mod cases;
mod fixture;
mod frames;
mod oracle;
mod properties;
mod report;
mod verifier;

/// Each subject as a test on each backend.
macro_rules! on_both {
    ($($(#[$attribute:meta])? $subject:ident)*) => {
        mod host {
            use crate::{backend::Host, case::check, cases};

            $(
                #[test]
                $(#[$attribute])?
                fn $subject() {
                    check(&mut Host::new(), cases::$subject::cases());
                }
            )*
        }

        mod kernel {
            use crate::{backend::Kernel, case::check, cases};

            $(
                #[test]
                $(#[$attribute])?
                fn $subject() {
                    Kernel::run_in_namespace(|kernel| check(kernel, cases::$subject::cases()));
                }
            )*
        }
    };
}

on_both! {
    extension_headers
    find
    fragments
    icmp
    l2dsr
    malformed
    martians
    neighbours
    not_ours
    #[ignore = "not done yet"]
    not_yet
    truncated
    vlan
}
