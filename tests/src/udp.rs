//! A UDP server that says who answered whom, and its client.

use std::{
    io,
    net::{SocketAddr, ToSocketAddrs, UdpSocket},
    time::Duration,
};

use socket2::{Domain, Socket, Type};
use tokio::task::JoinSet;

use crate::{
    Host, Namespace,
    service::{Service, address, canonical},
};

/// A server that answers each datagram with its name, the client's address and the payload, from the
/// address that the datagram was sent to. Dropping it closes its ports.
#[derive(Debug)]
pub struct UdpServer {
    _service: Service,
}

impl UdpServer {
    /// Serves on addresses that a host of the lab has, such as `10.9.1.1:53`, under the host's name.
    pub fn start<A: ToSocketAddrs>(host: &Host, addresses: &[A]) -> Self {
        Self::start_in(host, host.name(), addresses)
    }

    /// Serves inside a namespace.
    pub fn start_in<A: ToSocketAddrs>(namespace: &Namespace, name: &str, addresses: &[A]) -> Self {
        let name = name.to_owned();
        Self::answering(namespace, addresses, move |client, payload| {
            let mut answer = format!("{name} {client} ").into_bytes();
            answer.extend(payload);
            answer
        })
    }

    /// Serves inside a namespace, and answers each datagram with what `answer` makes of the client's address and the
    /// payload.
    pub fn answering<A: ToSocketAddrs>(
        namespace: &Namespace,
        addresses: &[A],
        answer: impl Fn(SocketAddr, &[u8]) -> Vec<u8> + Clone + Send + 'static,
    ) -> Self {
        let sockets: Vec<_> = addresses
            .iter()
            .map(|to| open(namespace, address(to)))
            .collect();
        let serve = async move || {
            let mut servers = JoinSet::new();
            for socket in sockets {
                let socket = tokio::net::UdpSocket::from_std(socket).expect("it is a socket");
                servers.spawn(serve_on(socket, answer.clone()));
            }
            servers.join_all().await
        };
        Self {
            _service: Service::start(serve),
        }
    }
}

async fn serve_on(socket: tokio::net::UdpSocket, answer: impl Fn(SocketAddr, &[u8]) -> Vec<u8>) {
    let mut buffer = [0; 1 << 16];
    loop {
        // An error is an ICMP message about an answer to a client that has gone.
        if let Ok((length, client)) = socket.recv_from(&mut buffer).await {
            let answer = answer(canonical(client), &buffer[..length]);
            let _ = socket.send_to(&answer, client).await;
        }
    }
}

fn open(namespace: &Namespace, local: SocketAddr) -> UdpSocket {
    let open = || -> io::Result<UdpSocket> {
        let socket = Socket::new(Domain::for_address(local), Type::DGRAM, None)?;
        // A process that is just being started elsewhere may still hold the socket of a server before this
        // one, and a real server may have sockets for single clients, too.
        socket.set_reuse_address(true)?;
        socket.set_nonblocking(true)?;
        socket.bind(&local.into())?;
        Ok(socket.into())
    };
    let socket = namespace.run(open);
    socket.unwrap_or_else(|error| panic!("{} cannot bind {local}: {error}", namespace.name()))
}

/// A client that sends from one port to one address: a flow.
#[derive(Debug)]
pub struct UdpClient {
    socket: UdpSocket,
}

/// An answer of a [`UdpServer`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UdpReply {
    /// The name of the server that answered.
    pub server: String,
    /// The client's address as the server saw it.
    pub client_seen: SocketAddr,
    /// What was sent.
    pub payload: String,
}

impl UdpClient {
    /// A flow from `from` (port 0 is a fresh port) to `to`. It waits one second for an answer, and
    /// takes none from another address.
    pub fn open(namespace: &Namespace, from: SocketAddr, to: impl ToSocketAddrs) -> Self {
        let to = address(to);
        let open = || {
            let socket = UdpSocket::bind(from)?;
            socket.connect(to)?;
            socket.set_read_timeout(Some(Duration::from_secs(1)))?;
            Ok(socket)
        };
        let socket: io::Result<_> = namespace.run(open);
        Self {
            socket: socket.unwrap_or_else(|error| panic!("no flow from {from} to {to}: {error}")),
        }
    }

    /// The client's address.
    pub fn source(&self) -> SocketAddr {
        self.socket.local_addr().expect("it is bound")
    }

    /// Sends a datagram and waits for its answer.
    pub fn ask(&self, payload: &str) -> io::Result<UdpReply> {
        self.send(payload)?;
        self.receive()
    }

    /// Sends a datagram.
    pub fn send(&self, payload: &str) -> io::Result<()> {
        self.socket.send(payload.as_bytes()).map(drop)
    }

    /// Waits for an answer to a datagram of this flow that was sent before, or in another way.
    pub fn receive(&self) -> io::Result<UdpReply> {
        let mut buffer = [0; 1 << 16];
        let length = self.socket.recv(&mut buffer)?;
        let answer = String::from_utf8_lossy(&buffer[..length]);
        let mut words = answer.splitn(3, ' ').map(str::to_owned);
        let mut word = || words.next().ok_or(io::ErrorKind::InvalidData);
        Ok(UdpReply {
            server: word()?,
            client_seen: word()?.parse().map_err(|_| io::ErrorKind::InvalidData)?,
            payload: word()?,
        })
    }
}
