//! What a request may cost, found out before it is validated or run, from its document alone.
//!
//! - Depth: at most 10 fields under each other, 16 in an introspection.
//! - Complexity: at most 1000. A leaf is free, an object costs 1, a connection 1 and its page's size times its content.
//! - Introspection: lists of types in lists of types at most three deep and at most two `__schema` or `__type`, since
//!   what they answer grows with a power of that; never together with data.
//! - A document expands to at most 10,000 fields and fragments, however its fragments are nested.
use std::collections::BTreeMap;

use async_graphql::{
    Name, Request, ServerError, Value, Variables,
    parser::types::{ExecutableDocument, Field, OperationType, Selection, SelectionSet},
};
use async_graphql::{Positioned, parser::types::DocumentOperations};

use crate::graphql::{
    error::code,
    page::{DEFAULT_PAGE, MAX_PAGE},
};

/// Fields under each other.
pub(crate) const MAX_DEPTH: usize = 10;
/// Fields under each other in an introspection, which the usual tools need.
pub(crate) const MAX_INTROSPECTION_DEPTH: usize = 16;
/// What a request may cost.
pub(crate) const MAX_COMPLEXITY: u64 = 1000;
const MAX_VISITS: usize = 10_000;
const MAX_TYPE_LISTS: usize = 3;
const MAX_INTROSPECTIONS: usize = 2;
const MAX_FRAGMENTS_DEEP: usize = 32;

/// What kind of request it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Shape {
    /// A subscription.
    pub(crate) subscription: bool,
    /// It asks only about the schema.
    pub(crate) introspection: bool,
    /// It asks for a tenant's own things.
    pub(crate) of_tenant: bool,
}

/// Parses the request's document, keeps it parsed, and checks it.
pub(crate) fn check(request: &mut Request) -> Result<Shape, ServerError> {
    let operation = request.operation_name.clone();
    let variables = std::mem::take(&mut request.variables);
    let checked = match request.parsed_query() {
        Ok(document) => shape(document, operation.as_deref(), &variables),
        Err(error) => Err(error),
    };
    request.variables = variables;
    checked
}

fn refuse(message: String) -> ServerError {
    let mut error = ServerError::new(message, None);
    let extensions = error.extensions.get_or_insert_default();
    extensions.set("code", code::VALIDATION_ERROR);
    error
}

fn shape(
    document: &ExecutableDocument,
    operation: Option<&str>,
    variables: &Variables,
) -> Result<Shape, ServerError> {
    let chosen = match (&document.operations, operation) {
        (DocumentOperations::Single(one), _) => Some(one),
        (DocumentOperations::Multiple(all), Some(name)) => all.get(name),
        // A document's one operation may have a name, and need not be chosen by it.
        (DocumentOperations::Multiple(all), None) => match all.len() {
            1 => all.values().next(),
            _ => None,
        },
    };
    let Some(chosen) = chosen else {
        let message = "the document has several operations: name one of them in operationName";
        return Err(refuse(message.to_owned()));
    };
    let mut walk = Walk {
        document,
        variables,
        defaults: chosen
            .node
            .variable_definitions
            .iter()
            .filter_map(|d| {
                let default = d.node.default_value.as_ref()?;
                Some((d.node.name.node.clone(), default.node.clone()))
            })
            .collect(),
        visits: 0,
        depth: 0,
        introspections: 0,
        data: false,
        of_tenant: false,
    };
    let cost = walk.set(&chosen.node.selection_set.node, Path::default())?;
    let introspection = walk.introspections > 0;
    if introspection && walk.data {
        return Err(refuse(
            "__schema and __type cannot be asked together with data: send two requests".to_owned(),
        ));
    }
    let max = if introspection {
        MAX_INTROSPECTION_DEPTH
    } else {
        MAX_DEPTH
    };
    if walk.depth > max {
        return Err(refuse(format!(
            "the document is {} fields deep and at most {max} are answered: ask for less at once",
            walk.depth
        )));
    }
    if !introspection && cost > MAX_COMPLEXITY {
        return Err(refuse(format!(
            "the document's complexity is {cost} and at most {MAX_COMPLEXITY} is answered: ask for smaller pages or fewer objects"
        )));
    }
    Ok(Shape {
        subscription: chosen.node.ty == OperationType::Subscription,
        introspection,
        of_tenant: walk.of_tenant,
    })
}

