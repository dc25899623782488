//! The GraphQL gateway and the operators' console, as one axum router.
//!
//! # Map
//! - [`ports`]: what this crate needs of the house; `node` answers it.
//! - [`Gateway`]: who asks, whether this node may answer, forwarding to one that may.
//! - [`graphql`]: the schema, one module a subject; `api/schema.graphql` is its text.
//! - `limits`: what a request may cost, from its document alone.
//! - `http`, `ws`: the paths, and GraphQL over WebSocket.
//! - [`console`]: the page at `/` and the JSON that it draws.
//!
//! # Invariants
//! - A tenant sees and changes only its own things; a thing of another is answered like one that does not exist.
//! - What is answered as done was written as a signed record, and says how safe it is: `REPLICATED` or `LOCAL`.
//! - A field that would have no effect is refused by name.
//! - A node without a tenant's records forwards; the node that answers checks the token itself. Where to watch and where
//!   to publish is asked without a token: [`ports::Resolver`] finds out at nodes that have the records.
//! - Every body, document, page, queue and connection count has a limit. Viewers' addresses are neither kept nor shown.
//!
//! # Example
//! ```
//! let sdl = api::graphql::sdl();
//! assert!(sdl.contains("union CreateStreamResult = Stream | ValidationError | AuthError"));
//! assert!(sdl.contains("liveStreamEvents(streamId: ID): StreamEvent!"));
//! ```
pub mod console;
#[cfg(any(test, fuzzing))]
pub mod fuzz;
mod gateway;
pub mod graphql;
mod http;
mod limits;
pub mod ports;
mod ws;

pub use gateway::{ApiOptions, Gateway, MAX_BODY, MAX_SOCKETS};
pub use http::{ACKNOWLEDGEMENT, IDEMPOTENCY_KEY, router};
