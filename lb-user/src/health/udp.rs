//! A UDP datagram, and one that answers it.

use super::{
    Failure,
    destination::{Awaited, Destination},
    socket_error::of_datagrams,
};
use crate::config::UdpCheck;

/// Passes if a datagram comes back, and has what is expected.
pub(super) async fn check(
    destination: Destination,
    asked: &UdpCheck,
    awaited: &Awaited,
) -> Result<(), Failure> {
    awaited.set("UDP answer");
    let socket = destination.udp(asked.port)?;
    let sent = socket.send(asked.send.as_bytes()).await;
    sent.map_err(of_datagrams)?;
    let mut answer = Vec::with_capacity(usize::from(u16::MAX));
    let received = socket.recv_buf(&mut answer).await;
    received.map_err(of_datagrams)?;
    match &asked.expect {
        Some(text) if !String::from_utf8_lossy(&answer).contains(text) => {
            Err(Failure::Answer(format!("answer without `{text}`")))
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use std::net::IpAddr;

    use rstest::rstest;

    use super::*;
    use crate::{
        config::Via,
        health::test_servers::{V4, V6, closed_udp_port, outcome_of, udp_server},
    };

    async fn outcome(address: IpAddr, port: u16, expect: Option<&str>) -> Result<(), Failure> {
        let asked = UdpCheck {
            via: Via::Real,
            port,
            send: "ping".to_owned(),
            expect: expect.map(str::to_owned),
        };
        outcome_of(address, async |destination, awaited| {
            check(destination, &asked, awaited).await
        })
        .await
    }

    #[rstest]
    #[case::any(b"", None, Ok(()))]
    #[case::all(b"pong", Some("pong"), Ok(()))]
    #[case::part(b"\xff\xc3pong\0", Some("pong"), Ok(()))]
    #[case::large(&[b'.'; 60_000], Some("..."), Ok(()))]
    #[case::other(b"ping", Some("pong"), Err(Failure::Answer("answer without `pong`".to_owned())))]
    #[tokio::test]
    async fn an_answer_passes_if_it_has_what_is_expected(
        #[values(V4, V6)] address: IpAddr,
        #[case] answer: &'static [u8],
        #[case] expect: Option<&str>,
        #[case] passes: Result<(), Failure>,
    ) {
        let port = udp_server(address, |request| {
            assert_eq!(request, b"ping");
            vec![answer.to_vec()]
        })
        .await;
        assert_eq!(outcome(address, port, expect).await, passes);
    }

    #[rstest]
    #[tokio::test]
    async fn a_port_that_is_closed_is_unreachable(#[values(V4, V6)] address: IpAddr) {
        let (port, _socket) = closed_udp_port(address).await;
        let reason = "port unreachable".to_owned();
        assert_eq!(
            outcome(address, port, None).await,
            Err(Failure::Unreachable(reason))
        );
    }

    #[tokio::test]
    async fn silence_is_no_answer() {
        let port = udp_server(V4, |_| Vec::new()).await;
        assert_eq!(
            outcome(V4, port, None).await,
            Err(Failure::Silence("UDP answer"))
        );
    }
}
