//! `lb trace` tells what becomes of packets, and costs nobody any.

use std::{
    fs,
    io::{BufRead, BufReader, Read},
    net::UdpSocket,
    process::{Child, Command, Stdio},
    sync::atomic::{AtomicBool, Ordering},
    thread,
    time::{Duration, Instant},
};

use lb_tests::{Daemon, Lab, Report, binary, named};
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use pcap_file::pcapng::{
    Block, PcapNgReader,
    blocks::{
        enhanced_packet::EnhancedPacketOption, interface_description::InterfaceDescriptionOption,
    },
};
use serde_json::Value;

use crate::{
    lifecycle::add_cable,
    support::{
        DNS, PATIENCE, SHOP, StopAtEnd, VIP, VIP6, ask_all, balance, balance_few, lab, number,
        open, serve_http, serve_tcp, serve_udp, wait_until,
    },
};

/// A running `lb trace`. Dropping it kills it.
struct Trace {
    process: Child,
}

impl Trace {
    /// Starts it, and waits until packets are traced.
    fn start(lab: &Lab, options: &str) -> Self {
        let begun = || lab.log().matches("a trace begins").count();
        let before = begun();
        let mut command = Command::new(binary().unwrap());
        command
            .args(["trace", "--socket"])
            .arg(lab.socket())
            .args(options.split_whitespace())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        let process = lab.balancer().spawn(&mut command).unwrap();
        let mut trace = Self { process };
        let deadline = Instant::now() + PATIENCE;
        while begun() == before {
            let is_running = trace.process.try_wait().unwrap().is_none();
            if !is_running || Instant::now() > deadline {
                let _ = trace.process.kill();
                let mut errors = String::new();
                let stderr = trace.process.stderr.as_mut().unwrap();
                stderr.read_to_string(&mut errors).unwrap();
                panic!("no trace has begun: {errors}");
            }
            thread::sleep(Duration::from_millis(10));
        }
        trace
    }

    fn pid(&self) -> Pid {
        Pid::from_raw(self.process.id().cast_signed())
    }

    /// Ends it as Ctrl-C does: what it printed, and its last words.
    fn interrupt(mut self) -> (String, String) {
        kill(self.pid(), Signal::SIGINT).unwrap();
        self.end()
    }

    /// Waits for its end, which must be a good one.
    fn end(&mut self) -> (String, String) {
        let read = |output: &mut dyn Read| {
            let mut text = Vec::new();
            output.read_to_end(&mut text).unwrap();
            String::from_utf8_lossy(&text).into_owned()
        };
        let output = read(self.process.stdout.as_mut().unwrap());
        let errors = read(self.process.stderr.as_mut().unwrap());
        let status = self.process.wait().unwrap();
        assert!(status.success(), "{status}: {errors}");
        (output, errors)
    }
}

