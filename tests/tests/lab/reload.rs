//! Edit the file, and the change is live.

use std::{
    fs::{self, File},
    io::Write,
    os::unix::fs::symlink,
    sync::atomic::{AtomicBool, Ordering},
    thread,
    time::Duration,
};

use lb_tests::{Daemon, Lab, named};
use nix::sys::signal::Signal;
use serde_json::Value;

use crate::{
    interfaces::xdp_mode,
    support::{SHOP, StopAtEnd, VIP, assert_nobody_answers, balance, lab, serve_http},
};

/// The virtual server `shop` with these real servers.
fn shop(servers: &str) -> String {
    format!("- {{name: shop, vip: 10.9.1.1, protocol: tcp, port: 80, bind: [{servers}]}}")
}

/// The names of the real servers that answer.
fn answering(lab: &Lab) -> Vec<String> {
    let report = lab.client().http().get((VIP, 80), 60);
    report.assert_all_succeeded();
    report.by_server().into_keys().collect()
}

/// Whether `shop` has this many real servers, all of them up.
fn bound(count: usize) -> impl Fn(&Value) -> bool {
    move |status| {
        let servers = named(&status["virtual_servers"], "shop")["real_servers"]
            .as_array()
            .unwrap();
        servers.len() == count && servers.iter().all(|server| server["state"] == "up")
    }
}

#[test]
fn an_edited_file_binds_and_unbinds() {
    let lab = lab(3);
    let _servers = serve_http(&lab, &[80]);
    let lb = balance(&lab, &shop("web-1"));
    assert_eq!(answering(&lab), ["web-1"]);
    for servers in [
        &["web-1", "web-2", "web-3"][..],
        &["web-2"],
        &["web-1", "web-3"],
    ] {
        lab.write_config(&lab.config(&shop(&servers.join(", "))))
            .unwrap();
        lb.wait_until("the new binding", bound(servers.len()))
            .unwrap();
        assert_eq!(answering(&lab), servers);
    }
}

#[test]
fn sighup_applies_the_file() {
    let lab = lab(2);
    let _servers = serve_http(&lab, &[80]);
    let lb = balance(&lab, &shop("web-1"));
    lab.write_config(&lab.config(&shop("web"))).unwrap();
    lb.signal(Signal::SIGHUP);
    lb.wait_until("the new binding", bound(2)).unwrap();
    assert_eq!(answering(&lab), ["web-1", "web-2"]);
}

#[test]
fn a_bad_file_changes_nothing_and_says_why() {
    let lab = lab(2);
    let _servers = serve_http(&lab, &[80]);
    let lb = balance(&lab, &shop("web-1"));
    lab.write_config(&lab.config(&shop("web-1, web-9")))
        .unwrap();
    let says_so = |status: &Value| {
        let error = status["configuration"]["error"].as_str();
        error.is_some_and(|error| error.contains("web-9"))
    };
    lb.wait_until("a message about web-9", says_so).unwrap();
    assert!(lab.log().contains("web-9"), "{}", lab.log());
    let [reload, status] = ["reload", "status"].map(|command| {
        let output = lab.lb(&format!("{command} --socket {{socket}}")).unwrap();
        (output.status.code(), output)
    });
    assert_eq!(reload.0, Some(1));
    let message = String::from_utf8(reload.1.stderr).unwrap();
    let shown = String::from_utf8(status.1.stdout).unwrap();
    for text in [message, shown] {
        assert!(text.starts_with("configuration not applied: "), "{text}");
        assert!(text.contains("web-9"), "{text}");
    }
    assert_eq!(answering(&lab), ["web-1"]);
    lab.write_config(&lab.config(&shop("web-2"))).unwrap();
    let moved = |status: &Value| {
        named(&status["virtual_servers"], "shop")["real_servers"][0]["name"] == "web-2"
    };
    let status = lb.wait_until("the good file", moved).unwrap();
    assert_eq!(status["configuration"]["error"], Value::Null);
    assert_eq!(status["configuration"]["reloads_applied"], 1);
}