#[derive(Clone, Copy, Default)]
struct Path {
    fields: usize,
    fragments: usize,
    type_lists: usize,
    schema: bool,
}

struct Walk<'a> {
    document: &'a ExecutableDocument,
    variables: &'a Variables,
    defaults: BTreeMap<Name, Value>,
    visits: usize,
    depth: usize,
    introspections: usize,
    data: bool,
    of_tenant: bool,
}

impl Walk<'_> {
    fn set(&mut self, set: &SelectionSet, path: Path) -> Result<u64, ServerError> {
        let mut cost = 0_u64;
        for Positioned { node, .. } in &set.items {
            self.visits += 1;
            if self.visits > MAX_VISITS || path.fragments > MAX_FRAGMENTS_DEEP {
                return Err(refuse(
                    "the document's fragments expand to too much: ask for less at once".to_owned(),
                ));
            }
            let deeper = Path {
                fragments: path.fragments + 1,
                ..path
            };
            let one = match node {
                Selection::Field(field) => self.field(&field.node, path)?,
                Selection::InlineFragment(inline) => {
                    self.set(&inline.node.selection_set.node, deeper)?
                }
                // An unknown name is for the validation to report.
                Selection::FragmentSpread(spread) => {
                    match self.document.fragments.get(&spread.node.fragment_name.node) {
                        Some(f) => self.set(&f.node.selection_set.node, deeper)?,
                        None => 0,
                    }
                }
            };
            cost = cost.saturating_add(one);
        }
        Ok(cost)
    }

    fn field(&mut self, field: &Field, mut path: Path) -> Result<u64, ServerError> {
        let name = field.name.node.as_str();
        if path.fields == 0 {
            match name {
                "__schema" | "__type" => {
                    path.schema = true;
                    self.introspections += 1;
                    if self.introspections > MAX_INTROSPECTIONS {
                        let message = "at most two of __schema and __type are answered at once";
                        return Err(refuse(message.to_owned()));
                    }
                }
                "__typename" => {}
                "resolveViewerEndpoint" | "resolveIngestEndpoint" => self.data = true,
                _ => {
                    self.data = true;
                    self.of_tenant = true;
                }
            }
        }
        path.fields += 1;
        self.depth = self.depth.max(path.fields);
        if path.fields > 2 * MAX_INTROSPECTION_DEPTH {
            return Err(refuse(format!(
                "the document is more than {MAX_DEPTH} fields deep: ask for less at once"
            )));
        }
        if path.schema
            && matches!(
                name,
                "fields" | "inputFields" | "interfaces" | "possibleTypes"
            )
        {
            path.type_lists += 1;
            if path.type_lists > MAX_TYPE_LISTS {
                let message = "the introspection asks for types within types within types: ask for less at once";
                return Err(refuse(message.to_owned()));
            }
        }
        let content = &field.selection_set.node;
        if content.items.is_empty() {
            return Ok(0);
        }
        let inner = self.set(content, path)?;
        let times = if name.ends_with("Connection") {
            self.page(field)
        } else {
            1
        };
        Ok(inner.saturating_mul(times).saturating_add(1))
    }

    /// How many a connection's page holds.
    fn page(&self, field: &Field) -> u64 {
        let variable = |name: Name| {
            let given = self
                .variables
                .get(&name)
                .or_else(|| self.defaults.get(&name));
            Ok::<_, std::convert::Infallible>(given.cloned().unwrap_or(Value::Null))
        };
        let page = field.get_argument("page").map(|value| {
            let Ok(value) = value.node.clone().into_const_with(variable);
            value
        });
        let number = |key: &str| match &page {
            Some(Value::Object(page)) => match page.get(key) {
                Some(Value::Number(n)) => n.as_i64(),
                _ => None,
            },
            _ => None,
        };
        let size = number("last").or_else(|| number("first"));
        let size = size.unwrap_or_else(|| i64::from(DEFAULT_PAGE));
        u64::try_from(size.clamp(1, i64::from(MAX_PAGE))).unwrap_or(1)
    }
}
