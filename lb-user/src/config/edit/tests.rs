use proptest::{prelude::*, sample::select};
use rstest::rstest;

use super::*;

/// A file whose virtual servers are these.
fn file(virtual_servers: &str) -> String {
    format!(
        "# The shop.
interfaces: [{{ name: eth0 }}]
real_servers: {{ web-1: 10.9.0.11, web-2: 10.9.0.12, web-3: 10.9.0.13, \"4\": 10.9.0.14 }}
groups: {{ web: [web-1, web-2], spare: [web-3] }}
virtual_servers:
{virtual_servers}"
    )
}

/// Keys that follow the name of a virtual server.
const SHOP: &str = "vip: 10.9.1.1, protocol: tcp, port: 80";

#[track_caller]
fn bound(before: &str, server: &str, weight: Option<u16>) -> String {
    let before = file(before);
    match bind("lb.yaml", &before, "shop", server, weight) {
        Ok(edit) => edit.text.strip_prefix(&file("")).unwrap().to_owned(),
        Err(error) => error.to_string(),
    }
}

#[track_caller]
fn unbound(before: &str, server: &str) -> String {
    let before = file(before);
    match unbind("lb.yaml", &before, "shop", server) {
        Ok(edit) => edit.text.strip_prefix(&file("")).unwrap().to_owned(),
        Err(error) => error.to_string(),
    }
}

/// In flow style.
fn flow(bind: &str) -> String {
    format!("- {{name: shop, {SHOP}, {bind}}} # last\n")
}

/// In block style, with more behind it.
fn block(bind: &str) -> String {
    format!(
        "  -   name: shop\n      vip: 10.9.1.1   # é\n      protocol: tcp\n{bind}      port: 80\n\n  # More.\n  - {{name: more, vip: 10.9.1.2, protocol: tcp, port: 80}}\n"
    )
}

#[rstest]
#[case::flow("bind: [web-1, web-2]", "bind: [web-1, web-2, web-3]")]
#[case::blanks("bind: [ web-1 ]", "bind: [ web-1, web-3 ]")]
#[case::comma("bind: [web-1,]", "bind: [web-1, web-3,]")]
#[case::empty("bind: []", "bind: [web-3]")]
#[case::null("minimum_up: 1, bind: ~", "minimum_up: 1, bind: [web-3]")]
#[case::nothing("bind:", "bind: [web-3]")]
#[case::missing("minimum_up: 1", "minimum_up: 1, bind: [web-3]")]
#[case::long("bind: [{server: web-1}]", "bind: [{server: web-1}, web-3]")]
#[case::a_line_each(
    "bind: [\n  web-1, # one\n  web-2\n]",
    "bind: [\n  web-1, # one\n  web-2,\n  web-3\n]"
)]
#[case::a_line_each_with_a_comma(
    "bind: [\n  web-1, # one\n  web-2,\n]",
    "bind: [\n  web-1, # one\n  web-2,\n  web-3,\n]"
)]
#[case::comment_behind(
    "bind: [\n  web-1, # one\n  web-2 # two\n]",
    "bind: [\n  web-1, # one\n  web-2, web-3 # two\n]"
)]
fn a_server_is_bound_in_flow_style(#[case] before: &str, #[case] after: &str) {
    assert_eq!(bound(&flow(before), "web-3", None), flow(after));
}

#[rstest]
#[case::block(
    "      bind:\n      - web-1 # - one\n      # two\n      - web-2 # - two\n",
    "      bind:\n      - web-1 # - one\n      # two\n      - web-2 # - two\n      - web-3\n"
)]
#[case::indented(
    "      bind: # all\n          -  server: web-1\n             weight: 2 # twice\n\n",
    "      bind: # all\n          -  server: web-1\n             weight: 2 # twice\n          - web-3\n\n"
)]
#[case::windows(
    "      bind:\r\n        - web-1 # one\r\n",
    "      bind:\r\n        - web-1 # one\r\n        - web-3\r\n"
)]
#[case::nothing("      bind:  # none\n", "      bind:  # none\n        - web-3\n")]
#[case::flow("      bind: [web-1]\n", "      bind: [web-1, web-3]\n")]
fn a_server_is_bound_in_block_style(#[case] before: &str, #[case] after: &str) {
    assert_eq!(bound(&block(before), "web-3", None), block(after));
}