/// A pause of the writer may be long, and what is there then a good file.
#[test]
fn a_file_that_is_held_open_for_writing_is_applied_when_it_is_whole() {
    let lab = lab(2);
    let lb = balance(&lab, &shop("web-1"));
    let more = "- {name: more, vip: 10.9.1.2, protocol: tcp, port: 81, bind: [web-1]}\n";
    let (shop, told) = (shop("web"), "is held open for writing");
    let mut file = File::create(lab.config_file()).unwrap();
    file.write_all(lab.config(more).as_bytes()).unwrap();
    let status = lb.wait_until(told, |_| lab.log().contains(told)).unwrap();
    assert_eq!(status["virtual_servers"][0]["name"], "shop");
    file.write_all(shop.as_bytes()).unwrap();
    thread::sleep(Duration::from_millis(500));
    let status = lb.status().unwrap();
    assert_eq!(status["configuration"]["reloads_applied"], 0);
    assert_eq!(lab.log().matches(told).count(), 1, "{}", lab.log());
    drop(file);
    let status = lb.wait_until("the new binding", bound(2)).unwrap();
    assert_eq!(status["configuration"]["reloads_applied"], 1);
    assert_eq!(status["virtual_servers"].as_array().unwrap().len(), 2);
}

#[test]
fn lb_reload_takes_a_file_that_is_held_open_for_writing_as_it_is() {
    let lab = lab(2);
    let lb = balance(&lab, &shop("web-1"));
    let mut file = File::create(lab.config_file()).unwrap();
    file.write_all(lab.config(&shop("web")).as_bytes()).unwrap();
    let output = lab.lb("reload --socket {socket}").unwrap();
    assert!(output.status.success(), "{output:?}");
    lb.wait_until("the new binding", bound(2)).unwrap();
}

#[test]
fn a_file_that_is_gone_is_told_of_until_it_is_back() {
    let lab = lab(1);
    let lb = balance(&lab, &shop("web-1"));
    let error_with = |words| {
        move |status: &Value| {
            let error = status["configuration"]["error"].as_str();
            error.is_some_and(|error| error.contains(words))
        }
    };
    let good = fs::read(lab.config_file()).unwrap();
    fs::write(lab.config_file(), "nonsense").unwrap();
    lb.wait_until("a bad file", error_with("lb.yaml:1:1"))
        .unwrap();
    fs::remove_file(lab.config_file()).unwrap();
    let gone = "No such file";
    let status = lb.wait_until(gone, error_with(gone)).unwrap();
    assert_eq!(status["configuration"]["reloads_refused"], 2);
    thread::sleep(Duration::from_secs(2));
    assert_eq!(lab.log().matches(gone).count(), 1, "{}", lab.log());
    fs::write(lab.config_file(), good).unwrap();
    let no_error = |status: &Value| status["configuration"]["error"] == Value::Null;
    let status = lb.wait_until("the good file", no_error).unwrap();
    assert_eq!(status["configuration"]["reloads_applied"], 1);
    assert_eq!(status["configuration"]["reloads_refused"], 2);
}

#[test]
fn lb_reload_applies_the_file_and_tells_what_has_changed() {
    let lab = lab(2);
    let _servers = serve_http(&lab, &[80]);
    let _lb = Daemon::start(&lab, &lab.config(&shop("web-1"))).unwrap();
    // The file is changed in place, in another directory: nobody sees that at once but who asks.
    let elsewhere = lab.directory().join("elsewhere");
    fs::create_dir(&elsewhere).unwrap();
    let target = elsewhere.join("target.yaml");
    fs::rename(lab.config_file(), &target).unwrap();
    symlink(&target, lab.config_file()).unwrap();
    for (servers, printed) in [
        (
            "web-2",
            "virtual server shop: web-1 unbound\nvirtual server shop: web-2 bound, weight 1\n",
        ),
        ("web-2", "nothing has changed\n"),
    ] {
        fs::write(&target, lab.config(&shop(servers))).unwrap();
        let output = lab.lb("reload --socket {socket}").unwrap();
        assert_eq!(String::from_utf8(output.stderr).unwrap(), "");
        assert_eq!(String::from_utf8(output.stdout).unwrap(), printed);
        assert_eq!(answering(&lab), [servers]);
    }
}

