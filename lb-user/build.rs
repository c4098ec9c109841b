//! Tells `lb` where the kernel programs are that it embeds: `LB_BALANCER_OBJECT` and so on.

use std::{env, path::Path};

fn main() {
    let mut objects = Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/bpf");
    if env::var_os("CARGO_FEATURE_LAYOUT_VARIANT").is_some() {
        objects.push("layout-variant");
    }
    for program in [
        "balancer",
        "tracing_balancer",
        "decapsulator",
        "steering",
        "clock",
    ] {
        let object = objects.join(program).with_extension("o");
        println!("cargo::rerun-if-changed={}", object.display());
        match object.canonicalize() {
            Ok(object) => println!(
                "cargo::rustc-env=LB_{}_OBJECT={}",
                program.to_uppercase(),
                object.display()
            ),
            Err(_) => println!("cargo::error=no kernel programs to embed; run: cargo xtask build"),
        }
    }
}
