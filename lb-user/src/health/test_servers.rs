//! Servers for the tests of checks.

use std::{
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    time::Duration,
};

use tokio::{
    net::{TcpListener, TcpSocket, TcpStream, UdpSocket},
    time::timeout,
};

use super::{
    Failure,
    destination::{Awaited, Destination},
};

pub const V4: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);
pub const V6: IpAddr = IpAddr::V6(Ipv6Addr::LOCALHOST);
/// Long enough for a busy machine.
const TIMEOUT: Duration = Duration::from_secs(1);

/// What comes of a check of `address`, with a timeout.
pub async fn outcome_of(
    address: IpAddr,
    check: impl AsyncFnOnce(Destination, &Awaited) -> Result<(), Failure>,
) -> Result<(), Failure> {
    let destination = Destination {
        address,
        steering: None,
    };
    let awaited = Awaited::new("nothing");
    let outcome = timeout(TIMEOUT, check(destination, &awaited)).await;
    outcome.unwrap_or_else(|_| Err(Failure::Silence(awaited.get())))
}

/// The port where this is done with the first connection.
pub async fn tcp_server<F>(
    address: IpAddr,
    talk: impl FnOnce(TcpStream) -> F + Send + 'static,
) -> u16
where
    F: Future<Output = ()> + Send,
{
    let listener = TcpListener::bind((address, 0)).await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move { talk(listener.accept().await.unwrap().0).await });
    port
}

/// The port where a datagram is answered by these, in this order.
pub async fn udp_server(
    address: IpAddr,
    answers: impl FnOnce(&[u8]) -> Vec<Vec<u8>> + Send + 'static,
) -> u16 {
    let socket = UdpSocket::bind((address, 0)).await.unwrap();
    let port = socket.local_addr().unwrap().port();
    tokio::spawn(async move {
        let mut buffer = [0; 1 << 16];
        let (length, client) = socket.recv_from(&mut buffer).await.unwrap();
        for answer in answers(&buffer[..length]) {
            socket.send_to(&answer, client).await.unwrap();
        }
        // A socket that is closed would answer by ICMP.
        std::future::pending::<()>().await;
    });
    port
}

/// A port where nobody listens for TCP, as long as the socket is there.
pub fn closed_tcp_port(address: IpAddr) -> (u16, TcpSocket) {
    let socket = match address {
        IpAddr::V4(_) => TcpSocket::new_v4(),
        IpAddr::V6(_) => TcpSocket::new_v6(),
    };
    let socket = socket.unwrap();
    socket.bind((address, 0).into()).unwrap();
    (socket.local_addr().unwrap().port(), socket)
}

/// A port where nobody gets datagrams of others, as long as the socket is there.
pub async fn closed_udp_port(address: IpAddr) -> (u16, UdpSocket) {
    let socket = UdpSocket::bind((address, 0)).await.unwrap();
    let port = socket.local_addr().unwrap().port();
    socket.connect((address, 9)).await.unwrap();
    (port, socket)
}

/// A TCP port where SYNs are dropped, as long as the sockets are there: the queue of its listener is full.
pub async fn silent_tcp_port() -> (u16, (TcpListener, TcpStream)) {
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind((V4, 0).into()).unwrap();
    let listener = socket.listen(0).unwrap();
    let port = listener.local_addr().unwrap().port();
    let first = TcpStream::connect((V4, port)).await.unwrap();
    (port, (listener, first))
}
