//! The network lab: a client, a balancer and real servers, each in a network namespace of its own, on
//! one bridge (or two), with real HTTP, TCP and UDP servers and clients and the real `lb` binary in them.
//!
//! ```no_run
//! use lb_tests::{Daemon, HttpServer, Lab};
//!
//! let lab = Lab::builder().real_servers(3).build().unwrap();
//! let _servers = lab.real_servers().iter().map(|host| HttpServer::start(host, &[80])).collect::<Vec<_>>();
//! let config = lab.config("- {name: shop, vip: 10.9.1.1, protocol: tcp, port: 80, bind: [web]}");
//! let _lb = Daemon::start(&lab, &config).unwrap();
//! let report = lab.client().http().get("10.9.1.1:80", 1000);
//! report.assert_all_succeeded();
//! ```
//!
//! A lab owns what it makes and removes it when it is dropped, in a panic too. What a killed run left
//! behind goes when the next one starts. Labs run side by side in as many threads as one likes.
//!
//! It needs root, `ip` (iproute2), and nothing else.

mod builder;
mod daemon;
mod decap;
pub mod device_features;
mod echo_responder;
mod http_client;
mod http_server;
mod https_server;
pub mod interrupt;
mod lab;
mod namespace;
mod packet_socket;
mod pass_program;
mod ping;
mod process;
mod remains;
mod service;
mod tcp;
mod udp;

pub use builder::Builder;
pub use daemon::{Daemon, binary, layout_variant, named};
pub use decap::Decap;
pub use echo_responder::EchoResponder;
pub use http_client::{HttpClient, Reply, Report};
pub use http_server::HttpServer;
pub use https_server::HttpsServer;
pub use lab::{Host, Lab};
pub use namespace::Namespace;
pub use packet_socket::PacketSocket;
pub use remains::{remove, remove_dead_labs};
pub use tcp::{TcpClient, TcpServer};
pub use udp::{UdpClient, UdpReply, UdpServer};
