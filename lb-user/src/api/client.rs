//! The commands' side of the control socket.

use std::{
    io, mem,
    path::{Path, PathBuf},
    time::Duration,
};

use http_body_util::{BodyExt, Empty};
use hyper::{
    Method, Request, Response, StatusCode,
    body::{Bytes, Incoming},
    client::conn::http1,
};
use hyper_util::rt::TokioIo;
use tokio::{
    net::UnixStream,
    time::{sleep, timeout},
};

use super::{
    DROP_SESSIONS, DropSessions, RELOAD, SESSIONS, STATUS, STOP, Status, TRACE, sessions::Filter,
    trace,
};

/// A daemon that does not answer for so long is stuck.
const PATIENCE: Duration = Duration::from_secs(30);

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// Nobody listens.
    #[error(
        "no lb daemon answers at {path} ({error}): is `lb run` running, with this control.socket?"
    )]
    NoDaemon {
        /// The control socket.
        path: PathBuf,
        /// What the kernel says.
        error: io::Error,
    },
    /// The socket may not be used.
    #[error("can't open {path} ({error}): run as root or as a member of the socket's group")]
    Forbidden {
        /// The control socket.
        path: PathBuf,
        /// What the kernel says.
        error: io::Error,
    },
    /// It took too long.
    #[error("the lb daemon at {path} did not answer in {PATIENCE:?}")]
    Silent {
        /// The control socket.
        path: PathBuf,
    },
    /// Not HTTP.
    #[error("talking to the lb daemon")]
    Protocol(#[from] hyper::Error),
    /// It knows nothing of what was asked for.
    #[error("{0}")]
    Unknown(String),
    /// It will not do it.
    #[error("configuration not applied: {0}")]
    Refused(String),
    /// It does that for somebody else.
    #[error("{0}")]
    Busy(String),
    /// It could not do it.
    #[error("the lb daemon answers with an error: {0}")]
    Failed(String),
    /// Not the JSON that this version expects.
    #[error("the lb daemon's answer is not understood")]
    Answer(#[from] serde_json::Error),
}

/// Asks for the status.
pub async fn status(socket: &Path) -> Result<Status, ClientError> {
    Ok(serde_json::from_slice(
        &request(socket, Method::GET, STATUS).await?,
    )?)
}

/// Has the configuration file applied: what has changed, a line each.
pub async fn reload(socket: &Path) -> Result<Vec<String>, ClientError> {
    Ok(serde_json::from_slice(
        &request(socket, Method::POST, RELOAD).await?,
    )?)
}

/// Drops sessions: how many were active.
pub async fn drop_sessions(socket: &Path, request: &DropSessions) -> Result<u64, ClientError> {
    let query = serde_urlencoded::to_string(request).expect("it is a list of keys and values");
    let uri = format!("{DROP_SESSIONS}?{query}");
    Ok(serde_json::from_slice(
        &self::request(socket, Method::POST, &uri).await?,
    )?)
}

/// Ends forwarding and the daemon, and waits for its end.
pub async fn stop(socket: &Path) -> Result<(), ClientError> {
    request(socket, Method::POST, STOP).await?;
    // The socket is what the daemon removes last.
    let gone = async {
        while socket.exists() {
            sleep(Duration::from_millis(10)).await;
        }
    };
    timeout(PATIENCE, gone)
        .await
        .map_err(|_| ClientError::Silent {
            path: socket.to_owned(),
        })
}

/// Asks for the sessions that `filter` wants.
pub async fn sessions(socket: &Path, filter: &Filter) -> Result<Sessions, ClientError> {
    let query = serde_urlencoded::to_string(filter).expect("a filter is a list of keys and values");
    let uri = format!("{SESSIONS}?{query}");
    let response = in_time(socket, exchange(socket, Method::GET, &uri)).await?;
    Ok(Sessions {
        socket: socket.to_owned(),
        lines: Lines::new(response),
    })
}

/// Begins a trace of the packets that `filter` wants: a [`trace::Line`] in JSON and a line break for each. It ends when this
/// is dropped.
pub async fn trace(socket: &Path, filter: &trace::Filter) -> Result<Lines, ClientError> {
    let query = serde_urlencoded::to_string(filter).expect("a filter is a list of keys and values");
    let uri = format!("{TRACE}?{query}");
    let response = in_time(socket, exchange(socket, Method::GET, &uri)).await?;
    Ok(Lines::new(response))
}

/// Sessions, as they come in.
pub struct Sessions {
    socket: PathBuf,
    lines: Lines,
}

impl Sessions {
    /// The next ones, each a [`super::Session`] in JSON and a line break; `None` at the end.
    pub async fn next(&mut self) -> Result<Option<Vec<u8>>, ClientError> {
        in_time(&self.socket, self.lines.next()).await
    }
}

/// Lines, as they come in.
pub struct Lines {
    body: Incoming,
    /// The beginning of a line whose end has not come yet.
    begun: Vec<u8>,
}

impl Lines {
    fn new(response: Response<Incoming>) -> Self {
        Self {
            body: response.into_body(),
            begun: Vec::new(),
        }
    }

    /// The next ones, with their line breaks; `None` at the end.
    pub async fn next(&mut self) -> Result<Option<Vec<u8>>, ClientError> {
        loop {
            let Some(frame) = self.body.frame().await.transpose()? else {
                return Ok(None);
            };
            self.begun
                .extend_from_slice(&frame.into_data().unwrap_or_default());
            if let Some(end) = self.begun.iter().rposition(|&byte| byte == b'\n') {
                let rest = self.begun.split_off(end + 1);
                return Ok(Some(mem::replace(&mut self.begun, rest)));
            }
        }
    }
}

async fn request(socket: &Path, method: Method, path: &str) -> Result<Bytes, ClientError> {
    let whole = async {
        let response = exchange(socket, method, path).await?;
        Ok(response.into_body().collect().await?.to_bytes())
    };
    in_time(socket, whole).await
}

async fn in_time<T>(
    socket: &Path,
    answer: impl Future<Output = Result<T, ClientError>>,
) -> Result<T, ClientError> {
    timeout(PATIENCE, answer).await.unwrap_or_else(|_| {
        Err(ClientError::Silent {
            path: socket.to_owned(),
        })
    })
}

async fn exchange(
    socket: &Path,
    method: Method,
    uri: &str,
) -> Result<Response<Incoming>, ClientError> {
    let stream = UnixStream::connect(socket).await.map_err(|error| {
        let path = socket.to_owned();
        match error.kind() {
            io::ErrorKind::PermissionDenied => ClientError::Forbidden { path, error },
            _ => ClientError::NoDaemon { path, error },
        }
    })?;
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
    tokio::spawn(connection);
    let request = Request::builder()
        .method(method)
        .uri(uri)
        .header(hyper::header::HOST, "lb")
        .body(Empty::<Bytes>::new())
        .expect("a valid request");
    let response = sender.send_request(request).await?;
    let status = response.status();
    if status.is_success() {
        return Ok(response);
    }
    let body = response.into_body().collect().await?.to_bytes();
    let reason = String::from_utf8_lossy(&body).into_owned();
    Err(match status {
        StatusCode::NOT_FOUND => ClientError::Unknown(reason),
        StatusCode::UNPROCESSABLE_ENTITY => ClientError::Refused(reason),
        StatusCode::LOCKED => ClientError::Busy(reason),
        _ => ClientError::Failed(reason),
    })
}