#[test]
fn a_bind_that_is_missing_is_made_at_the_end() {
    let before =
        "- name: shop\n  vip: 10.9.1.1\n  protocol: tcp\n  port: 80 # http\n  sticky:\n\n# end\n";
    let after = "- name: shop\n  vip: 10.9.1.1\n  protocol: tcp\n  port: 80 # http\n  sticky:\n  bind:\n    - web-3\n\n# end\n";
    assert_eq!(bound(before, "web-3", None), after);
    let without_line_break = "- name: shop\n  vip: 10.9.1.1\n  protocol: tcp\n  port: 80";
    let after = "- name: shop\n  vip: 10.9.1.1\n  protocol: tcp\n  port: 80\n  bind:\n    - web-3";
    assert_eq!(bound(without_line_break, "web-3", None), after);
}

#[test]
fn a_binding_may_have_a_weight_and_a_name_that_needs_quotes() {
    for (server, weight, entry) in [
        ("web-3", Some(0), "{ server: web-3, weight: 0 }"),
        ("4", None, "\"4\""),
        ("4", Some(1000), "{ server: \"4\", weight: 1000 }"),
        ("spare", None, "spare"),
    ] {
        let after = flow(&format!("bind: [web, {entry}]"));
        assert_eq!(bound(&flow("bind: [web]"), server, weight), after);
        assert_eq!(unbound(&after, server), flow("bind: [web]"));
        let before = block("      bind:\n      - web\n");
        let after = block(&format!("      bind:\n      - web\n      - {entry}\n"));
        assert_eq!(bound(&before, server, weight), after);
    }
}

#[rstest]
#[case::only("bind: [web-3]", "bind: []")]
#[case::first("bind: [web-3, web-1]", "bind: [web-1]")]
#[case::middle("bind: [web-1, web-3, web-2]", "bind: [web-1, web-2]")]
#[case::long("bind: [web-1, {server: web-3, weight: 2} ]", "bind: [web-1 ]")]
#[case::quoted("bind: [\"web-3\" , 'web-1']", "bind: ['web-1']")]
#[case::comment_before(
    "bind: [\n  web-1, # one\n  web-3,\n  web-2\n]",
    "bind: [\n  web-1, # one\n  web-2\n]"
)]
#[case::comments_around(
    "bind: [\n  web-1, # one\n  web-3, # three\n  web-2 # two\n]",
    "bind: [\n  web-1, # one\n   # three\n  web-2 # two\n]"
)]
#[case::last_after_a_comment("bind: [\n  web-1, # one\n  web-3,\n]", "bind: [\n  web-1, # one\n]")]
#[case::only_with_a_comma("bind: [\n  web-3, # three\n]", "bind: [\n   # three\n]")]
fn a_server_is_unbound_in_flow_style(#[case] before: &str, #[case] after: &str) {
    assert_eq!(unbound(&flow(before), "web-3"), flow(after));
}

#[rstest]
#[case::only("      bind:\n      - web-3\n", "      bind:\n")]
#[case::first(
    "      bind:\n      - web-3 # three\n      - web-1\n",
    "      bind:\n      - web-1\n"
)]
#[case::middle(
    "      bind:\n      # one\n      - web-1 # - one\n      # - three\n      - server: web-3\n        weight: 2\n\n      - web-2\n",
    "      bind:\n      # one\n      - web-1 # - one\n      # - three\n\n      - web-2\n"
)]
#[case::below_its_dash(
    "      bind:\n      - web-1\n      - # three\n        web-3\n      - web-2\n",
    "      bind:\n      - web-1\n      - web-2\n"
)]
#[case::windows(
    "      bind:\r\n      - web-1\r\n      - web-3\r\n",
    "      bind:\r\n      - web-1\r\n"
)]
fn a_server_is_unbound_in_block_style(#[case] before: &str, #[case] after: &str) {
    assert_eq!(unbound(&block(before), "web-3"), block(after));
}

#[rstest]
#[case::mark("\u{FEFF}", "")]
#[case::document("%YAML 1.2\n---\n", "...\n")]
fn a_file_may_begin_and_end_with_marks(#[case] begin: &str, #[case] end: &str) {
    let text = |bind| format!("{begin}{}{end}", file(&flow(bind)));
    let edit = bind("lb.yaml", &text("bind: [web-1]"), "shop", "web-3", None).unwrap();
    assert_eq!(edit.text, text("bind: [web-1, web-3]"));
    let edit = unbind("lb.yaml", &edit.text, "shop", "web-3").unwrap();
    assert_eq!(edit.text, text("bind: [web-1]"));
}

