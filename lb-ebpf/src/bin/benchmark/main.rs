//! What measures the balancer: programs that make packets for it and count what comes out, and the least that others could
//! do.

#![no_std]
#![no_main]

mod floor;

use aya_ebpf::{
    bindings::{BPF_F_MMAPABLE, xdp_action},
    btf_maps::{Array, PerCpuArray, ProgramArray},
    helpers::bpf_ktime_get_ns,
    macros::{btf_map, xdp},
    programs::XdpContext,
};
use lb_common::benchmark::{OWN_MAC, Stream};
use lb_ebpf::{
    Packet,
    kernel::{XdpPacket, map_entry::own, redirect},
    parse::ETHERNET,
};

#[btf_map(name = "stream")]
static STREAM: Array<Stream, 1, { BPF_F_MMAPABLE as usize }> = Array::new();
/// The program that is measured.
#[btf_map(name = "measured")]
static MEASURED: ProgramArray<1> = ProgramArray::new();
/// Frames that [`receive`] has seen.
#[btf_map(name = "received")]
static RECEIVED: PerCpuArray<u64, 1> = PerCpuArray::new();

/// Makes the next packet of the stream out of what was left of the one before (`BPF_PROG_TEST_RUN` gives each repeat the
/// packet as the last one left it: net/bpf/test_run.c), and lets the measured program have it.
#[xdp(frags)]
#[inline(always)]
fn packets(context: XdpContext) -> u32 {
    if next_packet(&mut XdpPacket(&context)).is_some() {
        // SAFETY: nothing is left to be dropped.
        unsafe { MEASURED.tail_call(&context, 0) };
    }
    xdp_action::XDP_ABORTED
}

/// Sends the next packet of the stream out by an interface.
#[xdp(frags)]
#[inline(always)]
fn send(context: XdpContext) -> u32 {
    match next_packet(&mut XdpPacket(&context)) {
        Some(stream) => redirect(stream.ifindex),
        None => xdp_action::XDP_ABORTED,
    }
}

#[inline(always)]
fn next_packet(packet: &mut impl Packet) -> Option<&'static Stream> {
    // SAFETY: programs of one test run follow one another.
    let stream = unsafe { &mut *STREAM.get_ptr_mut(0)? };
    let grown = packet.len() as i32 - stream.length as i32;
    let is_changed = packet.frame().view::<ETHERNET>()?.u64::<0>() != stream.head[0];
    stream.changed += u64::from(is_changed);
    if grown != 0 && !packet.adjust_head(grown) {
        return None;
    }
    let number = stream.next;
    stream.next += 1;
    if number == stream.timed[0] {
        stream.times[0] = now();
    } else if number == stream.timed[1] {
        stream.times[1] = now();
    }
    let flow = number as u32 & stream.flows;
    let client = Stream::FIRST_CLIENT + (flow >> (stream.client_shift & 31));
    let port = Stream::FIRST_PORT + (flow & stream.flows_of_client) as u16;
    let vip = stream.first_vip + (flow & stream.vips);
    let places = [stream.client, stream.port, stream.vip].map(|place| place as usize);
    if places.iter().any(|&place| place > Stream::LAST) {
        return None;
    }
    let head = stream.head.as_mut_ptr().cast::<u8>();
    // SAFETY: the places are inside; the target has no alignment trap.
    unsafe {
        head.add(places[0]).cast::<u32>().write(client.to_be());
        head.add(places[1]).cast::<u16>().write(port.to_be());
        head.add(places[2]).cast::<u32>().write(vip.to_be());
    }
    let view = packet.frame().view::<{ Stream::HEAD }>()?;
    view.set_all(&stream.head);
    Some(stream)
}

fn now() -> u64 {
    // SAFETY: a plain helper call.
    unsafe { bpf_ktime_get_ns() }
}

/// Does nothing: what the stream itself costs.
#[xdp(frags)]
#[inline(always)]
fn nothing(_context: XdpContext) -> u32 {
    xdp_action::XDP_PASS
}

/// Sends packets back.
#[xdp(frags)]
#[inline(always)]
fn transmit(context: XdpContext) -> u32 {
    floor::transmit(&mut XdpPacket(&context)).unwrap_or(xdp_action::XDP_PASS)
}

/// Sends packets on inside of an outer header.
#[xdp(frags)]
#[inline(always)]
fn encapsulate(context: XdpContext) -> u32 {
    floor::encapsulate(&mut XdpPacket(&context)).unwrap_or(xdp_action::XDP_PASS)
}

/// Counts what a balancer has forwarded, and drops all.
#[xdp(frags)]
#[inline(always)]
fn receive(context: XdpContext) -> u32 {
    let mut packet = XdpPacket(&context);
    let is_forwarded = packet
        .frame()
        .view::<ETHERNET>()
        .is_some_and(|ethernet| ethernet.mac::<6>() == OWN_MAC);
    if is_forwarded && let Some(received) = own(&RECEIVED, 0) {
        *received += 1;
    }
    xdp_action::XDP_DROP
}
