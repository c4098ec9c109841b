//! Where in a YAML text its values are, in bytes. What they mean is for the loader to say.

use std::ops::Range;

use granit_parser::{Event, Parser, StructureStyle};

/// A value and what is in it.
#[derive(Debug)]
pub struct Node {
    /// The bytes that it is written with. A collection in block style ends with the last value in it, and may begin with
    /// the first one; an empty value has no bytes.
    pub range: Range<usize>,
    /// Whether other places of the text can mean this value, too.
    pub has_anchor: bool,
    pub kind: Kind,
}

/// What a value is.
#[derive(Debug)]
pub enum Kind {
    Scalar(String),
    /// It stands elsewhere.
    Alias,
    Sequence(StructureStyle, Vec<Node>),
    /// Keys and values.
    Mapping(StructureStyle, Vec<(Node, Node)>),
}

/// What is still to be read, and its bytes.
type Events<'a, 'text> = &'a mut dyn Iterator<Item = (Event<'text>, Range<usize>)>;

impl Node {
    /// The value of the whole text; `None` if that is empty or no YAML. For texts that the loader has read, which sets
    /// bounds to depth and size.
    pub fn parse(text: &str) -> Option<Self> {
        let is_end = |event: &Event<'_>| matches!(event, Event::SequenceEnd | Event::MappingEnd);
        // Without comments, among others.
        let mut events = Parser::new_from_str(text)
            .map_while(Result::ok)
            .filter(|(event, _)| event.is_node() || is_end(event))
            .filter_map(|(event, span)| Some((event, span.byte_range()?)));
        let (event, range) = events.next()?;
        Self::read(event, range, &mut events)
    }

    /// The value of a key, if this is a mapping that has it, and the key.
    pub fn entry(&self, wanted: &str) -> Option<&(Self, Self)> {
        let Kind::Mapping(_, entries) = &self.kind else {
            return None;
        };
        entries
            .iter()
            .find(|(key, _)| matches!(&key.kind, Kind::Scalar(name) if name == wanted))
    }

    /// A value of a sequence.
    pub fn item(&self, index: usize) -> Option<&Self> {
        match &self.kind {
            Kind::Sequence(_, items) => items.get(index),
            _ => None,
        }
    }

    /// The value that begins with this event.
    fn read<'text>(
        first: Event<'text>,
        range: Range<usize>,
        rest: Events<'_, 'text>,
    ) -> Option<Self> {
        let has_anchor = first.anchor_id().is_some();
        let (kind, end) = match first {
            Event::Scalar(value, ..) => (Kind::Scalar(value.into_owned()), range.end),
            Event::Alias(_) => (Kind::Alias, range.end),
            Event::SequenceStart(style, ..) => {
                let (items, end) = Self::read_all(style, range.end, rest)?;
                (Kind::Sequence(style, items), end)
            }
            Event::MappingStart(style, ..) => {
                let (values, end) = Self::read_all(style, range.end, rest)?;
                let mut values = values.into_iter();
                let mut entries = Vec::new();
                while let (Some(key), Some(value)) = (values.next(), values.next()) {
                    entries.push((key, value));
                }
                (Kind::Mapping(style, entries), end)
            }
            _ => return None,
        };
        Some(Self {
            range: range.start..end,
            has_anchor,
            kind,
        })
    }

    /// The values up to the end of their collection, which has begun, and where that is.
    fn read_all<'text>(
        style: StructureStyle,
        mut end: usize,
        rest: Events<'_, 'text>,
    ) -> Option<(Vec<Self>, usize)> {
        let mut values = Vec::new();
        loop {
            match rest.next()? {
                (Event::SequenceEnd | Event::MappingEnd, range) => {
                    // The parser sees that a block is over only when something else begins.
                    let end = match style {
                        StructureStyle::Flow => range.end,
                        StructureStyle::Block => end,
                    };
                    return Some((values, end));
                }
                (event, range) => {
                    let value = Self::read(event, range, rest)?;
                    if !value.range.is_empty() {
                        end = value.range.end;
                    }
                    values.push(value);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    fn value<'text>(text: &'text str, node: &Node) -> &'text str {
        &text[node.range.clone()]
    }

    #[rstest]
    #[case("a: [x, 'y' ]  # c\nb: 1\n", "[x, 'y' ]")]
    #[case("a: {x: 1}\n", "{x: 1}")]
    #[case("\u{e9}: \u{1F511}\na: \"\\u00e9\" # c\n", "\"\\u00e9\"")]
    #[case(
        "a:\n - x\n -  y: 1\n    z:  2 # c\n\n# d\nb: 1\n",
        "- x\n -  y: 1\n    z:  2"
    )]
    #[case("a:  # c\nb: 1\n", "")]
    #[case("x: &x 1\na: *x\nb: 1\n", "*x")]
    fn the_bytes_of_a_value_are_its_own(#[case] text: &str, #[case] bytes: &str) {
        let root = Node::parse(text).unwrap();
        let (_, node) = root.entry("a").unwrap();
        assert_eq!(value(text, node), bytes, "{root:?}");
    }
}