/// As Kubernetes updates a ConfigMap: a link to a directory is replaced (kubernetes: pkg/volume/util/atomic_writer.go).
#[test]
fn a_link_that_is_swapped_is_followed() {
    let lab = lab(2);
    let _servers = serve_http(&lab, &[80]);
    let directory = lab.config_file().parent().unwrap().to_owned();
    let swap_to = |version: &str, servers: &str| {
        let content = directory.join(version);
        fs::create_dir(&content).unwrap();
        fs::write(content.join("lb.yaml"), lab.config(&shop(servers))).unwrap();
        symlink(version, directory.join("..data_tmp")).unwrap();
        fs::rename(directory.join("..data_tmp"), directory.join("..data")).unwrap();
    };
    let lb = Daemon::start(&lab, &lab.config(&shop("web-1"))).unwrap();
    swap_to("..1", "web-1");
    fs::remove_file(lab.config_file()).unwrap();
    symlink("..data/lb.yaml", lab.config_file()).unwrap();
    swap_to("..2", "web-1, web-2");
    lb.wait_until("the new binding", bound(2)).unwrap();
}

#[test]
fn an_interface_that_cannot_be_served_changes_nothing() {
    let lab = Lab::builder()
        .real_servers(2)
        .on_second_segment(1)
        .build()
        .unwrap();
    let _servers = serve_http(&lab, &[80]);
    // A bridge has no native XDP.
    lab.balancer().ip("link add br0 type bridge");
    let config = |interfaces: &str, servers| {
        let all = "{name: eth0, xdp: auto}, {name: eth1, xdp: auto}";
        lab.config(&shop(servers)).replace(all, interfaces)
    };
    let eth0 = "{name: eth0, xdp: auto}";
    let lb = Daemon::start(&lab, &config(eth0, "web-1")).unwrap();

    let with_br0 = format!("{eth0}, {{name: eth1, xdp: auto}}, {{name: br0, xdp: native}}");
    lab.write_config(&config(&with_br0, "web-2")).unwrap();
    lb.wait_until("a message about br0", |_| {
        lab.log()
            .contains("not applied: br0 can't run XDP in native mode")
    })
    .unwrap();
    assert_eq!(answering(&lab), ["web-1"]);
    assert_eq!(xdp_mode(lab.balancer(), "eth1"), None);

    lab.write_config(&config(eth0, "web-2")).unwrap();
    let moved = |status: &Value| {
        let server = &named(&status["virtual_servers"], "shop")["real_servers"][0];
        server["name"] == "web-2" && server["state"] == "up"
    };
    lb.wait_until("the good file", moved).unwrap();
    assert_eq!(answering(&lab), ["web-2"]);
}

#[test]
fn what_cannot_be_changed_by_a_reload_is_refused_with_words() {
    let lab = lab(1);
    let _servers = serve_http(&lab, &[80]);
    let config = lab.config(&shop("web-1"));
    let lb = Daemon::start(&lab, &config).unwrap();
    let limits = format!("{config}limits: {{ real_servers: 10 }}\n");
    let native = config.replace("xdp: auto", "xdp: generic");
    for (file, words) in [
        (limits.as_bytes(), "limits needs restart"),
        (native.as_bytes(), "the xdp mode of eth0 can't be changed"),
        (b"# \xff", "lb.yaml:1:3: not UTF-8 text"),
    ] {
        fs::write(lab.config_file(), file).unwrap();
        let refused = |_: &Value| lab.log().contains(words);
        lb.wait_until(words, refused).unwrap();
        assert_eq!(answering(&lab), ["web-1"]);
    }
}

