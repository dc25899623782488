//! Where on Earth something is.
use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};

/// Why a text is not a place's region, or a pair of numbers not a place.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PlaceError {
    /// A region is 1 to 32 of `a-z0-9-`.
    #[error("a region's name has 1 to 32 characters of a-z, 0-9 and hyphen")]
    Region,
    /// Latitude within ±90 and longitude within ±180 degrees.
    #[error("a latitude is within -90 to 90 and a longitude within -180 to 180 degrees")]
    Range,
}

/// A region's name, as the operator calls it: `eu-west`, `asia`.
#[derive(
    Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, minicbor::Encode,
)]
#[serde(try_from = "String", into = "String")]
#[cbor(transparent)]
pub struct Region(#[n(0)] String);

impl Region {
    /// Checks a name.
    ///
    /// # Errors
    /// [`PlaceError::Region`] when it is no such name.
    pub fn new(text: &str) -> Result<Self, PlaceError> {
        let ok = (1..=32).contains(&text.len())
            && text
                .bytes()
                .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-');
        if ok {
            Ok(Self(text.to_owned()))
        } else {
            Err(PlaceError::Region)
        }
    }

    /// Its text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl<'b, C> minicbor::Decode<'b, C> for Region {
    fn decode(d: &mut minicbor::Decoder<'b>, _: &mut C) -> Result<Self, minicbor::decode::Error> {
        Self::new(d.str()?).map_err(minicbor::decode::Error::message)
    }
}

impl TryFrom<String> for Region {
    type Error = PlaceError;
    fn try_from(text: String) -> Result<Self, PlaceError> {
        Self::new(&text)
    }
}

impl From<Region> for String {
    fn from(region: Region) -> Self {
        region.0
    }
}

impl fmt::Display for Region {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl FromStr for Region {
    type Err = PlaceError;
    fn from_str(text: &str) -> Result<Self, PlaceError> {
        Self::new(text)
    }
}

/// A point on Earth and the region it counts to. Kept in units of 1/100 degree (about 1 km): finer is nobody's
/// business, and integers compare alike everywhere.
#[derive(Clone, Debug, PartialEq, Eq, Hash, minicbor::Encode)]
pub struct Place {
    #[n(0)]
    lat: i16,
    #[n(1)]
    lon: i16,
    #[n(2)]
    region: Region,
}

impl Place {
    /// The place at `lat` and `lon` degrees; values beyond the poles or the date line are cut off.
    #[must_use]
    #[allow(
        clippy::cast_possible_truncation,
        reason = "clamped to what an i16 holds"
    )]
    pub fn new(lat: f64, lon: f64, region: Region) -> Self {
        let centi = |v: f64, max: f64| (v.clamp(-max, max) * 100.0).round() as i16;
        Self {
            lat: centi(lat, 90.0),
            lon: centi(lon, 180.0),
            region,
        }
    }

    /// Degrees north.
    #[must_use]
    pub fn lat(&self) -> f64 {
        f64::from(self.lat) / 100.0
    }

    /// Degrees east.
    #[must_use]
    pub fn lon(&self) -> f64 {
        f64::from(self.lon) / 100.0
    }

    /// The region.
    #[must_use]
    pub const fn region(&self) -> &Region {
        &self.region
    }

    /// Great-circle distance in whole kilometres (haversine, mean radius 6371 km), at most 20,015.
    #[must_use]
    #[allow(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "0 to 20,015"
    )]
    pub fn km_to(&self, other: &Self) -> u32 {
        let (a, b) = (self.lat().to_radians(), other.lat().to_radians());
        let half_lat = ((b - a) / 2.0).sin();
        let half_lon = ((other.lon() - self.lon()).to_radians() / 2.0).sin();
        let h = half_lat * half_lat + a.cos() * b.cos() * half_lon * half_lon;
        (2.0 * 6371.0 * h.clamp(0.0, 1.0).sqrt().asin()).round() as u32
    }
}

impl<'b, C> minicbor::Decode<'b, C> for Place {
    fn decode(d: &mut minicbor::Decoder<'b>, ctx: &mut C) -> Result<Self, minicbor::decode::Error> {
        #[derive(minicbor::Decode)]
        struct Wire {
            #[n(0)]
            lat: i16,
            #[n(1)]
            lon: i16,
            #[n(2)]
            region: Region,
        }
        let Wire { lat, lon, region } = Wire::decode(d, ctx)?;
        if lat.unsigned_abs() > 9_000 || lon.unsigned_abs() > 18_000 {
            return Err(minicbor::decode::Error::message(PlaceError::Range));
        }
        Ok(Self { lat, lon, region })
    }
}

/// As configuration and JSON write it: `{"lat": 50.1, "lon": 8.7, "region": "eu"}`.
#[derive(Serialize, Deserialize)]
struct PlaceText {
    lat: f64,
    lon: f64,
    region: Region,
}

impl Serialize for Place {
    fn serialize<S: serde::Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        PlaceText {
            lat: self.lat(),
            lon: self.lon(),
            region: self.region.clone(),
        }
        .serialize(s)
    }
}

impl<'de> Deserialize<'de> for Place {
    fn deserialize<D: serde::Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        let text = PlaceText::deserialize(d)?;
        if text.lat.abs() <= 90.0 && text.lon.abs() <= 180.0 {
            Ok(Self::new(text.lat, text.lon, text.region))
        } else {
            Err(serde::de::Error::custom(PlaceError::Range))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn distances_are_those_of_an_atlas() {
        let at = |lat, lon| Place::new(lat, lon, Region::new("x").unwrap());
        assert_eq!(at(50.11, 8.68).km_to(&at(40.71, -74.01)), 6_203);
        assert_eq!(at(0.0, 0.0).km_to(&at(0.0, 180.0)), 20_015);
        assert_eq!(at(35.68, 139.69).km_to(&at(35.68, 139.69)), 0);
    }

    #[test]
    fn another_node_cannot_name_a_place_that_there_is_not() {
        let read = |place: (i16, i16, &str)| {
            let bytes = minicbor::to_vec(place).unwrap();
            minicbor::decode::<Place>(&bytes).ok()
        };
        let here = Place::new(-90.0, 180.0, Region::new("eu-west").unwrap());
        assert_eq!(read((-9_000, 18_000, "eu-west")), Some(here));
        for no in [
            (9_001, 0, "eu"),
            (0, -18_001, "eu"),
            (i16::MIN, 0, "eu"),
            (0, 0, ""),
            (0, 0, "<b>"),
        ] {
            assert_eq!(read(no), None, "{no:?}");
        }
    }
}
