//! An HTTPS server with a certificate of its own making.

use std::{io, sync::Arc};

use rcgen::{CertifiedKey, generate_simple_self_signed};
use rustls::{ServerConfig, crypto::ring};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};
use tokio_rustls::TlsAcceptor;

use crate::{
    Host,
    service::{Service, listen},
};

/// A server on every address of a host, v4 and v6, that answers each request with 200. Nobody vouches for its certificate.
/// Dropping it closes its port.
#[derive(Debug)]
pub struct HttpsServer {
    _service: Service,
}

impl HttpsServer {
    /// Serves on a port of a host, with a certificate for a name.
    pub fn start(host: &Host, port: u16, name: &str) -> Self {
        let acceptor = acceptor(name);
        let listener = host.run(|| listen(port));
        let serve = async move || {
            let listener = tokio::net::TcpListener::from_std(listener).expect("it is a socket");
            loop {
                if let Ok((stream, _)) = listener.accept().await {
                    tokio::spawn(answer(stream, acceptor.clone()));
                }
            }
        };
        Self {
            _service: Service::start(serve),
        }
    }
}

fn acceptor(name: &str) -> TlsAcceptor {
    let made = generate_simple_self_signed([name.to_owned()]);
    let CertifiedKey { cert, signing_key } = made.expect("a name");
    let builder = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()));
    let builder = builder.with_safe_default_protocol_versions();
    let builder = builder.expect("the provider has ciphers for TLS 1.2 and 1.3");
    let config = builder
        .with_no_client_auth()
        .with_single_cert(vec![cert.der().clone()], signing_key.into());
    TlsAcceptor::from(Arc::new(
        config.expect("the key is that of the certificate"),
    ))
}

async fn answer(stream: TcpStream, acceptor: TlsAcceptor) -> io::Result<()> {
    let mut stream = acceptor.accept(stream).await?;
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(stream.read_u8().await?);
    }
    let response = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n";
    stream.write_all(response).await?;
    stream.shutdown().await
}
