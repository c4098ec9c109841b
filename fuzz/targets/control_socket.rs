//! Any request to the daemon, and any answer to a command: the first byte chooses.
#![no_main]

use std::cell::LazyCell;

use lb_fuzz::control_socket::Sockets;
use libfuzzer_sys::fuzz_target;

thread_local! {
    static SOCKETS: LazyCell<Sockets> = LazyCell::new(Sockets::new);
}

fuzz_target!(|bytes: &[u8]| {
    SOCKETS.with(|sockets| match bytes {
        [b'?', request @ ..] => sockets.ask(request),
        [b'!', answer @ ..] => sockets.answer(answer),
        _ => {}
    });
});