#[test]
fn a_group_is_unbound_with_all_its_servers() {
    let text = file(&flow("bind: [web-3, web]"));
    let edit = unbind("lb.yaml", &text, "shop", "web").unwrap();
    assert_eq!(edit.servers, ["web-1", "web-2"]);
    assert_eq!(edit.text, file(&flow("bind: [web-3]")));
}

#[rstest]
#[case(
    "shp",
    "web-3",
    None,
    "lb.yaml has no virtual server `shp`; did you mean `shop`?"
)]
#[case(
    "shop",
    "wep",
    None,
    "lb.yaml has no real server or group `wep`; did you mean `web`?"
)]
#[case(
    "shop",
    "spare",
    Some(2),
    "`spare` is a group: its real servers have their own weights; leave out --weight"
)]
#[case(
    "shop",
    "web",
    None,
    "`web` is bound to `shop` already (lb.yaml:6): edit that line for another weight, or to end a drain"
)]
#[case(
    "shop",
    "4",
    Some(2),
    "`4` is bound to `shop` already (lb.yaml:6): edit that line for another weight, or to end a drain"
)]
#[case(
    "shop",
    "web-1",
    None,
    "`web-1` is bound to `shop` already, by group `web` (lb.yaml:6)"
)]
#[case(
    "shop",
    "web-3",
    None,
    "that would make the file wrong: lb.yaml:6:63: sorry: real server `web-3` is bound: name another one"
)]
fn what_cannot_be_bound_is_refused_with_words(
    #[case] virtual_server: &str,
    #[case] server: &str,
    #[case] weight: Option<u16>,
    #[case] words: &str,
) {
    let text = file(&flow("sorry: web-3, bind: [web, {server: '4'}]"));
    let error = bind("lb.yaml", &text, virtual_server, server, weight).unwrap_err();
    assert_eq!(error.to_string(), words);
}

#[rstest]
#[case(
    "web-9",
    "lb.yaml has no real server or group `web-9`; did you mean `web-1`?"
)]
#[case("4", "`4` is not bound to `shop`")]
#[case(
    "web-1",
    "`web-1` is bound to `shop` by group `web`: unbind `web`, or take `web-1` out of the group in lb.yaml (that unbinds it from `more`, too)"
)]
#[case(
    "spare",
    "that would make the file wrong: lb.yaml:6:81: minimum_up: expected at most 2, all that `shop` binds, found 3"
)]
fn what_cannot_be_unbound_is_refused_with_words(#[case] server: &str, #[case] words: &str) {
    let more = "- {name: more, vip: 10.9.1.2, protocol: tcp, port: 80, bind: [web]}\n";
    let shop = flow("bind: [web, spare], minimum_up: 3");
    assert_eq!(unbound(&(shop + more), server), words);
}

#[rstest]
#[case::alias(&format!("- {{name: more, vip: 10.9.1.2, protocol: tcp, port: 80, bind: &b [web]}}\n- {{name: shop, {SHOP}, bind: *b}}\n"), 7)]
#[case::anchor(&format!("- {{name: shop, {SHOP}, bind: &b [web]}}\n- {{name: more, vip: 10.9.1.2, protocol: tcp, port: 80, bind: *b}}\n"), 6)]
#[case::merge(&format!("- &m {{name: more, {SHOP}, bind: [web]}}\n- {{<<: *m, name: shop, port: 81}}\n"), 7)]
#[case::merged_elsewhere(&format!("- &m {{name: shop, {SHOP}, bind: [web]}}\n- {{<<: *m, name: more, port: 81}}\n"), 6)]
fn what_others_may_share_is_left_alone(#[case] text: &str, #[case] line: u64) {
    let words = format!(
        "lb.yaml:{line}: the `bind` of `shop` can't be changed alone, because of an anchor, an alias or a merge: edit it by hand"
    );
    assert_eq!(bound(text, "web-3", None), words);
    assert_eq!(unbound(text, "web"), words);
}

#[test]
fn a_file_that_is_wrong_is_not_edited() {
    assert_eq!(
        bound("- {name: shop}\n", "web-3", None),
        "lb.yaml:6:3: missing key `port`\nlb.yaml:6:3: missing key `protocol`\nlb.yaml:6:3: missing key `vip`"
    );
}

