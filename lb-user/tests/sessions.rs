//! `lb sessions`, with a daemon that has tables of its own, without root.

use std::{
    fs,
    io::{BufRead, BufReader, Read},
    iter,
    net::{IpAddr, Ipv4Addr},
    path::PathBuf,
    process::{Child, Command, Stdio},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    thread::{self, sleep},
    time::{Duration, Instant},
};

use assert_cmd::{assert::Assert, cargo::cargo_bin_cmd};
use bytemuck::Zeroable;
use lb_common::{
    Address, Binding, Name, RealServer, VirtualServer,
    protocol::{TCP, UDP},
    session::{Phase, SessionKey, State, tick, ticks},
};
use lb_user::{
    api::{
        Session,
        server::{self, Lines, Request},
        sessions::Filter,
    },
    config::{Config, Limits},
    control::Desired,
    daemon::session_list::{SessionList, check},
    dataplane::{SessionTables, Sizes, Tables},
};
use nix::time::{ClockId, clock_gettime};
use rstest::rstest;
use serde_json::Value;
use tempfile::TempDir;
use tokio::{
    runtime,
    sync::{mpsc, oneshot},
};

const CONFIG: &str = "\
interfaces: [{ name: eth0 }]
real_servers: { web-1: 10.9.0.11, web-2: 10.9.0.12, web-3: '2001:db8::13', idle: 10.9.0.14 }
virtual_servers:
  - { name: shop, vip: 10.9.1.1, protocol: tcp, port: any, bind: [web-1, web-2] }
  - { name: dns, vip: '2001:db8:9:1::1', protocol: udp, port: 53, bind: [web-3] }
";

const SHOP: u32 = 1;
const DNS: u32 = 2;
const FIVE_MINUTES: u32 = ticks(Duration::from_secs(300));

/// For whatever must happen in the end.
const PATIENCE: Duration = Duration::from_secs(60);

/// Held by tests with large tables, because the memory of this process is measured.
static LARGE: Mutex<()> = Mutex::new(());

/// The time that packets see, in ticks.
fn now() -> u32 {
    let time = clock_gettime(ClockId::CLOCK_MONOTONIC_COARSE).unwrap();
    tick(Duration::from(time).as_nanos() as u64)
}

/// Tables with what [`CONFIG`] says, for so many sessions.
fn tables(sessions: u32) -> Tables {
    let sizes = Sizes::new(&Limits {
        virtual_servers: 4,
        real_servers: 4,
        sessions,
        sessions_v6: 1000,
        ..Limits::DEFAULT
    });
    let tables = Tables::anonymous(&sizes).unwrap();
    let address = |text: &str| Address::from(text.parse::<IpAddr>().unwrap());
    for (index, name, at) in [
        (1, "web-1", "10.9.0.11"),
        (2, "web-2", "10.9.0.12"),
        (3, "web-3", "2001:db8::13"),
    ] {
        let real_server = RealServer {
            name: Name::new(name).unwrap(),
            address: address(at),
            ..RealServer::zeroed()
        };
        tables.real_servers.set(index, real_server);
        let binding = Binding {
            real_server: index,
            counters: index,
        };
        tables.bindings.set(index, binding);
    }
    for (id, name, vip, protocol, first_binding, binding_capacity) in [
        (SHOP, "shop", "10.9.1.1", TCP, 1, 2),
        (DNS, "dns", "2001:db8:9:1::1", UDP, 3, 1),
    ] {
        let virtual_server = VirtualServer {
            name: Name::new(name).unwrap(),
            vip: address(vip),
            protocol,
            first_binding,
            binding_capacity,
            idle_timeout: FIVE_MINUTES,
            ..VirtualServer::zeroed()
        };
        tables.virtual_servers.set(id, virtual_server);
    }
    tables
}

