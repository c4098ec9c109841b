extern crate std;
use std::{vec, vec::Vec};

use bytemuck::Zeroable;
use lb_common::{PredictorTable, TableBlock};
use rstest::rstest;

use super::*;
use crate::tables::arrays::Arrays;

/// Blocks whose slots are numbered from 0 on.
fn blocks(count: u16) -> Arrays {
    let slots = TableBlock::SLOTS as u16;
    let block = |n: u16| TableBlock {
        slots: core::array::from_fn(|slot| n * slots + slot as u16),
    };
    Arrays {
        predictor_tables: (0..count).map(block).collect(),
        ..Arrays::default()
    }
}

fn chosen(tables: &Arrays, first_block: u32, slots: u32, hash: u64) -> Option<u32> {
    slot_of(tables, PredictorTable { first_block, slots }, hash)?.binding()
}

#[rstest]
#[case::first(0, 128, 0, Some(0))]
#[case::last(0, 128, u64::MAX, Some(127))]
#[case::lower_half(0, 128, u64::MAX >> 1, Some(63))]
#[case::upper_half(0, 128, 1 << 63, Some(64))]
#[case::first_of_another_table(2, 64, 0, Some(64))]
#[case::last_of_another_table(2, 64, u64::MAX, Some(127))]
#[case::less_than_a_block(1, 3, u64::MAX, Some(34))]
#[case::none_is_up(0, 0, 0, None)]
#[case::past_the_end_of_the_map(4, 32, 0, None)]
fn the_hash_chooses_a_slot(
    #[case] first_block: u32,
    #[case] slots: u32,
    #[case] hash: u64,
    #[case] expected: Option<u32>,
) {
    assert_eq!(chosen(&blocks(4), first_block, slots, hash), expected);
}

#[test]
fn every_slot_gets_an_equal_part_of_the_hashes() {
    const SLOTS: u32 = 96;
    let tables = blocks(3);
    let mut counts: Vec<u32> = vec![0; SLOTS as usize];
    for n in 0..SLOTS * 100 {
        let hash = u64::from(n) * (u64::MAX / u64::from(SLOTS * 100));
        counts[chosen(&tables, 0, SLOTS, hash).unwrap() as usize] += 1;
    }
    assert!(
        counts.iter().all(|count| (99..=101).contains(count)),
        "{counts:?}"
    );
}

#[test]
fn less_than_no_sessions_are_none() {
    let none = [0, 1_u64.wrapping_neg(), 1 << 63].map(counted);
    assert_eq!(none, [0; 3]);
    assert_eq!([1, 7, u64::MAX >> 1].map(counted), [1, 7, u64::MAX >> 1]);
}

#[rstest]
#[case::unmarked(7, Some(7))]
#[case::marked(7 | TableSlot::MARK, Some(7))]
#[case::none(TableSlot::NONE, None)]
#[case::none_with_a_mark(TableSlot::NONE | TableSlot::MARK, None)]
fn a_slot_leads_to_its_binding_whatever_its_mark(#[case] slot: u16, #[case] expected: Option<u32>) {
    let slots = [slot; TableBlock::SLOTS];
    let tables = Arrays {
        predictor_tables: [TableBlock { slots }].into(),
        ..Arrays::default()
    };
    assert_eq!(chosen(&tables, 0, 32, 0), expected);
}

#[rstest]
#[case::settling(1, protocol::TCP, 32, 2)]
#[case::settled(1, protocol::TCP, 0, 1)]
#[case::a_datagram(1, protocol::UDP, 32, 1)]
#[case::of_another_mode(0, protocol::TCP, 32, 1)]
fn a_connection_that_begins_goes_by_the_next_table(
    #[case] on_change: u8,
    #[case] protocol: u8,
    #[case] slots: u32,
    #[case] first_block: u32,
) {
    let table = |first_block, slots| PredictorTable { first_block, slots };
    let virtual_server = VirtualServer {
        table: table(1, 32),
        order: table(2, slots),
        on_change,
        protocol,
        ..VirtualServer::zeroed()
    };
    assert_eq!(table_of_new(&virtual_server), table(first_block, 32));
}
