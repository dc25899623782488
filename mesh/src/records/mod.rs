//! Records: what is agreed, as signed pieces that any two nodes can merge.
//!
//! Shape: [`Record`] is one piece as it travels and rests; [`Change`] is what it says; [`changes`] composes the
//! changes of common intents; [`Records`] is the handle that the rest of the node holds.
mod change;
pub mod changes;
mod handle;
mod ids;
mod record;
mod task;
#[cfg(test)]
mod tests;
mod write;

pub use change::{Change, ChangeError};
pub use handle::{OpenError, Records, RecordsOptions};
pub use ids::{KeyId, TokenId};
pub(crate) use record::Slot;
pub use record::{MAX_CHANGES, MAX_RECORD, Record, RecordError, Scope};
pub use write::{Ack, IdempotencyKey, Upgrade, WriteError, Written};
