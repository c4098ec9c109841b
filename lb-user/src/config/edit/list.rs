//! An entry put into a virtual server's `bind` or taken out of it, in the style that the list is written in. Every other
//! byte stays.

use std::ops::Range;

use granit_parser::StructureStyle::{Block, Flow};

use super::tree::{Kind, Node};

/// Bytes of a text, and what comes in their place.
pub struct Change {
    bytes: Range<usize>,
    with: String,
}

impl Change {
    fn insert(at: usize, with: String) -> Self {
        Self {
            bytes: at..at,
            with,
        }
    }

    fn remove(bytes: Range<usize>) -> Self {
        Self {
            bytes,
            with: String::new(),
        }
    }

    /// The text with the change.
    pub fn apply(&self, text: &str) -> String {
        let (before, after) = (&text[..self.bytes.start], &text[self.bytes.end..]);
        [before, &self.with, after].concat()
    }
}

/// Puts an entry behind those that `virtual_server` binds. `None` if it can't be told where: what is written may stand for
/// other places, too.
pub fn append(text: &str, virtual_server: &Node, entry: &str) -> Option<Change> {
    let Kind::Mapping(style, keys) = &virtual_server.kind else {
        return None;
    };
    let Some((key, bind)) = virtual_server.entry("bind") else {
        return Some(match style {
            Flow => Change::insert(end(keys)?, format!(", bind: [{entry}]")),
            Block => {
                let (first, _) = keys.first()?;
                let indent = " ".repeat(column(text, first.range.start));
                let at = line_end(text, end(keys)?);
                let line_break = line_break(text);
                let lines =
                    format!("{line_break}{indent}bind:{line_break}{indent}{INDENT}- {entry}");
                Change::insert(at, lines)
            }
        });
    };
    if bind.has_anchor {
        return None;
    }
    match (&bind.kind, style) {
        (Kind::Sequence(Block, items), _) => {
            let last = items.last()?;
            let indent = indent(text, dash_after(text, key.range.end)?)?;
            let line = format!("{}{indent}- {entry}", line_break(text));
            Some(Change::insert(line_end(text, last.range.end), line))
        }
        (Kind::Sequence(Flow, items), _) => Some(match items.last() {
            None => Change::insert(bind.range.start + 1, entry.to_owned()),
            Some(last) => {
                let end = last.range.end;
                let rest = text[end..line_end(text, end)].trim_matches([',', ' ']);
                let separator = match indent(text, last.range.start) {
                    Some(indent) if rest.is_empty() => format!("{}{indent}", line_break(text)),
                    _ => " ".to_owned(),
                };
                Change::insert(end, format!(",{separator}{entry}"))
            }
        }),
        (Kind::Scalar(_), Block) if bind.range.is_empty() => {
            let indent = " ".repeat(column(text, key.range.start));
            let line = format!("{}{indent}{INDENT}- {entry}", line_break(text));
            Some(Change::insert(line_end(text, key.range.end), line))
        }
        (Kind::Scalar(_), Flow) if bind.range.is_empty() => {
            let colon = key.range.end + text[key.range.end..].find(':')?;
            Some(Change::insert(colon + 1, format!(" [{entry}]")))
        }
        (Kind::Scalar(_), _) => Some(Change {
            bytes: bind.range.clone(),
            with: format!("[{entry}]"),
        }),
        _ => None,
    }
}

/// Takes the entry at `index` out of those that `virtual_server` binds, with a comment on its own line in block style.
/// `None` as for [`append`].
pub fn remove(text: &str, virtual_server: &Node, index: usize) -> Option<Change> {
    let (key, bind) = virtual_server.entry("bind")?;
    let Kind::Sequence(style, items) = &bind.kind else {
        return None;
    };
    if bind.has_anchor {
        return None;
    }
    let item = &items.get(index)?.range;
    let previous = index.checked_sub(1).map(|index| items[index].range.end);
    match style {
        Block => {
            let dash = dash_after(text, previous.unwrap_or(key.range.end))?;
            // There is a line above: that with `bind:`, if no other.
            let above = text[..dash].trim_end_matches(' ').strip_suffix('\n')?;
            let above = above.strip_suffix('\r').unwrap_or(above);
            Some(Change::remove(above.len()..line_end(text, item.end)))
        }
        Flow => {
            let has_comment = |gap: Range<usize>| text[gap].contains('#');
            let next = items.get(index + 1).map(|next| next.range.start);
            Some(match (previous, next) {
                (Some(previous), _) if !has_comment(previous..item.start) => {
                    Change::remove(previous..item.end)
                }
                (_, Some(next)) if !has_comment(item.end..next) => Change::remove(item.start..next),
                _ => Change::remove(between_comments(text, item)),
            })
        }
    }
}

/// One level.
const INDENT: &str = "  ";

/// The dash of the block's entry that comes after what ends here: the first one that begins a line.
fn dash_after(text: &str, end: usize) -> Option<usize> {
    let mut start = line_end(text, end);
    loop {
        start += text[start..].find('\n')? + 1;
        let line = text[start..].trim_start_matches(' ');
        if line.starts_with('-') {
            return Some(text.len() - line.len());
        }
    }
}

/// An entry with its comma; and its line, if there is nothing else.
fn between_comments(text: &str, item: &Range<usize>) -> Range<usize> {
    let after = text[item.end..].trim_start_matches(' ');
    let end = match after.strip_prefix(',') {
        Some(after) => text.len() - after.len(),
        None => item.end,
    };
    match indent(text, item.start) {
        Some(indent) if text[end..line_end(text, end)].trim_end().is_empty() => {
            let start = item.start - indent.len();
            let next_line = text[end..].find('\n').map_or(end, |at| end + at + 1);
            start..next_line
        }
        _ => item.start..end,
    }
}

/// Where the last of these is over.
fn end(entries: &[(Node, Node)]) -> Option<usize> {
    let ends = entries.iter().flat_map(|(key, value)| {
        let empty_is_nowhere = (!value.range.is_empty()).then_some(value.range.end);
        [Some(key.range.end), empty_is_nowhere]
    });
    ends.flatten().max()
}

/// The blanks in front of what begins here, if nothing else is on its line.
fn indent(text: &str, start: usize) -> Option<&str> {
    let line = &text[..start];
    let line = &line[line.rfind('\n').map_or(0, |at| at + 1)..];
    line.trim_start_matches(' ').is_empty().then_some(line)
}

/// Characters in front of what begins here.
fn column(text: &str, start: usize) -> usize {
    let line = text[..start].rsplit('\n').next().unwrap_or_default();
    line.chars().count()
}

/// Where the line is over, its comment included, that has the last byte before `end`.
fn line_end(text: &str, end: usize) -> usize {
    // What the parser gives of a text in several lines has the last line break.
    let end = text[..end].trim_end_matches(['\r', '\n']).len();
    let line = text[end..].split('\n').next().unwrap_or_default();
    end + line.strip_suffix('\r').unwrap_or(line).len()
}

/// As the text has them.
fn line_break(text: &str) -> &'static str {
    if text.contains("\r\n") { "\r\n" } else { "\n" }
}
