//! Metrics, as Prometheus reads them.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    io::{Read, Write},
    net::TcpStream,
    path::Path,
    time::{Duration, Instant},
};

use lb_tests::{Daemon, Lab, named};
use nix::sys::signal::Signal;
use regex::Regex;
use serde_json::Value;

use crate::support::{PATIENCE, VIP, apply, lab, number, serve_http, wait_until};

const LISTEN: &str = "127.0.0.1:9179";

/// The lab's configuration with these virtual servers, and metrics at an address.
fn config(lab: &Lab, virtual_servers: &str, listen: &str) -> String {
    format!(
        "{}metrics: {{ listen: '{listen}' }}\n",
        lab.config(virtual_servers)
    )
}

/// Connects from the balancer's host.
fn connect(lab: &Lab, to: &str) -> std::io::Result<TcpStream> {
    let stream = lab.balancer().run(|| TcpStream::connect(to))?;
    stream.set_read_timeout(Some(PATIENCE))?;
    Ok(stream)
}

/// What is answered to these bytes, until the connection ends.
fn ask(mut stream: TcpStream, request: &[u8]) -> String {
    let mut answer = Vec::new();
    // It may be closed while it is written to or read from.
    let _ = stream.write_all(request);
    let _ = stream.read_to_end(&mut answer);
    String::from_utf8(answer).unwrap()
}

const GET: &[u8] = b"GET /metrics HTTP/1.1\r\nHost: lb\r\n\r\n";

/// A scrape.
struct Scrape {
    text: String,
    /// By name and labels as they are written.
    samples: BTreeMap<String, f64>,
}

impl Scrape {
    #[track_caller]
    fn new(lab: &Lab, at: &str) -> Self {
        let answer = ask(connect(lab, at).unwrap(), GET);
        let (head, text) = answer.split_once("\r\n\r\n").unwrap();
        assert!(head.starts_with("HTTP/1.1 200 OK\r\n"), "{head}");
        assert!(head.contains("openmetrics-text; version=1.0.0"), "{head}");
        let lines = text.lines().filter(|line| !line.starts_with('#'));
        let samples = lines.map(|line| {
            let (series, value) = line.rsplit_once(' ').unwrap();
            (series.to_owned(), value.parse().unwrap())
        });
        Self {
            samples: samples.collect(),
            text: text.to_owned(),
        }
    }

    #[track_caller]
    fn value(&self, series: &str) -> u64 {
        let value = self.samples.get(series);
        *value.unwrap_or_else(|| panic!("no {series} in\n{}", self.text)) as u64
    }

