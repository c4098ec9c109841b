use std::{collections::BTreeSet, fs, time::Duration};

use regex::Regex;
use serde_json::json;

use super::*;
use crate::health::Failure;

/// A virtual server with two checks of one kind, a drop, an event, an interface, a map.
fn snapshot() -> Snapshot {
    let sessions = json!({ "active": 3, "total": 7, "per_second": 0 });
    let check =
        |kind, ok| json!({ "kind": kind, "target": "", "ok": ok, "latency_us": 0, "message": "" });
    let real_server = |name, state| {
        json!({
            "name": name, "address": "10.9.0.11", "weight": 5, "state": state, "reason": "", "sorry": false,
            "checks": [check("http", true), check("http", false), check("arp", true)],
            "sessions": sessions, "packets": 11, "bytes": 13,
            "packets_per_second": 0, "bits_per_second": 0,
        })
    };
    let status = json!({
        "configuration": {
            "file": "/etc/lb/lb.yaml", "applied_at": 1_700_000_001, "reloads_applied": 41, "reloads_refused": 43,
            "error": "line 1",
        },
        "virtual_servers": [{
            "name": "shop", "vip": "2001:db8::1", "protocol": "tcp", "port": [80, 443],
            "forward": "l2dsr", "predictor": "hash", "state": "up",
            "sessions": sessions, "packets": 17, "bytes": 19,
            "packets_per_second": 0, "bits_per_second": 0,
            "real_servers": [real_server("web-1", "up"), real_server("web-2", "draining")],
        }],
        "interfaces": [{ "name": "eth0", "attached": false }],
        "session_table": {
            "capacity_v4": 1000, "capacity_v6": 2000, "sessions_v4": 10, "sessions_v6": 20, "evicted": 23,
        },
        "drops": { "too_big": 29 },
        "maps": { "bindings": { "entries": 31, "capacity": 37 } },
        "daemon": { "version": "1.2.3", "started": 1_700_000_000 },
    });
    let mut checks = AllCheckMetrics::default();
    let labels = CheckLabels {
        virtual_server: "shop".to_owned(),
        real_server: "web-1".to_owned(),
        check: "http".to_owned(),
    };
    for outcome in [
        Ok(Some(Duration::from_millis(3))),
        Ok(Some(Duration::from_secs(9))),
        Err(Failure::Refused),
        Err(Failure::Unsent(String::new())),
    ] {
        // Two checks of one kind are counted together.
        checks.record(labels.clone(), &outcome);
    }
    Snapshot {
        status: serde_json::from_value(status).unwrap(),
        checks,
    }
}

#[test]
fn what_was_counted_is_told() {
    let text = text(snapshot());
    for sample in [
        r#"lb_build_info{version="1.2.3"} 1"#,
        "lb_start_time_seconds{} 1700000000.0",
        r#"lb_interface_attached{interface="eth0"} 0"#,
        r#"lb_config_reloads_total{result="applied"} 41"#,
        r#"lb_config_reloads_total{result="refused"} 43"#,
        "lb_config_last_reload_success{} 0",
        "lb_config_last_reload_success_timestamp_seconds{} 1700000001.0",
        r#"lb_virtual_server_info{virtual_server="shop",vip="2001:db8::1",protocol="tcp",port="[80, 443]",forward="l2dsr",predictor="hash"} 1"#,
        r#"lb_virtual_server_up{virtual_server="shop"} 1"#,
        r#"lb_virtual_server_packets_total{virtual_server="shop"} 17"#,
        r#"lb_real_server_up{virtual_server="shop",real_server="web-1"} 1"#,
        r#"lb_real_server_up{virtual_server="shop",real_server="web-2"} 0"#,
        r#"lb_real_server_draining{virtual_server="shop",real_server="web-2"} 1"#,
        r#"lb_real_server_weight{virtual_server="shop",real_server="web-2"} 5"#,
        r#"lb_real_server_bytes_total{virtual_server="shop",real_server="web-2"} 13"#,
        r#"lb_real_server_sessions_total{virtual_server="shop",real_server="web-2"} 7"#,
        r#"lb_check_up{virtual_server="shop",real_server="web-1",check="http"} 0"#,
        r#"lb_check_up{virtual_server="shop",real_server="web-1",check="arp"} 1"#,
        r#"lb_check_results_total{virtual_server="shop",real_server="web-1",check="http",result="passed"} 2"#,
        r#"lb_check_results_total{virtual_server="shop",real_server="web-1",check="http",result="failed"} 1"#,
        r#"lb_check_results_total{virtual_server="shop",real_server="web-1",check="http",result="unsent"} 1"#,
        r#"lb_check_latency_seconds_bucket{le="0.01",virtual_server="shop",real_server="web-1",check="http"} 1"#,
        r#"lb_check_latency_seconds_count{virtual_server="shop",real_server="web-1",check="http"} 2"#,
        r#"lb_dropped_packets_total{reason="too_big"} 29"#,
        r#"lb_session_events_total{event="evicted"} 23"#,
        r#"lb_session_table_sessions{family="v6"} 20.0"#,
        r#"lb_session_table_capacity{family="v4"} 1000"#,
        r#"lb_map_entries{map="bindings"} 31"#,
        r#"lb_map_capacity{map="bindings"} 37"#,
        "# EOF",
    ] {
        assert!(
            text.lines().any(|line| line == sample),
            "no {sample} in\n{text}"
        );
    }
}

