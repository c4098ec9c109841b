//! What `lb bind` and `lb unbind` do: edit the daemon's file, and have it applied.

use std::{
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result, anyhow, bail, ensure};
use clap::Args;

use super::Socket;
use crate::{
    api::{
        Status, client,
        status::{RealServer, VirtualServer},
    },
    config::{
        self, LockedFile,
        edit::{Edit, EditError},
    },
};

/// Which binding.
#[derive(Args)]
pub struct Binding {
    /// The virtual server
    #[arg(value_name = "VIRTUAL-SERVER")]
    pub virtual_server: String,
    /// The real server, or a group of them
    #[arg(value_name = "SERVER")]
    pub server: String,
    /// The configuration file, where it has another path here than the daemon knows it by
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    #[command(flatten)]
    socket: Socket,
}

/// Why nothing has changed.
#[derive(Debug, thiserror::Error)]
pub enum Refused {
    /// The file can't be changed so.
    #[error(transparent)]
    Edit(#[from] EditError),
    /// All else.
    #[error(transparent)]
    Other(#[from] anyhow::Error),
}

impl Binding {
    /// Where the daemon listens.
    pub fn socket(&self) -> &Path {
        &self.socket.socket
    }

    /// Changes the file, and returns once that is applied. Whether it is, `is_done` says of each real server, as the daemon
    /// lists it now or not at all. If it is not, the file is as it was.
    pub async fn apply(
        &self,
        edit: impl Fn(&str, &str) -> Result<Edit, EditError>,
        is_done: impl Fn(Option<&RealServer>) -> bool,
    ) -> Result<Edit, Refused> {
        let status = client::status(self.socket())
            .await
            .map_err(anyhow::Error::from)?;
        let path = self.file(&status.configuration.file)?;
        let mut file = LockedFile::open(&path).map_err(anyhow::Error::from)?;
        let old = file.bytes().to_owned();
        let file_name = path.display().to_string();
        let text = config::text(&file_name, &old).map_err(EditError::from)?;
        let edit = edit(&file_name, text)?;
        file.replace(edit.text.as_bytes())
            .map_err(anyhow::Error::from)?;
        let applied = self.reload(&edit, is_done).await;
        if let Err(error) = applied {
            file.replace(&old)
                .with_context(|| format!("{error:#}; and the file stays changed"))?;
            // The daemon is to forget what was wrong with it.
            let _ = client::reload(self.socket()).await;
            return Err(anyhow!("{error:#}; the file is as it was").into());
        }
        Ok(edit)
    }

    /// Has the daemon apply the file, and sees that it was this one.
    async fn reload(
        &self,
        edit: &Edit,
        is_done: impl Fn(Option<&RealServer>) -> bool,
    ) -> Result<()> {
        client::reload(self.socket()).await?;
        let status = client::status(self.socket()).await?;
        let shop = virtual_server(&status, &self.virtual_server)?;
        let listed = |name: &str| shop.real_servers.iter().find(|it| it.name == name);
        ensure!(
            edit.servers.iter().all(|name| is_done(listed(name))),
            "the daemon reads another file: {}",
            status.configuration.file.display()
        );
        Ok(())
    }

    /// The file to edit, where the daemon reads this one.
    fn file(&self, daemons: &Path) -> Result<PathBuf> {
        let Some(ours) = &self.config else {
            return Ok(daemons.to_owned());
        };
        // What the daemon sees may not be here.
        if let Ok(theirs) = fs::canonicalize(daemons)
            && fs::canonicalize(ours).is_ok_and(|ours| ours != theirs)
        {
            bail!(
                "the daemon at {} reads {}, not {}: leave out --config, or name its --socket",
                self.socket().display(),
                daemons.display(),
                ours.display()
            );
        }
        Ok(ours.clone())
    }
}

/// A virtual server in a status, which the daemon may have lost meanwhile.
pub fn virtual_server<'a>(status: &'a Status, name: &str) -> Result<&'a VirtualServer> {
    let mut all = status.virtual_servers.iter();
    all.find(|it| it.name == name)
        .with_context(|| format!("the daemon has no virtual server {name} any more"))
}

/// Those of its real servers that have these names.
pub fn real_servers<'a>(
    virtual_server: &'a VirtualServer,
    names: &'a [String],
) -> impl Iterator<Item = &'a RealServer> {
    let all = virtual_server.real_servers.iter();
    all.filter(|it| names.contains(&it.name))
}
