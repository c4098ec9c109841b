//! What `lb decap` says of wrong usage.

use assert_cmd::Command;
use rstest::rstest;

#[rstest]
#[case::no_interface("decap", "--interface")]
#[case::no_name("decap --interface a/b", "interface name")]
#[case::no_prefix("decap --interface eth0 --from 10.9.0.0/33", "10.9.0.0/24")]
#[case::no_mode("decap --interface eth0 --xdp offload", "generic")]
#[case::json_of_nothing("decap --interface eth0 --json", "--stats")]
#[case::both_at_once("decap --stats --stop", "cannot be used with")]
#[case::sources_to_stop("decap --stop --from 10.9.0.0/24", "cannot be used with")]
fn wrong_usage_is_refused(#[case] arguments: &str, #[case] word: &str) {
    let output = Command::new(env!("CARGO_BIN_EXE_lb"))
        .args(arguments.split(' '))
        .output()
        .unwrap();
    let message = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(2), "{message}");
    assert!(message.contains(word), "{message}");
}

#[test]
fn help_has_an_example() {
    let output = Command::new(env!("CARGO_BIN_EXE_lb"))
        .args(["decap", "--help"])
        .output()
        .unwrap();
    let help = String::from_utf8_lossy(&output.stdout);
    assert!(help.contains("  lb decap --interface eth0\n"), "{help}");
}
