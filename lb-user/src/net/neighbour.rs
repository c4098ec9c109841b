//! One neighbour: what its entry in the kernel's table means for those who send to it, and when the
//! kernel should be nudged to ask for it.

use std::net::IpAddr;

use netlink_packet_route::neighbour::{
    NeighbourAddress, NeighbourAttribute, NeighbourExtFlags, NeighbourFlags, NeighbourMessage,
    NeighbourState,
};

use super::Mac;

/// What identifies a neighbour.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct NeighbourKey {
    pub(super) ifindex: u32,
    pub(super) address: IpAddr,
}

/// A neighbour's entry in the kernel's table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Entry {
    pub(super) state: NeighbourState,
    pub(super) mac: Option<Mac>,
    /// A control plane (EVPN) or the kernel keeps it fresh; a nudge would end that (neigh_update_flags,
    /// net/core/neighbour.c).
    pub(super) is_managed: bool,
}

impl Entry {
    /// The MAC address, while the kernel itself would send to it (NUD_VALID, net/neighbour.h).
    fn usable_mac(self) -> Option<Mac> {
        use NeighbourState::{Delay, Noarp, Permanent, Probe, Reachable, Stale};
        matches!(
            self.state,
            Reachable | Stale | Delay | Probe | Permanent | Noarp
        )
        .then_some(self.mac)?
    }

    /// Whether it is for somebody else to keep it true.
    fn is_fixed(self) -> bool {
        self.is_managed
            || matches!(
                self.state,
                NeighbourState::Permanent | NeighbourState::Noarp
            )
    }
}

/// Reads a message about an entry; `None` if it is about something else (a bridge's forwarding
/// table, a proxy entry).
pub(super) fn entry(message: &NeighbourMessage) -> Option<(NeighbourKey, Entry)> {
    if message.header.flags.contains(NeighbourFlags::Proxy) {
        return None;
    }
    let mut address = None;
    let mut mac = None;
    let mut is_managed = message.header.flags.contains(NeighbourFlags::ExtLearned);
    for attribute in &message.attributes {
        match attribute {
            NeighbourAttribute::Destination(NeighbourAddress::Inet(it)) => {
                address = Some(IpAddr::V4(*it));
            }
            NeighbourAttribute::Destination(NeighbourAddress::Inet6(it)) => {
                address = Some(IpAddr::V6(*it));
            }
            NeighbourAttribute::LinkLayerAddress(it) => mac = it.as_slice().try_into().ok(),
            NeighbourAttribute::ExtFlags(it) => {
                is_managed |= it.contains(NeighbourExtFlags::Managed);
            }
            _ => {}
        }
    }
    let key = NeighbourKey {
        ifindex: message.header.ifindex,
        address: address?,
    };
    Some((
        key,
        Entry {
            state: message.header.state,
            mac,
            is_managed,
        },
    ))
}

/// What is known of a neighbour that packets should go to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Answer {
    /// Not known yet.
    #[default]
    Resolving,
    /// Its MAC address, or the last one known.
    Known(Mac),
    /// It was asked and did not answer. Stays until it does answer, however often it is asked.
    Silent,
    /// The kernel has no room to ask for it.
    TableFull,
}

impl Answer {
    /// What is known after a look at the kernel's entry, `None` if there is none.
    ///
    /// Only an answer or its absence (NUD_FAILED) decides. An entry that is gone or incomplete says
    /// nothing: the kernel drops entries that it didn't use for a while (packets that XDP forwards
    /// don't count as use), and asks anew when nudged.
    pub(super) fn after(self, entry: Option<Entry>) -> Self {
        match entry {
            Some(entry) if entry.state == NeighbourState::Failed => Self::Silent,
            Some(entry) => entry.usable_mac().map_or(self, Self::Known),
            None => self,
        }
    }
}

/// When to nudge the kernel about a neighbour whose answer or entry has just changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum NextNudge {
    /// The neighbour may have changed its MAC address or may be gone: ask everybody.
    Now,
    /// The answer is fresh.
    WhenVerificationIsDue,
    /// No news.
    AsScheduled,
}

impl NextNudge {
    pub(super) fn after(before: Answer, answer: Answer, entry: Option<Entry>) -> Self {
        match (answer, entry) {
            (Answer::Known(_), None) => Self::Now,
            (Answer::Known(_), Some(entry)) if entry.usable_mac().is_some() => {
                Self::WhenVerificationIsDue
            }
            (Answer::Silent, _) if before != Answer::Silent => Self::Now,
            _ => Self::AsScheduled,
        }
    }
}

/// How to nudge the kernel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Nudge {
    /// Ask everybody for the neighbour: create the entry if need be, leave it if it has an answer.
    /// NTF_USE does what a packet to the neighbour would do (neigh_add, net/core/neighbour.c): the
    /// entry is an ordinary one that ages as any other.
    Ask,
    /// Ask the neighbour itself whether it is still there, now (state NUD_PROBE). NTF_USE would do
    /// so only for an entry that went stale (15 to 45 s), and 5 s later.
    Verify,
}

