use crossterm::event::{KeyCode, KeyEvent, KeyModifiers};
use ratatui::{Terminal, backend::TestBackend};
use rstest::rstest;
use serde_json::{Value, json};

use super::{super::model::Flow, *};

fn item(name: &str, state: &str, rate: u64) -> Value {
    json!({
        "name": name, "state": state,
        "sessions": { "active": rate, "total": 10 * rate, "per_second": rate },
        "packets": 100 * rate, "bytes": 1000 * rate,
        "packets_per_second": rate, "bits_per_second": 8000 * rate,
    })
}

fn with(mut item: Value, more: Value) -> Value {
    let more = more.as_object().unwrap().clone();
    item.as_object_mut().unwrap().extend(more);
    item
}

fn real_server(name: &str, address: &str, state: &str, rate: u64) -> Value {
    let reason = if state == "down" {
        "no answer to ARP"
    } else {
        ""
    };
    let more =
        json!({ "address": address, "weight": 1, "reason": reason, "sorry": false, "checks": [] });
    with(item(name, state, rate), more)
}

/// Two virtual servers, one of them down, and a rate.
fn status(rate: u64) -> Status {
    let virtual_server = |name, vip, state, rate, real_servers| {
        let more = json!({
            "vip": vip, "protocol": "tcp", "port": 80, "forward": "l2dsr", "predictor": "hash",
            "real_servers": real_servers,
        });
        with(item(name, state, rate), more)
    };
    let web = [
        real_server("web-1", "10.9.0.11", "up", rate),
        real_server("web-2", "10.9.0.12", "draining", 2 * rate),
    ];
    let dns = [real_server("dns-1", "10.9.0.21", "down", 0)];
    let status = json!({
        "configuration": {
            "file": "/etc/lb/lb.yaml", "applied_at": 0, "reloads_applied": 0, "reloads_refused": 1, "error": null,
        },
        "virtual_servers": [
            virtual_server("shop", "10.9.1.1", "up", 3 * rate, json!(web)),
            virtual_server("dns", "10.9.1.53", "down", 0, json!(dns)),
        ],
        "interfaces": [], "drops": { "too_big": 7 }, "maps": {},
        "session_table": { "capacity_v4": 1, "capacity_v6": 1, "sessions_v4": 0, "sessions_v6": 0 },
        "daemon": { "version": "0.1.0", "started": 0 },
    });
    serde_json::from_value(status).unwrap()
}

fn model() -> Model {
    let mut model = Model::default();
    for rate in [0, 4, 8] {
        model.update(Ok(status(rate)));
    }
    model
}

/// The lines of a screen, without what is blank at their ends.
fn screen(model: &mut Model, width: u16, height: u16) -> Vec<String> {
    let mut terminal = Terminal::new(TestBackend::new(width, height)).unwrap();
    terminal.draw(|frame| draw(frame, model)).unwrap();
    let buffer = terminal.backend().buffer();
    let lines = buffer.content().chunks(usize::from(width));
    let lines = lines.map(|cells| cells.iter().map(|cell| cell.symbol()).collect::<String>());
    lines.map(|line| line.trim_end().to_owned()).collect()
}

fn press(model: &mut Model, keys: &str) -> Flow {
    let keys = keys.chars().map(|key| match key {
        '⏎' => KeyCode::Enter,
        '⎋' => KeyCode::Esc,
        '⌫' => KeyCode::Backspace,
        '→' => KeyCode::Right,
        '←' => KeyCode::Left,
        '↓' => KeyCode::Down,
        '↑' => KeyCode::Up,
        key => KeyCode::Char(key),
    });
    let mut flow = Flow::Continue;
    for key in keys {
        assert_eq!(flow, Flow::Continue);
        flow = model.press(key.into());
    }
    flow
}

/// The names that are shown, in their order.
fn names(model: &Model) -> String {
    let names = model.lines().into_iter().map(|line| match line.key() {
        (name, None) | (_, Some(name)) => name,
    });
    names.collect::<Vec<_>>().join(" ")
}

#[test]
fn a_wide_screen_has_all_columns() {
    let screen = screen(&mut model(), 150, 8);
    let expected = [
        "virtual servers 2 (1 down)  real servers bound 3 (1 down)  active sessions 24  dropped 7",
        "NAME      ADDRESS          STATE    WEIGHT ACTIVE          TOTAL CPS          PACKETS BYTES PPS            BPS",
        "- shop    tcp 10.9.1.1:80  up                  24  ▄█        240  24  ▄█         2400 24.0k  24  ▄█       192k l2dsr hash",
        "    web-1 10.9.0.11        up            1      8  ▄█         80   8  ▄█          800  8000   8  ▄█      64.0k",
        "    web-2 10.9.0.12        draining      1     16  ▄█        160  16  ▄█         1600 16.0k  16  ▄█       128k",
        "- dns     tcp 10.9.1.53:80 down                 0              0   0                0     0   0              0 l2dsr hash",
        "    dns-1 10.9.0.21        down          1      0              0   0                0     0   0              0 no answer to ARP",
        "sorted by FILE  / filter  ? help  q quit",
    ];
    assert_eq!(screen, expected, "{screen:#?}");
}

#[test]
fn a_narrow_screen_has_what_matters_and_a_tiny_one_is_no_error() {
    let narrow = screen(&mut model(), 60, 8);
    assert_eq!(narrow[1], "NAME      STATE    ACTIVE CPS PPS");
    assert!(narrow[6].ends_with("no answer to ARP"), "{narrow:#?}");
    for (width, height) in [(1, 1), (5, 2), (20, 3)] {
        let mut model = model();
        press(&mut model, "↓↓↓?");
        screen(&mut model, width, height);
    }
}