#[test]
fn a_virtual_server_comes_and_goes() {
    let lab = lab(1);
    let _servers = serve_http(&lab, &[80, 81]);
    let lb = balance(&lab, &shop("web-1"));
    let two = "\n- {name: more, vip: 10.9.1.2, protocol: tcp, port: 81, bind: [web-1]}";
    let names =
        |count| move |status: &Value| status["virtual_servers"].as_array().unwrap().len() == count;
    let up = |status: &Value| {
        names(2)(status) && named(&status["virtual_servers"], "more")["state"] == "up"
    };

    lab.write_config(&lab.config(&(shop("web-1") + two)))
        .unwrap();
    lb.wait_until("two virtual servers", up).unwrap();
    lab.client()
        .http()
        .get("10.9.1.2:81", 10)
        .assert_all_succeeded();

    lab.write_config(&lab.config(&shop("web-1"))).unwrap();
    lb.wait_until("one virtual server", names(1)).unwrap();
    assert_nobody_answers(&lab, "10.9.1.2:81");
    lab.client()
        .http()
        .get((VIP, 80), 10)
        .assert_all_succeeded();

    // In the place of the one that had traffic.
    lab.write_config(&lab.config(&(shop("web-1") + two)))
        .unwrap();
    let status = lb.wait_until("two virtual servers again", up).unwrap();
    let more = named(&status["virtual_servers"], "more");
    assert_eq!(more["packets"], 0);
    assert_eq!(more["real_servers"][0]["packets"], 0);
}

#[test]
fn reloads_do_not_disturb_other_virtual_servers() {
    let lab = lab(3);
    let _servers = serve_http(&lab, &[80]);
    let lb = balance(&lab, SHOP);
    let done = AtomicBool::new(false);
    let failures = thread::scope(|scope| {
        let stop = StopAtEnd(&done);
        let requests = scope.spawn(|| {
            let mut failures = Vec::new();
            while !done.load(Ordering::Relaxed) {
                failures.extend(lab.client().http().parallel(4).get((VIP, 80), 200).failures);
            }
            failures
        });
        for count in [1, 2, 3, 2, 1] {
            let servers = ["web-1", "web-2", "web-3"][..count].join(", ");
            let more = format!(
                "- {{name: more, vip: 10.9.1.2, protocol: tcp, port: '1000-2000', bind: [{servers}]}}"
            );
            lab.write_config(&lab.config(&[SHOP, &more].concat()))
                .unwrap();
            lb.wait_until("the new binding", |status| {
                let mut all = status["virtual_servers"].as_array().unwrap().iter();
                all.any(|one| {
                    one["name"] == "more" && one["real_servers"].as_array().unwrap().len() == count
                })
            })
            .unwrap();
        }
        drop(stop);
        requests.join().unwrap()
    });
    assert_eq!(failures, Vec::<String>::new());
    assert_eq!(lab.client().tcp_retransmissions(), 0);
}

#[test]
fn the_limit_on_new_sessions_follows_the_file() {
    let lab = lab(1);
    let _servers = serve_http(&lab, &[80]);
    let config = lab.config(&shop("web-1"));
    let lb = Daemon::start(&lab, &config).unwrap();
    let get = || {
        let report = lab.client().http().parallel(8).get((VIP, 80), 200);
        report.assert_all_succeeded();
        lb.status().unwrap()["session_table"]["unrecorded"]
            .as_u64()
            .unwrap()
    };
    assert_eq!(get(), 0);
    lab.write_config(&format!("{config}limits: {{ cps_per_cpu: 8 }}\n"))
        .unwrap();
    lb.wait_until("the other limit", |_| {
        lab.log().contains("configuration applied")
    })
    .unwrap();
    assert!(get() > 100);
}
