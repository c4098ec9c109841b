//! `lb unbind`

use std::slice;

use anyhow::Result;
use clap::Args;

use super::{
    block_on,
    edit::{self, Binding, Refused},
};
use crate::{
    api::{DropSessions, client},
    config::edit::{EditError, unbind},
};

/// Unbind a real server or a group from a virtual server: edit the configuration file, and have it applied
///
/// Sessions stay on the real server to their end, unless --now drops them; new ones go elsewhere. Comments and order of
/// the file are kept. Exits 1, with the file as it was, if it can't be applied.
#[derive(Args)]
#[command(after_help = "Examples:\n  lb unbind shop web-3\n  lb unbind shop web-3 --now")]
pub struct Unbind {
    #[command(flatten)]
    binding: Binding,
    /// Drop its sessions, too, also if it was unbound before
    #[arg(long)]
    now: bool,
}

impl Unbind {
    /// Prints what has become of the sessions.
    pub fn run(self) -> Result<()> {
        block_on(async {
            println!("{}: {}", self.binding.virtual_server, self.unbind().await?);
            Ok(())
        })
    }

    async fn unbind(&self) -> Result<String> {
        let Binding {
            virtual_server: shop,
            server,
            ..
        } = &self.binding;
        let socket = self.binding.socket();
        let applied = self.binding.apply(
            |file_name, text| unbind(file_name, text, shop, server),
            // What is left with sessions has no weight.
            |listed| listed.is_none_or(|it| it.weight == 0),
        );
        let (what, servers) = match applied.await {
            Ok(edit) => ("unbound", edit.servers),
            Err(error) if self.now => match self.unbound_before(&error).await? {
                left if left.is_empty() => return Err(error.into()),
                left => ("was unbound already", left),
            },
            Err(error) => return Err(error.into()),
        };
        let sessions = if self.now {
            let request = DropSessions {
                virtual_server: shop.clone(),
                real_servers: servers.join(","),
            };
            let dropped = client::drop_sessions(socket, &request).await?;
            format!("{} dropped", count(dropped))
        } else {
            let status = client::status(socket).await?;
            let shop = edit::virtual_server(&status, shop)?;
            let left = edit::real_servers(shop, &servers);
            let active = left.map(|it| it.sessions.active).sum();
            match (shop.settling, active) {
                // More flows than that may be there.
                (Some(seconds), active) => {
                    let so_far = count(active);
                    format!("{so_far} so far, and its flows are recorded for {seconds} s more")
                }
                (None, 0) => "no sessions left".to_owned(),
                (None, active) => format!("{} still active", count(active)),
            }
        };
        let status = client::status(socket).await?;
        let is_down = edit::virtual_server(&status, shop)?.state == "down";
        let service = if is_down {
            "; the virtual server is down"
        } else {
            ""
        };
        Ok(format!("{server} {what}, {sessions}{service}"))
    }

    /// The real servers that can't be unbound and have sessions left from before.
    async fn unbound_before(&self, error: &Refused) -> Result<Vec<String>> {
        let unbound = match error {
            Refused::Edit(EditError::NotBound { unbound, .. }) => unbound,
            Refused::Edit(EditError::UnknownServer { name, .. }) => slice::from_ref(name),
            _ => return Ok(Vec::new()),
        };
        let status = client::status(self.binding.socket()).await?;
        let shop = edit::virtual_server(&status, &self.binding.virtual_server)?;
        let left = edit::real_servers(shop, unbound).filter(|it| !it.sorry);
        Ok(left.map(|it| it.name.clone()).collect())
    }
}

fn count(sessions: u64) -> String {
    match sessions {
        0 => "no sessions".to_owned(),
        1 => "1 session".to_owned(),
        many => format!("{many} sessions"),
    }
}
