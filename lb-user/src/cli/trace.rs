//! `lb trace`

mod pcapng;
mod text;

use std::{
    fs::File,
    io::{self, BufWriter, Write},
    net::IpAddr,
    num::{NonZeroU32, NonZeroU64},
    os::fd::AsFd,
    path::PathBuf,
    thread,
    time::Duration,
};

use anyhow::{Context, Result, bail};
use clap::Args;
use ipnet::IpNet;
use lb_common::TraceEvent;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use tokio::{
    select,
    signal::unix::{SignalKind, signal},
    sync::oneshot,
    time::sleep,
};

use self::{pcapng::Pcapng, text::Text};
use super::{Socket, block_on, end_quietly, seconds};
use crate::{
    api::{
        client,
        trace::{Filter, Line, Packet},
    },
    config,
};

/// Show packets for the VIPs, and what becomes of each: where it goes and why, or why it is dropped
///
/// Until it ends, by Ctrl-C or as --count or --seconds say, a program that tells what it does forwards the packets in the
/// place of the balancer. No packet is lost by that; each costs more time the more of them are traced. There can be one trace
/// at a time.
#[derive(Args)]
#[command(
    after_help = "Examples:\n  lb trace --client 10.9.0.100 --count 20\n  lb trace --drops --seconds 60\n  lb trace --virtual-server shop --sample 1000 --json\n  lb trace --pcapng - | tcpdump -n -r -"
)]
pub struct Trace {
    #[command(flatten)]
    socket: Socket,
    /// Only packets to this VIP
    #[arg(long, value_name = "IP")]
    vip: Option<IpAddr>,
    /// Only packets of clients with this address, or in this prefix
    #[arg(long, value_name = "PREFIX", value_parser = client_prefix)]
    client: Option<IpNet>,
    /// Only packets of this virtual server
    #[arg(long, value_name = "NAME")]
    virtual_server: Option<String>,
    /// Only packets that go to this real server
    #[arg(long, value_name = "NAME-OR-ADDRESS")]
    real: Option<String>,
    /// Only packets that count as drops, those that are answered with an error among them
    #[arg(long)]
    drops: bool,
    /// Only one packet in N, by chance
    #[arg(long, value_name = "N", default_value = "1")]
    sample: NonZeroU32,
    /// End after so many packets
    #[arg(long, value_name = "N")]
    count: Option<NonZeroU64>,
    /// End after so many seconds
    #[arg(long, value_name = "N", value_parser = seconds)]
    seconds: Option<u32>,
    /// Bytes of each packet to take along, for --json and --pcapng
    #[arg(long, value_name = "BYTES", default_value = "128", value_parser = clap::value_parser!(u32).range(1..=TraceEvent::MOST_BYTES as i64))]
    snap: u32,
    /// Print a line of JSON for each packet
    #[arg(long, conflicts_with = "pcapng")]
    json: bool,
    /// Write the packets to this file (`-` for standard output), for Wireshark and tcpdump, each with a comment on what became
    /// of it
    #[arg(long, value_name = "FILE")]
    pcapng: Option<PathBuf>,
}

impl Trace {
    /// Prints packets while they come in.
    pub fn run(self) -> Result<()> {
        end_quietly(block_on(async {
            let trace = client::trace(&self.socket.socket, &self.filter()).await?;
            let mut output = self.output()?;
            let mut counts = Counts::default();
            let end = self.follow(trace, &mut *output, &mut counts).await;
            output.flush()?;
            eprintln!("{counts}");
            end
        }))
    }

    fn filter(&self) -> Filter {
        Filter {
            vip: self.vip,
            client: self.client,
            virtual_server: self.virtual_server.clone(),
            real: self.real.clone(),
            drops: self.drops,
            sample: self.sample,
            snap: self.snap,
        }
    }

