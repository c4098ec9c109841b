//! `lb sessions`, and the sessions in `lb status`, tell what clients do.

use std::{
    collections::BTreeSet,
    io::{BufRead, BufReader, Write},
    net::{IpAddr, Shutdown, SocketAddr, TcpStream},
    time::Duration,
};

use lb_tests::{Lab, named};
use serde_json::{Value, json};
use socket2::SockRef;

use crate::support::{
    DNS, PATIENCE, SHOP, VIP, VIP6, balance, lab, number, serve_http, serve_udp, wait_until,
};

/// What `lb sessions --json` lists.
pub fn sessions(lab: &Lab, filter: &str) -> Vec<Value> {
    let command = format!("sessions --json --socket {{socket}} {filter}");
    let output = lab.lb(&command).unwrap();
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && errors.is_empty(), "{errors}");
    let document: Value = serde_json::from_slice(&output.stdout).unwrap();
    document["sessions"].as_array().unwrap().clone()
}

/// A connection of the client over which it has got an answer, and from whom.
fn connect(lab: &Lab, vip: &str) -> (TcpStream, String) {
    let stream = lab.client().run(|| TcpStream::connect((vip, 80)).unwrap());
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    (&stream)
        .write_all(b"GET / HTTP/1.1\r\nhost: shop\r\n\r\n")
        .unwrap();
    let lines = BufReader::new(&stream).lines().map(Result::unwrap);
    let server = lines
        .filter_map(|line| Some(line.strip_prefix("x-server: ")?.to_owned()))
        .next();
    (stream, server.unwrap())
}

/// What a session should say of itself.
fn expected(
    virtual_server: &str,
    (vip, port): (&str, u16),
    client: SocketAddr,
    server: &str,
    state: &str,
) -> String {
    let protocol = if port == 53 { "udp" } else { "tcp" };
    json!([
        virtual_server,
        vip,
        protocol,
        port,
        client.ip(),
        client.port(),
        server,
        state
    ])
    .to_string()
}

fn found(session: &Value) -> String {
    let keys = [
        "virtual_server",
        "vip",
        "protocol",
        "port",
        "client",
        "client_port",
        "real_server",
        "state",
    ];
    Value::from_iter(keys.map(|key| session[key].clone())).to_string()
}

#[test]
fn every_flow_is_listed_with_its_real_server_and_how_far_it_is() {
    let lab = lab(2);
    let _servers = (serve_http(&lab, &[80]), serve_udp(&lab, &[53]));
    let lb = balance(&lab, &[SHOP, DNS].concat());

    let (open, open_server) = connect(&lab, VIP);
    let (closing, closing_server) = connect(&lab, VIP);
    closing.shutdown(Shutdown::Write).unwrap();
    let (open6, open6_server) = connect(&lab, VIP6);
    let asked_once = lab.client().udp((VIP, 53));
    let once_server = asked_once.ask("?").unwrap().server;
    let asked_twice = lab.client().udp((VIP6, 53));
    asked_twice.ask("?").unwrap();
    let twice_server = asked_twice.ask("?").unwrap().server;

    let v6 = |server: &str| server.replace("web", "web6");
    let local = |stream: &TcpStream| stream.local_addr().unwrap();
    let rows = [
        expected("shop", (VIP, 80), local(&open), &open_server, "established"),
        expected(
            "shop",
            (VIP, 80),
            local(&closing),
            &closing_server,
            "closing",
        ),
        expected(
            "shop6",
            (VIP6, 80),
            local(&open6),
            &v6(&open6_server),
            "established",
        ),
        expected(
            "dns",
            (VIP, 53),
            asked_once.source(),
            &once_server,
            "opening",
        ),
        expected(
            "dns6",
            (VIP6, 53),
            asked_twice.source(),
            &v6(&twice_server),
            "established",
        ),
    ];
    let rows = BTreeSet::from(rows);
    let listed =
        |filter: &str| -> BTreeSet<String> { sessions(&lab, filter).iter().map(found).collect() };
    // The client's FIN may be under way still.
    wait_until("all flows are listed", || {
        listed("").iter().any(|row| row.contains("closing"))
    });
    assert_eq!(listed(""), rows);

    let only = |word: &str| -> BTreeSet<String> {
        let rows = rows
            .iter()
            .filter(|row| row.contains(&format!("\"{word}\"")));
        rows.cloned().collect()
    };
    assert_eq!(listed(&format!("--vip {VIP6}")), only(VIP6));
    assert_eq!(listed("--virtual-server dns"), only("dns"));
    assert_eq!(listed(&format!("--real {open_server}")), only(&open_server));

    for session in sessions(&lab, "") {
        let [age, idle] = ["age_seconds", "idle_seconds"].map(|key| number(&session[key]));
        assert!(idle <= age && age < 120, "{session}");
        let address: IpAddr = session["address"].as_str().unwrap().parse().unwrap();
        let mut servers = lab.real_servers().iter();
        assert!(servers.any(|host| [host.v4(), host.v6()].contains(&address)));
    }

    let text = lab.lb("sessions --socket {socket}").unwrap();
    assert_eq!(text.stdout.split(|&byte| byte == b'\n').count(), 1 + 5 + 1);
    let unknown = lab
        .lb("sessions --socket {socket} --vip 10.9.1.99")
        .unwrap();
    assert_eq!(unknown.status.code(), Some(1));
    let error = String::from_utf8(unknown.stderr).unwrap();
    assert!(
        error.starts_with("unknown VIP 10.9.1.99: the daemon has 10.9.1.1, "),
        "{error}"
    );

    let status = lb.status().unwrap();
    for (name, active, total) in [
        ("shop", 1, 2),
        ("shop6", 1, 1),
        ("dns", 1, 1),
        ("dns6", 1, 1),
    ] {
        let server = named(&status["virtual_servers"], name);
        let real_servers = server["real_servers"].as_array().unwrap();
        for (key, count) in [("active", active), ("total", total)] {
            assert_eq!(server["sessions"][key], count, "{server:#}");
            let real_servers = real_servers.iter().map(|it| number(&it["sessions"][key]));
            assert_eq!(real_servers.sum::<u64>(), count, "{server:#}");
        }
    }
    let table = &status["session_table"];
    for (key, count) in [
        ("capacity_v4", 1_000_000),
        ("capacity_v6", 1_000_000),
        ("evicted", 0),
        ("unrecorded", 0),
    ] {
        assert_eq!(table[key], count, "{table:#}");
    }
}

