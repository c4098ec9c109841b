//! A TCP connection, and nothing on it.

use super::{
    Failure,
    destination::{Awaited, Destination},
};
use crate::config::PortCheck;

/// Passes if a connection is established (RFC 9293 section 3.5). It is reset at once.
pub(super) async fn check(
    destination: Destination,
    asked: &PortCheck,
    awaited: &Awaited,
) -> Result<(), Failure> {
    awaited.set("SYN-ACK");
    destination.connect(asked.port).await?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::{
        io::ErrorKind,
        net::{IpAddr, Ipv4Addr},
    };

    use rstest::rstest;
    use tokio::{io::AsyncReadExt, net::TcpListener};

    use super::*;
    use crate::{
        config::Via,
        health::test_servers::{V4, V6, closed_tcp_port, outcome_of, silent_tcp_port},
    };

    async fn outcome(address: IpAddr, port: u16) -> Result<(), Failure> {
        let asked = PortCheck {
            via: Via::Real,
            port,
        };
        outcome_of(address, async |destination, awaited| {
            check(destination, &asked, awaited).await
        })
        .await
    }

    #[rstest]
    #[tokio::test]
    async fn a_connection_passes_and_is_reset(#[values(V4, V6)] address: IpAddr) {
        let listener = TcpListener::bind((address, 0)).await.unwrap();
        let port = listener.local_addr().unwrap().port();
        assert_eq!(outcome(address, port).await, Ok(()));
        let (mut stream, _) = listener.accept().await.unwrap();
        let end = stream.read(&mut [0]).await.map_err(|error| error.kind());
        assert_eq!(end, Err(ErrorKind::ConnectionReset));
    }

    #[rstest]
    #[tokio::test]
    async fn a_port_where_nobody_listens_refuses(#[values(V4, V6)] address: IpAddr) {
        let (port, _socket) = closed_tcp_port(address);
        assert_eq!(outcome(address, port).await, Err(Failure::Refused));
    }

    #[tokio::test]
    async fn a_port_where_nobody_answers_is_silent() {
        let (port, _sockets) = silent_tcp_port().await;
        assert_eq!(outcome(V4, port).await, Err(Failure::Silence("SYN-ACK")));
    }

    #[tokio::test]
    async fn an_address_without_a_way_is_unreachable() {
        let reason = "network is unreachable".to_owned();
        assert_eq!(
            outcome(Ipv4Addr::BROADCAST.into(), 80).await,
            Err(Failure::Unreachable(reason))
        );
    }
}
