//! What a virtual server remembers, from its settings to the model: sessions, sticky clients and slow
//! starts.

use std::net::IpAddr;
use std::time::Duration;

use super::error::{Diagnostics, Position};
use super::model::{OnDown, OnUnknown, Predictor, Protocol, Session, SessionMode, Sticky};
use super::settings::{SessionSettings, Settings, Written, or_default};

const MINUTE: Duration = Duration::from_secs(60);
const DEFAULT_SETTLE: Duration = Duration::from_secs(30);
const DEFAULT_SLOW_START: Duration = Duration::from_secs(30);
const DEFAULT_PREFIX_V4: u8 = 32;
const DEFAULT_PREFIX_V6: u8 = 128;

/// `None` if anything about it is wrong, as with the others here.
pub fn session(settings: &SessionSettings, protocol: Protocol) -> Option<Session> {
    let idle_timeout = match protocol {
        Protocol::Tcp => 30 * MINUTE,
        Protocol::Udp => 5 * MINUTE,
    };
    let mode = or_default(settings.mode, SessionMode::default())?;
    let (on_unknown, on_down) = (
        or_default(settings.on_unknown, OnUnknown::default())?,
        or_default(settings.on_down, OnDown::default())?,
    );
    // What `defaults` say of these is for others.
    let (on_unknown, on_down) = match mode {
        SessionMode::OnChange => (OnUnknown::Forward, OnDown::Move),
        SessionMode::Stateful | SessionMode::Stateless => (on_unknown, on_down),
    };
    Some(Session {
        mode,
        idle_timeout: or_default(settings.idle_timeout, idle_timeout)?,
        on_unknown,
        on_down,
        settle: or_default(settings.settle, DEFAULT_SETTLE)?,
    })
}

/// Records a missing timeout where the section is.
pub fn sticky(settings: &Settings, errors: &mut Diagnostics) -> Option<Option<Sticky>> {
    let Some(Written { at, value }) = settings.sticky else {
        return Some(None);
    };
    let Some(keys) = value? else {
        return Some(None);
    };
    let Some(timeout) = keys.timeout else {
        errors.add(at, "missing key `sticky.timeout`");
        return None;
    };
    Some(Some(Sticky {
        timeout: timeout.value?,
        prefix_v4: or_default(keys.prefix_v4, DEFAULT_PREFIX_V4)?,
        prefix_v6: or_default(keys.prefix_v6, DEFAULT_PREFIX_V6)?,
    }))
}

/// Of `defaults` it counts for the predictor that has it alone.
pub fn slow_start(settings: &Settings, predictor: Predictor) -> Option<Option<Duration>> {
    match predictor {
        Predictor::LeastConnection => or_default(settings.slow_start, Some(DEFAULT_SLOW_START)),
        Predictor::Hash
        | Predictor::SourceHash
        | Predictor::RoundRobin
        | Predictor::ResponseTime => Some(None),
    }
}

/// Records what a virtual server says itself (`own`) that has no effect or can't be, given all that holds
/// for it (`settings`).
pub fn contradictions(
    own: &Settings,
    settings: &Settings,
    vip: Option<IpAddr>,
    predictor: Option<Predictor>,
    errors: &mut Diagnostics,
) {
    // With both prefixes a section can be copied from virtual server to virtual server.
    if let Some(Some(sticky)) = own.sticky.and_then(|sticky| sticky.value)
        && let (Some(prefix), None) = (sticky.prefix_v4, sticky.prefix_v6)
        && let Some(vip) = vip
        && vip.is_ipv6()
    {
        let problem = format!("sticky.prefix_v4: VIP {vip} is IPv6: expected prefix_v6");
        errors.add(prefix.at, problem);
    }
    if let (Some(written), Some(predictor)) = (own.slow_start, predictor)
        && predictor != Predictor::LeastConnection
    {
        let problem = "slow_start: only least_connection starts slowly: remove it";
        errors.add(written.at, problem);
    }
    if let Some(written) = own.session.on_unknown
        && value(settings.protocol) == Some(Protocol::Udp)
    {
        let problem = "session.on_unknown: UDP has no packets in mid-stream: remove it";
        errors.add(written.at, problem);
    }
    let mode = settings.session.mode;
    let mode = mode.map_or(Some(SessionMode::default()), |mode| mode.value);
    match mode {
        Some(SessionMode::Stateless) => {
            without_sessions(own, errors);
            by_hash_alone(own, settings, errors);
        }
        Some(SessionMode::OnChange) => {
            without_most_sessions(own, errors);
            by_hash_alone(own, settings, errors);
        }
        Some(SessionMode::Stateful) | None => {}
    }
    if let Some(settle) = own.session.settle
        && mode.is_some_and(|mode| mode != SessionMode::OnChange)
    {
        let problem = "session.settle needs session.mode: on_change: remove it, or change the mode";
        errors.add(settle.at, problem);
    }
}

/// Nearly all packets are in mid-stream without a session, and nobody knows whose server is down.
fn without_most_sessions(own: &Settings, errors: &mut Diagnostics) {
    let session = &own.session;
    if let Some(on_unknown) = session.on_unknown
        && let Some(word @ (OnUnknown::Reset | OnUnknown::Drop)) = on_unknown.value
    {
        let problem = format!(
            "session.on_unknown: expected forward with session.mode: on_change, found {word}: most packets belong to no session"
        );
        errors.add(on_unknown.at, problem);
    }
    if let Some(on_down) = session.on_down
        && on_down.value == Some(OnDown::Reset)
    {
        let problem = "session.on_down: expected move with session.mode: on_change, found reset: most flows have no session";
        errors.add(on_down.at, problem);
    }
}

fn without_sessions(own: &Settings, errors: &mut Diagnostics) {
    let session = &own.session;
    let of_sessions = [
        ("idle_timeout", at(session.idle_timeout)),
        ("on_unknown", at(session.on_unknown)),
        ("on_down", at(session.on_down)),
    ];
    for (key, position) in of_sessions {
        if let Some(position) = position {
            let problem = format!(
                "session.{key} needs session.mode: stateful: remove it, or change the mode"
            );
            errors.add(position, problem);
        }
    }
}

fn by_hash_alone(own: &Settings, settings: &Settings, errors: &mut Diagnostics) {
    let session = &own.session;
    if let Some(Written {
        at: merged,
        value: Some(predictor),
    }) = settings.predictor
        && predictor.needs_sessions()
    {
        let position = at(own.predictor).or(at(session.mode)).unwrap_or(merged);
        let problem = format!(
            "predictor: {predictor} needs session.mode: stateful: each packet would go to another server"
        );
        errors.add(position, problem);
    }
    if let Some(Written {
        at: merged,
        value: Some(Some(_)),
    }) = settings.sticky
    {
        let position = at(own.sticky).or(at(session.mode)).unwrap_or(merged);
        let problem =
            "sticky needs session.mode: stateful: change the mode, or write `sticky: none`";
        errors.add(position, problem);
    }
}

fn at<T>(written: Option<Written<T>>) -> Option<Position> {
    written.map(|written| written.at)
}

fn value<T>(written: Option<Written<T>>) -> Option<T> {
    written?.value
}