#[test]
fn new_sessions_have_a_rate() {
    let lab = lab(1);
    let _servers = serve_http(&lab, &[80]);
    let lb = balance(&lab, SHOP);
    let has_rate = |status: &Value| {
        let requests = lab.client().http().get((VIP, 80), 20);
        requests.assert_all_succeeded();
        let shop = named(&status["virtual_servers"], "shop");
        let web = named(&shop["real_servers"], "web-1");
        [shop, web]
            .iter()
            .all(|it| number(&it["sessions"]["per_second"]) > 0)
    };
    lb.wait_until("a rate", has_rate).unwrap();
    lb.wait_until("none", |status| {
        named(&status["virtual_servers"], "shop")["sessions"]["per_second"] == 0
    })
    .unwrap();
}

#[test]
fn a_server_that_was_unbound_is_listed_as_long_as_it_has_sessions() {
    let lab = lab(2);
    let _servers = serve_http(&lab, &[80]);
    let config = |servers: &str| {
        let shop =
            format!("- {{name: shop, vip: {VIP}, protocol: tcp, port: 80, bind: [{servers}]}}");
        format!(
            "limits: {{sessions: 1000, sticky: 1000}}\n{}",
            lab.config(&shop)
        )
    };
    let lb = lb_tests::Daemon::start(&lab, &config("web-1, web-2")).unwrap();
    let (stream, server) = connect(&lab, VIP);
    let other = if server == "web-1" { "web-2" } else { "web-1" };
    lab.write_config(&config(other)).unwrap();
    let names = |status: &Value| -> Vec<(String, String)> {
        let real_servers = named(&status["virtual_servers"], "shop")["real_servers"].as_array();
        let text = |value: &Value| value.as_str().unwrap().to_owned();
        let real_servers = real_servers.unwrap().iter();
        real_servers
            .map(|it| (text(&it["name"]), text(&it["state"])))
            .collect()
    };
    let own = |text: &str| text.to_owned();
    let drains = [(own(other), own("up")), (own(&server), own("draining"))];
    let status = lb
        .wait_until("it drains", |status| names(status) == drains)
        .unwrap();
    let shop = named(&status["virtual_servers"], "shop");
    assert_eq!(
        named(&shop["real_servers"], &server)["sessions"]["active"],
        1
    );
    assert_eq!(shop["sessions"]["active"], 1);
    assert_eq!(sessions(&lab, &format!("--real {server}")).len(), 1);
    // With a RST, which ends the session at once.
    SockRef::from(&stream)
        .set_linger(Some(Duration::ZERO))
        .unwrap();
    drop(stream);
    lb.wait_until("it is gone", |status| names(status) == drains[..1])
        .unwrap();
    assert_eq!(sessions(&lab, ""), Vec::<Value>::new());
}
