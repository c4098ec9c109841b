extern crate std;
use etherparse::checksum::Sum16BitWords;
use proptest::{collection::vec, prelude::*};

use super::*;

/// As it is stored in a packet.
fn of(bytes: &[u8]) -> [u8; 2] {
    let words = bytes.chunks_exact(4);
    let sum = words.fold(Checksum::default(), |sum, word| {
        sum.add_u32(u32::from_ne_bytes(word.try_into().unwrap()))
    });
    sum.finish().to_ne_bytes()
}

#[test]
fn the_example_of_rfc_1071() {
    let bytes = [0x00, 0x01, 0xf2, 0x03, 0xf4, 0xf5, 0xf6, 0xf7];
    assert_eq!(of(&bytes), (!0xddf2_u16).to_be_bytes());
}

#[test]
fn no_carry_is_lost() {
    // The longest packet there is, all ones: minus zero, however often it is added.
    assert_eq!(of(&[0xff; 65_536]), [0, 0]);
    assert_eq!(of(&[0; 20]), [0xff, 0xff]);
}

proptest! {
    #[test]
    fn sums_are_those_of_another_implementation(words in vec(any::<u32>(), 0..400)) {
        let bytes: std::vec::Vec<u8> = words.iter().flat_map(|word| word.to_ne_bytes()).collect();
        let expected = Sum16BitWords::new().add_slice(&bytes).ones_complement();
        prop_assert_eq!(of(&bytes), expected.to_ne_bytes());
    }

    #[test]
    fn eight_bytes_count_as_twice_four(low in any::<u32>(), high in any::<u32>()) {
        let twice = Checksum::default().add_u32(low).add_u32(high);
        let whole = Checksum::default().add_u64(u64::from(high) << 32 | u64::from(low));
        prop_assert_eq!(whole.finish(), twice.finish());
    }

    #[test]
    fn an_update_gives_what_a_new_sum_would(
        mut words in vec(any::<u16>(), 10), index in 0..10_usize, new in any::<u16>()
    ) {
        let sum = |words: &[u16]| of(bytemuck::cast_slice(words));
        // Of data that is all zeros there are two sums, and no header is.
        words[(index + 1) % 10] |= 1;
        let stored = u16::from_ne_bytes(sum(&words));
        let updated = update(stored, words[index], new);
        words[index] = new;
        prop_assert_eq!(updated.to_ne_bytes(), sum(&words));
    }
}