    fn output(&self) -> Result<Box<dyn Output>> {
        Ok(match &self.pcapng {
            Some(path) if path.as_os_str() == "-" => {
                Box::new(Pcapng::new(Box::new(io::stdout()), self.snap)?)
            }
            Some(path) => {
                let file = File::create(path)
                    .with_context(|| format!("can't write {}", path.display()))?;
                Box::new(Pcapng::new(Box::new(file), self.snap)?)
            }
            None if self.json => Box::new(Json(BufWriter::new(io::stdout()))),
            None => Box::new(Text::new(BufWriter::new(io::stdout()))?),
        })
    }

    /// Returns when the trace has ended.
    async fn follow(
        &self,
        mut trace: client::Lines,
        output: &mut dyn Output,
        counts: &mut Counts,
    ) -> Result<()> {
        let mut interrupt = signal(SignalKind::interrupt())?;
        let mut terminate = signal(SignalKind::terminate())?;
        output.flush()?;
        let time_is_up = async {
            match self.seconds {
                Some(seconds) => sleep(Duration::from_secs(seconds.into())).await,
                None => std::future::pending().await,
            }
        };
        tokio::pin!(time_is_up);
        let mut reader_is_gone = when_nobody_reads();
        loop {
            let lines = select! {
                _ = interrupt.recv() => return Ok(()),
                _ = terminate.recv() => return Ok(()),
                () = &mut time_is_up => return Ok(()),
                _ = &mut reader_is_gone => return Ok(()),
                lines = trace.next() => lines,
            };
            let Ok(Some(lines)) = lines else {
                bail!("the lb daemon has ended, and the trace with it");
            };
            for line in lines.split_inclusive(|&byte| byte == b'\n') {
                let known = serde_json::from_slice(line)
                    .context("the lb daemon's answer is not understood")?;
                output.write(&known, line)?;
                match known {
                    Line::Packet(_) => counts.packets += 1,
                    Line::Lost { lost } => counts.lost = lost,
                }
                if self
                    .count
                    .is_some_and(|count| count.get() == counts.packets)
                {
                    return Ok(());
                }
            }
            output.flush()?;
        }
    }
}

/// What a trace is written to.
trait Output {
    /// Writes a line of the trace, which `json` is the text of.
    fn write(&mut self, line: &Line<'_>, json: &[u8]) -> Result<()>;

    /// Lets readers see what is written.
    fn flush(&mut self) -> io::Result<()>;
}

struct Json<W>(W);

impl<W: Write> Output for Json<W> {
    fn write(&mut self, _line: &Line<'_>, json: &[u8]) -> Result<()> {
        Ok(self.0.write_all(json)?)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.0.flush()
    }
}

/// What there was.
#[derive(Default)]
struct Counts {
    packets: u64,
    lost: u64,
}

impl std::fmt::Display for Counts {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} packets", self.packets)?;
        match self.lost {
            0 => Ok(()),
            lost => write!(
                f,
                "; {lost} more are lost to the trace, because they came faster than they were read: narrow it, or use --sample"
            ),
        }
    }
}

/// What became of a packet, in words: why it counts as a drop, or else how its real server was chosen.
fn why<'a>(packet: &Packet<'a>) -> &'a str {
    packet.reason.or(packet.session).unwrap_or("-")
}

fn client_prefix(text: &str) -> Result<IpNet, String> {
    config::prefix(text, || {
        "expected an address or a prefix such as 10.9.0.0/24".to_owned()
    })
}

/// Ready when standard output is a pipe that nobody reads any more. There may be no packet to write for long, and a trace
/// costs something.
fn when_nobody_reads() -> oneshot::Receiver<()> {
    let (sender, receiver) = oneshot::channel();
    thread::spawn(move || {
        let output = io::stdout();
        // Errors are always polled for.
        let mut output = [PollFd::new(output.as_fd(), PollFlags::empty())];
        if poll(&mut output, PollTimeout::NONE).is_ok() {
            let _ = sender.send(());
        } else {
            // Then writing tells.
            std::mem::forget(sender);
        }
    });
    receiver
}
