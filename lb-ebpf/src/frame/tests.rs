extern crate std;
use std::vec::Vec;

use super::*;

/// Ten bytes in a row, of a frame of ten bytes.
fn with_frame<T>(look: impl FnOnce(Frame<'_>) -> T) -> (T, Vec<u8>) {
    let mut bytes: Vec<u8> = (0..10).collect();
    let range = bytes.as_mut_ptr_range();
    // SAFETY: the range is one vector's, which nothing else uses meanwhile.
    let result = look(unsafe { Frame::new(range.start, range.end) });
    (result, bytes)
}

#[test]
fn a_view_ends_with_the_frame() {
    with_frame(|frame| {
        assert!(frame.view::<10>().is_some());
        assert!(frame.view::<11>().is_none());
        let rest = frame.skip(4).unwrap();
        assert_eq!(rest.len(), 6);
        assert!(rest.view::<6>().is_some());
        assert!(rest.view::<7>().is_none());
        let end = frame.skip(10).unwrap();
        assert!(end.is_empty());
        assert!(end.view::<1>().is_none());
        assert!(frame.skip(11).is_none());
        assert!(end.skip(1).is_none());
    });
}

#[test]
fn values_are_read_where_they_lie_aligned_or_not() {
    with_frame(|frame| {
        let view = frame.skip(1).unwrap().view::<9>().unwrap();
        assert_eq!(view.u8::<0>(), 1);
        assert_eq!(u16::from_be(view.u16::<0>()), 0x0102);
        assert_eq!(u32::from_be(view.u32::<2>()), 0x0304_0506);
        assert_eq!(u64::from_be(view.u64::<1>()), 0x0203_0405_0607_0809);
        assert_eq!(view.mac::<3>(), [4, 5, 6, 7, 8, 9]);
    });
}

#[test]
fn nothing_else_is_written() {
    let write = |write: fn(View<'_, 9>)| {
        with_frame(|frame| write(frame.skip(1).unwrap().view().unwrap())).1
    };
    let mac = write(|view| view.set_mac::<3>([0xff; 6]));
    assert_eq!(mac, [0, 1, 2, 3, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff]);
    let word = write(|view| view.set_u16::<0>(0xaabb_u16.to_be()));
    assert_eq!(word, [0, 0xaa, 0xbb, 3, 4, 5, 6, 7, 8, 9]);
}
