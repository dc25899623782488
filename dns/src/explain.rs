//! An answer in words and numbers.
use std::fmt::Write as _;

use hickory_proto::{
    op::ResponseCode,
    rr::{Name, RecordType},
};
use routing::{
    model::{Place, Prefix},
    rank::Ranked,
};
use serde::Serialize;

use crate::{
    answer::{Answer, Query, answer},
    zone::Zone,
};

/// Why a question cannot be put.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum QueryError {
    /// The text is no name.
    #[error("`{0}` is not a domain name; give one such as foghorn.acme.cdn.example.net")]
    Name(String),
    /// The text is no record type.
    #[error("`{0}` is not a record type; give A or AAAA")]
    Kind(String),
}

impl Query {
    /// The question for `name` (with or without a dot at the end) and a type by its mnemonic.
    ///
    /// # Errors
    /// [`QueryError`] when either is none.
    pub fn new(name: &str, kind: &str) -> Result<Self, QueryError> {
        let mut parsed = Name::from_ascii(name).map_err(|_| QueryError::Name(name.to_owned()))?;
        parsed.set_fqdn(true);
        let kind: RecordType = kind
            .to_ascii_uppercase()
            .parse()
            .map_err(|_| QueryError::Kind(kind.to_owned()))?;
        Ok(Self { name: parsed, kind })
    }
}

/// An answer, and all that led to it.
#[derive(Clone, Debug, Serialize)]
pub struct Explanation {
    /// The name asked for.
    pub name: String,
    /// The type asked for.
    pub kind: String,
    /// Whom it was answered for.
    pub from: Prefix,
    /// Where that is, if known.
    pub place: Option<Place>,
    /// Leading bits of the address that the answer depends on.
    pub scope: u8,
    /// What the name stands for.
    pub meaning: &'static str,
    /// `NOERROR`, `NXDOMAIN` or `REFUSED`.
    pub rcode: &'static str,
    /// The answer section's data.
    pub answers: Vec<String>,
    /// Who was considered, where the name stands for several nodes.
    pub ranked: Option<Ranked>,
}

/// Answers like [`answer()`], by calling it, and says why.
#[must_use]
pub fn explain(query: &Query, from: &Prefix, zone: &Zone) -> Explanation {
    let Answer {
        rcode,
        answers,
        scope,
        why,
        ..
    } = answer(query, from, zone);
    Explanation {
        name: query.name.to_ascii(),
        kind: query.kind.to_string(),
        from: why.spread,
        place: why.located.place,
        scope,
        meaning: why.meaning.describe(),
        rcode: match rcode {
            ResponseCode::NXDomain => "NXDOMAIN",
            ResponseCode::Refused => "REFUSED",
            _ => "NOERROR",
        },
        answers: answers.iter().map(|r| r.data.to_string()).collect(),
        ranked: why
            .planned
            .map(|p| p.plan.ranked(&p.candidates, &why.spread)),
    }
}

impl Explanation {
    /// For people: a few lines, then [`Ranked::explain`]'s table.
    #[must_use]
    pub fn text(&self) -> String {
        let mut text = format!("{} {} stands for: {}\n", self.name, self.kind, self.meaning);
        let place = self.place.as_ref().map_or_else(
            || "at an unknown place".to_owned(),
            |p| format!("in {} ({:.2}, {:.2})", p.region(), p.lat(), p.lon()),
        );
        // Writing to a String cannot fail.
        let _ = writeln!(
            text,
            "asked from {}, {place}; the answer holds for the /{} around it",
            self.from, self.scope
        );
        let said = if self.answers.is_empty() {
            "no address".to_owned()
        } else {
            self.answers.join(", ")
        };
        let _ = writeln!(text, "{}: {said}", self.rcode);
        if let Some(ranked) = &self.ranked {
            text.push('\n');
            text.push_str(&ranked.explain());
        }
        text
    }
}
