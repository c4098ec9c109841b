//! Tables for unit tests.

extern crate std;
use std::vec::Vec;

use super::*;

/// What packets look up, as far as a test fills it in.
#[derive(Default)]
pub(crate) struct Arrays {
    pub control: Control,
    pub vip_buckets: Vec<VipBucket>,
    pub vips: Vec<Vip>,
    pub port_ranges: Vec<PortRange>,
    pub virtual_servers: Vec<VirtualServer>,
    pub predictor_tables: Vec<TableBlock>,
}

impl Tables for Arrays {
    fn control(&self) -> Option<&Control> {
        Some(&self.control)
    }
    fn vip_bucket(&self, index: u32) -> Option<&VipBucket> {
        self.vip_buckets.get(index as usize)
    }
    fn vip(&self, index: u32) -> Option<&Vip> {
        self.vips.get(index as usize)
    }
    fn port_range(&self, index: u32) -> Option<&PortRange> {
        self.port_ranges.get(index as usize)
    }
    fn virtual_server(&self, &index: &u32) -> Option<&VirtualServer> {
        self.virtual_servers.get(index as usize)
    }
    fn table_block(&self, index: u32) -> Option<&TableBlock> {
        self.predictor_tables.get(index as usize)
    }
    fn binding(&self, _: u32) -> Option<&Binding> {
        None
    }
    fn real_server(&self, _: &u32) -> Option<&RealServer> {
        None
    }
    fn interface(&self, _: u32) -> Option<&Interface> {
        None
    }
}
