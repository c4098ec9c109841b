//! Layout 5, as the layout for the tests of upgrades has to know it.

use bytemuck::{Pod, Zeroable};
use lb_common::{Binding, Name, RealServer, VirtualServer, session::State};

use super::{Entry, Layout};

/// See [`Layout`].
pub const LAYOUT_5: Layout = Layout {
    number: 5,
    virtual_servers: Entry::of::<Named<VirtualServer>>(),
    real_servers: Entry::of::<Named<RealServer>>(),
    bindings: Entry::of::<Binding>(),
    counts_virtual_servers: false,
    state,
};

/// Bytes that a packet reads of a virtual server or a real server, then as now.
const LINE: usize = 64;

/// An entry whose name had 64 bytes.
#[repr(C)]
#[derive(Clone, Copy)]
struct Named<Today> {
    line: [u8; LINE],
    name: [u8; 64],
    today: std::marker::PhantomData<Today>,
}

// SAFETY: bytes, and a type without any.
unsafe impl<Today> Zeroable for Named<Today> {}
// SAFETY: as above; there is no padding between bytes.
unsafe impl<Today: Copy + 'static> Pod for Named<Today> {}

impl<Today: Pod> Named<Today> {
    fn widen(self) -> Today {
        let mut today = Today::zeroed();
        let bytes = bytemuck::bytes_of_mut(&mut today);
        bytes[..LINE].copy_from_slice(&self.line);
        bytes[LINE..][..self.name.len()].copy_from_slice(&self.name);
        today
    }
}

const _: () = assert!(size_of::<Name>() > 64);

impl From<Named<VirtualServer>> for VirtualServer {
    fn from(then: Named<VirtualServer>) -> Self {
        then.widen()
    }
}

impl From<Named<RealServer>> for RealServer {
    fn from(then: Named<RealServer>) -> Self {
        then.widen()
    }
}

/// The binding had bits 36 to 47, the virtual server those above.
const fn state(word: u64) -> State {
    let (virtual_server, binding) = (word >> 48, word >> 36 & 0xfff);
    State(word).renumbered(virtual_server as u32, binding as u32)
}
