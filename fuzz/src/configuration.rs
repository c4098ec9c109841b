//! What holds for any configuration file.

use std::{collections::HashMap, mem};

use lb_user::{
    config::{
        Binding, Config, Limits, LoadError, Position, difference,
        edit::{self, Edit, EditError},
    },
    control::{Reconciler, desired},
    dataplane::{Sizes, Tables},
    health::States,
    net::{NextHop, View, Way},
};

use crate::{memory::NoKernel, network::LAN};

const FILE: &str = "lb.yaml";

/// A file is refused with places and reasons, or it can be printed, followed and edited.
///
/// # Panics
/// It can't.
pub fn check(bytes: &[u8]) {
    let config = match Config::from_bytes(FILE, bytes) {
        Ok(config) => config,
        Err(error) => return refused(&error),
    };
    assert_eq!(difference(&config, &config), Vec::<String>::new());
    serde_json::to_string(&config).expect("it can be printed");
    reconcile(&config);
    let text = str::from_utf8(bytes).expect("it was read");
    edits(&config, text);
}

/// Every problem has a place in the file, and a message of one line.
fn refused(error: &LoadError) {
    let LoadError::Invalid { diagnostics, .. } = error else {
        panic!("{error}")
    };
    assert!(!diagnostics.is_empty());
    assert!(diagnostics.is_sorted());
    let mut places = diagnostics.iter().map(|it| it.position);
    assert!(places.all(|place| place >= Position::START), "{error}");
    let lines = error.to_string().lines().count();
    assert_eq!(lines, diagnostics.len(), "{error}");
}

/// The maps can be filled, twice in the same way, unless they have no room.
fn reconcile(config: &Config) {
    let wanted = desired::desired(
        config,
        &view(config),
        &HashMap::new(),
        &[],
        &States::default(),
    );
    let sizes = Sizes {
        sessions_v4: 8,
        sessions_v6: 8,
        sticky: 8,
        ..Sizes::new(&Limits {
            virtual_servers: 1.max(config.virtual_servers.len() as u32),
            real_servers: 1.max(config.real_servers.len() as u32),
            ..config.limits
        })
    };
    let tables = Tables::anonymous(&sizes).expect("memory");
    tables.set_limits(&config.limits);
    let mut reconciler = Reconciler::new(tables, &sizes, NoKernel);
    if reconciler.apply(&wanted).is_ok() {
        reconciler.apply(&wanted).expect("nothing has changed");
    }
}

/// A network in which every real server answers.
fn view(config: &Config) -> View {
    let next_hops = config.real_servers.values().map(|server| {
        let way = Way {
            interface: config.interfaces[0].name.clone(),
            ifindex: LAN.ifindex,
            source_mac: LAN.mac,
            source_address: Some(server.address),
            gateway: None,
            mtu: 1500,
        };
        let mac = [0x02, 0, 0, 0, 0, 1];
        (server.address, Ok(NextHop { way, mac }))
    });
    View {
        next_hops: next_hops.collect(),
        ..View::default()
    }
}

/// An edit of the text changes the wanted bindings alone, or is refused.
fn edits(config: &Config, text: &str) {
    // As many as there is time for.
    for virtual_server in config.virtual_servers.iter().take(2) {
        let name = &virtual_server.name;
        for server in config.real_servers.keys().take(3) {
            if let Some(edit) = edited(edit::bind(FILE, text, name, server, Some(7))) {
                let bound = bindings(config, &edit, name);
                let new = Binding {
                    server: server.clone(),
                    weight: 7,
                    drain: false,
                };
                assert_eq!(bound, [&virtual_server.bind[..], &[new]].concat());
                let back = edit::unbind(FILE, &edit.text, name, server);
                let back = back.expect("what is bound can be unbound");
                assert_eq!(bindings(config, &back, name), virtual_server.bind);
            }
            if let Some(edit) = edited(edit::unbind(FILE, text, name, server)) {
                let mut left = virtual_server.bind.clone();
                left.retain(|binding| !edit.servers.contains(&binding.server));
                assert_eq!(bindings(config, &edit, name), left);
            }
        }
    }
}

fn edited(edit: Result<Edit, EditError>) -> Option<Edit> {
    match edit {
        Ok(edit) => Some(edit),
        Err(EditError::Load(error)) => panic!("the file was right: {error}"),
        Err(_) => None,
    }
}

/// The bindings of a virtual server in an edited file, in which nothing else has changed.
fn bindings(config: &Config, edit: &Edit, virtual_server: &str) -> Vec<Binding> {
    let edited = Config::parse(FILE, &edit.text);
    let mut edited = edited.unwrap_or_else(|error| panic!("{error}\n{}", edit.text));
    let mut names = config.virtual_servers.iter().map(|it| &it.name);
    let index = names.position(|name| name == virtual_server);
    let index = index.expect("it was edited");
    let before = config.virtual_servers[index].bind.clone();
    let bound = mem::replace(&mut edited.virtual_servers[index].bind, before);
    assert_eq!(
        &edited, config,
        "more than bindings changed:\n{}",
        edit.text
    );
    bound
}
