//! Which sessions `lb unbind --now` drops.

use serde::{Deserialize, Serialize};

/// Those of a virtual server on real servers that it doesn't bind any more.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DropSessions {
    /// Its name.
    pub virtual_server: String,
    /// Their names, with commas between them.
    pub real_servers: String,
}

impl DropSessions {
    /// The names of the real servers.
    pub fn real_servers(&self) -> impl Iterator<Item = &str> {
        self.real_servers.split(',')
    }
}
