//! Clients stay on their real server across sessions, for a time since they were last seen.

use lb_common::{
    SessionKey,
    address::AddressWords,
    session::{self, Phase, State as Entry},
};

use crate::{
    parse::Flow,
    session_table::{self, Bucket},
    tables::{self, BucketV4, BucketV6, State},
};

/// The binding that a client's sessions stay on, as an offset; `None` if there is none that takes new sessions. The client
/// was seen now.
#[inline(always)]
pub fn binding(tables: &impl State, flow: &Flow, id: u32) -> Option<u32> {
    let now = session::tick(tables.now());
    let virtual_server = tables.virtual_server(&id)?;
    let client = prefix(flow, virtual_server.sticky_prefix);
    let found = if flow.is_ipv4() {
        let key = SessionKey::v4(client, 0, 0);
        session_table::find(buckets_v4(tables, &key, id)?, &key, id)
    } else {
        let key = SessionKey::v6(client, 0, 0);
        session_table::find(buckets_v6(tables, &key, id)?, &key, id)
    }?;
    let binding = found.state.binding();
    let takes_sessions = tables
        .binding(virtual_server.first_binding + binding)?
        .takes_sessions();
    if found.state.idle(now) > virtual_server.sticky_timeout || !takes_sessions {
        return None;
    }
    if found.state.idle(now) != 0 {
        found.change(|entry| entry.used(Phase::Established, now));
    }
    Some(binding)
}

/// Lets a client's sessions stay on a binding: that, or another if another CPU was faster.
#[inline(always)]
pub fn stay(tables: &impl State, flow: &Flow, id: u32, binding: u32) -> u32 {
    let now = session::tick(tables.now());
    let Some(virtual_server) = tables.virtual_server(&id) else {
        return binding;
    };
    let client = prefix(flow, virtual_server.sticky_prefix);
    let entry = Entry::new(id, binding, Phase::Established, now);
    let kept = if flow.is_ipv4() {
        let key = SessionKey::v4(client, 0, 0);
        buckets_v4(tables, &key, id).and_then(|buckets| keep(buckets, &key, entry, now))
    } else {
        let key = SessionKey::v6(client, 0, 0);
        buckets_v6(tables, &key, id).and_then(|buckets| keep(buckets, &key, entry, now))
    };
    kept.map_or(binding, Entry::binding)
}

#[inline(always)]
fn keep<const N: usize, const W: usize>(
    buckets: [&Bucket<W>; 2],
    key: &SessionKey<N>,
    entry: Entry,
    now: u32,
) -> Option<Entry> {
    match session_table::find(buckets, key, entry.virtual_server()) {
        Some(former) => {
            former.change(|before| entry.with_version_after(before))?;
            Some(entry)
        }
        None => Some(session_table::record(buckets, key, entry, now)?.session),
    }
}

/// The first bits of a client's address, as many as `length`.
#[inline(always)]
fn prefix(flow: &Flow, length: u8) -> AddressWords {
    let [high, low] = flow.source;
    if flow.is_ipv4() {
        let mask = (leading_ones(u64::from(length)) >> 32) as u32;
        [high, low & (u64::from(mask.to_be()) << 32 | 0xffff_ffff)]
    } else {
        let length = u64::from(length);
        let second = length.saturating_sub(64);
        [
            high & leading_ones(length - second).to_be(),
            low & leading_ones(second).to_be(),
        ]
    }
}

/// A word whose first bits are ones: 0 to 64 of them.
#[inline(always)]
const fn leading_ones(count: u64) -> u64 {
    if count == 0 {
        0
    } else {
        u64::MAX << ((64 - count) & 63)
    }
}

#[inline(always)]
fn buckets_v4<'t>(
    tables: &'t impl State,
    key: &SessionKey<{ session::V4 }>,
    id: u32,
) -> Option<[&'t BucketV4; 2]> {
    let control = tables.control()?;
    let [first, second] = tables::bucket_indexes(control, key, id.into(), |them| them.sticky_v4);
    Some([tables.sticky_v4(first)?, tables.sticky_v4(second)?])
}

#[inline(always)]
fn buckets_v6<'t>(
    tables: &'t impl State,
    key: &SessionKey<{ session::V6 }>,
    id: u32,
) -> Option<[&'t BucketV6; 2]> {
    let control = tables.control()?;
    let [first, second] = tables::bucket_indexes(control, key, id.into(), |them| them.sticky_v6);
    Some([tables.sticky_v6(first)?, tables.sticky_v6(second)?])
}

#[cfg(test)]
mod tests;
