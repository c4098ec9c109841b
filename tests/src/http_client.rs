//! An HTTP client that opens a connection for each request and notes who answered.

use std::{
    collections::BTreeMap,
    net::{IpAddr, SocketAddr, ToSocketAddrs},
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail};
use http_body_util::{BodyExt, Full};
use hyper::{
    Method, Request,
    body::Bytes,
    client::conn::http1::{SendRequest, handshake},
};
use hyper_util::rt::TokioIo;
use tokio::{net::TcpSocket, task::JoinSet, time::timeout};

use crate::{
    Namespace,
    http_server::{CLIENT_HEADER, RECEIVED_HEADER, SERVER_HEADER},
    service::{address, single_threaded},
};

/// Sends requests from a namespace. Each opens a connection of its own, from a fresh port, unless
/// [`HttpClient::keep_alive`] is asked for.
#[derive(Clone, Debug)]
pub struct HttpClient<'a> {
    namespace: &'a Namespace,
    parallel: usize,
    strand: Strand,
}

/// How requests that follow each other are sent.
#[derive(Clone, Debug)]
struct Strand {
    source: Option<IpAddr>,
    path: String,
    body: Bytes,
    keep_alive: bool,
    timeout: Duration,
}

/// What came back from a number of requests.
#[derive(Debug, Default)]
pub struct Report {
    /// The answers, in the order in which they came.
    pub replies: Vec<Reply>,
    /// Why each of the other requests failed.
    pub failures: Vec<String>,
}

/// An answer.
#[derive(Debug, Clone)]
pub struct Reply {
    /// The name of the server that answered.
    pub server: String,
    /// The address that the client sent from.
    pub source: SocketAddr,
    /// The client's address as the server saw it.
    pub client_seen: SocketAddr,
    /// HTTP status.
    pub status: u16,
    /// Length of the answer's body in bytes.
    pub length: usize,
    /// Length of the request's body as the server received it.
    pub received: usize,
    /// From the first SYN, or with a kept connection from the request, to the last byte.
    pub elapsed: Duration,
}

// === impl HttpClient ===

impl<'a> HttpClient<'a> {
    /// A client that asks for `/`, one request after another, and waits 5 s for each.
    pub fn new(namespace: &'a Namespace) -> Self {
        let strand = Strand {
            source: None,
            path: "/".into(),
            body: Bytes::new(),
            keep_alive: false,
            timeout: Duration::from_secs(5),
        };
        Self {
            namespace,
            parallel: 1,
            strand,
        }
    }

    /// Sends from this address, which the host must have.
    pub fn source(mut self, source: impl Into<IpAddr>) -> Self {
        self.strand.source = Some(source.into());
        self
    }

    /// Asks for this path.
    pub fn path(mut self, path: impl Into<String>) -> Self {
        self.strand.path = path.into();
        self
    }

    /// Sends (POST) so many bytes with each request.
    pub fn upload(mut self, length: usize) -> Self {
        self.strand.body = vec![b'x'; length].into();
        self
    }

    /// Keeps so many requests in flight.
    pub fn parallel(mut self, parallel: usize) -> Self {
        self.parallel = parallel;
        self
    }

    /// Sends all requests over one connection (or one for each that is in flight).
    pub fn keep_alive(mut self) -> Self {
        self.strand.keep_alive = true;
        self
    }

    /// Gives a request up after this time, connecting included.
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.strand.timeout = timeout;
        self
    }

    /// Sends `count` requests to an address such as `10.9.1.1:80`.
    pub fn get(&self, to: impl ToSocketAddrs, count: usize) -> Report {
        let to = address(to);
        let share = |index| count / self.parallel + usize::from(index < count % self.parallel);
        let requests = async {
            let mut strands = JoinSet::new();
            for index in 0..self.parallel {
                strands.spawn(self.strand.clone().run(to, share(index)));
            }
            strands.join_all().await
        };
        let reports = self.namespace.run(|| single_threaded().block_on(requests));
        reports.into_iter().fold(Report::default(), Report::and)
    }
}

