//! The schema: one module a subject.
//!
//! Shape: [`query`], [`mutation`] and [`subscription`] are the roots; [`stream`], [`resolve`] and [`mod@write`] the objects;
//! [`input`] what is taken; [`error`], [`id`], [`page`] and [`scalar`] what all share. Limits are checked before
//! (`crate::limits`), and so is who asks (`crate::gateway`).
pub mod error;
pub mod id;
pub mod input;
pub mod mutation;
pub mod page;
pub mod query;
pub mod resolve;
pub mod scalar;
pub mod stream;
pub mod subscription;
pub mod write;

use std::sync::Arc;

use crate::gateway::Deps;

/// The schema's type.
pub type Schema =
    async_graphql::Schema<query::Query, mutation::Mutation, subscription::Subscription>;

pub(crate) fn schema(deps: Arc<Deps>) -> Schema {
    builder().data(deps).finish()
}

pub(crate) fn builder()
-> async_graphql::SchemaBuilder<query::Query, mutation::Mutation, subscription::Subscription> {
    Schema::build(query::Query, mutation::Mutation, subscription::Subscription)
        .register_output_type::<error::AnyError>()
}

/// The schema in its definition language, as `api/schema.graphql` has it.
#[must_use]
pub fn sdl() -> String {
    builder().finish().sdl()
}
