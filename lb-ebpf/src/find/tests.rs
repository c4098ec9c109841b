extern crate std;
use core::net::Ipv4Addr;
use std::{vec, vec::Vec};

use bytemuck::Zeroable;
use lb_common::{Address, Control, PortRange};
use proptest::prelude::*;
use rstest::rstest;

use super::*;
use crate::tables::arrays::Arrays;

const VIP: Ipv4Addr = Ipv4Addr::new(10, 9, 1, 1);
const DIRECTORY: Directory = Directory {
    first_bucket: 8,
    bucket_mask: 7,
};

fn flow(vip: Ipv4Addr, protocol: u8, port: u16) -> Flow {
    Flow {
        source: Address::from(Ipv4Addr::new(10, 9, 0, 100)).words(),
        destination: Address::from(vip).words(),
        source_port: 40000,
        destination_port: port,
        protocol,
    }
}

fn range(first: u16, last: u16, virtual_server: u32) -> PortRange {
    PortRange {
        first,
        last,
        virtual_server,
    }
}

/// Puts a key into its first bucket, or into its second one.
fn insert(tables: &mut Arrays, protocol: u8, port: u16, id: u32, into: usize) {
    let buckets = DIRECTORY.buckets(Address::from(VIP).words(), protocol, port);
    let [first, _] = buckets.map(|bucket| bucket as usize);
    tables.vip_buckets[first].spilled |= into as u32;
    let slots = &mut tables.vip_buckets[buckets[into] as usize].slots;
    let free = slots.iter_mut().find(|slot| slot.id == 0);
    *free.expect("few keys, many buckets") = VipSlot {
        address: VIP.into(),
        port,
        protocol,
        reserved: 0,
        id,
    };
}

/// 1: TCP port 8050; 2: TCP ports 8000-8100; 3: any TCP port; 4: UDP ports 53-54; 5: UDP port 53.
fn tables() -> Arrays {
    let mut tables = Arrays {
        control: Control {
            directory: DIRECTORY,
            ..Control::default()
        },
        vip_buckets: vec![VipBucket::default(); 16],
        vips: vec![
            Vip::default(),
            Vip {
                address: VIP.into(),
                tcp: VipPorts {
                    first_range: 1,
                    ranges: 1,
                    any: 3,
                },
                udp: VipPorts {
                    first_range: 2,
                    ranges: 1,
                    any: 0,
                },
                ..Vip::default()
            },
        ],
        port_ranges: vec![range(0, 65_535, 9), range(8000, 8100, 2), range(53, 54, 4)],
        virtual_servers: (0..6)
            .map(|id| VirtualServer {
                id,
                ..VirtualServer::zeroed()
            })
            .collect(),
        ..Arrays::default()
    };
    insert(&mut tables, 0, 0, 1, 0);
    insert(&mut tables, protocol::TCP, 8050, 1, 0);
    insert(&mut tables, protocol::UDP, 53, 5, 1);
    tables
}

#[rstest]
#[case::exact(protocol::TCP, 8050, Some(1))]
#[case::first_of_range(protocol::TCP, 8000, Some(2))]
#[case::below_the_exact_port(protocol::TCP, 8049, Some(2))]
#[case::last_of_range(protocol::TCP, 8100, Some(2))]
#[case::below_the_range(protocol::TCP, 7999, Some(3))]
#[case::above_the_range(protocol::TCP, 8101, Some(3))]
#[case::any_from_the_first(protocol::TCP, 0, Some(3))]
#[case::any_to_the_last(protocol::TCP, 65_535, Some(3))]
#[case::in_its_second_bucket(protocol::UDP, 53, Some(5))]
#[case::range_of_the_other_protocol(protocol::UDP, 54, Some(4))]
#[case::no_any_of_the_other_protocol(protocol::UDP, 8050, None)]
fn exact_ports_come_before_ranges_and_ranges_before_any(
    #[case] protocol: u8,
    #[case] port: u16,
    #[case] expected: Option<u32>,
) {
    let tables = tables();
    let found = virtual_server(&tables, &flow(VIP, protocol, port));
    assert_eq!(found.map(|virtual_server| virtual_server.id), expected);
}

#[test]
fn only_a_vip_is_found() {
    let tables = tables();
    for octet in [0, 2, 3, 255] {
        let other = Ipv4Addr::new(10, 9, 1, octet);
        assert!(vip(&tables, Address::from(other).words()).is_none());
        assert!(virtual_server(&tables, &flow(other, protocol::TCP, 8050)).is_none());
    }
    assert!(vip(&tables, Address::from(VIP).words()).is_some());
}

/// Free places are all zeros.
#[test]
fn no_address_is_no_vip() {
    let tables = tables();
    let nowhere = Flow {
        destination: [0, 0],
        ..flow(VIP, protocol::TCP, 0)
    };
    assert!(vip(&tables, nowhere.destination).is_none());
    assert!(virtual_server(&tables, &nowhere).is_none());
}

#[test]
fn without_a_directory_nothing_is_found() {
    let tables = Arrays {
        vip_buckets: vec![VipBucket::default(); 16],
        ..Arrays::default()
    };
    assert!(virtual_server(&tables, &flow(VIP, protocol::TCP, 80)).is_none());
}

fn found(ranges: &[PortRange], port: u16) -> Option<u32> {
    let tables = Arrays {
        // The neighbours belong to another VIP.
        port_ranges: [&[range(0, 65_535, 9)], ranges, &[range(0, 65_535, 9)]].concat(),
        ..Arrays::default()
    };
    let ports = VipPorts {
        first_range: 1,
        ranges: ranges.len() as u32,
        any: 0,
    };
    by_range(&tables, &ports, port).copied()
}

#[test]
#[cfg_attr(miri, ignore = "searches 65,536 times")]
fn a_range_for_each_port_is_searched_to_the_end() {
    let ranges: Vec<_> = (1..=65_535)
        .map(|port| range(port, port, port.into()))
        .collect();
    let tables = Arrays {
        port_ranges: ranges,
        ..Arrays::default()
    };
    let ports = VipPorts {
        first_range: 0,
        ranges: 65_535,
        any: 0,
    };
    for port in 1..=65_535 {
        assert_eq!(by_range(&tables, &ports, port), Some(&port.into()));
    }
    assert_eq!(by_range(&tables, &ports, 0), None);
}

proptest! {
    #[test]
    fn a_range_is_found_by_each_of_its_ports(
        bounds in prop::collection::btree_set(any::<u16>(), 0..40), port in any::<u16>()
    ) {
        let bounds: Vec<_> = bounds.into_iter().collect();
        let pairs = bounds.chunks_exact(2).zip(1..);
        let ranges: Vec<_> = pairs.map(|(pair, id)| range(pair[0], pair[1], id)).collect();
        for port in bounds.iter().copied().chain([port]) {
            let expected = ranges.iter().find(|range| (range.first..=range.last).contains(&port));
            prop_assert_eq!(found(&ranges, port), expected.map(|range| range.virtual_server));
        }
    }
}
