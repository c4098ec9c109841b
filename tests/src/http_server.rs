//! An HTTP server that says who answered whom.

use std::{
    fmt,
    net::SocketAddr,
    sync::{Arc, Mutex, MutexGuard},
    time::Duration,
};

use axum::{
    Router,
    body::Body,
    extract::{ConnectInfo, State},
    http::{StatusCode, Uri},
    response::IntoResponse,
};
use http_body_util::BodyExt;
use tokio::{task::JoinSet, time::sleep};

use crate::{
    Host, Namespace,
    service::{Service, canonical, listen},
};

/// Header that holds the name of the server that answered.
pub(crate) const SERVER_HEADER: &str = "x-server";
/// Header that holds the client's address as the server saw it.
pub(crate) const CLIENT_HEADER: &str = "x-client";
/// Header that holds the length of the request's body as the server received it.
pub(crate) const RECEIVED_HEADER: &str = "x-received";

/// An HTTP server on every address of a host, v4 and v6. It answers any path with 200 and a line of
/// text, and `/bytes/N` with N bytes. Dropping it closes its ports: clients are refused.
#[derive(Debug)]
pub struct HttpServer {
    manner: Arc<Mutex<Manner>>,
    _service: Service,
}

impl HttpServer {
    /// Serves on `ports` of a host of the lab, under its name.
    pub fn start(host: &Host, ports: &[u16]) -> Self {
        Self::start_in(host, host.name(), ports)
    }

    /// Serves on `ports` inside a namespace.
    pub fn start_in(namespace: &Namespace, name: &str, ports: &[u16]) -> Self {
        let listeners =
            namespace.run(|| ports.iter().map(|&port| listen(port)).collect::<Vec<_>>());
        let answerer = Answerer {
            name: name.into(),
            manner: Arc::default(),
        };
        let manner = Arc::clone(&answerer.manner);
        let app = Router::new().fallback(answer).with_state(answerer);
        let serve = async move || {
            let mut servers = JoinSet::new();
            for listener in listeners {
                let listener = tokio::net::TcpListener::from_std(listener).expect("it is a socket");
                let app = app
                    .clone()
                    .into_make_service_with_connect_info::<SocketAddr>();
                servers.spawn(async { axum::serve(listener, app).await });
            }
            servers.join_all().await
        };
        Self {
            manner,
            _service: Service::start(serve),
        }
    }

    /// Waits so long before each answer from now on.
    pub fn set_delay(&self, delay: Duration) {
        self.manner().delay = delay;
    }

    /// Accepts connections and never answers from now on.
    pub fn hang(&self) {
        self.set_delay(Duration::MAX);
    }

    /// Answers with this status from now on: that of each request, counted from 0.
    pub fn set_status(&self, status: impl Fn(u64) -> u16 + Send + 'static) {
        let mut manner = self.manner();
        manner.status = Box::new(status);
        manner.requests = 0;
    }

    /// Answers with this text from now on.
    pub fn set_body(&self, body: &str) {
        self.manner().body = Some(body.to_owned());
    }

    /// How many requests have come since the status was set, or from the beginning.
    pub fn requests(&self) -> u64 {
        self.manner().requests
    }

    fn manner(&self) -> MutexGuard<'_, Manner> {
        self.manner.lock().expect(NO_PANIC)
    }
}

const NO_PANIC: &str = "no answer panics";

#[derive(Clone)]
struct Answerer {
    name: Arc<str>,
    manner: Arc<Mutex<Manner>>,
}

/// How a server answers.
struct Manner {
    delay: Duration,
    status: Box<dyn Fn(u64) -> u16 + Send>,
    body: Option<String>,
    requests: u64,
}

impl Default for Manner {
    fn default() -> Self {
        Self {
            delay: Duration::ZERO,
            status: Box::new(|_| 200),
            body: None,
            requests: 0,
        }
    }
}

impl fmt::Debug for Manner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Manner").finish_non_exhaustive()
    }
}

impl Manner {
    fn next_status(&mut self) -> StatusCode {
        self.requests += 1;
        StatusCode::from_u16((self.status)(self.requests - 1)).expect("a status")
    }
}

async fn answer(
    State(Answerer { name, manner }): State<Answerer>,
    ConnectInfo(client): ConnectInfo<SocketAddr>,
    uri: Uri,
    mut body: Body,
) -> impl IntoResponse {
    let mut received = 0;
    while let Some(Ok(frame)) = body.frame().await {
        received += frame.data_ref().map_or(0, |data| data.len());
    }
    let client = canonical(client);
    let (delay, status, text) = {
        let mut manner = manner.lock().expect(NO_PANIC);
        (manner.delay, manner.next_status(), manner.body.clone())
    };
    sleep(delay).await;
    let length = uri
        .path()
        .strip_prefix("/bytes/")
        .and_then(|length| length.parse().ok());
    let body = length.map_or_else(
        || text.unwrap_or_else(|| format!("{name} answers {client}\n")),
        |length| "x".repeat(length),
    );
    (
        status,
        [
            (SERVER_HEADER, name.to_string()),
            (CLIENT_HEADER, client.to_string()),
            (RECEIVED_HEADER, received.to_string()),
        ],
        body,
    )
}
