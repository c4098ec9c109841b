//! Both ends of the control socket, and what holds for them whatever the other one says.

use std::{path::PathBuf, time::Duration};

use futures::{StreamExt, stream};
use lb_user::api::{
    Status, client,
    server::{self, Request},
    sessions::Filter,
};
use tempfile::TempDir;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{UnixListener, UnixStream},
    runtime::{self, Runtime},
    sync::mpsc,
    time::timeout,
};

/// Whoever needs longer hangs.
const PATIENCE: Duration = Duration::from_secs(20);

/// A daemon's control socket, and one behind which there is no daemon.
pub struct Sockets {
    runtime: Runtime,
    daemon: PathBuf,
    stranger: PathBuf,
    strange_listener: UnixListener,
    _directory: TempDir,
}

impl Sockets {
    /// New ones.
    ///
    /// # Panics
    /// The sockets can't be made.
    pub fn new() -> Self {
        let directory = tempfile::tempdir().expect("a directory");
        let [daemon, stranger] = ["daemon", "stranger"].map(|name| directory.path().join(name));
        let runtime = runtime::Builder::new_current_thread().enable_all().build();
        let runtime = runtime.expect("a runtime");
        let entered = runtime.enter();
        let listener = server::listen(&daemon).expect("a socket");
        let strange_listener = server::listen(&stranger).expect("a socket");
        drop(entered);
        let (sender, requests) = mpsc::channel(16);
        runtime.spawn(server::serve(listener, sender));
        runtime.spawn(answer(requests));
        Self {
            runtime,
            daemon,
            stranger,
            strange_listener,
            _directory: directory,
        }
    }

    /// A client says something to the daemon: it answers in HTTP or not at all, and goes on answering others.
    ///
    /// # Panics
    /// It doesn't.
    pub fn ask(&self, request: &[u8]) {
        let exchange = async {
            let mut stream = UnixStream::connect(&self.daemon).await.expect("it listens");
            // It may have had enough before the end.
            let _ = stream.write_all(request).await;
            let _ = stream.shutdown().await;
            let mut answer = Vec::new();
            let _ = stream.read_to_end(&mut answer).await;
            let text = String::from_utf8_lossy(&answer);
            assert!(answer.is_empty() || text.starts_with("HTTP/1."), "{text}");
            let status = client::status(&self.daemon).await;
            assert_eq!(status.expect("an answer"), Status::default());
        };
        let answered = self
            .runtime
            .block_on(async { timeout(PATIENCE, exchange).await });
        answered.expect("the daemon hangs");
    }

    /// Somebody who is no daemon answers a command: it takes the answer or refuses it.
    ///
    /// # Panics
    /// It hangs.
    pub fn answer(&self, answer: &[u8]) {
        let exchange = async {
            let strange = async {
                loop {
                    let (mut stream, _) = self.strange_listener.accept().await.expect("a client");
                    let mut request = [0; 1024];
                    let _ = stream.read(&mut request).await;
                    let _ = stream.write_all(answer).await;
                }
            };
            let commands = async {
                let _ = client::status(&self.stranger).await;
                let _ = client::reload(&self.stranger).await;
                if let Ok(mut sessions) = client::sessions(&self.stranger, &Filter::default()).await
                {
                    while let Ok(Some(_)) = sessions.next().await {}
                }
            };
            tokio::select! {
                () = commands => {}
                () = strange => {}
            }
        };
        let finished = self
            .runtime
            .block_on(async { timeout(PATIENCE, exchange).await });
        finished.expect("the command hangs");
    }
}

impl Default for Sockets {
    fn default() -> Self {
        Self::new()
    }
}

/// The daemon: it knows nothing, and does nothing.
async fn answer(mut requests: mpsc::Receiver<Request>) {
    while let Some(request) = requests.recv().await {
        // Whoever asked may be gone.
        match request {
            Request::Status(answer) => drop(answer.send(Status::default())),
            Request::Metrics(_) => unreachable!("they are asked for elsewhere"),
            Request::Sessions(_, answer) => drop(answer.send(Err("unknown".to_owned()))),
            Request::Reload(answer) => drop(answer.send(Ok(vec!["nothing".to_owned()]))),
            Request::DropSessions(_, answer) => drop(answer.send(Ok(0))),
            Request::Trace(_, answer) => drop(answer.send(Ok(stream::empty().boxed()))),
            Request::Stop(answer) => drop(answer.send(Ok(()))),
        }
    }
}
