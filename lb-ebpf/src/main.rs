//! The kernel programs: their entry points, and the maps behind [`Tables`](lb_ebpf::Tables). All
//! that they do with a packet is in the library.

#![cfg_attr(target_arch = "bpf", no_std, no_main)]

#[cfg(target_arch = "bpf")]
mod kernel;

#[cfg(not(target_arch = "bpf"))]
fn main() {
    eprintln!("this is a kernel program: build it with `cargo xtask build-ebpf`");
    std::process::exit(1);
}