/// Puts a session of `shop` in the place with this number.
fn put_v4(tables: &Tables, place: u32, client: Ipv4Addr, state: State) {
    let client = Address::from(client);
    let SessionKey([key]) = SessionKey::v4(client.words(), 40_000, 80);
    let bucket = &tables.sessions.sessions_v4;
    let words = bucket.words(place / 4);
    let first = place as usize % 4 * 2;
    words[first].store(key, Ordering::Relaxed);
    words[first + 1].store(state.0, Ordering::Release);
}

/// Puts a session of `dns` in the first place of a bucket.
fn put_v6(tables: &Tables, bucket: u32, client: &str, state: State) {
    let client = Address::from(client.parse::<IpAddr>().unwrap());
    let SessionKey(key) = SessionKey::v6(client.words(), 50_000, 53);
    let words = tables.sessions.sessions_v6.words(bucket);
    for (word, value) in words.iter().zip(key.into_iter().chain([state.0])) {
        word.store(value, Ordering::Release);
    }
}

/// Tables with a session of each kind, and some that are over.
fn few_sessions() -> Tables {
    let tables = tables(1000);
    let now = now();
    let ago = |seconds| now.wrapping_sub(ticks(Duration::from_secs(seconds)));
    let shop = |binding, phase, used| State::new(SHOP, binding, phase, used);
    let begun = shop(1, Phase::Established, ago(200)).used(Phase::Established, ago(20));
    let client = |last| Ipv4Addr::new(10, 9, 0, last);
    put_v4(&tables, 0, client(100), shop(0, Phase::Opening, now));
    put_v4(&tables, 5, client(101), begun);
    put_v4(&tables, 1999, client(102), shop(0, Phase::Closing, ago(10)));
    put_v4(&tables, 7, client(103), shop(0, Phase::Opening, ago(100)));
    put_v4(
        &tables,
        8,
        client(104),
        shop(0, Phase::Established, ago(400)),
    );
    put_v4(&tables, 9, client(105), shop(0, Phase::Claimed, now));
    put_v4(
        &tables,
        10,
        client(106),
        State::new(3, 0, Phase::Established, now),
    );
    put_v4(
        &tables,
        11,
        client(107),
        State::new(65_535, 4095, Phase::Established, now),
    );
    put_v6(
        &tables,
        499,
        "2001:db8::100",
        State::new(DNS, 0, Phase::Established, now),
    );
    tables
}

/// A daemon that answers for sessions alone.
struct Daemon {
    directory: TempDir,
    tables: Arc<SessionTables>,
    /// Items that were taken from lists.
    taken: Arc<AtomicUsize>,
    end: Option<oneshot::Sender<()>>,
    thread: Option<thread::JoinHandle<()>>,
}

impl Daemon {
    fn start(tables: Tables) -> Self {
        Self::start_with(tables, |list| list)
    }

    /// As [`Self::start`], with something done to each list.
    fn start_with(tables: Tables, lines: fn(Lines) -> Lines) -> Self {
        let directory = TempDir::new().unwrap();
        let socket = directory.path().join("lb.sock");
        let taken = Arc::new(AtomicUsize::new(0));
        let (end, ended) = oneshot::channel();
        let (started, has_started) = oneshot::channel();
        let sessions = Arc::clone(&tables.sessions);
        let counter = Arc::clone(&taken);
        let serve = async move {
            let (requests, mut incoming) = mpsc::channel(1);
            tokio::spawn(server::serve(server::listen(&socket).unwrap(), requests));
            started.send(()).unwrap();
            let config = Config::from_bytes("lb.yaml", CONFIG.as_bytes()).unwrap();
            let answer = async {
                while let Some(request) = incoming.recv().await {
                    let Request::Sessions(filter, answer) = request else {
                        panic!("a request that no test makes");
                    };
                    let known = check(&filter, &config, &Desired::default());
                    let list = SessionList::new(&tables, &filter);
                    let counter = Arc::clone(&counter);
                    let list = list.inspect(move |_| {
                        counter.fetch_add(1, Ordering::Relaxed);
                    });
                    let _ = answer.send(known.map(|()| lines(Box::new(list))));
                }
            };
            tokio::select! {
                () = answer => {}
                _ = ended => {}
            }
        };
        let thread = thread::spawn(|| {
            let mut runtime = runtime::Builder::new_current_thread();
            runtime.enable_all().build().unwrap().block_on(serve);
        });
        has_started.blocking_recv().unwrap();
        Self {
            directory,
            tables: sessions,
            taken,
            end: Some(end),
            thread: Some(thread),
        }
    }