impl Nudge {
    /// The nudge for a neighbour of which this is known; `None` if it is none of our business.
    pub(super) fn suited_to(answer: Answer, entry: Option<Entry>) -> Option<Self> {
        match (answer, entry) {
            (_, Some(entry)) if entry.is_fixed() => None,
            (Answer::Known(_), Some(entry)) if entry.usable_mac().is_some() => Some(Self::Verify),
            _ => Some(Self::Ask),
        }
    }
}

#[cfg(test)]
mod tests {
    use NeighbourState::*;
    use rstest::rstest;

    use super::*;

    const A: Mac = [2, 0, 0, 0, 0, 0xa];
    const B: Mac = [2, 0, 0, 0, 0, 0xb];

    fn entry(state: NeighbourState, mac: Option<Mac>) -> Option<Entry> {
        Some(Entry {
            state,
            mac,
            is_managed: false,
        })
    }

    #[rstest]
    #[case::learnt(Answer::Resolving, entry(Reachable, Some(A)), Answer::Known(A))]
    #[case::stale_is_usable(Answer::Resolving, entry(Stale, Some(A)), Answer::Known(A))]
    #[case::delay_is_usable(Answer::Known(A), entry(Delay, Some(A)), Answer::Known(A))]
    #[case::probed_is_usable(Answer::Known(A), entry(Probe, Some(A)), Answer::Known(A))]
    #[case::permanent_is_usable(Answer::Silent, entry(Permanent, Some(A)), Answer::Known(A))]
    #[case::noarp_is_usable(Answer::Silent, entry(Noarp, Some(A)), Answer::Known(A))]
    #[case::a_changed_mac_is_followed(Answer::Known(A), entry(Stale, Some(B)), Answer::Known(B))]
    #[case::no_mac_no_answer(Answer::Resolving, entry(Reachable, Option::None), Answer::Resolving)]
    #[case::asked(Answer::Resolving, entry(Incomplete, Option::None), Answer::Resolving)]
    #[case::failed(Answer::Resolving, entry(Failed, Option::None), Answer::Silent)]
    #[case::lost(Answer::Known(A), entry(Failed, Option::None), Answer::Silent)]
    #[case::asked_again_in_vain(Answer::Silent, entry(Incomplete, Option::None), Answer::Silent)]
    #[case::forgotten_in_vain(Answer::Silent, Option::None, Answer::Silent)]
    #[case::back(Answer::Silent, entry(Reachable, Some(B)), Answer::Known(B))]
    #[case::forgotten_but_known(Answer::Known(A), Option::None, Answer::Known(A))]
    #[case::asked_anew_but_known(
        Answer::Known(A),
        entry(Incomplete, Option::None),
        Answer::Known(A)
    )]
    #[case::room_again(Answer::TableFull, entry(Reachable, Some(A)), Answer::Known(A))]
    fn the_answer_follows_the_entry(
        #[case] before: Answer,
        #[case] entry: Option<Entry>,
        #[case] after: Answer,
    ) {
        assert_eq!(before.after(entry), after);
    }

    #[rstest]
    #[case::fresh(
        Answer::Resolving,
        entry(Reachable, Some(A)),
        NextNudge::WhenVerificationIsDue
    )]
    #[case::forgotten(Answer::Known(A), Option::None, NextNudge::Now)]
    #[case::lost(Answer::Known(A), entry(Failed, Option::None), NextNudge::Now)]
    #[case::still_lost(Answer::Silent, entry(Failed, Option::None), NextNudge::AsScheduled)]
    #[case::still_asking(Answer::Resolving, Option::None, NextNudge::AsScheduled)]
    fn a_nudge_comes_when_it_can_tell_something(
        #[case] before: Answer,
        #[case] entry: Option<Entry>,
        #[case] next: NextNudge,
    ) {
        assert_eq!(NextNudge::after(before, before.after(entry), entry), next);
    }

    #[rstest]
    #[case::known(Answer::Known(A), entry(Stale, Some(A)), Some(Nudge::Verify))]
    #[case::forgotten(Answer::Known(A), Option::None, Some(Nudge::Ask))]
    #[case::asked_anew(Answer::Known(A), entry(Incomplete, Option::None), Some(Nudge::Ask))]
    #[case::failed(Answer::Silent, entry(Failed, Option::None), Some(Nudge::Ask))]
    #[case::permanent(Answer::Known(A), entry(Permanent, Some(A)), Option::None)]
    #[case::managed(
        Answer::Known(A),
        Some(Entry { state: Reachable, mac: Some(A), is_managed: true }),
        Option::None
    )]
    fn the_nudge_suits_the_entry(
        #[case] answer: Answer,
        #[case] entry: Option<Entry>,
        #[case] nudge: Option<Nudge>,
    ) {
        assert_eq!(Nudge::suited_to(answer, entry), nudge);
    }
}
