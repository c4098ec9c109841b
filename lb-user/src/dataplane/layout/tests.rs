use std::collections::BTreeSet;

use super::*;
use crate::config::Limits;

const LIMITS: Limits = Limits {
    virtual_servers: 65_535,
    real_servers: 65_535,
    ..Limits::DEFAULT
};

#[test]
fn every_map_has_a_name_of_its_own() {
    let maps = maps(&Sizes::new(&LIMITS));
    let names: BTreeSet<_> = maps.iter().map(|map| map.name).collect();
    assert_eq!(names.len(), maps.len());
}

/// Mapped arrays are cut into words, and the kernel maps no more than 4 GiB of one.
#[test]
fn arrays_can_be_mapped_at_the_largest_limits() {
    for MapLayout { name, shape } in maps(&Sizes::new(&LIMITS)) {
        if shape.kind == MapType::Array {
            assert_eq!(shape.value_size % 8, 0, "{name}");
            let bytes = u64::from(shape.value_size) * u64::from(shape.max_entries);
            assert!(bytes < 1 << 32, "{name}: {bytes} bytes");
        }
    }
}
