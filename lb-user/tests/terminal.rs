//! What `lb top` and `lb status --watch` do on a terminal, and without one, while daemons come and go.

use std::{
    env,
    fs::{self, File},
    io::{BufRead, BufReader, Read, Write},
    os::unix::net::{UnixListener, UnixStream},
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Stdio},
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    thread::{self, JoinHandle, sleep},
    time::{Duration, Instant},
};

use lb_user::api::Status;
use nix::{
    pty::{Winsize, openpty},
    sys::{
        signal::{Signal, kill},
        termios::{LocalFlags, tcgetattr},
    },
    unistd::Pid,
};

const PATIENCE: Duration = Duration::from_secs(20);
const LEAVES_ALTERNATE_SCREEN: &str = "\x1b[?1049l";

/// Answers each request with the status of a balancer that has nothing to do. Gone when it is dropped.
struct FakeDaemon {
    socket: PathBuf,
    stops: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl FakeDaemon {
    fn start(socket: &Path) -> Self {
        let listener = UnixListener::bind(socket).unwrap();
        let stops = Arc::new(AtomicBool::new(false));
        let should_stop = Arc::clone(&stops);
        let body = serde_json::to_string(&Status::default()).unwrap();
        let answer = format!(
            "HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{body}",
            body.len()
        );
        let thread = thread::spawn(move || {
            for stream in listener.incoming() {
                if should_stop.load(Ordering::Relaxed) {
                    return;
                }
                let mut stream = stream.unwrap();
                let _ = stream.read(&mut [0; 4096]);
                let _ = stream.write_all(answer.as_bytes());
            }
        });
        Self {
            socket: socket.to_owned(),
            stops,
            thread: Some(thread),
        }
    }
}

impl Drop for FakeDaemon {
    fn drop(&mut self) {
        self.stops.store(true, Ordering::Relaxed);
        drop(UnixStream::connect(&self.socket));
        self.thread.take().unwrap().join().unwrap();
        fs::remove_file(&self.socket).unwrap();
    }
}

/// `lb`, and what it has written.
struct Running {
    child: Child,
    written: Arc<Mutex<String>>,
}

impl Running {
    fn new(child: Child, mut output: impl Read + Send + 'static) -> Self {
        let written = Arc::new(Mutex::new(String::new()));
        let all = Arc::clone(&written);
        thread::spawn(move || {
            let mut bytes = [0; 4096];
            // A terminal that nobody has open any more is an error to read.
            while let Ok(count @ 1..) = output.read(&mut bytes) {
                *all.lock().unwrap() += &String::from_utf8_lossy(&bytes[..count]);
            }
        });
        Self { child, written }
    }

    /// Waits until it has written that, and forgets all that was written.
    #[track_caller]
    fn wait_for(&self, text: &str) {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let mut written = self.written.lock().unwrap();
            if written.contains(text) {
                written.clear();
                return;
            }
            let seen = written.clone();
            drop(written);
            assert!(Instant::now() < deadline, "no {text:?} in {seen:?}");
            sleep(Duration::from_millis(10));
        }
    }

    fn signal(&self, signal: Signal) {
        kill(Pid::from_raw(self.child.id().cast_signed()), signal).unwrap();
    }

    #[track_caller]
    fn end(&mut self) -> ExitStatus {
        let deadline = Instant::now() + PATIENCE;
        loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                return status;
            }
            assert!(Instant::now() < deadline, "it does not end");
            sleep(Duration::from_millis(10));
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn lb(arguments: &[&str], socket: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_lb"));
    command.args(arguments).arg("--socket").arg(socket);
    command.env_remove("NO_COLOR").env("TERM", "xterm-256color");
    command
}

/// Starts it on a terminal of its own.
fn on_terminal(command: &mut Command) -> (Running, File) {
    let size = Winsize {
        ws_row: 24,
        ws_col: 100,
        ws_xpixel: 0,
        ws_ypixel: 0,
    };
    let pty = openpty(&size, None).unwrap();
    let slave = || pty.slave.try_clone().unwrap();
    let child = command.stdin(slave()).stdout(slave()).stderr(slave());
    let child = child.spawn().unwrap();
    let terminal = File::from(pty.master);
    let output = terminal.try_clone().unwrap();
    (Running::new(child, output), terminal)
}

fn is_raw(terminal: &File) -> bool {
    let flags = tcgetattr(terminal).unwrap().local_flags;
    !flags.contains(LocalFlags::ICANON | LocalFlags::ECHO)
}

#[test]
fn top_survives_the_daemon_and_gives_the_terminal_back() {
    let directory = tempfile::tempdir().unwrap();
    let socket = directory.path().join("lb.sock");
    let start = || on_terminal(&mut lb(&["top"], &socket));

    let (mut top, mut terminal) = start();
    top.wait_for("no daemon: no lb daemon answers");
    assert!(is_raw(&terminal));
    let daemon = FakeDaemon::start(&socket);
    top.wait_for("virtual servers 0");
    drop(daemon);
    top.wait_for("no daemon");
    let _daemon = FakeDaemon::start(&socket);
    top.wait_for("virtual servers 0");
    terminal.write_all(b"?").unwrap();
    // What the screen has already is not written again: words alone can be looked for.
    top.wait_for("reverse");
    terminal.write_all(b"xq").unwrap();
    assert!(top.end().success());
    top.wait_for(LEAVES_ALTERNATE_SCREEN);
    assert!(!is_raw(&terminal));

    for end in [Signal::SIGTERM, Signal::SIGINT] {
        let (mut top, terminal) = start();
        top.wait_for("virtual servers 0");
        top.signal(end);
        assert!(top.end().success(), "{end}");
        top.wait_for(LEAVES_ALTERNATE_SCREEN);
        assert!(!is_raw(&terminal));
    }
}

#[test]
fn a_status_that_is_watched_is_drawn_anew_and_survives_the_daemon() {
    let directory = tempfile::tempdir().unwrap();
    let socket = directory.path().join("lb.sock");
    let watch = || lb(&["status", "--watch", "1"], &socket);
    let daemon = FakeDaemon::start(&socket);

    let mut piped = watch();
    let child = piped.stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = child.spawn().unwrap();
    let output = child.stdout.take().unwrap();
    let mut errors = BufReader::new(child.stderr.take().unwrap());
    let piped = Running::new(child, output);
    // Without colours, and with a blank line in between.
    piped.wait_for("BPS\n\nNAME");

    let (shown, _terminal) = on_terminal(&mut watch());
    shown.wait_for("\x1b[1;1H\x1b[2J\x1b[?7l\x1b[1mNAME");
    shown.wait_for("\x1b[2J");
    drop(daemon);
    shown.wait_for("no lb daemon answers");
    // Not among what somebody may want to parse.
    let mut error = String::new();
    errors.read_line(&mut error).unwrap();
    assert!(error.contains("no lb daemon answers"), "{error}");
    let _daemon = FakeDaemon::start(&socket);
    for one in [&piped, &shown] {
        one.wait_for("NAME");
    }
    let (shown, _terminal) = on_terminal(watch().env("NO_COLOR", "1"));
    shown.wait_for("\x1b[?7lNAME");
}
