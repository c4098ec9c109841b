//! Where Prometheus asks for metrics: HTTP, `GET /metrics` and nothing else.
//!
//! Others than Prometheus may reach it, so whoever is slow, talks much or comes with many connections costs little.

use std::{convert::Infallible, future::pending, io, net::SocketAddr, sync::Arc, time::Duration};

use http_body_util::Full;
use hyper::{
    Method, Request, Response, StatusCode,
    body::{Bytes, Incoming},
    header::{ALLOW, CONTENT_TYPE},
    server::conn::http1,
    service::service_fn,
};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::{
    net::{TcpListener, TcpSocket, TcpStream},
    sync::{Mutex, Semaphore, mpsc, oneshot},
    task::spawn_blocking,
    time::{sleep, timeout},
};
use tracing::{debug, warn};

use super::{MEDIA_TYPE, text};
use crate::api::server;

/// Connections at a time; others wait until the kernel's queue is full.
const CONNECTIONS: usize = 16;
/// For the request line and headers, in bytes: the least that hyper takes.
const REQUEST_SIZE: usize = 8192;
const REQUEST_TIME: Duration = Duration::from_secs(3);
/// For a whole connection, which has one request.
const CONNECTION_TIME: Duration = Duration::from_secs(10);
const BACKLOG: u32 = 64;
/// Whose turn it is: with thousands of virtual servers the text takes time to make.
type Turn = Arc<Mutex<()>>;

/// Where the daemon listens, if it does.
pub struct Endpoint {
    listener: Option<(SocketAddr, TcpListener)>,
    places: Arc<Semaphore>,
    turn: Turn,
    requests: mpsc::Sender<server::Request>,
}

impl Endpoint {
    /// Listens nowhere yet. The daemon gets `requests`.
    pub fn new(requests: mpsc::Sender<server::Request>) -> Self {
        Self {
            listener: None,
            places: Arc::new(Semaphore::new(CONNECTIONS)),
            turn: Turn::default(),
            requests,
        }
    }

    /// Listens there from now on, or nowhere.
    ///
    /// # Errors
    ///
    /// If the kernel refuses it. Then it listens where it did before, if it still can.
    pub fn listen(&mut self, wanted: Option<SocketAddr>) -> io::Result<()> {
        let before = self.listener.as_ref().map(|(address, _)| *address);
        if before == wanted {
            return Ok(());
        }
        // First, because the addresses may overlap: 127.0.0.1:9179 and 0.0.0.0:9179.
        self.listener = None;
        let listener = wanted.map(bind).transpose();
        let outcome = listener.map(|listener| self.listener = listener);
        if let (Err(_), Some(before)) = (&outcome, before) {
            match bind(before) {
                Ok(listener) => self.listener = Some(listener),
                Err(error) => warn!("can't listen on {before} for metrics any more: {error}"),
            }
        }
        outcome
    }

    /// Takes the next connection, and lets it be served.
    pub async fn accept(&self) {
        let Some((_, listener)) = &self.listener else {
            return pending().await;
        };
        let places = Arc::clone(&self.places);
        let place = places.acquire_owned().await.expect("nobody closes it");
        match listener.accept().await {
            Ok((stream, _)) => {
                let connection = serve(stream, self.requests.clone(), Arc::clone(&self.turn));
                tokio::spawn(async move {
                    connection.await;
                    drop(place);
                });
            }
            Err(error) => {
                debug!("no connection for metrics: {error}");
                // As when there are no files left: that may last.
                sleep(Duration::from_millis(100)).await;
            }
        }
    }
}

fn bind(address: SocketAddr) -> io::Result<(SocketAddr, TcpListener)> {
    let socket = match address {
        SocketAddr::V4(_) => TcpSocket::new_v4(),
        SocketAddr::V6(_) => TcpSocket::new_v6(),
    }?;
    // Connections of an earlier daemon may be in TIME_WAIT.
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    Ok((address, socket.listen(BACKLOG)?))
}

async fn serve(stream: TcpStream, requests: mpsc::Sender<server::Request>, turn: Turn) {
    let service = service_fn(|request| {
        let (requests, turn) = (&requests, &turn);
        async move { Ok::<_, Infallible>(answer(&request, requests, turn).await) }
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(REQUEST_TIME)
        .max_buf_size(REQUEST_SIZE)
        .keep_alive(false)
        .serve_connection(TokioIo::new(stream), service);
    match timeout(CONNECTION_TIME, connection).await {
        Ok(Ok(())) => {}
        Ok(Err(error)) => debug!("a connection for metrics broke off: {error}"),
        Err(_) => debug!("a connection for metrics took too long"),
    }
}

async fn answer(
    request: &Request<Incoming>,
    requests: &mpsc::Sender<server::Request>,
    turn: &Turn,
) -> Response<Full<Bytes>> {
    let (status, header, body) = match (request.uri().path(), request.method()) {
        ("/metrics", &Method::GET) => match metrics(requests, turn).await {
            Some(metrics) => (StatusCode::OK, (CONTENT_TYPE, MEDIA_TYPE), metrics),
            None => error(StatusCode::SERVICE_UNAVAILABLE, "the daemon is stopping\n"),
        },
        ("/metrics", _) => {
            let body = "metrics can only be read\n".into();
            (StatusCode::METHOD_NOT_ALLOWED, (ALLOW, "GET"), body)
        }
        _ => error(StatusCode::NOT_FOUND, "metrics are at /metrics\n"),
    };
    Response::builder()
        .status(status)
        .header(header.0, header.1)
        .body(Full::new(body))
        .expect("a valid response")
}

fn error(
    status: StatusCode,
    body: &'static str,
) -> (StatusCode, (hyper::header::HeaderName, &'static str), Bytes) {
    (status, (CONTENT_TYPE, "text/plain"), body.into())
}

async fn metrics(requests: &mpsc::Sender<server::Request>, turn: &Turn) -> Option<Bytes> {
    let _turn = turn.lock().await;
    let (sender, snapshot) = oneshot::channel();
    let request = server::Request::Metrics(sender);
    requests.send(request).await.ok()?;
    let snapshot = snapshot.await.ok()?;
    let text = spawn_blocking(|| text(snapshot)).await.ok()?;
    Some(text.into())
}
