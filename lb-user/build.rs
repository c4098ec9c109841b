//! Tells the daemon where the kernel programs are that it embeds.

use std::path::Path;

fn main() {
    let object = Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/lb-ebpf.o");
    println!("cargo::rerun-if-changed={}", object.display());
    match object.canonicalize() {
        Ok(object) => println!("cargo::rustc-env=LB_EBPF_OBJECT={}", object.display()),
        Err(_) => println!("cargo::error=no kernel programs to embed; run: cargo xtask build"),
    }
}
