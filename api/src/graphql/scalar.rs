//! The scalars `Time` and `JSON`.
use async_graphql::{InputValueError, InputValueResult, Scalar, ScalarType, Value};
use routing::model::UnixMillis;

/// A moment in UTC as RFC 3339 with milliseconds, `2026-11-22T21:42:00.123Z`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Time(pub UnixMillis);

impl std::fmt::Display for Time {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let ms = self.0.0;
        let (days, of_day) = (ms / 86_400_000, ms % 86_400_000);
        // Civil date from days (Hinnant, "chrono-Compatible Low-Level Date Algorithms"): eras of 400 years that start on
        // 1 March, 719,468 days before the Unix epoch.
        let shifted = days + 719_468;
        let (era, day_of_era) = (shifted / 146_097, shifted % 146_097);
        let year_of_era =
            (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
        let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
        let shifted_month = (5 * day_of_year + 2) / 153;
        let day = day_of_year - (153 * shifted_month + 2) / 5 + 1;
        let month = if shifted_month < 10 {
            shifted_month + 3
        } else {
            shifted_month - 9
        };
        let year = era * 400 + year_of_era + u64::from(month <= 2);
        let (hour, minute, second) = (
            of_day / 3_600_000,
            of_day / 60_000 % 60,
            of_day / 1_000 % 60,
        );
        write!(
            f,
            "{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{:03}Z",
            of_day % 1_000
        )
    }
}

/// A moment in UTC, RFC 3339.
#[Scalar]
impl ScalarType for Time {
    fn parse(_: Value) -> InputValueResult<Self> {
        Err(InputValueError::custom("no operation takes a Time"))
    }
    fn to_value(&self) -> Value {
        Value::String(self.to_string())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn moments_are_those_of_the_calendar() {
        let text = |ms| Time(UnixMillis(ms)).to_string();
        assert_eq!(text(0), "1970-01-01T00:00:00.000Z");
        assert_eq!(text(951_782_399_999), "2000-02-28T23:59:59.999Z");
        assert_eq!(text(951_782_400_000), "2000-02-29T00:00:00.000Z");
        assert_eq!(text(1_735_689_599_001), "2024-12-31T23:59:59.001Z");
        assert_eq!(text(4_107_542_400_000), "2100-03-01T00:00:00.000Z");
    }
}
