//! A thread that serves until it is dropped.

use std::{
    net::{Ipv6Addr, SocketAddr, TcpListener, ToSocketAddrs},
    thread::{self, JoinHandle},
};

use tokio::{runtime, sync::oneshot};

/// Drives one future, and whatever that spawns, on a thread of its own. Dropping it closes every
/// socket that the future holds.
#[derive(Debug)]
pub(crate) struct Service {
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Service {
    pub(crate) fn start<F: Future>(make: impl FnOnce() -> F + Send + 'static) -> Self {
        let (stop, stopped) = oneshot::channel();
        let serve = move || {
            single_threaded().block_on(async {
                let service = make();
                tokio::select! {
                    _ = stopped => {}
                    _ = service => {}
                }
            });
        };
        Self {
            stop: Some(stop),
            thread: Some(thread::spawn(serve)),
        }
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// A tokio runtime that stays on the calling thread, and so in its namespace.
pub(crate) fn single_threaded() -> runtime::Runtime {
    runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .expect("a runtime needs only an epoll and a pipe")
}

/// The IPv4 address inside an IPv4-mapped one, as sockets for both families report it.
pub(crate) fn canonical(address: SocketAddr) -> SocketAddr {
    SocketAddr::new(address.ip().to_canonical(), address.port())
}

/// The address that `10.9.1.1:80` or an address and a port mean.
pub(crate) fn address(address: impl ToSocketAddrs) -> SocketAddr {
    let mut addresses = address.to_socket_addrs().expect("an IP address and a port");
    addresses.next().expect("an address")
}

/// A listener on every address of the thread's namespace, v4 and v6.
pub(crate) fn listen(port: u16) -> TcpListener {
    let listener = TcpListener::bind((Ipv6Addr::UNSPECIFIED, port))
        .unwrap_or_else(|error| panic!("cannot listen on port {port}: {error}"));
    listener.set_nonblocking(true).expect("it is a socket");
    listener
}
