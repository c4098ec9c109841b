//! `lb bind`

use std::{path::Path, time::Duration};

use anyhow::Result;
use clap::Args;
use tokio::time::{Instant, sleep};

use super::{
    block_on,
    edit::{self, Binding},
};
use crate::{
    api::client,
    config::edit::{Edit, bind},
};

/// A new server has been asked for its MAC address and checked once by then, if it answers.
const FIRST_ANSWERS: Duration = Duration::from_secs(2);

/// Bind a real server or a group to a virtual server: edit the configuration file, and have it applied
///
/// Comments and order of the file are kept. Exits 1, with the file as it was, if it can't be applied.
#[derive(Args)]
#[command(after_help = "Examples:\n  lb bind shop web-3\n  lb bind shop web-3 --weight 5")]
pub struct Bind {
    #[command(flatten)]
    binding: Binding,
    /// Its weight in this virtual server alone, 0 to 1000; 0 gives it no new sessions
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(..=1000))]
    weight: Option<u16>,
}

impl Bind {
    /// Prints what is bound now.
    pub fn run(self) -> Result<()> {
        let Self { binding, weight } = self;
        let (shop, server) = (&binding.virtual_server, &binding.server);
        block_on(async {
            let applied = binding.apply(
                |file_name, text| bind(file_name, text, shop, server, weight),
                |listed| listed.is_some(),
            );
            let edit = applied.await?;
            println!(
                "{shop}: {}",
                outcome(binding.socket(), shop, server, &edit).await?
            );
            Ok(())
        })
    }
}

/// What has become of the servers, once they have had time to answer.
async fn outcome(socket: &Path, shop: &str, server: &str, edit: &Edit) -> Result<String> {
    let deadline = Instant::now() + FIRST_ANSWERS;
    loop {
        let status = client::status(socket).await?;
        let shop = edit::virtual_server(&status, shop)?;
        let bound: Vec<_> = edit::real_servers(shop, &edit.servers).collect();
        let usable = bound.iter().filter(|it| it.state != "down").count();
        if usable < edit.servers.len() && Instant::now() < deadline {
            sleep(Duration::from_millis(50)).await;
            continue;
        }
        return Ok(match bound.as_slice() {
            [one] if one.name == server => {
                let reason = match one.reason.as_str() {
                    "" => String::new(),
                    reason => format!(": {reason}"),
                };
                format!(
                    "{server} bound (weight {}), {}{reason}",
                    one.weight, one.state
                )
            }
            all => {
                let up = all.iter().filter(|it| it.state == "up").count();
                format!(
                    "{server} bound, {up} of {} real servers up",
                    edit.servers.len()
                )
            }
        });
    }
}
