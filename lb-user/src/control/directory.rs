//! Builds the directory: see [`lb_common::directory`] for what it is.

use std::{collections::BTreeMap, net::IpAddr};

use bytemuck::Zeroable;
use lb_common::{Address, Directory, PortRange, Vip, VipBucket, VipSlot, directory::VipPorts};

use crate::config::{Ports, Protocol};

/// A virtual server, as the directory sees it.
#[derive(Clone, Copy, Debug)]
pub struct Service<'a> {
    /// Index in `virtual_servers`.
    pub id: u32,
    /// Its VIP.
    pub vip: IpAddr,
    /// Its protocol.
    pub protocol: Protocol,
    /// Its ports.
    pub ports: &'a Ports,
    /// Whether it takes new sessions.
    pub up: bool,
}

/// Where in the maps a directory will lie.
#[derive(Clone, Copy, Debug)]
pub struct Place {
    /// Its buckets.
    pub directory: Directory,
    /// Index in `vips` of its first VIP; not 0.
    pub first_vip: u32,
    /// Index in `port_ranges` of its first range.
    pub first_range: u32,
}

/// The contents of the maps `vip_buckets`, `vips` and `port_ranges`, from a [`Place`] on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Image {
    /// All buckets.
    pub buckets: Vec<VipBucket>,
    /// One entry a VIP.
    pub vips: Vec<Vip>,
    /// All ranges, those of one VIP and protocol side by side.
    pub port_ranges: Vec<PortRange>,
}

/// The buckets are too full to place a key.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "the table of VIPs and ports is full: raise limits.virtual_servers, or use port ranges instead of lists"
)]
pub struct Full;

/// The directory of `services`, whose VIPs and ports do not clash.
pub fn build<'a>(services: impl Iterator<Item = Service<'a>>, place: Place) -> Result<Image, Full> {
    let mut buckets = Buckets::new(place.directory);
    let mut by_vip: BTreeMap<Address, PortsOfVip> = BTreeMap::new();
    for service in services {
        let address = Address::from(service.vip);
        let vip = by_vip.entry(address).or_default();
        vip.up |= service.up;
        let ports = match service.protocol {
            Protocol::Tcp => &mut vip.tcp,
            Protocol::Udp => &mut vip.udp,
        };
        match service.ports {
            Ports::Any => ports.any = service.id,
            Ports::Range(range) => ports.ranges.push(PortRange {
                first: *range.start(),
                last: *range.end(),
                virtual_server: service.id,
            }),
            Ports::List(list) => {
                for &port in list {
                    buckets.insert(VipSlot {
                        address,
                        port,
                        protocol: service.protocol.number(),
                        reserved: 0,
                        id: service.id,
                    })?;
                }
            }
        }
    }
    let mut vips = Vec::new();
    let mut port_ranges = Vec::new();
    for (address, PortsOfVip { tcp, udp, up }) in by_vip {
        buckets.insert(VipSlot {
            address,
            id: place.first_vip + vips.len() as u32,
            ..VipSlot::zeroed()
        })?;
        let [tcp, udp] = [tcp, udp].map(|mut ports| {
            ports.ranges.sort_unstable_by_key(|range| range.first);
            let first_range = place.first_range + port_ranges.len() as u32;
            port_ranges.extend_from_slice(&ports.ranges);
            VipPorts {
                first_range,
                ranges: ports.ranges.len() as u32,
                any: ports.any,
            }
        });
        vips.push(Vip {
            address,
            tcp,
            udp,
            up: up.into(),
            reserved: 0,
        });
    }
    Ok(Image {
        buckets: buckets.buckets,
        vips,
        port_ranges,
    })
}

#[derive(Default)]
struct PortsOfVip {
    tcp: PortsByKind,
    udp: PortsByKind,
    up: bool,
}

#[derive(Default)]
struct PortsByKind {
    ranges: Vec<PortRange>,
    any: u32,
}

/// A hash table of two choices. When both buckets of a key are full, it takes the place of a resident, which
/// moves to its own other bucket (cuckoo hashing, Pagh and Rodler 2004).
struct Buckets {
    directory: Directory,
    buckets: Vec<VipBucket>,
    moves: usize,
}

impl Buckets {
    const MOST_MOVES: usize = 1000;

    fn new(directory: Directory) -> Self {
        Self {
            directory,
            buckets: vec![VipBucket::zeroed(); directory.bucket_mask as usize + 1],
            moves: 0,
        }
    }

