//! The steering of health checks: three tc programs, and the maps behind [`Checks`](lb_ebpf::steer::Checks). What they do
//! with a packet is in the library.

#![no_std]
#![no_main]

mod checks;

use aya_ebpf::{
    bindings::{TC_ACT_OK, TC_ACT_SHOT, TC_ACT_UNSPEC},
    helpers::{bpf_redirect, bpf_skb_pull_data},
    macros::classifier,
    programs::TcContext,
};
use lb_common::health::DEVICE_MAC;
use lb_ebpf::{Packet, kernel::SocketBuffer, steer};

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
            // SAFETY: a plain helper call.
            unsafe { bpf_redirect(server.ifindex, 0) as i32 }
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
    // SAFETY: a plain helper call.
    unsafe { bpf_redirect(checks::device(), 0) as i32 }
}
