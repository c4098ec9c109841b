//! Who pings a VIP learns whether a virtual server there is up.

use std::{net::IpAddr, time::Duration};

use lb_tests::{Lab, named};
use rstest::rstest;
use serde_json::Value;

use crate::support::{PATIENCE, SHOP, VIP, VIP6, balance};

#[rstest]
#[case::on_the_link(Lab::builder().build().unwrap())]
#[case::behind_a_router(Lab::builder().client_behind_router(1500).build().unwrap())]
fn a_vip_answers_while_a_virtual_server_is_up(#[case] lab: Lab) {
    let [up, down] = [
        SHOP.into(),
        SHOP.replace("[web]", "[]").replace("[web6]", "[]"),
    ]
    .map(|shop: String| lab.config(&shop));
    let lb = balance(&lab, SHOP);
    for (config, state) in [(&up, "up"), (&down, "down"), (&up, "up")] {
        lab.write_config(config).unwrap();
        let so = |status: &Value| {
            let all = &status["virtual_servers"];
            ["shop", "shop6"]
                .iter()
                .all(|shop| named(all, shop)["state"] == state)
        };
        lb.wait_until(&format!("both are {state}"), so).unwrap();
        for vip in [VIP, VIP6] {
            let vip: IpAddr = vip.parse().unwrap();
            let answer = match state {
                "up" => lab.client().ping(vip, PATIENCE),
                _ => lab.client().ping(vip, Duration::from_millis(500)),
            };
            assert_eq!(
                answer.is_ok(),
                state == "up",
                "{vip} is {state}: {answer:?}"
            );
        }
    }
    let dropped = &lb.status().unwrap()["drops"]["no_real_server"];
    assert_eq!(*dropped, 2);
}
