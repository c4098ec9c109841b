//! An XDP program that passes everything.

use std::{
    io,
    os::fd::{AsRawFd, FromRawFd, OwnedFd},
};

use anyhow::{Context, Result};
use rtnetlink::{
    LinkUnspec,
    packet_route::link::{LinkAttribute, LinkXdp},
};

use crate::service::single_threaded;

/// Attaches the program to a device of the calling thread's namespace, for as long as the device is.
pub(crate) fn attach(device: &str) -> Result<()> {
    let program = load().context("cannot load an XDP program")?;
    let xdp = LinkAttribute::Xdp(vec![LinkXdp::Fd(program.as_raw_fd())]);
    let device_with_program = LinkUnspec::new_with_name(device)
        .append_extra_attribute(xdp)
        .build();
    let attach = async {
        let (connection, handle, _) = rtnetlink::new_connection()?;
        tokio::spawn(connection);
        anyhow::Ok(handle.link().set(device_with_program).execute().await?)
    };
    single_threaded()
        .block_on(attach)
        .with_context(|| format!("cannot attach an XDP program to {device}"))
}

/// The beginning of `union bpf_attr` for BPF_PROG_LOAD.
#[repr(C)]
struct LoadProgram {
    program_type: u32,
    instruction_count: u32,
    instructions: u64,
    license: u64,
}

/// `struct bpf_insn`, for instructions without a source register.
#[repr(C)]
struct Instruction {
    code: u8,
    registers: u8,
    offset: i16,
    immediate: i32,
}

fn load() -> io::Result<OwnedFd> {
    const BPF_PROG_LOAD: libc::c_int = 5;
    const BPF_PROG_TYPE_XDP: u32 = 6;
    const XDP_PASS: i32 = 2;
    // r0 = XDP_PASS (BPF_ALU64 | BPF_MOV | BPF_K); return (BPF_JMP | BPF_EXIT).
    let instructions = [(0xb7, XDP_PASS), (0x95, 0)].map(|(code, immediate)| Instruction {
        code,
        registers: 0,
        offset: 0,
        immediate,
    });
    let attributes = LoadProgram {
        program_type: BPF_PROG_TYPE_XDP,
        instruction_count: instructions.len() as u32,
        instructions: instructions.as_ptr().addr() as u64,
        license: c"GPL".as_ptr().addr() as u64,
    };
    // SAFETY: the attributes are as long as said, and what they point to outlives the call.
    let result = unsafe {
        libc::syscall(
            libc::SYS_bpf,
            BPF_PROG_LOAD,
            &raw const attributes,
            size_of_val(&attributes),
        )
    };
    match result {
        -1 => Err(io::Error::last_os_error()),
        // SAFETY: the kernel returned a new descriptor, which nobody else owns.
        descriptor => Ok(unsafe { OwnedFd::from_raw_fd(descriptor as i32) }),
    }
}