/// An open connection and its own address.
struct Connection {
    sender: SendRequest<Full<Bytes>>,
    source: SocketAddr,
}

// === impl Strand ===

impl Strand {
    async fn run(self, to: SocketAddr, count: usize) -> Report {
        let mut report = Report::default();
        let mut kept = None;
        for _ in 0..count {
            let reply = timeout(self.timeout, self.request(to, &mut kept)).await;
            match reply.unwrap_or_else(|_| bail!("no answer within {:?}", self.timeout)) {
                Ok(reply) => report.replies.push(reply),
                Err(error) => report.failures.push(format!("{error:#}")),
            }
        }
        report
    }

    /// One request, over the kept connection if there is one.
    async fn request(&self, to: SocketAddr, kept: &mut Option<Connection>) -> Result<Reply> {
        let start = Instant::now();
        let mut connection = match kept.take() {
            Some(connection) => connection,
            None => self.connect(to).await?,
        };
        let method = if self.body.is_empty() {
            Method::GET
        } else {
            Method::POST
        };
        let request = Request::builder()
            .method(method)
            .uri(&self.path)
            .header("host", to.to_string())
            .header(
                "connection",
                if self.keep_alive {
                    "keep-alive"
                } else {
                    "close"
                },
            )
            .body(Full::new(self.body.clone()))?;
        let from = connection.source;
        let response = connection.sender.send_request(request).await;
        let response = response.with_context(|| format!("no answer to {from}"))?;
        let text = |header| -> Result<String> {
            let value = response.headers().get(header);
            Ok(value
                .with_context(|| format!("no {header} in the answer"))?
                .to_str()?
                .into())
        };
        let (server, client_seen) = (text(SERVER_HEADER)?, text(CLIENT_HEADER)?.parse()?);
        let received = text(RECEIVED_HEADER)?.parse()?;
        let status = response.status().as_u16();
        let body = response.into_body().collect().await;
        let length = body
            .with_context(|| format!("the answer to {from} broke off"))?
            .to_bytes()
            .len();
        if self.keep_alive {
            *kept = Some(connection);
        }
        let elapsed = start.elapsed();
        Ok(Reply {
            server,
            source: from,
            client_seen,
            status,
            length,
            received,
            elapsed,
        })
    }

    async fn connect(&self, to: SocketAddr) -> Result<Connection> {
        let socket = match to {
            SocketAddr::V4(_) => TcpSocket::new_v4(),
            SocketAddr::V6(_) => TcpSocket::new_v6(),
        }?;
        if let Some(source) = self.source {
            socket
                .bind(SocketAddr::new(source, 0))
                .with_context(|| format!("no address {source}"))?;
        }
        let stream = socket.connect(to).await;
        let stream = stream.with_context(|| format!("cannot connect to {to}"))?;
        let source = stream.local_addr()?;
        let (sender, connection) = handshake(TokioIo::new(stream)).await?;
        tokio::spawn(connection);
        Ok(Connection { sender, source })
    }
}

// === impl Report ===

impl Report {
    /// How many requests each server answered.
    pub fn by_server(&self) -> BTreeMap<String, usize> {
        let mut counts = BTreeMap::new();
        for reply in &self.replies {
            *counts.entry(reply.server.clone()).or_default() += 1;
        }
        counts
    }

    /// Panics, with the failures, unless every request got an answer with status 200.
    #[track_caller]
    pub fn assert_all_succeeded(&self) {
        let sent = self.replies.len() + self.failures.len();
        let first: Vec<_> = self.failures.iter().take(5).collect();
        assert!(
            first.is_empty(),
            "{} of {sent} requests failed: {first:#?}",
            self.failures.len()
        );
        let wrong = self.replies.iter().find(|reply| reply.status != 200);
        assert!(wrong.is_none(), "an answer is not 200: {wrong:?}");
    }

    /// This report and another one.
    pub fn and(mut self, other: Self) -> Self {
        self.replies.extend(other.replies);
        self.failures.extend(other.failures);
        self
    }
}
