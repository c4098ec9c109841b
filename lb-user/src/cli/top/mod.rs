//! `lb top`

mod history;
mod model;
mod view;

use std::{
    io::{self, IsTerminal},
    path::PathBuf,
    time::Duration,
};

use anyhow::{Context, Result, ensure};
use clap::Args;
use crossterm::event::{Event, EventStream};
use futures::StreamExt;
use ratatui::DefaultTerminal;
use tokio::{
    select,
    signal::unix::{SignalKind, signal},
    sync::mpsc,
    time::{MissedTickBehavior, interval},
};

use self::model::{Flow, Model};
use super::{Socket, block_on};
use crate::api::{Status, client};

/// The daemon takes samples of its counters as often.
const ASK_EVERY: Duration = Duration::from_secs(1);

/// Watch virtual servers and their real servers live
///
/// Keys: arrows or h j k l to move and to choose the column to sort by, r to reverse, Enter to expand or collapse, a for all,
/// / to filter, ? for help, q to quit.
#[derive(Args)]
#[command(after_help = "Example:\n  lb top")]
pub struct Top {
    #[command(flatten)]
    socket: Socket,
}

impl Top {
    /// Returns when the user has seen enough.
    pub fn run(self) -> Result<()> {
        ensure!(
            io::stdout().is_terminal() && io::stdin().is_terminal(),
            "lb top needs a terminal: use `lb status --watch`"
        );
        // From here on a panic, too, gives the terminal back as it was.
        let terminal = ratatui::try_init().context("can't use the terminal")?;
        let outcome = block_on(watch(terminal, self.socket.socket));
        ratatui::restore();
        outcome
    }
}

async fn watch(mut terminal: DefaultTerminal, socket: PathBuf) -> Result<()> {
    let (tell, mut statuses) = mpsc::channel(1);
    tokio::spawn(ask(socket, tell));
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut events = EventStream::new();
    let mut model = Model::default();
    loop {
        terminal.draw(|frame| view::draw(frame, &mut model))?;
        select! {
            Some(status) = statuses.recv() => model.update(status),
            event = events.next() => match event.context("the terminal is gone")?? {
                Event::Key(key) if model.press(key) == Flow::Quit => return Ok(()),
                _ => {}
            },
            _ = terminate.recv() => return Ok(()),
            _ = interrupt.recv() => return Ok(()),
        }
    }
}

/// Asks the daemon again and again, until nobody listens.
async fn ask(socket: PathBuf, tell: mpsc::Sender<Result<Status, String>>) {
    let mut tick = interval(ASK_EVERY);
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tick.tick().await;
        let status = client::status(&socket).await;
        let status = status.map_err(|error| format!("{:#}", anyhow::Error::from(error)));
        if tell.send(status).await.is_err() {
            return;
        }
    }
}