    fn socket(&self) -> PathBuf {
        self.directory.path().join("lb.sock")
    }

    fn sessions(&self, arguments: &[&str]) -> Assert {
        let mut lb = cargo_bin_cmd!("lb");
        lb.arg("sessions").arg("--socket").arg(self.socket());
        lb.args(arguments).timeout(PATIENCE).assert()
    }

    fn spawn_sessions(&self, arguments: &[&str]) -> Child {
        let mut lb = Command::new(env!("CARGO_BIN_EXE_lb"));
        lb.arg("sessions").arg("--socket").arg(self.socket());
        let lb = lb.args(arguments).stdout(Stdio::piped());
        lb.stderr(Stdio::piped()).spawn().unwrap()
    }

    /// The clients of the sessions that a command prints.
    fn clients(&self, arguments: &[&str]) -> Vec<String> {
        let outcome = self.sessions(arguments).code(0).stderr("");
        let output = String::from_utf8(outcome.get_output().stdout.clone()).unwrap();
        let rows = output.lines().skip(1);
        rows.map(|row| row.split(' ').next().unwrap().to_owned())
            .collect()
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        drop(self.end.take());
        let _ = self.thread.take().map(thread::JoinHandle::join);
    }
}

fn wait_until(what: &str, is_so: impl Fn() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !is_so() {
        assert!(Instant::now() < deadline, "not so in time: {what}");
        sleep(Duration::from_millis(10));
    }
}

#[test]
fn each_session_has_a_row_with_the_names_of_what_it_belongs_to() {
    let daemon = Daemon::start(few_sessions());
    let outcome = daemon.sessions(&[]).code(0).stderr("");
    let output = String::from_utf8(outcome.get_output().stdout.clone()).unwrap();
    let rows: Vec<Vec<&str>> = output
        .lines()
        .map(|row| {
            row.split("  ")
                .map(str::trim)
                .filter(|it| !it.is_empty())
                .collect()
        })
        .collect();
    let without_times = |row: &Vec<&str>| {
        let (before, after) = (&row[..4], &row[6..]);
        [before, after].concat().join(" | ")
    };
    let expected = [
        "CLIENT | VIP | PROTOCOL | STATE | VIRTUAL SERVER | REAL SERVER | ADDRESS",
        "10.9.0.100:40000 | 10.9.1.1:80 | tcp | opening | shop | web-1 | 10.9.0.11",
        "10.9.0.101:40000 | 10.9.1.1:80 | tcp | established | shop | web-2 | 10.9.0.12",
        "10.9.0.102:40000 | 10.9.1.1:80 | tcp | closing | shop | web-1 | 10.9.0.11",
        "[2001:db8::100]:50000 | [2001:db8:9:1::1]:53 | udp | established | dns | web-3 | 2001:db8::13",
    ];
    let rows: Vec<String> = rows.iter().map(without_times).collect();
    assert_eq!(rows, expected);
}

#[test]
fn json_is_one_document_with_ages_and_idle_times() {
    let daemon = Daemon::start(few_sessions());
    let outcome = daemon.sessions(&["--json"]).code(0).stderr("");
    let document: Value = serde_json::from_slice(&outcome.get_output().stdout).unwrap();
    let sessions = document["sessions"].as_array().unwrap();
    assert_eq!(sessions.len(), 4);
    let text = sessions[1].to_string();
    let session: Session<'_> = serde_json::from_str(&text).unwrap();
    assert_eq!(session.client.to_string(), "10.9.0.101");
    assert!((150..=250).contains(&session.age_seconds), "{text}");
    assert!((18..=60).contains(&session.idle_seconds), "{text}");
    assert!(
        sessions.iter().all(|it| {
            it["age_seconds"].as_u64().unwrap() >= it["idle_seconds"].as_u64().unwrap()
        })
    );
}

