//! The files that operators start from.

use std::{fs, path::Path};

use lb_user::config::Config;

const REPOSITORY: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/..");

#[test]
fn every_example_is_valid() {
    let packaged = Path::new(REPOSITORY).join("deploy/lb.yaml");
    Config::load(&packaged).unwrap_or_else(|error| panic!("{error}"));
    let directory = Path::new(REPOSITORY).join("deploy/examples");
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

/// The whole ones begin with the name of the file that they stand for.
#[test]
fn every_whole_configuration_in_the_readme_is_valid() {
    let readme = fs::read_to_string(Path::new(REPOSITORY).join("README.md")).unwrap();
    let blocks = readme.split("\n```yaml\n").skip(1).map(|rest| {
        let (block, _) = rest.split_once("\n```").expect("the block ends");
        block
    });
    let whole: Vec<_> = blocks
        .filter(|block| block.starts_with("# /etc/lb/lb.yaml\n"))
        .collect();
    assert!(!whole.is_empty());
    for block in whole {
        Config::parse("README.md", block).unwrap_or_else(|error| panic!("{error}\nin\n{block}"));
    }
}