#[rstest]
#[case::file("", "shop web-1 web-2 dns dns-1")]
#[case::reversed("r", "dns dns-1 shop web-2 web-1")]
#[case::name("→", "dns dns-1 shop web-1 web-2")]
#[case::state("→→", "dns dns-1 shop web-2 web-1")]
#[case::packets("←←", "shop web-2 web-1 dns dns-1")]
#[case::all_around("→→→→→→→→", "shop web-1 web-2 dns dns-1")]
#[case::filter_of_a_virtual_server("/dns", "dns dns-1")]
#[case::filter_of_a_real_server("/web-2", "shop web-2")]
#[case::filter_by_address("/0.21", "dns dns-1")]
#[case::filter_that_is_corrected("/web-9⌫1", "shop web-1")]
#[case::filter_that_is_kept("/web-2⏎r", "shop web-2")]
#[case::filter_that_is_cleared("/web-2⎋", "shop web-1 web-2 dns dns-1")]
#[case::filter_of_nothing("/x", "")]
#[case::collapsed("⏎", "shop dns dns-1")]
#[case::collapsed_from_a_real_server("↓↓ ", "shop dns dns-1")]
#[case::expanded("⏎⏎", "shop web-1 web-2 dns dns-1")]
#[case::all_collapsed("a", "shop dns")]
#[case::all_expanded("aa", "shop web-1 web-2 dns dns-1")]
fn keys_choose_what_is_shown(#[case] keys: &str, #[case] expected: &str) {
    let mut model = model();
    assert_eq!(press(&mut model, keys), Flow::Continue);
    assert_eq!(names(&model), expected);
}

#[rstest]
#[case::q("q", Flow::Quit)]
#[case::escape("⎋", Flow::Quit)]
#[case::q_in_a_filter("/q", Flow::Continue)]
#[case::escape_in_a_filter("/q⎋", Flow::Continue)]
#[case::escape_in_the_help("?⎋", Flow::Continue)]
fn keys_quit(#[case] keys: &str, #[case] flow: Flow) {
    assert_eq!(press(&mut model(), keys), flow);
}

#[rstest]
fn control_c_quits_from_anywhere(#[values("", "/", "?")] before: &str) {
    let mut model = model();
    press(&mut model, before);
    let key = KeyEvent::new(KeyCode::Char('c'), KeyModifiers::CONTROL);
    assert_eq!(model.press(key), Flow::Quit);
}

#[test]
fn the_selected_line_stays_in_sight() {
    let mut model = model();
    // The head, the titles, two lines, the foot.
    let names = |model: &mut Model| {
        let lines = screen(model, 60, 5);
        [2, 3].map(|line| {
            lines[line]
                .split_whitespace()
                .find(|it| it.len() > 1)
                .unwrap()
                .to_owned()
        })
    };
    assert_eq!(names(&mut model), ["shop", "web-1"]);
    press(&mut model, "↓↓");
    assert_eq!(names(&mut model), ["web-1", "web-2"]);
    press(&mut model, "↓↓↓↓↓↓");
    assert_eq!(names(&mut model), ["dns", "dns-1"]);
    press(&mut model, "↑");
    assert_eq!(names(&mut model), ["dns", "dns-1"]);
    press(&mut model, "↑");
    assert_eq!(names(&mut model), ["web-2", "dns"]);
    press(&mut model, "↓↓");
    // What it was on is gone.
    let mut fewer = status(1);
    fewer.virtual_servers.truncate(1);
    model.update(Ok(fewer));
    assert_eq!(names(&mut model), ["web-1", "web-2"]);
}

#[test]
fn without_a_daemon_the_last_status_stands() {
    let mut model = Model::default();
    assert_eq!(screen(&mut model, 60, 4)[0], "waiting for the daemon");
    model.update(Err("nobody answers".to_owned()));
    assert_eq!(screen(&mut model, 60, 4)[0], "no daemon: nobody answers");
    model.update(Ok(status(1)));
    assert!(screen(&mut model, 60, 4)[0].starts_with("virtual servers 2"));
    model.update(Err("nobody answers".to_owned()));
    let screen = screen(&mut model, 60, 8);
    assert_eq!(screen[0], "no daemon: nobody answers");
    assert!(screen[2].starts_with("- shop"), "{screen:#?}");
}

#[test]
fn help_and_filter_are_shown() {
    let mut model = model();
    press(&mut model, "?");
    let help = screen(&mut model, 100, 20).join("\n");
    assert!(
        HELP.iter().all(|line| help.contains(line.trim_end())),
        "{help}"
    );
    press(&mut model, "x/we");
    assert_eq!(screen(&mut model, 60, 8)[7], "/we█");
    press(&mut model, "⏎r");
    assert!(screen(&mut model, 60, 8)[7].starts_with("sorted by FILE, reversed  filter we"));
}

#[rstest]
#[case(9999, "9999")]
#[case(10_000, "10.0k")]
#[case(99_949, "99.9k")]
#[case(99_950, "100k")]
#[case(999_499, "999k")]
#[case(999_500, "1.0M")]
#[case(u64::MAX, "18.4E")]
fn large_numbers_are_short(#[case] number: u64, #[case] text: &str) {
    assert_eq!(short(number), text);
}