#[rstest]
#[case::vip(&["--vip", "2001:DB8:9:1::1"], &["[2001:db8::100]:50000"])]
#[case::real_server_by_name(&["--real", "web-2"], &["10.9.0.101:40000"])]
#[case::real_server_by_address(&["--real", "10.9.0.11"], &["10.9.0.100:40000", "10.9.0.102:40000"])]
#[case::virtual_server(&["--virtual-server", "dns"], &["[2001:db8::100]:50000"])]
#[case::all_of_them(&["--virtual-server", "shop", "--vip", "10.9.1.1", "--real", "web-2"], &["10.9.0.101:40000"])]
#[case::two_that_exclude_each_other(&["--vip", "10.9.1.1", "--real", "web-3"], &[])]
#[case::one_without_sessions(&["--real", "idle"], &[])]
fn a_filter_leaves_what_it_names(#[case] arguments: &[&str], #[case] clients: &[&str]) {
    let daemon = Daemon::start(few_sessions());
    assert_eq!(daemon.clients(arguments), clients);
}

#[rstest]
#[case::vip(
    "--vip",
    "10.9.1.9",
    "unknown VIP 10.9.1.9: the daemon has 10.9.1.1, 2001:db8:9:1::1"
)]
#[case::real_server(
    "--real",
    "web 9",
    "unknown real server web 9: the daemon has idle, web-1, web-2, web-3"
)]
#[case::address(
    "--real",
    "10.9.0.19",
    "unknown real server 10.9.0.19: the daemon has idle, web-1, web-2, web-3"
)]
#[case::virtual_server(
    "--virtual-server",
    "shop&x",
    "unknown virtual server shop&x: the daemon has dns, shop"
)]
fn what_nobody_has_is_refused_with_what_there_is(
    #[case] option: &str,
    #[case] value: &str,
    #[case] message: &str,
) {
    let daemon = Daemon::start(few_sessions());
    let outcome = daemon.sessions(&[option, value]).code(1).stdout("");
    outcome.stderr(format!("{message}\n"));
}

#[test]
fn many_names_are_not_all_in_an_error() {
    let servers: Vec<String> = (1..=30).map(|n| format!("s-{n:02}: 10.9.0.{n}")).collect();
    let config = format!(
        "interfaces: [{{ name: eth0 }}]\nreal_servers: {{ {} }}\n",
        servers.join(", ")
    );
    let config = Config::from_bytes("lb.yaml", config.as_bytes()).unwrap();
    let filter = Filter {
        real: Some("x".to_owned()),
        ..Filter::default()
    };
    let error = check(&filter, &config, &Desired::default()).unwrap_err();
    assert!(error.ends_with("s-09, s-10, 20 more"), "{error}");
}

#[test]
fn nothing_but_the_header_is_printed_without_sessions() {
    let daemon = Daemon::start(tables(1000));
    let outcome = daemon.sessions(&[]).code(0).stderr("");
    let output = String::from_utf8(outcome.get_output().stdout.clone()).unwrap();
    assert!(
        output.starts_with("CLIENT ") && output.lines().count() == 1,
        "{output}"
    );
    let outcome = daemon.sessions(&["--json"]).code(0).stderr("");
    let document: Value = serde_json::from_slice(&outcome.get_output().stdout).unwrap();
    assert_eq!(document, serde_json::json!({ "sessions": [] }));
}

/// A table that is half full.
fn many_sessions(count: u32) -> Tables {
    let tables = tables(count);
    let now = now();
    for number in 0..count {
        let client = Ipv4Addr::from(0x0a00_0000 + number);
        let state = State::new(SHOP, number % 2, Phase::Established, now);
        put_v4(&tables, 2 * number, client, state);
    }
    tables
}

/// The most memory that a process had at one time, in KiB.
fn peak_kib(process: &str) -> Option<u64> {
    let status = fs::read_to_string(format!("/proc/{process}/status")).ok()?;
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("VmHWM:"))?;
    line.trim().strip_suffix(" kB")?.parse().ok()
}

