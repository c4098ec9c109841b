//! The daemon's side of the control socket.

use std::{
    convert::Infallible,
    fs::{self, Permissions},
    io,
    os::{
        fd::OwnedFd,
        unix::{
            fs::{FileTypeExt, PermissionsExt},
            net::UnixStream,
        },
    },
    path::{Path, PathBuf},
};

use axum::{
    Json, Router,
    body::{Body, Bytes},
    extract::{Query, State},
    http::{HeaderName, StatusCode, header::CONTENT_TYPE},
    response::{IntoResponse, Response},
    routing::{get, post},
};
use futures::{
    StreamExt,
    stream::{self, BoxStream},
};
use nix::sys::stat::{Mode, fchmod};
use socket2::{Domain, SockAddr, Socket, Type};
use tokio::{
    net::UnixListener,
    sync::{mpsc, oneshot},
    task::yield_now,
};

use super::{
    DROP_SESSIONS, DropSessions, RELOAD, SESSIONS, STATUS, STOP, Status, TRACE,
    sessions::Filter,
    trace::{self, Refusal},
};
use crate::metrics::Snapshot;

/// For the daemon's user and group alone.
const MODE: u32 = 0o660;
/// Connections that wait to be accepted.
const BACKLOG: i32 = 1024;

/// What a client asks of the daemon, and where the answer goes.
pub enum Request {
    /// How are things?
    Status(oneshot::Sender<Status>),
    /// How are things, for Prometheus?
    Metrics(oneshot::Sender<Snapshot>),
    /// Which sessions are there? The answer is an error's text, if the filter names what does not exist.
    Sessions(Filter, oneshot::Sender<Result<Lines, String>>),
    /// Apply the configuration file. The answer is what has changed, or why nothing has.
    Reload(oneshot::Sender<Result<Vec<String>, String>>),
    /// Drop the sessions of real servers that are not bound. The answer is how many were active, or an error's text.
    DropSessions(DropSessions, oneshot::Sender<Result<u64, String>>),
    /// Which packets come, and what becomes of them? The trace ends when the answer is dropped.
    Trace(trace::Filter, oneshot::Sender<Result<Trace, Refusal>>),
    /// End forwarding and the daemon. The answer is an error's text, or nothing.
    Stop(oneshot::Sender<Result<(), String>>),
}

/// An answer that is made while it is sent: each item is some lines, or none yet.
pub type Lines = Box<dyn Iterator<Item = Bytes> + Send>;

/// An answer that is made when the client has taken what was before: each item is some lines.
pub type Trace = BoxStream<'static, io::Result<Bytes>>;

const JSON_LINES: [(HeaderName, &str); 1] = [(CONTENT_TYPE, "application/x-ndjson")];

/// Directories that go when this is dropped, if nothing is in them.
pub struct MadeDirectories(Vec<PathBuf>);

impl Drop for MadeDirectories {
    fn drop(&mut self) {
        for directory in &self.0 {
            let _ = fs::remove_dir(directory);
        }
    }
}

/// Makes the directories of a socket that are not there.
pub fn make_directories(socket: &Path) -> io::Result<MadeDirectories> {
    let missing = socket.ancestors().skip(1).take_while(|it| !it.exists());
    let made = MadeDirectories(missing.map(Path::to_owned).collect());
    if let Some(directory) = socket.parent() {
        fs::create_dir_all(directory)?;
    }
    Ok(made)
}

