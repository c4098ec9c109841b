extern crate std;
use core::net::IpAddr;

use lb_common::Address;
use rstest::rstest;

use super::*;

#[rstest]
#[case("10.9.200.100", 32, "10.9.200.100")]
#[case("10.9.200.100", 24, "10.9.200.0")]
#[case("10.9.200.100", 17, "10.9.128.0")]
#[case("10.9.200.100", 1, "0.0.0.0")]
#[case("200.9.200.100", 1, "128.0.0.0")]
#[case("2001:db8:9:1:8000::1", 128, "2001:db8:9:1:8000::1")]
#[case("2001:db8:9:1:8000::1", 65, "2001:db8:9:1:8000::")]
#[case("2001:db8:9:1:8000::1", 64, "2001:db8:9:1::")]
#[case("2001:db8:9:ffff::1", 56, "2001:db8:9:ff00::")]
#[case("ffff::", 1, "8000::")]
fn a_prefix_is_the_beginning_of_an_address(
    #[case] client: IpAddr,
    #[case] length: u8,
    #[case] expected: IpAddr,
) {
    let client = Address::from(client).words();
    let flow = Flow {
        source: client,
        destination: client,
        source_port: 0,
        destination_port: 0,
        protocol: 0,
    };
    let prefix = Address::from_words(prefix(&flow, length));
    assert_eq!(IpAddr::from(prefix), expected);
}
