//! A judgement in words and numbers.
use std::fmt::{self, Write as _};

use super::{Holds, Ranked, Reason, Resort, Scored};

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let full = |f: &mut fmt::Formatter<'_>, what: &str, at: u16| {
            write!(f, "saturated: its {what} is {}.{} % full", at / 10, at % 10)
        };
        match self {
            Self::Dead => f.write_str("dead: the mesh has lost it"),
            Self::Role(role) => write!(f, "its grant has no role `{}`", role.as_str()),
            Self::NotEntitled => {
                f.write_str("not entitled: its cluster does not answer for this name")
            }
            Self::Unreachable => f.write_str("unreachable: no verified address for this"),
            Self::Draining => f.write_str("draining: takes no new sessions"),
            Self::Maintenance => f.write_str("in maintenance"),
            Self::SaturatedCpu(at) => full(f, "processor", at.0),
            Self::SaturatedEgress(at) => full(f, "uplink", at.0),
            Self::SaturatedMemory(at) => full(f, "memory", at.0),
            Self::NotHolding => f.write_str("does not hold the broadcast"),
        }
    }
}

impl Ranked {
    /// Why the node at rank `at` of `chosen` is not first, in a few words; for the first, why it is.
    #[must_use]
    pub fn verdict(&self, at: usize) -> String {
        let (Some(one), Some(first)) = (self.chosen.get(at), self.chosen.first()) else {
            return String::new();
        };
        if at == 0 {
            // A ranking that another node made may have no best band.
            return match self.chosen.iter().filter(|s| s.terms.band == 0).count() {
                0 | 1 if self.resort > Resort::None => {
                    "first: lowest cost of those below the floor".to_owned()
                }
                0 | 1 => "first: lowest cost".to_owned(),
                n => format!("first: lowest spread of {n} near-equal nodes"),
            };
        }
        if one.terms.band == first.terms.band {
            return "near-equal; this prefix falls to the first".to_owned();
        }
        // Against the cheapest, since its cost is what bands are measured from.
        let best = self
            .chosen
            .iter()
            .min_by_key(|s| (s.total, s.node))
            .unwrap_or(first);
        let more = |term: fn(&Scored) -> u32| term(one).saturating_sub(term(best));
        let terms = [
            ("farther", more(|s| s.terms.distance)),
            ("busier", more(|s| s.terms.load_cost)),
            ("must fetch", more(|s| s.terms.fetch)),
        ];
        let named: Vec<String> = terms
            .iter()
            .filter(|(_, km)| *km > 0)
            .map(|(word, km)| format!("{word} (+{km} km)"))
            .collect();
        named.join(", ")
    }

    /// The judgement as aligned columns for people: costs in km, rank by rank, then who was rejected and why.
    ///
    /// ```text
    /// #  node    distance  load       fetch  cost  band  weight     verdict
    /// 1  porto   270       40 % +0    0      270   1     1000 Mb/s  first: lowest cost
    /// 2  madrid  500       60 % +180  0      680   2     1000 Mb/s  farther (+230 km), busier (+180 km)
    /// -  lisbon  0         95 %                                     saturated: its processor is 96.0 % full
    /// ```
    #[must_use]
    pub fn explain(&self) -> String {
        let heads = [
            "#", "node", "distance", "load", "fetch", "cost", "band", "weight", "verdict",
        ];
        let mut rows = vec![heads.map(str::to_owned).to_vec()];
        for (at, s) in self.chosen.iter().enumerate() {
            let t = &s.terms;
            let unknown = if t.km.is_none() { "?" } else { "" };
            let holds = match t.holds {
                Holds::No => "",
                Holds::Replica => " (replica)",
                Holds::Origin => " (origin)",
            };
            rows.push(vec![
                (at + 1).to_string(),
                s.label.to_string(),
                format!("{}{unknown}", t.distance),
                format!("{} % +{}", t.load.0 / 10, t.load_cost),
                format!("{}{holds}", t.fetch),
                s.total.to_string(),
                t.band.saturating_add(1).to_string(),
                format!("{} Mb/s", t.weight),
                self.verdict(at),
            ]);
        }
        for r in &self.rejected {
            let km = r
                .terms
                .km
                .map_or_else(|| "?".to_owned(), |_| r.terms.distance.to_string());
            let load = format!("{} %", r.terms.load.0 / 10);
            let blank = String::new;
            rows.push(vec![
                "-".to_owned(),
                r.label.to_string(),
                km,
                load,
                blank(),
                blank(),
                blank(),
                blank(),
                r.reason.to_string(),
            ]);
        }
        let width = |column: usize| {
            rows.iter()
                .map(|row| row[column].chars().count())
                .max()
                .unwrap_or(0)
        };
        let widths: Vec<usize> = (0..heads.len()).map(width).collect();
        let mut text = String::new();
        for row in &rows {
            let mut line = String::new();
            for (cell, width) in row.iter().zip(&widths) {
                // Writing to a String cannot fail.
                let _ = write!(line, "{cell:<width$}  ");
            }
            text.push_str(line.trim_end());
            text.push('\n');
        }
        match self.resort {
            Resort::None => {}
            Resort::Saturated => text.push_str(
                "No fit node has room: those above are saturated, and named because naming nobody would be worse. Add capacity.\n",
            ),
            Resort::Draining => {
                text.push_str("No fit node is left: those above are draining, and used because nobody else has it.\n");
            }
        }
        text
    }
}