impl Drop for Trace {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// The program on the balancer's first interface.
fn program(lab: &Lab) -> u64 {
    *programs(lab).first().expect("a program is attached")
}

/// The programs on the balancer's interfaces.
fn programs(lab: &Lab) -> Vec<u64> {
    let links: Value = serde_json::from_str(&lab.balancer().ip("-json link show")).unwrap();
    let links = links.as_array().unwrap().iter();
    links
        .filter_map(|link| link["xdp"]["prog"]["id"].as_u64())
        .collect()
}

fn packets(json: &str) -> Vec<Value> {
    json.lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect()
}

#[test]
fn every_packet_is_told_with_its_server() {
    let lab = lab(2);
    let _servers = (serve_tcp(&lab, &[80]), serve_udp(&lab, &[53]));
    let _lb = balance(&lab, &[SHOP, DNS].concat());
    let plain = program(&lab);

    let trace = Trace::start(&lab, "--json --snap 64");
    let second = lab.lb("trace --socket {socket}").unwrap();
    assert_eq!(second.status.code(), Some(1));
    let error = String::from_utf8(second.stderr).unwrap();
    assert!(error.contains("another `lb trace` is running"), "{error}");
    assert_ne!(program(&lab), plain);

    let connections = open(&lab, (VIP, 80), 3);
    let servers = ask_all(&connections);
    let datagram = lab.client().udp((VIP6, 53));
    let answer = datagram.ask("?").unwrap();
    // What is on its way to the trace when that is interrupted is not told.
    thread::sleep(Duration::from_millis(500));
    let (json, errors) = trace.interrupt();
    assert!(errors.contains(" packets"), "{errors}");
    let told = packets(&json);
    for (connection, server) in connections.iter().zip(&servers) {
        let source = connection.source();
        let of_it: Vec<_> = told
            .iter()
            .filter(|packet| packet["client_port"] == source.port())
            .collect();
        let sessions: Vec<_> = of_it
            .iter()
            .map(|packet| packet["session"].as_str().unwrap())
            .collect();
        assert_eq!(sessions.first(), Some(&"new"), "{json}");
        assert!(
            sessions.len() > 2 && sessions[1..].iter().all(|session| *session == "existing"),
            "{json}"
        );
        for packet in of_it {
            assert_eq!(packet["verdict"], "forwarded", "{packet}");
            assert_eq!(packet["real_server"], server.as_str(), "{packet}");
            assert_eq!(packet["virtual_server"], "shop", "{packet}");
            assert_eq!(packet["client"], source.ip().to_string(), "{packet}");
            let bytes = packet["bytes"].as_str().unwrap().len() / 2;
            assert_eq!(bytes as u64, packet["length"].as_u64().unwrap().min(64));
        }
    }
    let udp = told.iter().find(|packet| packet["packet"] == "udp");
    let udp = udp.unwrap_or_else(|| panic!("no datagram: {json}"));
    assert_eq!(udp["client"], datagram.source().ip().to_string());
    assert_eq!(
        udp["real_server"].as_str().unwrap(),
        answer.server.replace("web", "web6")
    );
    wait_until("the plain program is there again", || {
        program(&lab) == plain
    });
}

#[test]
fn an_interface_that_is_gone_when_a_trace_ends_gets_the_plain_program_when_it_is_back() {
    let lab = lab(1);
    add_cable(&lab, "spare");
    let config = lab
        .config(SHOP)
        .replace("interfaces: [", "interfaces: [{name: spare}, ");
    let _lb = Daemon::start(&lab, &config).unwrap();
    let plain = program(&lab);
    let trace = Trace::start(&lab, "");
    lab.balancer().ip("link del spare");
    let said = || lab.log().matches("spare does not exist").count();
    wait_until("it is noticed", || said() > 0);
    trace.interrupt();
    wait_until("the plain program is there again", || {
        programs(&lab) == [plain]
    });
    add_cable(&lab, "spare");
    wait_until("both interfaces have it", || {
        programs(&lab) == [plain, plain]
    });
    assert_eq!(said(), 1, "{}", lab.log());
}

#[test]
fn drops_are_told_with_their_reason_in_a_file_for_wireshark() {
    let lab = lab(1);
    let _servers = serve_tcp(&lab, &[80]);
    let shop = SHOP.replace("bind:", "session: {on_unknown: drop}, bind:");
    let lb = balance_few(&lab, &shop);
    let stray = open(&lab, (VIP, 80), 1);
    let stop = lab.lb("stop --socket {socket}").unwrap();
    assert!(stop.status.success(), "{stop:?}");
    lb.wait().unwrap();
    let _lb = balance_few(&lab, &shop);

    let file = lab.directory().join("trace.pcapng");
    let trace = Trace::start(&lab, &format!("--drops --pcapng {}", file.display()));
    let silence = stray[0].ask_for(Duration::from_millis(500));
    assert!(silence.is_err(), "{silence:?}");
    ask_all(&open(&lab, (VIP, 80), 1));
    trace.interrupt();
    let comments = comments(&fs::read(&file).unwrap());
    let dropped = "dropped (unknown_session): shop";
    assert!(
        !comments.is_empty() && comments.iter().all(|comment| comment == dropped),
        "{comments:?}"
    );
    if let Ok(tcpdump) = Command::new("tcpdump").arg("-nr").arg(&file).output() {
        let text = String::from_utf8_lossy(&tcpdump.stdout);
        assert_eq!(text.lines().count(), comments.len(), "{tcpdump:?}");
        assert!(text.contains(&format!("> {VIP}.80: Flags [P.]")), "{text}");
    }
}

/// The comments of the packets in a file.
fn comments(pcapng: &[u8]) -> Vec<String> {
    let mut reader = PcapNgReader::new(pcapng).unwrap();
    let mut comments = Vec::new();
    while let Some(block) = reader.next_block() {
        match block.unwrap() {
            Block::InterfaceDescription(interface) => {
                let is_name = |option: &_| matches!(option, InterfaceDescriptionOption::IfName(_));
                assert!(interface.options.iter().any(is_name), "{interface:?}");
            }
            Block::EnhancedPacket(packet) => {
                assert!(packet.original_len as usize >= packet.data.len());
                comments.extend(packet.options.iter().map(|option| match option {
                    EnhancedPacketOption::Comment(comment) => comment.to_string(),
                    other => panic!("{other:?}"),
                }));
            }
            other => panic!("{other:?}"),
        }
    }
    comments
}

const SINK: &str = "\n- {name: sink, vip: 10.9.1.1, protocol: udp, port: 9, session: {mode: stateless}, bind: [web]}\n";

/// More than the ring, sockets and pipes hold of it: 4 MiB and some hundred KiB.
fn send_to_sink(lab: &Lab) {
    lab.client().run(|| {
        let socket = UdpSocket::bind("0.0.0.0:0").unwrap();
        for _ in 0..8000 {
            // An error is an ICMP message about one before.
            let _ = socket.send_to(&[0; 1400], (VIP, 9));
        }
    });
}

#[test]
fn traces_begin_and_end_in_every_way_and_no_request_fails() {
    let lab = lab(2);
    let _servers = serve_http(&lab, &[80]);
    let lb = balance(&lab, &[SHOP, SINK].concat());
    let plain = program(&lab);
    let is_plain = || program(&lab) == plain;
    let done = AtomicBool::new(false);
    let seen = || number(&named(&lb.status().unwrap()["virtual_servers"], "shop")["packets"]);
    let report = thread::scope(|scope| {
        let stop = StopAtEnd(&done);
        let load = scope.spawn(|| {
            let mut report = Report::default();
            while !done.load(Ordering::Relaxed) {
                report = report.and(lab.client().http().parallel(4).get((VIP, 80), 100));
            }
            report
        });

        let mut killed = Trace::start(&lab, "--json");
        assert!(!is_plain());
        killed.process.kill().unwrap();
        wait_until("the plain program after SIGKILL", is_plain);

        // What nobody reads any more ends, though there is nothing to write.
        let mut unread = Trace::start(&lab, "--client 10.9.0.99");
        let mut heading = String::new();
        let mut output = BufReader::new(unread.process.stdout.take().unwrap());
        output.read_line(&mut heading).unwrap();
        assert!(heading.starts_with("TIME (UTC)"), "{heading}");
        drop(output);
        wait_until("the plain program after SIGPIPE", is_plain);
        assert!(unread.process.wait().unwrap().success());

        let mut counted = Trace::start(&lab, "--json --count 20 --virtual-server shop");
        assert_eq!(packets(&counted.end().0).len(), 20);

        // Who doesn't read for a while loses events, and nobody a packet.
        let options = "--json --snap 4096 --virtual-server sink --seconds 3";
        let mut slow = Trace::start(&lab, options);
        send_to_sink(&lab);
        let (_, errors) = slow.end();
        assert!(errors.contains("more are lost to the trace"), "{errors}");
        wait_until("the plain program after a slow reader", is_plain);

        let before = seen();
        let mut sampled = Trace::start(&lab, "--json --seconds 2 --sample 10");
        let told = packets(&sampled.end().0).len() as u64;
        let expected = (seen() - before) / 10;
        assert!(
            (expected / 3..=expected + expected / 3).contains(&told),
            "{told} of one in ten of {expected}"
        );

        drop(stop);
        load.join().unwrap()
    });
    report.assert_all_succeeded();
    assert!(report.replies.len() > 500, "{}", report.replies.len());

    let mut orphan = Trace::start(&lab, "");
    lb.stop(Signal::SIGTERM).unwrap();
    assert!(is_plain());
    let mut errors = String::new();
    let stderr = orphan.process.stderr.as_mut().unwrap();
    stderr.read_to_string(&mut errors).unwrap();
    assert_eq!(orphan.process.wait().unwrap().code(), Some(1));
    assert!(errors.contains("the lb daemon has ended"), "{errors}");
}
