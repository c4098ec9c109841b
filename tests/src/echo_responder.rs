//! Answers to pings that a test decides on.

use std::{
    io,
    net::{SocketAddr, UdpSocket},
    sync::{Arc, Mutex, MutexGuard},
    time::Duration,
};

use socket2::{Domain, Protocol, Socket, Type};

use crate::{Host, service::Service};

/// Which requests are answered, counted from 0, and after how long.
type Answer = Box<dyn Fn(u64) -> Option<Duration> + Send>;

const NO_PANIC: &str = "no answer panics";

struct State {
    answer: Answer,
    requests: u64,
}

/// Answers the IPv4 pings to a host in place of its kernel, late or not at all. Dropping it gives them back.
pub struct EchoResponder<'a> {
    host: &'a Host,
    state: Arc<Mutex<State>>,
    _service: Service,
}

impl<'a> EchoResponder<'a> {
    /// Answers as `answer` says: which requests, counted from 0, and after how long.
    pub fn start(
        host: &'a Host,
        answer: impl Fn(u64) -> Option<Duration> + Send + 'static,
    ) -> Self {
        let state = Arc::new(Mutex::new(State::new(answer)));
        let open = || -> io::Result<UdpSocket> {
            let socket = Socket::new(Domain::IPV4, Type::RAW, Some(Protocol::ICMPV4))?;
            socket.set_nonblocking(true)?;
            Ok(socket.into())
        };
        let socket = host.run(open).expect("root may open raw sockets");
        let serve = {
            let state = state.clone();
            move || respond(socket, state)
        };
        host.answer_pings(false);
        Self {
            host,
            state,
            _service: Service::start(serve),
        }
    }

    /// Answers from now on as `answer` says, and counts requests from 0 again.
    pub fn answer(&self, answer: impl Fn(u64) -> Option<Duration> + Send + 'static) {
        *self.lock() = State::new(answer);
    }

    /// How many requests have come.
    pub fn requests(&self) -> u64 {
        self.lock().requests
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect(NO_PANIC)
    }
}

impl State {
    fn new(answer: impl Fn(u64) -> Option<Duration> + Send + 'static) -> Self {
        Self {
            answer: Box::new(answer),
            requests: 0,
        }
    }

    fn next(&mut self) -> Option<Duration> {
        self.requests += 1;
        (self.answer)(self.requests - 1)
    }
}

impl Drop for EchoResponder<'_> {
    fn drop(&mut self) {
        self.host.answer_pings(true);
    }
}

impl Host {
    /// Whether the kernel answers pings to this host.
    pub fn answer_pings(&self, answers: bool) {
        let ignores = if answers { "0" } else { "1" };
        let keys = ["ipv4/icmp_echo_ignore_all", "ipv6/icmp/echo_ignore_all"];
        self.sysctls(&keys.map(|key| (key, ignores)))
            .expect("every host has IPv4 and IPv6");
    }
}

async fn respond(socket: UdpSocket, state: Arc<Mutex<State>>) {
    const REQUEST: u8 = 8;
    // A raw socket's datagrams are received like those of UDP, behind their IP header.
    let socket = tokio::net::UdpSocket::from_std(socket).expect("it is a socket");
    let socket = Arc::new(socket);
    let mut buffer = [0; 1 << 16];
    loop {
        let Ok((length, client)) = socket.recv_from(&mut buffer).await else {
            continue;
        };
        let header = 4 * usize::from(buffer[0] & 0xf);
        let request = &buffer[header..length];
        if request.first() != Some(&REQUEST) {
            continue;
        }
        let after = state.lock().expect(NO_PANIC).next();
        if let Some(after) = after {
            tokio::spawn(reply(socket.clone(), client, request.to_vec(), after));
        }
    }
}

async fn reply(
    socket: Arc<tokio::net::UdpSocket>,
    client: SocketAddr,
    mut message: Vec<u8>,
    after: Duration,
) {
    if !after.is_zero() {
        tokio::time::sleep(after).await;
    }
    // An echo reply (RFC 792): type 0, code 0, a new checksum (RFC 1071), and the rest as it came.
    message[..4].fill(0);
    let sum: u32 = message
        .chunks(2)
        .map(|pair| u32::from(u16::from_be_bytes([pair[0], *pair.get(1).unwrap_or(&0)])))
        .sum();
    let sum = (sum & 0xffff) + (sum >> 16);
    let checksum = !((sum & 0xffff) + (sum >> 16)) as u16;
    message[2..4].copy_from_slice(&checksum.to_be_bytes());
    let _ = socket.send_to(&message, client).await;
}