/// A scrape with two samples of one name and the same labels is refused as a whole.
#[test]
fn no_series_is_told_twice() {
    let text = text(snapshot());
    let series = text.lines().filter(|line| !line.starts_with('#'));
    let series: Vec<_> = series
        .map(|line| line.rsplit_once(' ').unwrap().0)
        .collect();
    let distinct: BTreeSet<_> = series.iter().collect();
    assert_eq!(series.len(), distinct.len(), "{text}");
}

#[test]
fn counters_of_a_check_that_stays_go_on() {
    let mut checks = snapshot().checks;
    let labels = checks.0.keys().next().unwrap().clone();
    let arp = CheckLabels {
        check: "arp".to_owned(),
        ..labels.clone()
    };
    checks.record(arp.clone(), &Err(Failure::Refused));
    checks.retain(&BTreeSet::from([labels.clone()]));
    assert_eq!(checks.0[&labels].passed.get(), 2);
    checks.record(arp.clone(), &Err(Failure::Refused));
    assert_eq!(checks.0[&arp].failed.get(), 1);
}

/// Name, type and labels of each metric.
type Metrics = BTreeSet<(String, String, String)>;

fn told(text: &str) -> Metrics {
    let family = Regex::new(r"(?m)^# TYPE (\S+) (\S+)\n((?:[^#].*\n)+)").unwrap();
    let label = Regex::new(r#"(\w+)=""#).unwrap();
    let families = family.captures_iter(text).map(|found| {
        let [name, kind, samples] = found.extract().1;
        let first = samples.lines().next().unwrap();
        let labels = label.captures_iter(first).map(|it| it[1].to_owned());
        let labels: Vec<_> = labels.filter(|label| label != "le").collect();
        let suffix = if kind == "counter" { "_total" } else { "" };
        (
            format!("{name}{suffix}"),
            kind.to_owned(),
            labels.join(", "),
        )
    });
    families.collect()
}

#[test]
fn the_table_in_the_readme_has_all_metrics_and_no_others() {
    let readme = concat!(env!("CARGO_MANIFEST_DIR"), "/../README.md");
    let readme = fs::read_to_string(readme).unwrap();
    let row = Regex::new(r"(?m)^\| `(lb_\w+)` \| (\w+) \| ([^|]*)\| .+ \|$").unwrap();
    let rows = row.captures_iter(&readme).map(|found| {
        let [name, kind, labels] = found.extract().1;
        let labels = labels.replace('`', "");
        (name.to_owned(), kind.to_owned(), labels.trim().to_owned())
    });
    let documented: Metrics = rows.collect();
    assert_eq!(documented, told(&text(snapshot())));
}