/// Lines that mean nothing.
fn noise() -> impl Strategy<Value = String> {
    let line = select(vec!["", "", "  # - web-3", "#", "        # é: [", "      "]);
    prop::collection::vec(line, 0..3).prop_map(|lines| {
        lines
            .iter()
            .fold(String::new(), |all, line| all + line + "\n")
    })
}

/// A `bind` of some entries, at an indentation of four.
fn bind_key() -> impl Strategy<Value = String> {
    let entry = |name: &'static str| {
        select(vec![
            name.to_owned(),
            format!("'{name}'"),
            format!("{{ server: {name}, weight: 7 }}"),
            format!("{{ \"server\": {name},\n            drain: true }}"),
        ])
    };
    let entries = select(vec![
        vec![],
        vec!["web-1"],
        vec!["web-1", "web-2"],
        vec!["web"],
        vec!["web-2", "4"],
    ])
    .prop_flat_map(move |names| {
        names
            .into_iter()
            .map(|name| match name {
                "web" => Just(name.to_owned()).boxed(),
                "4" => Just("{server: '4'}".to_owned()).boxed(),
                name => entry(name).boxed(),
            })
            .collect::<Vec<_>>()
    });
    let comment = select(vec!["", " # c", "   # - web-3, ["]);
    let gaps = prop::collection::vec((noise(), comment, 0..3_usize), 4);
    (entries, gaps, 4..8_usize, 0..3_u8).prop_map(|(entries, gaps, indent, style)| {
        let indent = " ".repeat(indent);
        let last = entries.len().saturating_sub(1);
        let entries = entries.iter().zip(gaps).enumerate();
        match style {
            0 => entries.fold(
                "    bind:\n".to_owned(),
                |all, (_, (entry, (noise, comment, blanks)))| {
                    format!(
                        "{all}{noise}{indent}- {}{entry}{comment}\n",
                        " ".repeat(blanks)
                    )
                },
            ),
            1 => {
                entries.fold(
                    "    bind: [".to_owned(),
                    |all, (index, (entry, (_, _, blanks)))| {
                        let comma = if index == last { "" } else { "," };
                        format!("{all}{}{entry}{comma}", " ".repeat(blanks))
                    },
                ) + "]  # c\n"
            }
            _ => {
                entries.fold(
                    "    bind: [\n".to_owned(),
                    |all, (index, (entry, (noise, comment, blanks)))| {
                        let comma = if index == last && blanks > 0 { "" } else { "," };
                        format!("{all}{noise}{indent}{entry}{comma}{comment}\n")
                    },
                ) + "    ]\n"
            }
        }
    })
}

proptest! {
    #[test]
    fn who_binds_and_unbinds_gets_the_same_bytes_back(
        bind_key in bind_key(),
        before in noise(),
        after in noise(),
        at_the_end in any::<bool>(),
        windows in any::<bool>(),
        weight in prop::option::of(0..1000_u16),
    ) {
        let keys = "    vip: 10.9.1.1\n    protocol: tcp\n    port: 80 # http\n";
        let more = "  - {name: more, vip: 10.9.1.2, protocol: tcp, port: 80}\n";
        let shop = if at_the_end {
            format!("{more}  - name: shop\n{keys}{before}{bind_key}")
        } else {
            format!("  - name: shop\n{before}{bind_key}{after}{keys}{more}")
        };
        let mut text = file(&shop);
        if at_the_end {
            text.truncate(text.trim_end().len());
        }
        if windows {
            text = text.replace('\n', "\r\n");
        }
        let bound = bind("lb.yaml", &text, "shop", "web-3", weight);
        let bound = bound.map_err(|error| TestCaseError::fail(format!("{error}\n{text}")))?;
        // Nothing went: what is there was put in between.
        let common = |one: &mut dyn Iterator<Item = (u8, u8)>| one.take_while(|(a, b)| a == b).count();
        let head = common(&mut text.bytes().zip(bound.text.bytes()));
        let tail = common(&mut text.bytes().rev().zip(bound.text.bytes().rev()));
        prop_assert!(head + tail >= text.len(), "{text}\n{}", bound.text);
        let unbound = unbind("lb.yaml", &bound.text, "shop", "web-3");
        let unbound = unbound.map_err(|error| TestCaseError::fail(format!("{error}\n{}", bound.text)))?;
        prop_assert_eq!(unbound.text, text);
    }
}
