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

/// What is in the directories of maps: one pin each, which says what it was made as.
fn maps(pins: &Pins) -> [Option<String>; 3] {
    [MAPS, NEXT_MAPS, FORMER_MAPS].map(|directory| {
        let pin = pins.root().join(directory).join("control");
        fs::read_to_string(pin).ok()
    })
}

fn pins_with(directories: &[&str]) -> (tempfile::TempDir, Pins) {
    let directory = tempfile::tempdir().unwrap();
    for name in directories {
        let maps = directory.path().join(name);
        fs::create_dir(&maps).unwrap();
        fs::write(maps.join("control"), name).unwrap();
    }
    let pins = Pins::new(directory.path());
    (directory, pins)
}

#[test]
fn new_maps_take_the_place_of_those_in_use() {
    let (_directory, pins) = pins_with(&[MAPS, NEXT_MAPS]);
    assert!(pins.former().is_none());
    pins.replace_maps().unwrap();
    assert_eq!(
        maps(&pins),
        [Some(NEXT_MAPS.into()), None, Some(MAPS.into())]
    );
    let former = pins.former().unwrap().map("control");
    assert_eq!(fs::read_to_string(former).unwrap(), MAPS);
    pins.forget_former().unwrap();
    assert_eq!(maps(&pins), [Some(NEXT_MAPS.into()), None, None]);
}

#[test]
fn whatever_a_process_left_that_was_killed_the_next_one_knows_which_maps_to_use() {
    for (left, in_use, former) in [
        (&[][..], None, None),
        (&[MAPS], Some(MAPS), None),
        // They were being filled.
        (&[MAPS, NEXT_MAPS], Some(MAPS), None),
        // One of two renames was done.
        (
            &[FORMER_MAPS, NEXT_MAPS],
            Some(NEXT_MAPS),
            Some(FORMER_MAPS),
        ),
        // Both were.
        (&[FORMER_MAPS, MAPS], Some(MAPS), Some(FORMER_MAPS)),
    ] {
        let (_directory, pins) = pins_with(left);
        pins.recover().unwrap();
        let expected = [in_use, None, former].map(|name| name.map(str::to_owned));
        assert_eq!(maps(&pins), expected, "{left:?}");
    }
}

#[test]
fn the_process_that_holds_a_lock_is_found() {
    let locks = "1: POSIX  ADVISORY  READ 5433 08:01:140 0 EOF
2: FLOCK  ADVISORY  WRITE 2001 00:1c:14 0 EOF
3: FLOCK  ADVISORY  WRITE 2002 00:1c:140 0 EOF
";
    assert_eq!(locked_by(locks, "00:1c:140"), Some(2002));
    assert_eq!(locked_by(locks, "08:01:140"), None);
}
