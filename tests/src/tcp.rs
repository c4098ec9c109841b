//! A TCP server that says who it is as often as it is asked, and its client: long connections.

use std::{
    io::{self, BufRead, BufReader, Write},
    net::{SocketAddr, TcpStream, ToSocketAddrs},
    time::Duration,
};

use socket2::{Domain, Socket, Type};
use tokio::{
    io::{AsyncBufReadExt, AsyncWriteExt},
    task::JoinSet,
};

use crate::{
    Host, Namespace,
    service::{Service, address, listen},
};

/// Long enough for some retransmissions.
const PATIENCE: Duration = Duration::from_secs(5);

/// A server on every address of a host, v4 and v6, that answers each line with its name. Dropping it closes its
/// ports and its connections.
#[derive(Debug)]
pub struct TcpServer {
    _service: Service,
}

impl TcpServer {
    /// Serves on `ports` of a host, under its name.
    pub fn start(host: &Host, ports: &[u16]) -> Self {
        let listeners = host.run(|| ports.iter().map(|&port| listen(port)).collect::<Vec<_>>());
        let name = host.name().to_owned();
        let serve = async move || {
            let mut ports = JoinSet::new();
            for listener in listeners {
                let listener = tokio::net::TcpListener::from_std(listener).expect("it is a socket");
                ports.spawn(accept(listener, name.clone()));
            }
            ports.join_all().await
        };
        Self {
            _service: Service::start(serve),
        }
    }
}

async fn accept(listener: tokio::net::TcpListener, name: String) {
    loop {
        if let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(answer(stream, name.clone()));
        }
    }
}

/// Until the client closes the connection.
async fn answer(mut stream: tokio::net::TcpStream, name: String) -> io::Result<()> {
    let (reader, mut writer) = stream.split();
    let mut lines = tokio::io::BufReader::new(reader).lines();
    while lines.next_line().await?.is_some() {
        writer.write_all(format!("{name}\n").as_bytes()).await?;
    }
    Ok(())
}

/// A connection to a [`TcpServer`]. Dropping it closes it, with FIN.
#[derive(Debug)]
pub struct TcpClient {
    stream: TcpStream,
}

impl TcpClient {
    /// Connects from an address (port 0 is a fresh port).
    ///
    /// # Errors
    /// When it is refused, or after 5 s.
    pub fn connect(
        namespace: &Namespace,
        from: SocketAddr,
        to: impl ToSocketAddrs,
    ) -> io::Result<Self> {
        let to = address(to);
        namespace.run(|| {
            let socket = Socket::new(Domain::for_address(to), Type::STREAM, None)?;
            socket.set_reuse_address(true)?;
            socket.bind(&from.into())?;
            socket.connect_timeout(&to.into(), PATIENCE)?;
            let stream = TcpStream::from(socket);
            stream.set_nodelay(true)?;
            Ok(Self { stream })
        })
    }

    /// The client's address.
    pub fn source(&self) -> SocketAddr {
        self.stream.local_addr().expect("it is bound")
    }

    /// Sends a line, and waits for the name of the server that answers it.
    ///
    /// # Errors
    /// `ConnectionReset` when that was the answer; `WouldBlock` when there was none within 5 s.
    pub fn ask(&self) -> io::Result<String> {
        self.ask_for(PATIENCE)
    }

    /// As [`Self::ask`], and waits for so long.
    pub fn ask_for(&self, time: Duration) -> io::Result<String> {
        self.stream.set_read_timeout(Some(time))?;
        (&self.stream).write_all(b"?\n")?;
        let mut answer = String::new();
        BufReader::new(&self.stream).read_line(&mut answer)?;
        match answer.pop() {
            Some('\n') => Ok(answer),
            _ => Err(io::ErrorKind::UnexpectedEof.into()),
        }
    }

    /// Ends the connection with RST, and gives its addresses back.
    pub fn reset(self) {
        // Closing it sends no RST while a process that another thread is starting still has a copy.
        rustix::net::connect_unspec(&self.stream).expect("it is a connection");
    }
}
