//! Sessions of unbound real servers that are not to be waited for.

use std::collections::VecDeque;

use tokio::sync::oneshot;
use tracing::info;

use super::Daemon;
use crate::{
    api::DropSessions,
    control::drop_sessions::{Bindings, Walk},
};

/// Buckets at a time: packets of the network and health checks don't wait for more.
const STEP: u32 = 16_384;

/// Those under way: the first one, and the others after it.
#[derive(Default)]
pub struct Drops(VecDeque<Pending>);

struct Pending {
    request: DropSessions,
    walk: Walk,
    answer: oneshot::Sender<Result<u64, String>>,
}

impl Drops {
    /// Whether there is nothing to do.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl Daemon {
    /// Begins to drop sessions, unless a real server is bound, which would get new ones at once.
    pub(super) fn drop_sessions(
        &mut self,
        request: DropSessions,
        answer: oneshot::Sender<Result<u64, String>>,
    ) {
        match self.may_drop(&request) {
            Ok(()) => {
                self.give_up(&request);
                self.drops.0.push_back(Pending {
                    request,
                    walk: Walk::default(),
                    answer,
                });
            }
            Err(error) => drop(answer.send(Err(error))),
        }
    }

    /// No packet shall begin a session that is to be dropped.
    fn give_up(&mut self, request: &DropSessions) {
        for server in request.real_servers() {
            self.reconciler.give_up(&request.virtual_server, server);
        }
        if self.reconciler.settles(&request.virtual_server).is_some() {
            self.reconcile_again();
        }
    }

    fn may_drop(&self, request: &DropSessions) -> Result<(), String> {
        let name = &request.virtual_server;
        let mut virtual_servers = self.config.virtual_servers.iter();
        if virtual_servers.all(|it| it.name != *name) {
            return Err(format!("there is no virtual server {name}"));
        }
        match request.real_servers().find(|it| self.is_bound(name, it)) {
            Some(server) => Err(format!("{server} is bound to {name}: unbind it first")),
            None => Ok(()),
        }
    }

    /// Whether the configuration gives sessions of a virtual server to a real server, as one that is bound or as the
    /// sorry server.
    fn is_bound(&self, virtual_server: &str, real_server: &str) -> bool {
        let mut virtual_servers = self.config.virtual_servers.iter();
        virtual_servers.any(|it| {
            let mut bound = it
                .bind
                .iter()
                .map(|binding| &binding.server)
                .chain(&it.sorry);
            it.name == virtual_server && bound.any(|server| server == real_server)
        })
    }

    /// Drops some of the sessions that are to be dropped. Places in the maps are looked up each time: the configuration
    /// may have changed since.
    pub(super) fn drop_some(&mut self) {
        let Some(mut pending) = self.drops.0.pop_front() else {
            return;
        };
        let name = &pending.request.virtual_server;
        let bindings: Bindings = pending
            .request
            .real_servers()
            .filter(|server| !self.is_bound(name, server))
            .filter_map(|server| {
                let binding = self.reconciler.session_binding(name, server)?;
                Some((binding, self.reconciler.binding_counters(name, server)?))
            })
            .collect();
        let dropped = pending.walk.step(self.reconciler.tables(), &bindings, STEP);
        let Some(dropped) = dropped else {
            return self.drops.0.push_front(pending);
        };
        for &counters in bindings.values() {
            self.sessions.dropped(counters);
        }
        info!(virtual_server = %name, real_servers = %pending.request.real_servers, dropped, "sessions dropped");
        let _ = pending.answer.send(Ok(dropped));
    }
}
