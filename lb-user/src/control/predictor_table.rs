//! What predictor tables hold.

use std::collections::HashSet;

use lb_common::{Candidate, TableBlock};

use super::{
    chain,
    maglev::{self, Share},
    round_robin,
};
use crate::config::Predictor;

/// A real server that is bound, with a weight.
#[derive(Clone, Copy, Debug)]
pub struct Server<'a> {
    /// Its name.
    pub name: &'a str,
    /// Its weight.
    pub weight: u16,
    /// What the predictor takes for its weight now.
    pub share: u16,
    /// The offset of its binding.
    pub offset: u16,
    /// The index of its counters.
    pub counters: u32,
    /// Whether it takes new sessions.
    pub serves: bool,
}

/// What a table is made of. Equal ones exist once.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Content {
    /// Maglev: name, weight and offset of each server, and whether it serves.
    Hash(Vec<(String, u16, u16, bool)>),
    /// The order in which servers have their turns: name, share and offset of each.
    RoundRobin(Vec<(String, u16, u16)>),
    /// Candidates for the least connections: counters, offset and share of each server.
    LeastConnection(Vec<(u32, u16, u16)>),
    /// Slots as they are: a power of two.
    Slots(Vec<u16>),
}

impl Content {
    /// The table that a hash chooses from; `None` if no server serves.
    pub fn hash(servers: &[Server<'_>]) -> Option<Self> {
        let server = |it: &Server<'_>| (it.name.to_owned(), it.weight, it.offset, it.serves);
        let any = servers.iter().any(|server| server.serves);
        any.then(|| Self::Hash(servers.iter().map(server).collect()))
    }

    /// The table for a predictor that does not choose by hash; `None` for others, and if no server serves.
    pub fn order(predictor: Predictor, servers: &[Server<'_>]) -> Option<Self> {
        let serving: Vec<_> = servers.iter().filter(|server| server.serves).collect();
        if serving.is_empty() {
            return None;
        }
        match predictor {
            Predictor::Hash | Predictor::SourceHash => None,
            Predictor::RoundRobin | Predictor::ResponseTime => {
                let server = |it: &&Server<'_>| (it.name.to_owned(), it.share, it.offset);
                Some(Self::RoundRobin(serving.iter().map(server).collect()))
            }
            Predictor::LeastConnection => {
                let server = |it: &&Server<'_>| (it.counters, it.offset, it.share);
                Some(Self::LeastConnection(serving.iter().map(server).collect()))
            }
        }
    }

    /// A table of these slots; `None` if there are none.
    pub fn slots(slots: &[u16]) -> Option<Self> {
        (!slots.is_empty()).then(|| Self::Slots(slots.to_vec()))
    }

    /// Its slots, not more than `most`, and the blocks that hold them. `None` if it can't be as small as that.
    pub fn fill(&self, most: u32) -> Option<(u32, Vec<TableBlock>)> {
        match self {
            Self::Hash(servers) => {
                let all = servers
                    .iter()
                    .map(|(name, weight, offset, _)| (name, *weight, *offset));
                let shares = shares(all);
                let serving: HashSet<_> = servers
                    .iter()
                    .filter_map(|&(_, _, offset, serves)| serves.then_some(offset))
                    .collect();
                let slots = maglev::slots_for(&shares).min(most);
                let enough = slots >= TableBlock::SLOTS as u32 && slots as usize >= servers.len();
                enough.then(|| {
                    let is_down = |share: &Share<'_>| !serving.contains(&share.value);
                    (slots, blocks(&maglev::fill_around(&shares, slots, is_down)))
                })
            }
            Self::RoundRobin(servers) => {
                if (most as usize) < servers.len() {
                    return None;
                }
                let all = servers
                    .iter()
                    .map(|(name, share, offset)| (name, *share, *offset));
                let order = round_robin::order(&shares(all), most.min(maglev::MAX_SLOTS));
                Some((order.len() as u32, blocks(&order)))
            }
            Self::LeastConnection(servers) => {
                let slots = (servers.len() * Candidate::SLOTS) as u32;
                let candidates: Vec<Candidate> = servers
                    .iter()
                    .map(|&(counters, binding, weight)| Candidate {
                        counters,
                        binding,
                        weight,
                    })
                    .collect();
                (slots <= most).then(|| (slots, candidate_blocks(&candidates)))
            }
            Self::Slots(slots) => {
                let count = slots.len().min(most as usize);
                let coarse = || {
                    let every = slots.iter().step_by(slots.len() / count);
                    every.copied().collect::<Vec<_>>()
                };
                (count > 0).then(|| (count as u32, blocks(&coarse())))
            }
        }
    }
}

/// What the table of a virtual server is made of that tracks changes alone, while nothing changes: name, weight and offset of
/// each server, and whether it serves.
#[derive(Debug, PartialEq, Eq, Hash)]
pub struct Steady(Vec<(String, u16, u16, bool)>);

impl Steady {
    /// The table of these servers.
    pub fn new(servers: &[Server<'_>]) -> Self {
        let server = |it: &Server<'_>| (it.name.to_owned(), it.weight, it.offset, it.serves);
        Self(servers.iter().map(server).collect())
    }

    /// Its slots; empty if no server serves.
    pub fn slots(&self) -> Vec<u16> {
        let servers = self.0.iter();
        let serving = servers.clone().filter(|(.., serves)| *serves);
        let serving: HashSet<_> = serving.map(|(_, _, offset, _)| *offset).collect();
        if serving.is_empty() {
            return Vec::new();
        }
        let shares = shares(servers.map(|(name, weight, offset, _)| (name, *weight, *offset)));
        let all = maglev::fill(&shares, maglev::slots_for(&shares));
        chain::around(all, |offset| serving.contains(&offset)).unwrap_or_default()
    }
}

/// Of name, weight and offset.
fn shares<'a>(servers: impl Iterator<Item = (&'a String, u16, u16)>) -> Vec<Share<'a>> {
    servers
        .map(|(name, weight, value)| Share {
            name,
            weight,
            value,
        })
        .collect()
}

/// The last block is filled up with zeros.
fn blocks(slots: &[u16]) -> Vec<TableBlock> {
    slots
        .chunks(TableBlock::SLOTS)
        .map(|chunk| {
            let mut block = TableBlock::default();
            block.slots[..chunk.len()].copy_from_slice(chunk);
            block
        })
        .collect()
}

/// As [`blocks`].
fn candidate_blocks(candidates: &[Candidate]) -> Vec<TableBlock> {
    candidates
        .chunks(TableBlock::CANDIDATES)
        .map(|chunk| {
            let mut block = [Candidate::default(); TableBlock::CANDIDATES];
            block[..chunk.len()].copy_from_slice(chunk);
            block.into()
        })
        .collect()
}
