//! What an operator would say has changed between two configurations.

use std::collections::{BTreeMap, BTreeSet};

use foldhash::HashMap;
use serde::Serialize;
use serde_json::{Value, json};

use super::model::{Config, RealServer, VirtualServer};

/// The changes from one configuration to another, a line each: settings of the balancer, interfaces, real servers and
/// virtual servers, by name. Empty if nothing has changed that counts.
pub fn difference(before: &Config, after: &Config) -> Vec<String> {
    let mut lines = Vec::new();
    let [old, new] = [before, after].map(|config| {
        json!({
            "pin_path": config.pin_path,
            "control": config.control,
            "metrics": config.metrics,
            "limits": config.limits,
            "tunnel": config.tunnel,
        })
    });
    settings("", &old, &new, &mut lines);
    let [old, new] = [before, after].map(|config| {
        let interfaces = config.interfaces.iter();
        interfaces.map(|it| (it.name.as_str(), it)).collect()
    });
    entries("interface", &old, &new, |_| String::new(), &mut lines);
    let [old, new] = [before, after].map(|config| {
        let real_servers = config.real_servers.iter();
        real_servers.map(|(name, it)| (name.as_str(), it)).collect()
    });
    let address = |it: &RealServer| format!(": {}", it.address);
    entries("real server", &old, &new, address, &mut lines);
    let [old, new] = [before, after].map(|config| {
        let virtual_servers = config.virtual_servers.iter();
        virtual_servers.map(|it| (it.name.as_str(), it)).collect()
    });
    let service = |it: &VirtualServer| format!(": {} {} port {}", it.protocol, it.vip, it.ports);
    entries("virtual server", &old, &new, service, &mut lines);
    lines
}

/// What came, went and changed of things with names.
fn entries<T: PartialEq + Serialize>(
    kind: &str,
    before: &HashMap<&str, &T>,
    after: &HashMap<&str, &T>,
    details: impl Fn(&T) -> String,
    lines: &mut Vec<String>,
) {
    let gone = before.keys().filter(|name| !after.contains_key(*name));
    let changed: BTreeSet<_> = after
        .keys()
        .chain(gone)
        .filter(|&name| before.get(name) != after.get(name))
        .collect();
    for name in changed {
        match (before.get(name), after.get(name)) {
            (None, Some(new)) => lines.push(format!("{kind} {name} added{}", details(new))),
            (Some(_), None) => lines.push(format!("{kind} {name} removed")),
            (Some(old), Some(new)) => {
                settings(&format!("{kind} {name}: "), &json!(old), &json!(new), lines);
            }
            (None, None) => {}
        }
    }
}

/// The values that differ, by their keys in the file.
fn settings(prefix: &str, before: &Value, after: &Value, lines: &mut Vec<String>) {
    let keys: BTreeSet<_> = [before, after].into_iter().flat_map(keys).collect();
    for key in keys {
        let (old, new) = (&before[key], &after[key]);
        if old == new {
            continue;
        }
        if key == "bind" {
            bindings(prefix, old, new, lines);
        } else if old.is_object() || new.is_object() {
            settings(&format!("{prefix}{key}."), old, new, lines);
        } else {
            lines.push(match (shown(old), shown(new)) {
                (Some(old), Some(new)) => format!("{prefix}{key} {old} -> {new}"),
                _ => format!("{prefix}{key} changed"),
            });
        }
    }
}

fn keys(value: &Value) -> impl Iterator<Item = &str> {
    value
        .as_object()
        .into_iter()
        .flatten()
        .map(|(key, _)| key.as_str())
}

