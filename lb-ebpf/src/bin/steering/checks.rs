//! What is known of the checks and of the host.

use aya_ebpf::{
    Global,
    bindings::{__sk_buff, BPF_F_MMAPABLE, bpf_sock, bpf_sock_tuple},
    btf_maps::{Array, HashMap},
    helpers::{bpf_sk_lookup_udp, bpf_sk_release, bpf_skc_lookup_tcp},
    macros::btf_map,
};
use lb_common::{Address, RealServer, address::AddressWords, protocol};
use lb_ebpf::{parse::Flow, steer::Checks};

/// Its size is that of the configuration's limits.
#[btf_map(name = "paths")]
static PATHS: Array<RealServer, 1, { BPF_F_MMAPABLE as usize }> = Array::new();
#[btf_map(name = "checked_vips")]
static CHECKED_VIPS: HashMap<Address, u8, 65_536> = HashMap::new();

#[unsafe(no_mangle)]
static DEVICE: Global<u32> = Global::new(0);
#[unsafe(no_mangle)]
static ECHO_IDENTIFIER: Global<u16> = Global::new(0);

/// A path by its index.
#[inline(always)]
pub fn path(index: u32) -> Option<&'static RealServer> {
    PATHS.get(index)
}

/// Index of the device that leads to the network namespace of the checks.
#[inline(always)]
pub fn device() -> u32 {
    DEVICE.load()
}

/// The host that a packet came to.
pub struct Host(pub *mut __sk_buff);

impl Checks for Host {
    #[inline(always)]
    fn are_sent_to(&self, vip: AddressWords) -> bool {
        // SAFETY: the value is not read.
        unsafe { CHECKED_VIPS.get(Address::from_words(vip)) }.is_some()
    }

    #[inline(always)]
    fn echo_identifier(&self) -> u16 {
        ECHO_IDENTIFIER.load()
    }

    #[inline(always)]
    fn host_is_connected(&self, flow: &Flow) -> bool {
        const THIS_NAMESPACE: u64 = -1i32 as u64;

        let (mut tuple, length) = tuple(flow);
        let tuple = &raw mut tuple;
        // SAFETY: the tuple has that length, and a socket that is found is given back.
        unsafe {
            let socket = if flow.protocol == protocol::TCP {
                bpf_skc_lookup_tcp(self.0.cast(), tuple, length, THIS_NAMESPACE, 0).cast()
            } else {
                bpf_sk_lookup_udp(self.0.cast(), tuple, length, THIS_NAMESPACE, 0)
            };
            let Some(found) = socket.as_ref() else {
                return false;
            };
            let is_connected = is_connected(found, flow.protocol);
            bpf_sk_release(socket.cast());
            is_connected
        }
    }
}

/// And doesn't listen, nor take from anybody.
#[inline(always)]
fn is_connected(socket: &bpf_sock, protocol: u8) -> bool {
    /// include/net/tcp_states.h
    const LISTEN: u32 = 10;

    if protocol == protocol::TCP {
        socket.state != LISTEN
    } else {
        socket.dst_port != 0
    }
}

#[inline(always)]
fn tuple(flow: &Flow) -> (bpf_sock_tuple, u32) {
    // SAFETY: numbers.
    let mut tuple: bpf_sock_tuple = unsafe { core::mem::zeroed() };
    let (source, destination) = (flow.source_port.to_be(), flow.destination_port.to_be());
    // SAFETY: fields of a union of numbers.
    let length = unsafe {
        if flow.is_ipv4() {
            let v4 = &mut tuple.__bindgen_anon_1.ipv4;
            v4.saddr = (flow.source[1] >> 32) as u32;
            v4.daddr = (flow.destination[1] >> 32) as u32;
            (v4.sport, v4.dport) = (source, destination);
            size_of_val(v4)
        } else {
            let v6 = &mut tuple.__bindgen_anon_1.ipv6;
            v6.saddr = halves(flow.source);
            v6.daddr = halves(flow.destination);
            (v6.sport, v6.dport) = (source, destination);
            size_of_val(v6)
        }
    };
    (tuple, length as u32)
}

#[inline(always)]
const fn halves([first, second]: AddressWords) -> [u32; 4] {
    [
        first as u32,
        (first >> 32) as u32,
        second as u32,
        (second >> 32) as u32,
    ]
}
