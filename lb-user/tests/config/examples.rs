//! The files that operators start from.

use std::path::Path;

use lb_user::config::Config;

#[test]
fn every_example_is_valid() {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("../deploy/examples");
    let mut examples = 0;
    for entry in directory.read_dir().unwrap() {
        let path = entry.unwrap().path();
        if path
            .extension()
            .is_some_and(|extension| extension == "yaml")
        {
            Config::load(&path).unwrap_or_else(|error| panic!("{error}"));
            examples += 1;
        }
    }
    assert!(
        examples >= 2,
        "only {examples} examples in {}",
        directory.display()
    );
}
