//! Frames as a person reads them.

use std::fmt::Write;

use etherparse::LaxPacketHeaders;

/// One line for each header of a frame, as far as it can be read.
pub fn headers(frame: &[u8]) -> String {
    let mut text = format!("  {} bytes\n", frame.len());
    let Ok(packet) = LaxPacketHeaders::from_ethernet(frame) else {
        return text;
    };
    let mut line = |header: &dyn std::fmt::Debug| writeln!(text, "  {header:?}").expect("a string");
    packet.link.iter().for_each(|header| line(header));
    packet.link_exts.iter().for_each(|header| line(header));
    packet.net.iter().for_each(|header| line(header));
    packet.transport.iter().for_each(|header| line(header));
    packet.stop_err.iter().for_each(|error| line(error));
    text
}

/// The headers and the bytes of two frames, with `-` where the expected one differs and `+` for what was seen.
pub fn difference(expected: &[u8], seen: &[u8]) -> String {
    const LINE: usize = 16;
    let mut text = format!(
        "expected frame\n{}seen frame\n{}",
        headers(expected),
        headers(seen)
    );
    let line = |frame: &[u8], number: usize| -> Option<String> {
        let bytes = frame.chunks(LINE).nth(number)?;
        Some(bytes.iter().map(|byte| format!(" {byte:02x}")).collect())
    };
    for number in 0..expected.len().max(seen.len()).div_ceil(LINE) {
        let [expected, seen] = [expected, seen].map(|frame| line(frame, number));
        let marks = if expected == seen {
            vec![(' ', expected)]
        } else {
            vec![('-', expected), ('+', seen)]
        };
        for (mark, bytes) in marks {
            if let Some(bytes) = bytes {
                writeln!(text, "{mark} {:04x} {bytes}", number * LINE).expect("a string");
            }
        }
    }
    text
}