/// The most memory that the command had while it listed so many sessions, in KiB.
fn peak_of_command(daemon: &Daemon, sessions: usize) -> u64 {
    let mut lb = daemon.spawn_sessions(&[]);
    let process = lb.id().to_string();
    let mut output = BufReader::new(lb.stdout.take().unwrap());
    let (mut lines, mut most) = (0, 0);
    let mut line = String::new();
    while output.read_line(&mut line).unwrap() > 0 {
        lines += usize::from(line.contains("10.9.1.1"));
        line.clear();
        if lines.is_multiple_of(1000) {
            // It may be gone, but not while there is more to print than a pipe holds.
            most = most.max(peak_kib(&process).unwrap_or_default());
        }
    }
    let outcome = lb.wait_with_output().unwrap();
    assert!(outcome.status.success(), "{outcome:?}");
    assert_eq!(lines, sessions);
    assert_ne!(most, 0);
    most
}

#[test]
fn a_million_sessions_take_little_memory() {
    // All of them, as they come, are 200 MiB.
    const MOST_KIB: u64 = 32 * 1024;
    let _alone = LARGE.lock().unwrap_or_else(PoisonError::into_inner);
    // What the command takes anyway depends on how it was built, and on the kernel: pages of the binary, huge pages.
    let base = peak_of_command(&Daemon::start(many_sessions(2000)), 2000);
    let daemon = Daemon::start(many_sessions(1_000_000));
    // From here on the peak is that of the stream (Documentation/filesystems/proc.rst: clear_refs).
    fs::write("/proc/self/clear_refs", "5").unwrap();
    let before = peak_kib("self").unwrap();
    let most = peak_of_command(&daemon, 1_000_000);
    let grown = peak_kib("self").unwrap() - before;
    assert!(
        most < base + MOST_KIB,
        "the command: {most} KiB, and {base} KiB with few sessions"
    );
    assert!(grown < MOST_KIB, "the daemon: {grown} KiB");
}

#[test]
fn a_client_that_does_not_read_holds_the_walk_up_and_one_that_goes_ends_it() {
    let _alone = LARGE.lock().unwrap_or_else(PoisonError::into_inner);
    let daemon = Daemon::start(many_sessions(300_000));
    let items = daemon
        .tables
        .sessions()
        .map(|table| table.buckets().div_ceil(128) as usize);
    let taken = || daemon.taken.load(Ordering::Relaxed);
    let lists = || Arc::strong_count(&daemon.tables) - 2;
    let mut client = daemon.spawn_sessions(&[]);
    let output = client.stdout.take().unwrap();
    wait_until("the first sessions", || taken() > 0);
    wait_until("the walk pauses", || {
        let before = taken();
        sleep(Duration::from_millis(200));
        taken() == before
    });
    let total: usize = items.iter().sum();
    assert!(
        taken() < total / 4,
        "{} of {total} items were made",
        taken()
    );
    assert_eq!(lists(), 1);
    // As does `head`.
    drop(output);
    let mut errors = String::new();
    client
        .stderr
        .take()
        .unwrap()
        .read_to_string(&mut errors)
        .unwrap();
    assert!(client.wait().unwrap().success());
    assert_eq!(errors, "");
    wait_until("the list goes", || lists() == 0);
    assert!(taken() < total, "{} of {total} items were made", taken());
}

#[test]
fn a_list_that_is_cut_short_is_an_error() {
    let daemon = Daemon::start_with(few_sessions(), |list| {
        let crash = iter::once_with(|| panic!("as if the daemon were killed"));
        Box::new(list.take(1).chain(crash))
    });
    let outcome = daemon.sessions(&["--json"]).code(1);
    let errors = String::from_utf8(outcome.get_output().stderr.clone()).unwrap();
    assert!(errors.starts_with("talking to the lb daemon"), "{errors}");
    assert_eq!(errors.lines().count(), 1);
}