    /// The first and the second bucket of a key, as indices in `self.buckets`.
    fn choices(&self, key: &VipSlot) -> [usize; 2] {
        self.directory
            .buckets(key.address.words(), key.protocol, key.port)
            .map(|bucket| (bucket - self.directory.first_bucket) as usize)
    }

    fn insert(&mut self, mut key: VipSlot) -> Result<(), Full> {
        for _ in 0..Self::MOST_MOVES {
            let choices = self.choices(&key);
            for bucket in choices {
                let mut slots = self.buckets[bucket].slots.iter_mut();
                if let Some(free) = slots.find(|slot| slot.id == 0) {
                    *free = key;
                    self.note_spill(choices, bucket);
                    return Ok(());
                }
            }
            // Which resident: any rule that does not undo the last move. This one turns like a clock.
            self.moves += 1;
            let bucket = choices[self.moves % 2];
            let resident = &mut self.buckets[bucket].slots[self.moves / 2 % VipBucket::SLOTS];
            std::mem::swap(resident, &mut key);
            self.note_spill(choices, bucket);
        }
        Err(Full)
    }

    fn note_spill(&mut self, [first, _]: [usize; 2], bucket: usize) {
        if bucket != first {
            self.buckets[first].spilled = 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{collections::BTreeSet, net::Ipv4Addr};

    use super::*;

    const PLACE: Place = Place {
        directory: Directory {
            first_bucket: 4096,
            bucket_mask: 4095,
        },
        first_vip: 100,
        first_range: 200,
    };

    fn service(id: u32, vip: u32, ports: &Ports) -> Service<'_> {
        Service {
            id,
            vip: Ipv4Addr::from(0x0a09_0100 + vip).into(),
            protocol: Protocol::Tcp,
            ports,
            up: true,
        }
    }

    fn find(image: &Image, vip: u32, protocol: u8, port: u16) -> Option<(u32, bool)> {
        let address = Address::from(Ipv4Addr::from(0x0a09_0100 + vip)).words();
        let [first, second] = PLACE.directory.buckets(address, protocol, port);
        let look = |bucket: u32| {
            let bucket = &image.buckets[(bucket - 4096) as usize];
            let found = bucket
                .slots
                .iter()
                .find(|slot| slot.holds(address, protocol, port));
            (found.map(|slot| slot.id), bucket.spilled != 0)
        };
        match look(first) {
            (Some(id), _) => Some((id, true)),
            (None, true) => look(second).0.map(|id| (id, false)),
            (None, false) => None,
        }
    }

    #[test]
    fn every_port_of_every_vip_is_found_and_most_in_their_first_bucket() {
        let ports = Ports::List(BTreeSet::from([80, 443]));
        let services = (0..1000).map(|n| service(n + 1, n, &ports));
        let image = build(services, PLACE).unwrap();
        let mut in_first = 0;
        for n in 0..1000 {
            for port in [80, 443] {
                let (id, first) = find(&image, n, 6, port).unwrap();
                assert_eq!(id, n + 1);
                in_first += u32::from(first);
            }
            assert_eq!(find(&image, n, 0, 0).unwrap().0, 100 + n);
            assert_eq!(find(&image, n, 6, 81), None);
            assert_eq!(find(&image, n, 17, 80), None);
        }
        assert!(in_first > 1800, "{in_first} of 2000");
    }

    #[test]
    fn ranges_are_sorted_and_any_is_kept_apart() {
        let (high, low) = (Ports::Range(9000..=9100), Ports::Range(8000..=8100));
        let services = [
            service(1, 0, &high),
            service(2, 0, &low),
            service(3, 0, &Ports::Any),
        ];
        let image = build(services.into_iter(), PLACE).unwrap();
        assert_eq!(image.vips.len(), 1);
        let tcp = image.vips[0].tcp;
        assert_eq!((tcp.first_range, tcp.ranges, tcp.any), (200, 2, 3));
        let ranges: Vec<_> = image
            .port_ranges
            .iter()
            .map(|range| (range.first, range.last, range.virtual_server))
            .collect();
        assert_eq!(ranges, [(8000, 8100, 2), (9000, 9100, 1)]);
    }

    #[test]
    fn a_table_that_is_too_full_is_an_error() {
        let ports = Ports::List((1..=9000).collect());
        let services = std::iter::once(service(1, 0, &ports));
        assert_eq!(build(services, PLACE), Err(Full));
    }
}
