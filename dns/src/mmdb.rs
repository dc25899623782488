//! Places from a MaxMind-format database file (GeoLite2 City, DB-IP City and the like).
//!
//! The file is read into memory once. Its search tree's leaf for an address is the scope: nothing finer is inside. A
//! record counts when it has `location.latitude` and `location.longitude`; the region is the continent's code in lower
//! case (`eu`), or `unknown`.
use std::{
    fmt,
    net::IpAddr,
    path::{Path, PathBuf},
};

use maxminddb::Reader;
use routing::{
    model::{Place, Region},
    place::{Located, Places},
};
use serde::Deserialize;

/// Why a file gives no places.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum MmdbError {
    /// It cannot be read.
    #[error("cannot read the place database {path}: {source}; check the path and its permissions")]
    Read {
        /// Which.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// It is something else.
    #[error("{path} is no MaxMind-format database ({source}); give a City database in .mmdb form")]
    Format {
        /// Which.
        path: PathBuf,
        /// What is wrong with it.
        source: maxminddb::MaxMindDbError,
    },
}

/// A database in memory.
pub struct Mmdb {
    reader: Reader<Vec<u8>>,
}

#[derive(Deserialize)]
struct City<'a> {
    #[serde(borrow, default)]
    continent: Continent<'a>,
    location: Location,
}

#[derive(Default, Deserialize)]
struct Continent<'a> {
    code: Option<&'a str>,
}

#[derive(Deserialize)]
struct Location {
    latitude: f64,
    longitude: f64,
}

impl Mmdb {
    /// Reads a file.
    ///
    /// # Errors
    /// [`MmdbError`] when it cannot be read or is no such database.
    pub fn open(path: &Path) -> Result<Self, MmdbError> {
        let bytes = std::fs::read(path).map_err(|source| MmdbError::Read {
            path: path.to_owned(),
            source,
        })?;
        Self::of(bytes).map_err(|source| MmdbError::Format {
            path: path.to_owned(),
            source,
        })
    }

    /// Takes over a file's content.
    pub(crate) fn of(bytes: Vec<u8>) -> Result<Self, maxminddb::MaxMindDbError> {
        let reader = Reader::from_source(bytes)?;
        Ok(Self { reader })
    }
}

impl Places for Mmdb {
    /// A damaged record counts as an unknown place; so does one without coordinates.
    fn locate(&self, addr: IpAddr) -> Located {
        let addr = addr.to_canonical();
        let Ok(found) = self.reader.lookup(addr) else {
            return Located::default();
        };
        // An IPv6 network for an IPv4 address: the file has no IPv4 at all, so no part of the address matters.
        let scope = match found.network() {
            Ok(network) if network.is_ipv4() == addr.is_ipv4() => network.prefix(),
            _ => 0,
        };
        let place = found.decode::<City<'_>>().ok().flatten().and_then(|city| {
            let Location {
                latitude,
                longitude,
            } = city.location;
            let code = city
                .continent
                .code
                .unwrap_or("unknown")
                .to_ascii_lowercase();
            let region = Region::new(&code).ok()?;
            (latitude.abs() <= 90.0 && longitude.abs() <= 180.0)
                .then(|| Place::new(latitude, longitude, region))
        });
        Located { place, scope }
    }
}

impl fmt::Debug for Mmdb {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Mmdb({})", self.reader.metadata().database_type)
    }
}
