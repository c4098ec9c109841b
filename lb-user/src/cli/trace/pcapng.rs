//! A trace as a file for Wireshark and tcpdump (draft-ietf-opsawg-pcapng).

use std::{
    borrow::Cow,
    io::{self, BufWriter, Write},
    time::SystemTime,
};

use anyhow::{Context, Result};
use data_encoding::HEXLOWER;
use pcap_file::{
    DataLink, PcapError,
    pcapng::{
        PcapNgWriter,
        blocks::{
            enhanced_packet::{EnhancedPacketBlock, EnhancedPacketOption},
            interface_description::{InterfaceDescriptionBlock, InterfaceDescriptionOption},
        },
    },
};

use super::{Output, why};
use crate::api::trace::{Line, Packet};

/// A block for each packet, with what became of it as a comment.
pub struct Pcapng {
    writer: PcapNgWriter<BufWriter<Box<dyn Write>>>,
    /// Those that are described already, in that order.
    interfaces: Vec<String>,
    snap: u32,
}

impl Pcapng {
    /// Begins the file. No packet has more than `snap` bytes.
    pub fn new(output: Box<dyn Write>, snap: u32) -> Result<Self> {
        Ok(Self {
            writer: PcapNgWriter::new(BufWriter::new(output)).map_err(io_error)?,
            interfaces: Vec::new(),
            snap,
        })
    }

    /// The number of an interface in the file.
    fn interface(&mut self, name: &str) -> Result<u32> {
        /// Powers of ten, below 0.
        const NANOSECONDS: u8 = 9;

        let known = self.interfaces.iter().position(|known| known == name);
        if let Some(known) = known {
            return Ok(known as u32);
        }
        let block = InterfaceDescriptionBlock {
            linktype: DataLink::ETHERNET,
            snaplen: self.snap,
            options: vec![
                InterfaceDescriptionOption::IfName(Cow::Owned(name.to_owned())),
                InterfaceDescriptionOption::IfTsResol(NANOSECONDS),
            ],
        };
        self.writer.write_pcapng_block(block).map_err(io_error)?;
        self.interfaces.push(name.to_owned());
        Ok(self.interfaces.len() as u32 - 1)
    }

    fn packet(&mut self, packet: &Packet<'_>) -> Result<()> {
        const MISUNDERSTOOD: &str = "the lb daemon's answer is not understood";

        let time = humantime::parse_rfc3339(&packet.time).context(MISUNDERSTOOD)?;
        let bytes = HEXLOWER.decode(packet.bytes.as_bytes());
        let block = EnhancedPacketBlock {
            interface_id: self.interface(&packet.interface)?,
            timestamp: time.duration_since(SystemTime::UNIX_EPOCH)?,
            original_len: packet.length,
            data: Cow::Owned(bytes.context(MISUNDERSTOOD)?),
            options: vec![EnhancedPacketOption::Comment(comment(packet).into())],
        };
        self.writer.write_pcapng_block(block).map_err(io_error)?;
        Ok(())
    }
}

impl Output for Pcapng {
    fn write(&mut self, line: &Line<'_>, _json: &[u8]) -> Result<()> {
        match line {
            Line::Packet(packet) => self.packet(packet),
            // Told at the end.
            Line::Lost { .. } => Ok(()),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        self.writer.get_mut().flush()
    }
}

/// An error of writing, as what it is.
fn io_error(error: PcapError) -> anyhow::Error {
    match error {
        PcapError::IoError(error) => error.into(),
        error => error.into(),
    }
}

/// Such as `forwarded (new): shop -> web-1 10.9.0.11`.
fn comment(packet: &Packet<'_>) -> String {
    let mut comment = format!("{} ({})", packet.verdict, why(packet));
    if let Some(virtual_server) = packet.virtual_server {
        comment += &format!(": {virtual_server}");
    }
    if let (Some(server), Some(address)) = (packet.real_server, packet.address) {
        comment += &format!(" -> {server} {address}");
    }
    comment
}
