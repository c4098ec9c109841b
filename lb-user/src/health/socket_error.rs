//! What an error of a socket says of a check.

use std::io;

use nix::errno::Errno;

use super::{Failure, tls};

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        Self::from(&error)
    }
}

impl From<&io::Error> for Failure {
    fn from(error: &io::Error) -> Self {
        let Some(code) = error.raw_os_error() else {
            return of_library(error);
        };
        let errno = Errno::from_raw(code);
        let reason = errno.desc().to_lowercase();
        match errno {
            Errno::ECONNREFUSED => Self::Refused,
            Errno::ECONNRESET | Errno::EPIPE => Self::Answer("connection reset".to_owned()),
            // It doesn't fit, or this is what the kernel makes of ICMP errors (icmp_err_convert in net/ipv4/icmp.c, tab_unreach in
            // net/ipv6/icmp.c), of routes that lead nowhere and of neighbours that don't answer.
            Errno::ENETUNREACH
            | Errno::EHOSTUNREACH
            | Errno::EHOSTDOWN
            | Errno::ENONET
            | Errno::ENOPROTOOPT
            | Errno::EPROTO
            | Errno::EOPNOTSUPP
            | Errno::EMSGSIZE
            | Errno::ETIMEDOUT => Self::Unreachable(reason),
            Errno::EACCES => Self::Unreachable("administratively prohibited".to_owned()),
            _ => Self::Unsent(reason),
        }
    }
}

/// An error that isn't the kernel's.
fn of_library(error: &io::Error) -> Failure {
    let source = error.get_ref();
    Failure::Answer(match source.and_then(|source| source.downcast_ref()) {
        Some(error) => tls::words(error),
        None => error.to_string().to_lowercase(),
    })
}

/// An error of a connected UDP socket, where a port unreachable is no refusal by a RST.
pub(super) fn of_datagrams(error: io::Error) -> Failure {
    match Failure::from(error) {
        Failure::Refused => Failure::Unreachable("port unreachable".to_owned()),
        failure => failure,
    }
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    #[rstest]
    #[case(Errno::ECONNREFUSED, Failure::Refused)]
    #[case(Errno::ECONNRESET, Failure::Answer("connection reset".to_owned()))]
    #[case(Errno::EHOSTUNREACH, Failure::Unreachable("no route to host".to_owned()))]
    #[case(Errno::ENETUNREACH, Failure::Unreachable("network is unreachable".to_owned()))]
    #[case(Errno::EMSGSIZE, Failure::Unreachable("message too long".to_owned()))]
    #[case(Errno::EACCES, Failure::Unreachable("administratively prohibited".to_owned()))]
    #[case(Errno::EADDRNOTAVAIL, Failure::Unsent("cannot assign requested address".to_owned()))]
    #[case(Errno::EMFILE, Failure::Unsent("too many open files".to_owned()))]
    #[case(Errno::ENOBUFS, Failure::Unsent("no buffer space available".to_owned()))]
    #[case(Errno::EPERM, Failure::Unsent("operation not permitted".to_owned()))]
    fn the_kernels_errors_are_told_apart(#[case] errno: Errno, #[case] failure: Failure) {
        assert_eq!(Failure::from(io::Error::from(errno)), failure);
    }
}
