//! What mutations take. A field that would have no effect is refused by name, so that nobody believes in a recording
//! that is not made.
use async_graphql::{Enum, InputObject, MaybeUndefined};

use super::error::Fault;

/// How media comes in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Enum)]
pub enum IngestMode {
    /// An encoder sends it.
    Push,
    /// Shoal fetches it.
    Pull,
}

/// How a recording is divided.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Enum)]
#[graphql(name = "DVRChapterMode")]
pub enum DvrChapterMode {
    /// By the window's length.
    WindowSized,
    /// By a fixed interval.
    FixedInterval,
    /// Not.
    None,
}

/// Whether a stream is watched over.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Enum)]
pub enum MonitoringToggle {
    /// As the tenant has it.
    Inherit,
    /// Yes.
    On,
    /// No.
    Off,
}

/// The clusters that may fetch a source.
#[derive(Clone, Debug, InputObject)]
pub struct PullSourceAllowedClustersInput {
    /// Their ids; none means all.
    pub cluster_ids: Vec<String>,
}

/// Where Shoal fetches a stream from.
#[derive(Clone, Debug, InputObject)]
pub struct PullSourceInput {
    /// Its URI.
    pub source_uri: Option<String>,
    /// Whether it is fetched.
    #[graphql(default_with = "Some(true)")]
    pub enabled: Option<bool>,
    /// By whom.
    pub allowed_clusters: Option<PullSourceAllowedClustersInput>,
}

/// A new stream.
#[derive(Clone, Debug, InputObject)]
pub struct CreateStreamInput {
    /// Its name for people, 1 to 256 bytes.
    pub name: String,
    /// What to say of it, at most 4096 bytes.
    pub description: Option<String>,
    /// Whether to record it.
    #[graphql(default_with = "Some(false)")]
    pub record: Option<bool>,
    /// How media comes in.
    #[graphql(default_with = "Some(IngestMode::Push)")]
    pub ingest_mode: Option<IngestMode>,
    /// Where it is fetched from, with `ingestMode: PULL`.
    pub pull_source: Option<PullSourceInput>,
}

/// What changes of a stream; what is absent stays.
#[derive(Clone, Debug, InputObject)]
pub struct UpdateStreamInput {
    /// Its name for people, 1 to 256 bytes.
    pub name: Option<String>,
    /// What to say of it, at most 4096 bytes; `null` removes it.
    pub description: MaybeUndefined<String>,
    /// Whether to record it.
    pub record: Option<bool>,
    /// How media comes in.
    pub ingest_mode: Option<IngestMode>,
    /// Where it is fetched from.
    pub pull_source: Option<PullSourceInput>,
    /// How a recording is divided.
    pub dvr_chapter_mode: Option<DvrChapterMode>,
    /// The interval of `FIXED_INTERVAL`, in seconds.
    pub dvr_chapter_interval_seconds: Option<i32>,
    /// Whether it is watched over.
    pub monitoring: Option<MonitoringToggle>,
}

/// A new stream key.
#[derive(Clone, Debug, InputObject)]
pub struct CreateStreamKeyInput {
    /// Its name for people, 1 to 256 bytes.
    pub name: String,
}

fn text(field: &str, value: &str, max: usize) -> Result<(), Fault> {
    if value.len() > max {
        let message = format!("{field} has {} bytes: at most {max} are kept", value.len());
        return Err(Fault::validation(
            field,
            &format!("at most {max} bytes"),
            message,
        ));
    }
    if value
        .chars()
        .any(|c| c.is_control() && c != '\n' && c != '\t')
    {
        let message = format!("{field} has control characters: take them out");
        return Err(Fault::validation(field, "no control characters", message));
    }
    Ok(())
}

/// Checks a name for people, and takes the white space around it off.
pub(crate) fn name(value: &str) -> Result<String, Fault> {
    let value = value.trim();
    if value.is_empty() {
        let message = "the name is empty: give one that people will recognise";
        return Err(Fault::validation("name", "not empty", message));
    }
    text("name", value, 256)?;
    Ok(value.to_owned())
}

/// Checks a description.
pub(crate) fn description(value: &str) -> Result<(), Fault> {
    text("description", value, 4096)
}

fn media(
    record: Option<bool>,
    mode: Option<IngestMode>,
    pull: Option<&PullSourceInput>,
) -> Result<(), Fault> {
    if record == Some(true) {
        return Err(Fault::no_effect("record", "recording"));
    }
    if mode == Some(IngestMode::Pull) {
        return Err(Fault::no_effect("ingestMode", "pulling a source"));
    }
    if pull.is_some() {
        return Err(Fault::no_effect("pullSource", "pulling a source"));
    }
    Ok(())
}

impl CreateStreamInput {
    /// Refuses what has no effect.
    pub(crate) fn check(&self) -> Result<(), Fault> {
        media(self.record, self.ingest_mode, self.pull_source.as_ref())
    }
}

impl UpdateStreamInput {
    /// Refuses what has no effect.
    pub(crate) fn check(&self) -> Result<(), Fault> {
        media(self.record, self.ingest_mode, self.pull_source.as_ref())?;
        if self
            .dvr_chapter_mode
            .is_some_and(|m| m != DvrChapterMode::None)
        {
            return Err(Fault::no_effect("dvrChapterMode", "dividing a recording"));
        }
        if self.dvr_chapter_interval_seconds.is_some() {
            let field = "dvrChapterIntervalSeconds";
            return Err(Fault::no_effect(field, "dividing a recording"));
        }
        if self
            .monitoring
            .is_some_and(|m| m != MonitoringToggle::Inherit)
        {
            return Err(Fault::no_effect("monitoring", "switching monitoring"));
        }
        Ok(())
    }
}
