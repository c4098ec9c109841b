//! `cargo xtask demo`: a lab, the real `lb`, and traffic while a real server leaves and returns.

mod story;
mod table;
mod traffic;

use std::{net::IpAddr, process::ExitCode, thread};

use anyhow::Result;
use clap::{Parser, Subcommand};
use lb_tests::{HttpServer, Namespace, UdpServer};

/// The lab's name, in every name and path of the demo; deploy/examples/demo.yaml says it too.
const LAB: &str = "lb-demo";
const HTTP_PORT: u16 = 80;
const DNS_PORT: u16 = 53;

/// Clients, a balancer and three real servers on this machine, each in a network namespace of its own.
#[derive(Parser)]
#[command(bin_name = "cargo xtask demo", args_conflicts_with_subcommands = true)]
struct Options {
    /// How long the traffic runs
    #[arg(long, default_value_t = 15, value_parser = clap::value_parser!(u64).range(3..))]
    seconds: u64,
    /// Leave the lab up, and print what to try in it
    #[arg(long)]
    keep: bool,
    /// Remove the lab that --keep left
    #[arg(long, conflicts_with_all = ["keep", "seconds"])]
    clean: bool,
    #[command(subcommand)]
    part: Option<Part>,
}

#[derive(Subcommand)]
enum Part {
    /// What runs on a real server
    #[command(hide = true)]
    Serve {
        namespace: String,
        name: String,
        vips: Vec<IpAddr>,
    },
}

fn main() -> ExitCode {
    match run(Options::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("demo: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(options: Options) -> Result<()> {
    match options.part {
        Some(Part::Serve {
            namespace,
            name,
            vips,
        }) => serve(&namespace, &name, &vips),
        None if options.clean => {
            lb_tests::remove(LAB);
            Ok(())
        }
        None => story::tell(options.seconds, options.keep),
    }
}

/// Serves HTTP and UDP until killed.
fn serve(namespace: &str, name: &str, vips: &[IpAddr]) -> Result<()> {
    let namespace = Namespace::open(namespace)?;
    let addresses: Vec<_> = vips.iter().map(|&vip| (vip, DNS_PORT)).collect();
    let _servers = (
        HttpServer::start_in(&namespace, name, &[HTTP_PORT]),
        UdpServer::start_in(&namespace, name, &addresses),
    );
    loop {
        thread::park();
    }
}
