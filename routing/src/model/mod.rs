//! The value types that all crates share. See the submodules by subject.
mod clock;
mod id;
mod load;
mod place;
mod prefix;
mod secret;
mod track;

pub use clock::{Clock, Hlc, UnixMillis, Uptime};
pub use id::{
    BroadcastId, ClusterId, EpochId, IdError, Label, MeshId, NodeId, PlaybackId, StreamId, TenantId,
};
pub use load::{BitsPerSecond, Capacity, Load, Mode, Permille, Role, Roles, Verb, Verbs};
pub use place::{Place, PlaceError, Region};
pub use prefix::{Prefix, PrefixError};
pub use secret::{Exposed, Secret, StreamKey};
pub use track::{Codec, TrackDetail, TrackKind, TrackSummary};
