//! On an ordinary file system: what needs a BPF one is tested where programs are.

use super::*;

#[test]
fn a_place_that_holds_no_pins_is_refused() {
    let directory = tempfile::tempdir().unwrap();
    let pins = Pins::new(&directory.path().join("lb"));
    let expected = format!(
        "pin_path {} is not on a BPF file system: mount one (mount -t bpf bpf /sys/fs/bpf)",
        pins.root().display()
    );
    assert_eq!(pins.create().unwrap_err().to_string(), expected);
    assert!(!pins.exist());
}

#[test]
fn pins_have_one_user_at_a_time() {
    let directory = tempfile::tempdir().unwrap();
    let pins = Pins::new(directory.path());
    let lock = pins.lock().unwrap();
    let error = pins.lock().unwrap_err().to_string();
    assert!(
        error.starts_with("another lb is running on pin_path"),
        "{error}"
    );
    drop(lock);
    pins.lock().unwrap();
}

#[test]
fn links_are_listed_by_their_interfaces_names() {
    let directory = tempfile::tempdir().unwrap();
    let pins = Pins::new(directory.path());
    assert_eq!(pins.linked_interfaces().unwrap(), [""; 0]);
    fs::create_dir(pins.links()).unwrap();
    for interface in ["eth0", "eth0.100"] {
        let pin = pins.link(interface);
        assert!(!pin.file_name().unwrap().to_str().unwrap().contains('.'));
        File::create(pin).unwrap();
    }
    let mut linked = pins.linked_interfaces().unwrap();
    linked.sort_unstable();
    assert_eq!(linked, ["eth0", "eth0.100"]);
}