    /// The names of its metrics, and the names of the labels that each has.
    fn labels(&self) -> BTreeMap<&str, BTreeSet<&str>> {
        let label = Regex::new(r#"(\w+)=""#).unwrap();
        let mut labels = BTreeMap::<_, BTreeSet<_>>::new();
        for series in self.samples.keys() {
            let (name, rest) = series.split_once('{').unwrap();
            let these = label.captures_iter(rest).map(|it| it.extract::<1>().1[0]);
            labels.entry(name).or_default().extend(these);
        }
        labels
    }
}

/// All counters of a status, as the metrics name them.
fn counters(status: &Value) -> BTreeMap<String, u64> {
    let list = |value: &Value| value.as_array().unwrap().clone();
    let mut counters = BTreeMap::new();
    let mut count = |what: &str, labels: &str, item: &Value| {
        for (name, value) in [
            ("packets", &item["packets"]),
            ("bytes", &item["bytes"]),
            ("sessions", &item["sessions"]["total"]),
        ] {
            counters.insert(format!("lb_{what}_{name}_total{{{labels}}}"), number(value));
        }
    };
    for server in list(&status["virtual_servers"]) {
        let labels = format!("virtual_server={}", server["name"]);
        count("virtual_server", &labels, &server);
        for real in list(&server["real_servers"]) {
            let labels = format!("{labels},real_server={}", real["name"]);
            count("real_server", &labels, &real);
        }
    }
    for (reason, drops) in status["drops"].as_object().unwrap() {
        let series = format!("lb_dropped_packets_total{{reason=\"{reason}\"}}");
        counters.insert(series, number(drops));
    }
    for event in ["evicted", "unrecorded"] {
        let series = format!("lb_session_events_total{{event=\"{event}\"}}");
        counters.insert(series, number(&status["session_table"][event]));
    }
    counters
}

/// Every `expr` and `legendFormat`, and what variables and annotations ask for, anywhere in a document.
fn queries(document: &Value, found: &mut Vec<String>) {
    match document {
        Value::Array(items) => items.iter().for_each(|item| queries(item, found)),
        Value::Object(keys) => {
            let text = |key| keys.get(key).and_then(Value::as_str);
            let expr = text("expr").or(text("definition"));
            // Labels in texts are those of the query beside them.
            let mut texts = vec![text("legendFormat").unwrap_or_default().to_owned()];
            if let Some(annotations) = keys.get("annotations").and_then(Value::as_object) {
                texts.extend(annotations.values().map(Value::to_string));
            }
            if let Some(expr) = expr {
                found.push(format!("{expr} {}", texts.concat()));
            }
            keys.values().for_each(|value| queries(value, found));
        }
        _ => {}
    }
}

/// Panics unless each metric that a query names is there, and has the labels that it is asked for.
#[track_caller]
fn assert_answerable(query: &str, labels: &BTreeMap<&str, BTreeSet<&str>>) {
    // Prometheus adds these to all that it scrapes.
    let added = ["instance", "job"];
    let metric = Regex::new(r"\b(lb_\w+)(?:\{([^}]*)\})?").unwrap();
    let matcher = Regex::new(r#"(\w+)\s*(?:=~|!~|!=|=)\s*""#).unwrap();
    let mut known: BTreeSet<&str> = added.into();
    let is_of_lb = metric.is_match(query);
    assert!(
        is_of_lb || query.starts_with("up{job=\"lb\"}"),
        "no metric of lb: {query}"
    );
    for found in metric.captures_iter(query) {
        let name = found.get(1).unwrap().as_str();
        let has = labels.get(name);
        let has = has.unwrap_or_else(|| panic!("no metric {name}, which is asked for by: {query}"));
        known.extend(has);
        let matchers = found.get(2).map_or("", |it| it.as_str());
        for label in matcher.captures_iter(matchers) {
            let label = label.get(1).unwrap().as_str();
            let is_known = has.contains(label) || added.contains(&label);
            assert!(is_known, "{name} has no {label}, asked for by: {query}");
        }
    }
    // by (a, b), on (a), {{a}}, {{ $labels.a }}, label_values(metric, a)
    let lists = Regex::new(
        r"\b(?:by|on) \(([^)]*)\)|\{\{\s*(?:\$labels\.)?(\w+)\s*\}\}|label_values\(.*, (\w+)\)",
    );
    for found in lists.unwrap().captures_iter(query) {
        let list = found.iter().skip(1).flatten().next().unwrap().as_str();
        for label in list.split(',').map(str::trim) {
            assert!(
                known.contains(label),
                "no label {label}, asked for by: {query}"
            );
        }
    }
}

#[test]
fn metrics_agree_with_the_status_and_answer_what_dashboard_and_alerts_ask() {
    let lab = lab(2);
    let _servers = serve_http(&lab, &[80]);
    let virtual_servers = "
- {name: shop, vip: 10.9.1.1, protocol: tcp, port: 80, bind: [web], health: {interval: 200ms, timeout: 200ms, checks: [{tcp: {via: real}}]}}
- {name: closed, vip: 10.9.1.2, protocol: tcp, port: 81, bind: [web-1], health: {interval: 200ms, timeout: 200ms, checks: [arp, {tcp: {via: real}}]}}
";
    let lb = Daemon::spawn(&lab, &config(&lab, virtual_servers, LISTEN)).unwrap();
    lb.wait_until("shop is up, closed was checked", |status| {
        let state = |name| named(&status["virtual_servers"], name)["state"].clone();
        let failed = r#"lb_check_results_total{virtual_server="closed",real_server="web-1",check="tcp",result="failed"}"#;
        state("shop") == "up" && state("closed") == "down" && Scrape::new(&lab, LISTEN).samples.get(failed) >= Some(&3.0)
    })
    .unwrap();
    lab.client()
        .http()
        .get((VIP, 80), 20)
        .assert_all_succeeded();
    let refused = lab.client().http().timeout(Duration::from_millis(300));
    assert_eq!(refused.get("10.9.1.2:81", 1).replies.len(), 0);

    // The last ACKs may be under way.
    let mut seen = (Scrape::new(&lab, LISTEN), BTreeMap::new());
    let agree = |(scrape, counters): &(Scrape, BTreeMap<String, u64>)| {
        !counters.is_empty()
            && counters
                .iter()
                .all(|(series, &count)| scrape.value(series) == count)
    };
    let deadline = Instant::now() + PATIENCE;
    while !agree(&seen) && Instant::now() < deadline {
        let status = lb.status().unwrap();
        seen = (Scrape::new(&lab, LISTEN), counters(&status));
    }
    assert!(agree(&seen), "{:#?}\n{}", seen.1, seen.0.text);
    let scrape = seen.0;
    for (series, least) in [
        (
            r#"lb_virtual_server_sessions_total{virtual_server="shop"}"#,
            20,
        ),
        (r#"lb_dropped_packets_total{reason="no_real_server"}"#, 1),
        (r#"lb_virtual_server_up{virtual_server="shop"}"#, 1),
        (r#"lb_interface_attached{interface="eth0"}"#, 1),
        (r#"lb_session_table_capacity{family="v6"}"#, 1_000_000),
        (r#"lb_map_entries{map="real_servers"}"#, 2),
        (
            r#"lb_check_latency_seconds_count{virtual_server="shop",real_server="web-2",check="tcp"}"#,
            1,
        ),
    ] {
        assert!(scrape.value(series) >= least, "{series}\n{}", scrape.text);
    }
    for series in [
        r#"lb_virtual_server_up{virtual_server="closed"}"#,
        r#"lb_real_server_up{virtual_server="closed",real_server="web-1"}"#,
        r#"lb_check_up{virtual_server="closed",real_server="web-1",check="tcp"}"#,
    ] {
        assert_eq!(scrape.value(series), 0, "{series}");
    }
    let labels = scrape.labels();
    for name in labels.keys() {
        let family = ["_total", "_bucket", "_sum", "_count"];
        let family = family.iter().find_map(|end| name.strip_suffix(end));
        let family = family.unwrap_or(name);
        for what in ["HELP", "TYPE"] {
            let line = format!("# {what} {family} ");
            assert!(scrape.text.contains(&line), "no {line}");
        }
    }
    let deploy = Path::new(env!("CARGO_MANIFEST_DIR")).join("../deploy");
    let read = |file| fs::read_to_string(deploy.join(file)).unwrap();
    let dashboard = serde_json::from_str(&read("grafana/lb.json")).unwrap();
    let rules = serde_yaml::from_str(&read("prometheus/lb.rules.yml")).unwrap();
    let mut asked = Vec::new();
    for document in [dashboard, rules] {
        let before = asked.len();
        queries(&document, &mut asked);
        assert!(asked.len() >= before + 10, "{asked:#?}");
    }
    asked
        .iter()
        .for_each(|query| assert_answerable(query, &labels));
}

#[test]
fn counters_go_on_across_reloads_and_restarts() {
    let lab = lab(2);
    let _servers = serve_http(&lab, &[80]);
    let shop = |servers| {
        let shop =
            format!("- {{name: shop, vip: 10.9.1.1, protocol: tcp, port: 80, bind: [{servers}]}}");
        config(&lab, &shop, LISTEN)
    };
    let total = |labels: &str| {
        let what = if labels.contains("real_server") {
            "real_server"
        } else {
            "virtual_server"
        };
        let scrape = Scrape::new(&lab, LISTEN);
        ["packets", "bytes", "sessions"]
            .map(|it| scrape.value(&format!("lb_{what}_{it}_total{{{labels}}}")))
    };
    let whole = r#"virtual_server="shop""#;
    let [first, second] = [1, 2].map(|n| format!(r#"virtual_server="shop",real_server="web-{n}""#));
    let get = || {
        lab.client()
            .http()
            .get((VIP, 80), 20)
            .assert_all_succeeded();
    };
    let grew = |now: [u64; 3], before: [u64; 3]| {
        now.iter().zip(before).all(|(now, before)| *now >= before)
    };

    let lb = Daemon::start(&lab, &shop("web-1")).unwrap();
    get();
    let before = total(whole);
    assert_eq!(before[2], 20);
    apply(&lab, &lb, &shop("web"));
    let [packets, bytes, sessions] = total(&second);
    assert_eq!(
        (packets, bytes, sessions),
        (0, 0, 0),
        "a new one begins at zero"
    );
    get();
    assert!(total(&second)[2] > 0);
    let (before, at_first) = (total(whole), total(&first));
    assert_eq!(before[2], 40);

    lb.stop(Signal::SIGTERM).unwrap();
    get();
    let lb = Daemon::start(&lab, &shop("web")).unwrap();
    assert!(grew(total(whole), before) && grew(total(&first), at_first));
    assert_eq!(total(whole)[2], 60);

    // What takes the place of another one doesn't take its counters.
    let other = shop("web-1").replace("name: shop", "name: other");
    apply(&lab, &lb, &other);
    assert_eq!(total(r#"virtual_server="other""#), [0; 3]);
}

#[test]
fn clients_that_misbehave_do_not_hurt() {
    let lab = lab(1);
    let _servers = serve_http(&lab, &[80]);
    let shop = "- {name: shop, vip: 10.9.1.1, protocol: tcp, port: 80, bind: [web]}";
    let lb = Daemon::start(&lab, &config(&lab, shop, LISTEN)).unwrap();
    let connect = |at| connect(&lab, at);
    let huge = [
        "GET /metrics HTTP/1.1\r\nX: ",
        &"x".repeat(20_000),
        "\r\n\r\n",
    ]
    .concat();
    for (request, status) in [
        ("POST /metrics HTTP/1.1\r\nContent-Length: 0\r\n\r\n", "405"),
        ("DELETE /metrics HTTP/1.1\r\n\r\n", "405"),
        ("GET /v1/stop HTTP/1.1\r\n\r\n", "404"),
        ("nonsense\r\n\r\n", "400"),
        (&huge, "431"),
    ] {
        let answer = ask(connect(LISTEN).unwrap(), request.as_bytes());
        // The kernel may throw the answer away with what nobody has read.
        let is_refused = answer.starts_with(&format!("HTTP/1.1 {status} "));
        assert!(
            is_refused || (status == "431" && answer.is_empty()),
            "{request:.40}: {answer:.200}"
        );
    }

    // As many as are served at a time, and more, who say nothing or not all.
    let slow: Vec<_> = (0..24).map(|_| connect(LISTEN).unwrap()).collect();
    slow.iter()
        .for_each(|mut stream| stream.write_all(b"GET /met").unwrap());
    let began = Instant::now();
    lb.status().unwrap();
    lab.client().http().get((VIP, 80), 5).assert_all_succeeded();
    assert!(
        began.elapsed() < Duration::from_secs(3),
        "the daemon has no time: {:?}",
        began.elapsed()
    );
    Scrape::new(&lab, LISTEN);
    drop(slow);

    // The address follows the file: one that overlaps, one of the other family, one that can't be had, none.
    let metrics = |listen| config(&lab, shop, listen);
    apply(&lab, &lb, &metrics("0.0.0.0:9179"));
    Scrape::new(&lab, "10.9.0.1:9179");
    apply(&lab, &lb, &metrics("[::1]:9180"));
    Scrape::new(&lab, "[::1]:9180");
    assert!(connect(LISTEN).is_err());
    lab.write_config(&metrics("192.0.2.1:9179")).unwrap();
    let refused = "configuration not applied: can't listen on metrics.listen 192.0.2.1:9179: Cannot assign requested address";
    wait_until(refused, || lab.log().contains(refused));
    let scrape = Scrape::new(&lab, "[::1]:9180");
    for (series, value) in [
        (r#"lb_config_reloads_total{result="applied"}"#, 2),
        (r#"lb_config_reloads_total{result="refused"}"#, 1),
        ("lb_config_last_reload_success{}", 0),
    ] {
        assert_eq!(scrape.value(series), value, "{series}");
    }
    apply(&lab, &lb, &lab.config(shop));
    assert!(connect("[::1]:9180").is_err());
}
