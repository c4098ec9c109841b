extern crate std;
use core::mem::{offset_of, size_of_val};
use std::{
    format,
    string::{String, ToString},
};

use bytemuck::Zeroable;

use super::LAYOUT;
use crate::{
    Address, Binding, BucketV4, BucketV6, Budget, Clock, Control, Counters, Datagram, Directory,
    DropReason, FirstFragment, Interface, PortRange, PredictorTable, RealServer, SessionEvent,
    SessionKey, SessionTables, TableBlock, TableSlot, Vip, VipBucket, VipSlot, VirtualServer,
    session::{self, Phase, State},
    virtual_server,
};

/// Describes a type, with every field: one that isn't named here does not compile.
macro_rules! fields {
    ($type:path { $($field:ident),* }) => {{
        let entry: $type = Zeroable::zeroed();
        let $type { $($field),* } = &entry;
        let mut text = format!("{}: {} bytes\n", stringify!($type), size_of_val(&entry));
        $(
            let (offset, bytes) = (offset_of!($type, $field), size_of_val($field));
            text += &format!("    {offset:3} {bytes:3} {}\n", stringify!($field));
        )*
        text
    }};
}

/// The layout in words: where each field lies, and samples of what is packed into words.
fn layout() -> String {
    let address: Address = core::net::IpAddr::from([10, 9, 0, 100]).into();
    let v4 = SessionKey::v4(address.words(), 0x1234, 0x5678);
    let v6 = SessionKey::v6([1, 2], 0x1234, 0x5678);
    let directory = Directory {
        first_bucket: 1024,
        bucket_mask: 1023,
    };
    let samples = [
        (
            "State",
            format!("{:x}", State::new(0x1234, 0x567, Phase::Closing, 0x12345).0),
        ),
        (
            "State::moved",
            format!("{:x}", State::default().moved(0x567).0),
        ),
        ("SessionKey::v4", format!("{:x?}", v4.0)),
        ("SessionKey::v6", format!("{:x?}", v6.0)),
        (
            "buckets",
            format!(
                "{:?} {:?}",
                session::buckets(&v4, 7, &[9, 11], 1000),
                session::buckets(&v6, 7, &[9, 11], 1000)
            ),
        ),
        (
            "Directory::buckets",
            format!("{:?}", directory.buckets([1, 2], 6, 80)),
        ),
        (
            "Binding::counters flags",
            format!("{:x}", Binding::DOWN | Binding::DRAINING),
        ),
        (
            "TableSlot",
            format!("{:x} {:x}", TableSlot::MARK, TableSlot::NONE),
        ),
        ("TICK", session::TICK.to_string()),
        ("Interface::SLOTS", Interface::SLOTS.to_string()),
    ];
    [
        fields!(Control {
            directory,
            sessions,
            new_sessions,
            layout,
            secrets,
            clock
        }),
        fields!(Clock { jiffy, offset }),
        fields!(Directory {
            first_bucket,
            bucket_mask
        }),
        fields!(SessionTables {
            sessions_v4,
            sessions_v6,
            sticky_v4,
            sticky_v6
        }),
        fields!(VipBucket {
            slots,
            spilled,
            reserved
        }),
        fields!(VipSlot {
            address,
            port,
            protocol,
            reserved,
            id
        }),
        fields!(Vip {
            address,
            tcp,
            udp,
            up,
            reserved
        }),
        fields!(crate::directory::VipPorts {
            first_range,
            ranges,
            any
        }),
        fields!(PortRange {
            first,
            last,
            virtual_server
        }),
        fields!(VirtualServer {
            table,
            order,
            first_binding,
            idle_timeout,
            sticky_timeout,
            forward,
            predictor,
            protocol,
            on_unknown,
            on_down,
            sticky_prefix,
            on_change,
            reserved,
            binding_capacity,
            vip,
            id,
            reserved_line,
            name
        }),
        fields!(PredictorTable { first_block, slots }),
        fields!(TableBlock { slots }),
        fields!(virtual_server::Candidate {
            counters,
            binding,
            weight
        }),
        fields!(Binding {
            real_server,
            counters
        }),
        fields!(RealServer {
            destination_mac,
            source_mac,
            ifindex,
            address,
            outer_source,
            outer_source_spread,
            mtu,
            outer_header,
            reserved,
            name
        }),
        fields!(Interface {
            ifindex,
            mac,
            reserved
        }),
        fields!(BucketV4 { words }),
        fields!(BucketV6 { words }),
        fields!(Datagram {
            source,
            destination,
            identification,
            protocol
        }),
        fields!(FirstFragment {
            seen,
            virtual_server,
            binding
        }),
        fields!(Budget { window, taken }),
        fields!(Counters {
            packets,
            bytes,
            sessions,
            moved
        }),
    ]
    .into_iter()
    .chain(samples.map(|(what, sample)| format!("{what} = {sample}\n")))
    .collect()
}

/// Maps that an earlier version has pinned must not be taken for something else.
#[test]
fn a_layout_that_changes_has_a_new_number() {
    let known = [
        (1, include_str!("1.txt")),
        (2, include_str!("2.txt")),
        (3, include_str!("3.txt")),
        (4, include_str!("4.txt")),
        (5, include_str!("5.txt")),
    ];
    let (_, described) = known
        .into_iter()
        .find(|&(number, _)| number == LAYOUT)
        .unwrap();
    let now = layout();
    let differs = now
        .lines()
        .zip(described.lines())
        .find(|(now, then)| now != then);
    assert!(
        now == described,
        "not as layout {LAYOUT} is described: {differs:?}. Give it a new number and the description\n{now}"
    );
}

/// Every version looks there for the number, before it knows anything else of the maps.
#[test]
fn the_number_stands_in_the_same_place_in_every_layout() {
    assert_eq!(offset_of!(Control, layout), 28);
}

/// A map has one entry for each: a new one at the end gives the map another size, but the layout the same meaning.
#[test]
fn what_is_counted_keeps_its_place() {
    let drops = [
        "no_real_server",
        "martian_source",
        "unknown_fragment",
        "too_big",
        "too_big_unanswered",
        "no_headroom",
        "unknown_session",
        "unknown_session_reset",
        "server_down_reset",
    ];
    assert!(DropReason::ALL.map(DropReason::name).starts_with(&drops));
    let events = ["evicted", "unrecorded"];
    assert!(
        SessionEvent::ALL
            .map(SessionEvent::name)
            .starts_with(&events)
    );
}
