//! The daemon at the limit of sessions.

use std::{thread::sleep, time::Duration};

use lb_tests::Daemon;
use nix::sys::signal::Signal;

use crate::support::{SHOP, VIP, lab, number, serve_http};

/// The most that the configuration allows.
const SESSIONS: u64 = 1 << 24;
/// How long an idle daemon is watched, and what part of a CPU it may take: a debug build takes a third of that.
const WATCHED: Duration = Duration::from_secs(3);
const MOST: f64 = 0.15;

#[test]
fn a_daemon_with_tables_for_16_million_sessions_starts_forwards_and_idles() {
    let lab = lab(1);
    let _servers = serve_http(&lab, &[80]);
    // As many of IPv6 would take twice the memory.
    let limits = format!("limits: {{sessions: {SESSIONS}, sessions_v6: 1000}}\n");
    let config = lab.config(SHOP) + &limits;
    let first = Daemon::start(&lab, &config).unwrap();
    first.stop(Signal::SIGTERM).unwrap();
    // The next one takes over what is there.
    let lb = Daemon::start(&lab, &config).unwrap();
    assert!(
        lab.log().contains("took the interface over"),
        "{}",
        lab.log()
    );
    let report = lab.client().http().get((VIP, 80), 1);
    assert_eq!(report.replies.len(), 1, "{report:?}");
    let table = &lb.status().unwrap()["session_table"];
    assert_eq!(number(&table["capacity_v4"]), SESSIONS);

    sleep(Duration::from_secs(1));
    let before = lb.cpu_time().unwrap();
    sleep(WATCHED);
    let part = (lb.cpu_time().unwrap() - before).div_duration_f64(WATCHED);
    assert!(part < MOST, "an idle daemon takes {part:.3} of a CPU");
}
