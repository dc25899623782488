//! Where addresses are: the configuration's prefixes, then the MaxMind-format file, then nothing.
use std::sync::Arc;

use anyhow::Context;
use routing::{
    model::Place,
    place::{Layers, PlaceTable, Places},
};

use crate::config::PlaceConfig;

/// What the configuration says of places.
///
/// # Errors
/// Where the file cannot be read, or a prefix is given twice.
pub fn places(config: &PlaceConfig) -> anyhow::Result<Arc<dyn Places>> {
    let entries = config
        .prefixes
        .iter()
        .map(|p| (p.prefix, Place::new(p.lat, p.lon, p.region.clone())));
    let table = PlaceTable::new(entries).context("[place] prefixes")?;
    let mut layers: Vec<Arc<dyn Places>> = vec![Arc::new(table)];
    if let Some(path) = &config.mmdb {
        layers.push(Arc::new(
            dns::mmdb::Mmdb::open(path).context("[place] mmdb")?,
        ));
    }
    Ok(Arc::new(Layers(layers)))
}
