//! The steering of health checks: three tc programs, and the maps behind [`Checks`](lb_ebpf::steer::Checks). What they do
//! with a packet is in the library.

#![no_std]
#![no_main]

mod checks;

use aya_ebpf::{
    bindings::{TC_ACT_OK, TC_ACT_SHOT, TC_ACT_UNSPEC, bpf_hdr_start_off::BPF_HDR_START_MAC},
    helpers::{
        bpf_skb_change_head, bpf_skb_load_bytes_relative, bpf_skb_pull_data, bpf_skb_store_bytes,
    },
    macros::classifier,
    programs::TcContext,
};
use lb_common::health::DEVICE_MAC;
use lb_ebpf::{
    Packet,
    kernel::{SocketBuffer, redirect},
    steer,
};

use self::checks::Host;

/// Where checks leave their network namespace. What has no mark is not one, and stays.
#[classifier]
fn label(context: TcContext) -> i32 {
    // SAFETY: a field of the context.
    let mark = unsafe { (*context.skb.skb).mark };
    let frame = SocketBuffer(&context);
    match (mark, { frame }.frame()) {
        (0, _) => TC_ACT_SHOT,
        (path, frame) => steer::label(frame, path).map_or(TC_ACT_SHOT, |()| TC_ACT_OK),
    }
}

/// Where checks come out of their network namespace. All of them go on by the path of a real server.
#[classifier]
fn steer(context: TcContext) -> i32 {
    let mut packet = SocketBuffer(&context);
    let server = steer::path(packet.frame()).and_then(checks::path);
    match server {
        Some(server) if server.ifindex != 0 && steer::steer(&mut packet, server).is_some() => {
            redirect(server.ifindex) as i32
        }
        _ => TC_ACT_SHOT,
    }
}

/// Where answers come to the host, and go on to where the checks came from.
#[classifier]
fn collect(context: TcContext) -> i32 {
    /// Ethernet, IPv6, ICMPv6, and an IPv6 packet's headers in it.
    const HEADERS: u32 = 14 + 40 + 8 + 40 + 8;

    let mut packet = SocketBuffer(&context);
    let buffer = context.skb.skb;
    if !begin_with_ethernet(&context) {
        return TC_ACT_UNSPEC;
    }
    // A tag that the kernel took out of the frame: it goes on to another device.
    // SAFETY: a field of the context.
    if unsafe { (*buffer).vlan_present } != 0 {
        return TC_ACT_UNSPEC;
    }
    let headers = context.len().min(HEADERS);
    if packet.frame().len() < headers.into() {
        // SAFETY: no frame is used any more that was got before.
        let _ = unsafe { bpf_skb_pull_data(buffer, headers) };
    }
    if !steer::is_answer(packet.frame(), &Host(buffer)) {
        return TC_ACT_UNSPEC;
    }
    let Some(ethernet) = packet.frame().view::<14>() else {
        return TC_ACT_UNSPEC;
    };
    ethernet.set_mac::<0>(DEVICE_MAC);
    redirect(checks::device()) as i32
}

/// Makes a packet begin with its Ethernet header. XDP in generic mode gives the kernel a copy that doesn't know how long that
/// header is (Linux 6.9 and later: net/core/skbuff.c, `skb_pp_cow_data`): it begins with its IP header then.
#[inline(always)]
fn begin_with_ethernet(context: &TcContext) -> bool {
    const ETHERNET: u32 = 14;

    let buffer = context.skb.skb;
    let mut words = [0u32; 4];
    let header = (&raw mut words).cast();
    // SAFETY: there is room for as many bytes.
    let loaded = unsafe {
        bpf_skb_load_bytes_relative(buffer.cast(), 0, header, ETHERNET, BPF_HDR_START_MAC)
    };
    if loaded != 0 {
        return false;
    }
    let [first, second, third, _] = words;
    let mut packet = SocketBuffer(context);
    let begin = packet.frame().view::<12>();
    let begin = begin.map(|begin| (begin.u32::<0>(), begin.u32::<4>(), begin.u32::<8>()));
    if begin == Some((first, second, third)) {
        return true;
    }
    // SAFETY: no frame is used any more that was got before.
    unsafe {
        bpf_skb_change_head(buffer, ETHERNET, 0) == 0
            && bpf_skb_store_bytes(buffer, 0, header, ETHERNET, 0) == 0
    }
}
