//! The commands' side of the control socket.

use std::{
    io,
    path::{Path, PathBuf},
    time::Duration,
};

use http_body_util::{BodyExt, Empty};
use hyper::{Method, Request, body::Bytes, client::conn::http1};
use hyper_util::rt::TokioIo;
use tokio::{
    net::UnixStream,
    time::{sleep, timeout},
};

use super::{STATUS, STOP, Status};

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

async fn request(socket: &Path, method: Method, path: &str) -> Result<Bytes, ClientError> {
    let answer = timeout(PATIENCE, exchange(socket, method, path)).await;
    answer.unwrap_or_else(|_| {
        Err(ClientError::Silent {
            path: socket.to_owned(),
        })
    })
}

async fn exchange(socket: &Path, method: Method, path: &str) -> Result<Bytes, ClientError> {
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
        .uri(path)
        .header(hyper::header::HOST, "lb")
        .body(Empty::<Bytes>::new())
        .expect("a valid request");
    let response = sender.send_request(request).await?;
    let status = response.status();
    let body = response.into_body().collect().await?.to_bytes();
    if status.is_success() {
        Ok(body)
    } else {
        Err(ClientError::Failed(
            String::from_utf8_lossy(&body).into_owned(),
        ))
    }
}
