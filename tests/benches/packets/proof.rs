//! Packets of a case one by one, outside of the time that is measured: what comes out must be what etherparse reads as a
//! packet on its way to a real server.

use std::{
    collections::{HashMap, HashSet},
    net::IpAddr,
};

use anyhow::{Context, Result, anyhow, bail, ensure};
use etherparse::{EtherType, Ethernet2Header, Ipv4Header, Ipv6Header, ether_type, ip_number};
use lb_common::benchmark::OWN_MAC;

use crate::{
    balancer::{Forward, own_address},
    case::{Becomes, Case, Job, What},
    program::{Last, Measured, Programs},
    traffic::Family,
    trial::{Done, PASS, TX, Trial},
};

/// Packets for each real server, so that all are chosen.
const FOR_EACH: u32 = 20;
const LEAST: u32 = 64;

/// Makes sure that a case does what it says. `next` is the number of a packet that was not sent before, and after it.
pub fn prove(
    case: &Case,
    measured: Measured<'_>,
    programs: &mut Programs,
    next: &mut u64,
) -> Result<()> {
    let (case, flows) = with_flows_for_all(case);
    let mut trial = Trial {
        case: &case,
        measured,
        programs,
    };
    trial.prepare()?;
    let before = trial.counts()?;
    let numbers = *next..*next + u64::from(flows);
    let mut servers = HashMap::new();
    let mut action = 0;
    // Twice: a flow stays where it is.
    for number in numbers.clone().chain(numbers.clone()) {
        let sent = case.traffic.packet(number);
        let left = trial.one(number)?;
        action = left.action;
        let server = read(&case, measured, &sent, &left).map_err(|error| {
            let (action, sent, left) = (left.action, hex(&sent), hex(&left.frame));
            anyhow!(
                "{}: packet {number}: {error:#}\n{sent}\nbecame, with XDP action {action},\n{left}",
                case.name
            )
        })?;
        let former = servers.insert(number, server);
        ensure!(
            former.is_none_or(|former| former == server),
            "{}: packet {number} went to {former:?} at first and then to {server:?}",
            case.name
        );
    }
    *next = numbers.end;
    let packets = 2 * u64::from(flows);
    let changed = if action == PASS { 0 } else { packets };
    let done = Done {
        packets,
        changed: [changed, packets],
        action,
        counts: trial.counts()? - before,
    };
    trial.check(&done, flows.into())?;
    uses_all(&case, flows, servers.into_values().flatten().collect())
}

/// The case with flows enough for all real servers, and how many.
fn with_flows_for_all(case: &Case) -> (Case, u32) {
    let mut case = case.clone();
    let What::Balancer(Job {
        spec,
        before,
        becomes,
    }) = &mut case.what
    else {
        return (case, LEAST);
    };
    let flows = (FOR_EACH * spec.real_servers as u32).max(LEAST);
    let flows = flows.next_power_of_two();
    if *becomes == Becomes::Forwarded {
        case.traffic = case.traffic.with_flows(flows);
        for traffic in before {
            *traffic = traffic.clone().with_flows(flows);
        }
    }
    (case, flows)
}

/// Sessions are spread by flow or by client: in both cases over as many real servers as can be expected.
fn uses_all(case: &Case, flows: u32, used: HashSet<IpAddr>) -> Result<()> {
    let What::Balancer(Job { spec, becomes, .. }) = &case.what else {
        return Ok(());
    };
    let is_by_client = case.traffic.flows_of_client() < flows;
    let chosen = if is_by_client {
        flows / case.traffic.flows_of_client()
    } else {
        flows
    };
    let expected = match becomes {
        Becomes::Passed => 0,
        _ => spec.real_servers.min(chosen as usize / 5),
    };
    ensure!(
        used.len() >= expected,
        "{}: {flows} flows went to {} of {} real servers",
        case.name,
        used.len(),
        spec.real_servers
    );
    Ok(())
}

/// The real server that a packet went to; none if it passed, or if there is no balancer.
fn read(case: &Case, measured: Measured<'_>, sent: &[u8], left: &Last) -> Result<Option<IpAddr>> {
    let (sent_to, packet) = ethernet(sent)?;
    let passes = matches!(&case.what, What::Balancer(job) if job.becomes == Becomes::Passed);
    if passes {
        ensure!(
            left.action == PASS && left.frame == sent,
            "it did not pass untouched"
        );
        return Ok(None);
    }
    ensure!(left.action == TX, "it was not sent on");
    let (header, rest) = ethernet(&left.frame)?;
    ensure!(header.source == OWN_MAC, "its source is not the balancer");
    let server = match (measured, &case.what) {
        (Measured::Balancer(balancer), What::Balancer(job)) => {
            let server = balancer.real_server(header.destination);
            let server = server.context("its MAC address is no real server's")?;
            if job.spec.forward == Forward::L3dsr {
                let outer = outer(case.family, header.ether_type, rest, packet)?;
                ensure!(
                    outer == [own_address(case.family), server],
                    "the outer header is from {} to {}",
                    outer[0],
                    outer[1]
                );
                return Ok(Some(server));
            }
            Some(server)
        }
        (Measured::Encapsulate, _) => {
            outer(case.family, header.ether_type, rest, packet)?;
            return Ok(None);
        }
        _ => None,
    };
    ensure!(
        header.ether_type == sent_to.ether_type && rest == packet,
        "the IP packet is not what it was"
    );
    Ok(server)
}

fn hex(frame: &[u8]) -> String {
    frame.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn ethernet(frame: &[u8]) -> Result<(Ethernet2Header, &[u8])> {
    Ok(Ethernet2Header::from_slice(frame)?)
}

/// Source and destination of the outer header, which has nothing but a packet inside.
fn outer(
    family: Family,
    ether_type: EtherType,
    bytes: &[u8],
    packet: &[u8],
) -> Result<[IpAddr; 2]> {
    let (addresses, inside) = match (family, ether_type) {
        (Family::V4, ether_type::IPV4) => {
            let (header, inside) = Ipv4Header::from_slice(bytes)?;
            ensure!(
                header.header_checksum == header.calc_header_checksum(),
                "the outer checksum is wrong"
            );
            ensure!(
                header.protocol == ip_number::IPV4
                    && usize::from(header.total_len) == bytes.len()
                    && header.time_to_live > 1,
                "the outer header is wrong: {header:?}"
            );
            ([header.source.into(), header.destination.into()], inside)
        }
        (Family::V6, ether_type::IPV6) => {
            let (header, inside) = Ipv6Header::from_slice(bytes)?;
            ensure!(
                header.next_header == ip_number::IPV6
                    && usize::from(header.payload_length) == inside.len()
                    && header.hop_limit > 1,
                "the outer header is wrong: {header:?}"
            );
            ([header.source.into(), header.destination.into()], inside)
        }
        _ => bail!("its type is {ether_type:?}"),
    };
    ensure!(inside == packet, "the inner packet is not what it was");
    Ok(addresses)
}