fn bindings(prefix: &str, before: &Value, after: &Value, lines: &mut Vec<String>) {
    let [old, new] = [before, after].map(|list| {
        let bindings = list.as_array().into_iter().flatten();
        let by_server = bindings.filter_map(|it| Some((it["server"].as_str()?, it)));
        by_server.collect::<BTreeMap<_, _>>()
    });
    let servers: BTreeSet<_> = old.keys().chain(new.keys()).collect();
    for server in servers {
        match (old.get(server), new.get(server)) {
            (None, Some(binding)) => {
                let weight = &binding["weight"];
                lines.push(format!("{prefix}{server} bound, weight {weight}"));
            }
            (Some(_), None) => lines.push(format!("{prefix}{server} unbound")),
            (Some(old), Some(new)) => settings(&format!("{prefix}{server} "), old, new, lines),
            (None, None) => {}
        }
    }
}

/// A value as it would be written; `None` for what takes more than a few words, or may be secret: health checks.
fn shown(value: &Value) -> Option<String> {
    match value {
        Value::Null => Some("none".to_owned()),
        Value::String(text) => Some(text.clone()),
        Value::Bool(_) | Value::Number(_) => Some(value.to_string()),
        Value::Array(list) if list.iter().all(Value::is_number) => Some(value.to_string()),
        Value::Array(_) | Value::Object(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    const BEFORE: &str = "
interfaces: [{name: eth0}]
real_servers: {web-1: 10.9.0.11, web-2: {address: 10.9.0.12, weight: 2}, web-3: 10.9.0.13}
virtual_servers:
  - {name: dns, vip: 10.9.1.2, protocol: udp, port: 53, bind: [web-1]}
  - name: shop
    vip: 10.9.1.1
    protocol: tcp
    port: 80
    bind: [web-1, web-2]
    health: {checks: [{http: {headers: {Authorization: secret}}}]}
";

    #[rstest]
    #[case::nothing("# A comment\n", "", &[])]
    #[case::limit("interfaces", "limits: {cps_per_cpu: 7}\ninterfaces", &["limits.cps_per_cpu 100000 -> 7"])]
    #[case::interface("eth0}", "eth0, xdp: native}, {name: eth1}", &[
        "interface eth0: xdp auto -> native",
        "interface eth1 added",
    ])]
    #[case::real_server("web-3: 10.9.0.13", "web-4: 10.9.0.14", &[
        "real server web-3 removed",
        "real server web-4 added: 10.9.0.14",
    ])]
    #[case::weight("weight: 2", "weight: 5", &[
        "real server web-2: weight 2 -> 5",
        "virtual server shop: web-2 weight 2 -> 5",
    ])]
    #[case::bindings("[web-1, web-2]", "[{server: web-1, drain: true}, web-3]", &[
        "virtual server shop: web-1 drain false -> true",
        "virtual server shop: web-2 unbound",
        "virtual server shop: web-3 bound, weight 1",
    ])]
    #[case::virtual_server("name: dns", "name: names", &[
        "virtual server dns removed",
        "virtual server names added: udp 10.9.1.2 port 53",
    ])]
    #[case::settings("port: 80", "port: [80, 81]\n    session: {idle_timeout: 1h}\n    sticky: {timeout: 10m}", &[
        "virtual server shop: port 80 -> [80,81]",
        "virtual server shop: session.idle_timeout 30m -> 1h",
        "virtual server shop: sticky.prefix_v4 none -> 32",
        "virtual server shop: sticky.prefix_v6 none -> 128",
        "virtual server shop: sticky.timeout none -> 10m",
    ])]
    #[case::checks_are_not_shown("secret", "other", &["virtual server shop: health.checks changed"])]
    fn changes_are_told_in_the_words_of_the_file(
        #[case] written: &str,
        #[case] instead: &str,
        #[case] lines: &[&str],
    ) {
        let parse = |text: &str| Config::parse("lb.yaml", text).unwrap();
        let after = BEFORE.replace(written, instead);
        assert_eq!(difference(&parse(BEFORE), &parse(&after)), lines);
        assert_eq!(difference(&parse(BEFORE), &parse(BEFORE)), [""; 0]);
    }
}
