//! What goes wrong: members of a result's union where the client can act on them, top-level errors with a code
//! elsewhere.
use async_graphql::{ErrorExtensions, ID, Interface, SimpleObject};
use mesh::records::{ChangeError, WriteError};

use super::id::{IdFault, Kind};

/// The codes of errors, in `code` and in `errors[].extensions.code`.
pub mod code {
    /// No token, or one that is not valid.
    pub const UNAUTHORIZED: &str = "UNAUTHORIZED";
    /// Not for this token or viewer.
    pub const FORBIDDEN: &str = "FORBIDDEN";
    /// There is no such thing.
    pub const NOT_FOUND: &str = "NOT_FOUND";
    /// An argument breaks a rule.
    pub const VALIDATION_ERROR: &str = "VALIDATION_ERROR";
    /// Too much at once.
    pub const RATE_LIMITED: &str = "RATE_LIMITED";
    /// A subscription missed events.
    pub const LAGGED: &str = "LAGGED";
    /// This node cannot now; try again, or another node.
    pub const UNAVAILABLE: &str = "UNAVAILABLE";
}

/// What every error says.
#[derive(Interface)]
#[graphql(
    name = "Error",
    field(name = "message", ty = "&String"),
    field(name = "code", ty = "&Option<String>")
)]
#[allow(
    clippy::enum_variant_names,
    reason = "the variants are the schema's types"
)]
pub enum AnyError {
    /// An argument breaks a rule.
    ValidationError(ValidationError),
    /// There is no such thing.
    NotFoundError(NotFoundError),
    /// The caller may not.
    AuthError(AuthError),
    /// Too often.
    RateLimitError(RateLimitError),
}

/// An argument breaks a rule.
#[derive(Clone, Debug, SimpleObject)]
pub struct ValidationError {
    /// What happened and what to do.
    pub message: String,
    /// `VALIDATION_ERROR`.
    pub code: Option<String>,
    /// The input field.
    pub field: Option<String>,
    /// The rule that it breaks, in short.
    pub constraint: Option<String>,
}

/// There is no such thing, or it is not yours.
#[derive(Clone, Debug, SimpleObject)]
pub struct NotFoundError {
    /// What happened.
    pub message: String,
    /// `NOT_FOUND`.
    pub code: Option<String>,
    /// The type of what was looked for.
    pub resource_type: String,
    /// The id as it was given.
    pub resource_id: ID,
}

/// The caller may not.
#[derive(Clone, Debug, SimpleObject)]
pub struct AuthError {
    /// What happened and what to do.
    pub message: String,
    /// `UNAUTHORIZED` or `FORBIDDEN`.
    pub code: Option<String>,
}

/// Too often.
#[derive(Clone, Debug, SimpleObject)]
pub struct RateLimitError {
    /// What happened.
    pub message: String,
    /// `RATE_LIMITED`.
    pub code: Option<String>,
    /// Seconds to wait.
    pub retry_after: Option<i32>,
}

/// A failed operation, before it becomes a union's member or a top-level error.
#[derive(Clone, Debug)]
pub enum Fault {
    /// An argument breaks a rule.
    Validation(ValidationError),
    /// There is no such thing.
    NotFound(NotFoundError),
    /// The caller may not.
    Auth(AuthError),
    /// Nothing that the client did: code and message.
    Other(&'static str, String),
}

impl Fault {
    /// `field` breaks the rule `constraint`.
    pub fn validation(field: &str, constraint: &str, message: impl Into<String>) -> Self {
        Self::Validation(ValidationError {
            message: message.into(),
            code: Some(code::VALIDATION_ERROR.into()),
            field: Some(field.into()),
            constraint: Some(constraint.into()),
        })
    }

    /// A field that has no effect here.
    pub fn no_effect(field: &str, what: &str) -> Self {
        Self::validation(
            field,
            "unsupported",
            format!(
                "{what} has no effect on this version of Shoal, so it is refused: leave {field} out"
            ),
        )
    }

    /// Nothing with this id.
    pub fn not_found(kind: Kind, id: &str) -> Self {
        Self::NotFound(NotFoundError {
            message: format!("there is no {} with this id", kind.name()),
            code: Some(code::NOT_FOUND.into()),
            resource_type: kind.name().into(),
            resource_id: id.into(),
        })
    }

    /// No token, or a bad one.
    pub fn unauthorized(message: &str) -> Self {
        Self::Auth(AuthError {
            message: message.into(),
            code: Some(code::UNAUTHORIZED.into()),
        })
    }

    /// What is wrong with the id that was given as `field`. One that is no id at all names nothing.
    pub fn id(field: &str, kind: Kind, text: &str, fault: &IdFault) -> Self {
        match fault {
            IdFault::WrongType { .. } => Self::validation(field, "type", fault.to_string()),
            IdFault::Malformed { .. } => Self::not_found(kind, text),
        }
    }

    /// Why the mesh did not take a write.
    pub fn write(error: &WriteError) -> Self {
        match error {
            WriteError::Change(ChangeError::TooLong { field, max }) => Self::validation(
                field.rsplit(' ').next().unwrap_or(field),
                &format!("at most {max} bytes"),
                error.to_string(),
            ),
            WriteError::NameTaken { .. } => Self::validation("name", "unique", error.to_string()),
            WriteError::NotAllowed { .. } => Self::Auth(AuthError {
                message: error.to_string(),
                code: Some(code::FORBIDDEN.into()),
            }),
            _ => Self::Other(code::UNAVAILABLE, error.to_string()),
        }
    }
}

impl Fault {
    /// Its code, message and field.
    pub(crate) fn parts(&self) -> (&str, &str, Option<&str>) {
        let auth = |e: &AuthError| match e.code.as_deref() {
            Some(code::FORBIDDEN) => code::FORBIDDEN,
            _ => code::UNAUTHORIZED,
        };
        match self {
            Self::Validation(e) => (code::VALIDATION_ERROR, &e.message, e.field.as_deref()),
            Self::NotFound(e) => (code::NOT_FOUND, &e.message, None),
            Self::Auth(e) => (auth(e), &e.message, None),
            Self::Other(code, message) => (code, message, None),
        }
    }
}

impl From<Fault> for async_graphql::Error {
    fn from(fault: Fault) -> Self {
        let (code, message, field) = fault.parts();
        Self::new(message).extend_with(|_, e| {
            e.set("code", code);
            if let Some(field) = field {
                e.set("field", field);
            }
        })
    }
}