/// Listens on a Unix socket, with mode 0660. One that a dead daemon left behind is replaced.
///
/// # Errors
///
/// If the socket can't be made, or if somebody listens on it already, or something else has its name.
pub fn listen(path: &Path) -> io::Result<UnixListener> {
    match UnixStream::connect(path) {
        Ok(_) => {
            return Err(io::Error::new(
                io::ErrorKind::AddrInUse,
                "another lb answers there",
            ));
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(_) if fs::metadata(path)?.file_type().is_socket() => fs::remove_file(path)?,
        Err(_) => {
            return Err(io::Error::new(
                io::ErrorKind::AlreadyExists,
                "what is there is no socket: remove it, or choose another path",
            ));
        }
    }
    let socket = bind(path)?;
    // The process's mask may have taken some of it away.
    fs::set_permissions(path, Permissions::from_mode(MODE))?;
    socket.listen(BACKLOG)?;
    socket.set_nonblocking(true)?;
    UnixListener::from_std(OwnedFd::from(socket).into())
}

/// A socket with this name that never has more rights than [`MODE`]: the name gets those that the socket has (kernel:
/// net/unix/af_unix.c, `unix_bind_bsd`).
fn bind(path: &Path) -> io::Result<Socket> {
    let socket = Socket::new(Domain::UNIX, Type::STREAM, None)?;
    fchmod(&socket, Mode::from_bits_truncate(MODE))?;
    socket.bind(&SockAddr::unix(path)?)?;
    Ok(socket)
}

/// Passes requests on to the daemon.
pub async fn serve(listener: UnixListener, requests: mpsc::Sender<Request>) -> io::Result<()> {
    let routes = Router::new()
        .route(STATUS, get(status))
        .route(SESSIONS, get(sessions))
        .route(RELOAD, post(reload))
        .route(DROP_SESSIONS, post(drop_sessions))
        .route(TRACE, get(trace))
        .route(STOP, post(stop))
        .with_state(requests);
    axum::serve(listener, routes).await
}

type Requests = State<mpsc::Sender<Request>>;

async fn status(State(requests): Requests) -> Response {
    match ask(&requests, Request::Status).await {
        Some(status) => Json(status).into_response(),
        None => gone(),
    }
}

/// Lines are made when the client has taken those before, and no more when it has gone.
async fn sessions(State(requests): Requests, Query(filter): Query<Filter>) -> Response {
    match ask(&requests, |answer| Request::Sessions(filter, answer)).await {
        Some(Ok(lines)) => {
            // The daemon and its other clients wait for no more than one item.
            let lines = stream::iter(lines).then(|lines| async {
                yield_now().await;
                Ok::<_, Infallible>(lines)
            });
            (JSON_LINES, Body::from_stream(lines)).into_response()
        }
        Some(Err(unknown)) => (StatusCode::NOT_FOUND, unknown).into_response(),
        None => gone(),
    }
}

async fn reload(State(requests): Requests) -> Response {
    match ask(&requests, Request::Reload).await {
        Some(Ok(changes)) => Json(changes).into_response(),
        Some(Err(error)) => (StatusCode::UNPROCESSABLE_ENTITY, error).into_response(),
        None => gone(),
    }
}

async fn drop_sessions(State(requests): Requests, Query(request): Query<DropSessions>) -> Response {
    match ask(&requests, |answer| Request::DropSessions(request, answer)).await {
        Some(Ok(dropped)) => Json(dropped).into_response(),
        Some(Err(error)) => (StatusCode::CONFLICT, error).into_response(),
        None => gone(),
    }
}

async fn trace(State(requests): Requests, Query(filter): Query<trace::Filter>) -> Response {
    match ask(&requests, |answer| Request::Trace(filter, answer)).await {
        Some(Ok(lines)) => (JSON_LINES, Body::from_stream(lines)).into_response(),
        Some(Err(refusal)) => {
            let status = match refusal {
                Refusal::Unknown(_) => StatusCode::NOT_FOUND,
                Refusal::Busy => StatusCode::LOCKED,
                Refusal::Failed(_) => StatusCode::INTERNAL_SERVER_ERROR,
            };
            (status, refusal.to_string()).into_response()
        }
        None => gone(),
    }
}

async fn stop(State(requests): Requests) -> Response {
    match ask(&requests, Request::Stop).await {
        Some(Ok(())) => StatusCode::NO_CONTENT.into_response(),
        Some(Err(error)) => (StatusCode::INTERNAL_SERVER_ERROR, error).into_response(),
        None => gone(),
    }
}

async fn ask<T>(
    requests: &mpsc::Sender<Request>,
    request: impl FnOnce(oneshot::Sender<T>) -> Request,
) -> Option<T> {
    let (sender, answer) = oneshot::channel();
    requests.send(request(sender)).await.ok()?;
    answer.await.ok()
}

fn gone() -> Response {
    (StatusCode::SERVICE_UNAVAILABLE, "the daemon is stopping").into_response()
}

#[cfg(test)]
mod tests {
    use std::os::unix;

    use super::*;

    #[tokio::test]
    async fn a_socket_that_nobody_listens_on_is_replaced() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("lb.sock");
        drop(unix::net::UnixListener::bind(&path).unwrap());
        let _listener = listen(&path).unwrap();
        let mode = fs::metadata(&path).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, MODE, "{mode:o}");
        let error = listen(&path).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::AddrInUse);
    }

    #[test]
    fn directories_that_were_made_for_a_socket_go_with_it() {
        let directory = tempfile::tempdir().unwrap();
        let socket = directory.path().join("a/b/lb.sock");
        let made = make_directories(&socket).unwrap();
        fs::write(&socket, "").unwrap();
        // It was there before.
        drop(make_directories(&socket).unwrap());
        assert!(socket.exists());
        fs::remove_file(&socket).unwrap();
        drop(made);
        assert!(!directory.path().join("a").exists());
        assert!(directory.path().exists());
    }

    #[test]
    fn a_socket_is_for_user_and_group_alone_from_the_first_moment() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("lb.sock");
        let _socket = bind(&path).unwrap();
        let mode = fs::metadata(&path).unwrap().permissions().mode();
        assert_eq!(mode & 0o777 & !MODE, 0, "{mode:o}");
    }

    #[tokio::test]
    async fn a_file_that_is_no_socket_is_left_alone() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("lb.sock");
        fs::write(&path, "precious").unwrap();
        let error = listen(&path).unwrap_err();
        assert!(error.to_string().contains("is no socket"), "{error}");
        assert_eq!(fs::read(&path).unwrap(), b"precious");
    }
}
