//! The metrics: names, types, labels, meanings. README.md has a table of them.

use std::{collections::BTreeMap, fmt};

use prometheus_client::{
    collector::Collector,
    encoding::{DescriptorEncoder, EncodeGaugeValue, EncodeLabelSet, EncodeMetric},
    metrics::{
        MetricType,
        counter::{ConstCounter, Counter},
        gauge::ConstGauge,
    },
};

use super::{CheckLabels, CheckMetrics, Snapshot};
use crate::api::status::{Check, RealServer, Status, VirtualServer};

const NO_LABELS: [(&str, &str); 0] = [];

impl Collector for Snapshot {
    fn encode(&self, encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let mut families = Families(encoder);
        families.daemon(&self.status)?;
        families.configuration(&self.status)?;
        families.virtual_servers(&self.status)?;
        families.real_servers(&self.status)?;
        families.checks(self)?;
        families.packets(&self.status)?;
        families.tables(&self.status)
    }
}

/// Writes families of metrics, each with all of its samples.
struct Families<'a>(DescriptorEncoder<'a>);

impl Families<'_> {
    fn daemon(&mut self, status: &Status) -> fmt::Result {
        let daemon = &status.daemon;
        self.gauge(
            "lb_build_info",
            "What runs; always 1",
            [([("version", daemon.version.as_str())], 1u32)],
        )?;
        self.gauge(
            "lb_start_time_seconds",
            "When the daemon started, in seconds since 1970",
            [(NO_LABELS, daemon.started as f64)],
        )?;
        let interfaces = status.interfaces.iter();
        self.gauge(
            "lb_interface_attached",
            "Whether the balancer is attached to an interface of the configuration",
            interfaces.map(|it| ([("interface", it.name.as_str())], u32::from(it.attached))),
        )
    }

    fn configuration(&mut self, status: &Status) -> fmt::Result {
        let configuration = &status.configuration;
        self.counter(
            "lb_config_reloads",
            "How often the configuration file was applied or refused since the daemon started",
            [
                ("applied", configuration.reloads_applied),
                ("refused", configuration.reloads_refused),
            ]
            .map(|(result, count)| ([("result", result)], count)),
        )?;
        self.gauge(
            "lb_config_last_reload_success",
            "Whether the configuration file as it is now is applied",
            [(NO_LABELS, u32::from(configuration.error.is_none()))],
        )?;
        self.gauge(
            "lb_config_last_reload_success_timestamp_seconds",
            "When the configuration file was applied last, in seconds since 1970",
            [(NO_LABELS, configuration.applied_at as f64)],
        )
    }

    fn virtual_servers(&mut self, status: &Status) -> fmt::Result {
        let all = || {
            let all = status.virtual_servers.iter();
            all.map(|it| ([("virtual_server", it.name.as_str())], it))
        };
        let infos = status.virtual_servers.iter().map(|it| {
            let VirtualServer {
                name, vip, port, ..
            } = it;
            [
                ("virtual_server", name.clone()),
                ("vip", vip.to_string()),
                ("protocol", it.protocol.clone()),
                ("port", port.to_string()),
                ("forward", it.forward.clone()),
                ("predictor", it.predictor.clone()),
            ]
        });
        self.gauge(
            "lb_virtual_server_info",
            "What a virtual server is; always 1",
            infos.map(|labels| (labels, 1u32)),
        )?;
        self.gauge(
            "lb_virtual_server_up",
            "Whether enough real servers of a virtual server are up",
            all().map(|(labels, it)| (labels, is(&it.state, "up"))),
        )?;
        self.gauge(
            "lb_virtual_server_active_sessions",
            "Sessions that their clients have not closed",
            all().map(|(labels, it)| (labels, it.sessions.active as f64)),
        )?;
        self.counter(
            "lb_virtual_server_sessions",
            "Sessions that began",
            all().map(|(labels, it)| (labels, it.sessions.total)),
        )?;
        self.counter(
            "lb_virtual_server_packets",
            "Forwarded packets",
            all().map(|(labels, it)| (labels, it.traffic.packets)),
        )?;
        self.counter(
            "lb_virtual_server_bytes",
            "Bytes of forwarded packets as received, Ethernet headers included",
            all().map(|(labels, it)| (labels, it.traffic.bytes)),
        )
    }

    fn real_servers(&mut self, status: &Status) -> fmt::Result {
        let all = || real_servers(status).map(|(server, real)| (labels(server, real), real));
        self.gauge(
            "lb_real_server_up",
            "Whether a real server takes new sessions of a virtual server",
            all().map(|(labels, it)| (labels, is(&it.state, "up"))),
        )?;
        self.gauge(
            "lb_real_server_draining",
            "Whether a real server keeps its sessions of a virtual server and gets no new ones",
            all().map(|(labels, it)| (labels, is(&it.state, "draining"))),
        )?;
        self.gauge(
            "lb_real_server_weight",
            "The weight of a real server in a virtual server",
            all().map(|(labels, it)| (labels, u32::from(it.weight))),
        )?;
        self.gauge(
            "lb_real_server_active_sessions",
            "Sessions that their clients have not closed",
            all().map(|(labels, it)| (labels, it.sessions.active as f64)),
        )?;
        self.counter(
            "lb_real_server_sessions",
            "Sessions that began on a real server or moved there",
            all().map(|(labels, it)| (labels, it.sessions.total)),
        )?;
        self.counter(
            "lb_real_server_packets",
            "Packets forwarded to a real server",
            all().map(|(labels, it)| (labels, it.traffic.packets)),
        )?;
        self.counter(
            "lb_real_server_bytes",
            "Bytes of those packets as received, Ethernet headers included",
            all().map(|(labels, it)| (labels, it.traffic.bytes)),
        )
    }

    fn checks(&mut self, snapshot: &Snapshot) -> fmt::Result {
        let passing = real_servers(&snapshot.status).flat_map(|(server, real)| {
            let by_kind = passing(&real.checks).into_iter();
            by_kind.map(move |(kind, passes)| {
                let [server, real] = labels(server, real);
                ([server, real, ("check", kind)], u32::from(passes))
            })
        });
        self.gauge(
            "lb_check_up",
            "Whether a health check of a real server passed when it was last sent",
            passing,
        )?;
        let checks = &snapshot.checks.0;
        let results = checks.iter().flat_map(|(labels, metrics)| {
            let CheckMetrics {
                passed,
                failed,
                unsent,
                ..
            } = metrics;
            let results = [("passed", passed), ("failed", failed), ("unsent", unsent)];
            results.map(|(result, count): (_, &Counter)| {
                let [server, real, check] = check_labels(labels);
                ([server, real, check, ("result", result)], count.get())
            })
        });
        self.counter(
            "lb_check_results",
            "Health checks since the daemon started, by result",
            results,
        )?;
        let latencies = checks.iter();
        self.family(
            "lb_check_latency_seconds",
            "How long the answers to health checks took that passed",
            MetricType::Histogram,
            latencies.map(|(labels, metrics)| (check_labels(labels), metrics.latency.clone())),
        )
    }

    fn packets(&mut self, status: &Status) -> fmt::Result {
        let drops = status.drops.iter();
        self.counter(
            "lb_dropped_packets",
            "Dropped packets, by reason",
            drops.map(|(reason, &count)| ([("reason", reason.as_str())], count)),
        )?;
        let events = status.session_table.events.iter();
        self.counter(
            "lb_session_events",
            "Sessions evicted from a full table, and packets that would have begun a session and went unrecorded",
            events.map(|(event, &count)| ([("event", event.as_str())], count)),
        )
    }

    fn tables(&mut self, status: &Status) -> fmt::Result {
        let table = &status.session_table;
        self.gauge(
            "lb_session_table_sessions",
            "Sessions in the session table when it was last swept, closing ones among them",
            [("v4", table.sessions_v4), ("v6", table.sessions_v6)]
                .map(|(family, sessions)| ([("family", family)], sessions as f64)),
        )?;
        self.gauge(
            "lb_session_table_capacity",
            "Sessions that the session table holds",
            [("v4", table.capacity_v4), ("v6", table.capacity_v6)]
                .map(|(family, sessions)| ([("family", family)], sessions)),
        )?;
        let maps = || status.maps.iter();
        self.gauge(
            "lb_map_entries",
            "Entries in use of a map that the configuration fills",
            maps().map(|(map, fill)| ([("map", map.as_str())], fill.entries)),
        )?;
        self.gauge(
            "lb_map_capacity",
            "Entries of a map that the configuration fills",
            maps().map(|(map, fill)| ([("map", map.as_str())], fill.capacity)),
        )
    }

    /// A family of counters. The text has `_total` behind the name.
    fn counter<L: EncodeLabelSet>(
        &mut self,
        name: &str,
        help: &str,
        samples: impl IntoIterator<Item = (L, u64)>,
    ) -> fmt::Result {
        let samples = samples.into_iter();
        let samples = samples.map(|(labels, value)| (labels, ConstCounter::new(value)));
        self.family(name, help, MetricType::Counter, samples)
    }

    fn gauge<L: EncodeLabelSet, V: EncodeGaugeValue + fmt::Debug>(
        &mut self,
        name: &str,
        help: &str,
        samples: impl IntoIterator<Item = (L, V)>,
    ) -> fmt::Result
    where
        ConstGauge<V>: EncodeMetric,
    {
        let samples = samples.into_iter();
        let samples = samples.map(|(labels, value)| (labels, ConstGauge::new(value)));
        self.family(name, help, MetricType::Gauge, samples)
    }

    fn family<L: EncodeLabelSet, M: EncodeMetric>(
        &mut self,
        name: &str,
        help: &str,
        metric_type: MetricType,
        samples: impl IntoIterator<Item = (L, M)>,
    ) -> fmt::Result {
        let mut family = self.0.encode_descriptor(name, help, None, metric_type)?;
        for (labels, metric) in samples {
            metric.encode(family.encode_family(&labels)?)?;
        }
        Ok(())
    }
}

fn is(state: &str, wanted: &str) -> u32 {
    u32::from(state == wanted)
}

fn real_servers(status: &Status) -> impl Iterator<Item = (&VirtualServer, &RealServer)> {
    let all = status.virtual_servers.iter();
    all.flat_map(|server| server.real_servers.iter().map(move |real| (server, real)))
}

fn labels<'a>(server: &'a VirtualServer, real: &'a RealServer) -> [(&'static str, &'a str); 2] {
    [
        ("virtual_server", &server.name),
        ("real_server", &real.name),
    ]
}

fn check_labels(labels: &CheckLabels) -> [(&'static str, &str); 3] {
    [
        ("virtual_server", &labels.virtual_server),
        ("real_server", &labels.real_server),
        ("check", &labels.check),
    ]
}

/// Whether all checks of each kind have passed: a list may have several of one kind.
fn passing(checks: &[Check]) -> BTreeMap<&str, bool> {
    let mut by_kind = BTreeMap::new();
    for check in checks {
        *by_kind.entry(check.kind.as_str()).or_insert(true) &= check.ok;
    }
    by_kind
}
