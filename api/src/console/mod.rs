//! The operators' console: a page, and the state of the mesh that it draws.
pub mod state;

use crate::ports::{Caller, Operators};

/// Admits callers from the loopback that name a loopback host, and nobody else.
#[derive(Clone, Copy, Debug, Default)]
pub struct LoopbackOnly;

impl Operators for LoopbackOnly {
    fn admits(&self, caller: Caller<'_>) -> bool {
        let host_is_local = caller.host.is_none_or(|host| {
            host == "localhost"
                || host
                    .trim_matches(['[', ']'])
                    .parse::<std::net::IpAddr>()
                    .is_ok()
        });
        caller.addr.to_canonical().is_loopback() && host_is_local
    }
}
