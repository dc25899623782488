//! How safe a write is: named in a mutation's answer, asked for, and told of when it gets safer.
use std::{fmt, num::NonZeroU64, str::FromStr, sync::Arc, time::Duration};

use async_graphql::{Enum, ID, Request, SimpleObject, Value, Variables, value};
use futures::{Stream, stream};
use mesh::records::{Ack, Scope};
use routing::model::{NodeId, TenantId};

use super::{
    error::{Fault, code},
    id::{self, Kind},
};
use crate::gateway::{Deps, Session, forward};

/// How often a node without the tenant's records asks one that has them.
const AGAIN: Duration = Duration::from_secs(1);

/// How safe a write is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Enum)]
pub enum Acknowledgement {
    /// On the disk of the machine that took it.
    Local,
    /// On a second disk too, of a machine that could have taken it: it survives the loss of either.
    Replicated,
}

impl Acknowledgement {
    /// As it is written in a mutation's answer.
    pub(crate) const fn word(self) -> &'static str {
        match self {
            Self::Local => "LOCAL",
            Self::Replicated => "REPLICATED",
        }
    }
}

impl From<Ack> for Acknowledgement {
    fn from(ack: Ack) -> Self {
        match ack {
            Ack::Local => Self::Local,
            Ack::Replicated => Self::Replicated,
        }
    }
}

/// A write and how safe it is.
#[derive(Clone, Debug, SimpleObject)]
pub struct WriteAcknowledgement {
    /// The write's id, from `extensions.writeId` of the mutation that made it.
    pub id: ID,
    /// How safe it is.
    pub acknowledgement: Acknowledgement,
}

/// A request's last write: who wrote it, and its number among those of that node for the tenant. When it is safe, so are
/// all before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct WriteId {
    author: NodeId,
    number: NonZeroU64,
}

impl WriteId {
    /// `None` where nothing was written.
    pub(crate) fn new(author: NodeId, number: u64) -> Option<Self> {
        let number = NonZeroU64::new(number)?;
        Some(Self { author, number })
    }

    pub(crate) fn global(self) -> ID {
        Kind::Write.global(&self.to_string())
    }
}

impl fmt::Display for WriteId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.author, self.number)
    }
}

impl FromStr for WriteId {
    type Err = ();
    fn from_str(text: &str) -> Result<Self, ()> {
        let (author, number) = text.rsplit_once('-').ok_or(())?;
        Ok(Self {
            author: author.parse().map_err(|_| ())?,
            number: number.parse().map_err(|_| ())?,
        })
    }
}

/// The write of this id, as far as it can be told that there is one.
fn read(deps: &Deps, text: &str) -> Result<WriteId, Fault> {
    let id: WriteId =
        id::read(Kind::Write, text).map_err(|e| Fault::id("id", Kind::Write, text, &e))?;
    // Whoever is no node of the mesh wrote nothing.
    let known = deps.records.config().node(id.author).is_some();
    known
        .then_some(id)
        .ok_or_else(|| Fault::not_found(Kind::Write, text))
}

/// Answers at a node that serves the tenant.
pub(crate) async fn state(
    deps: &Deps,
    tenant: TenantId,
    text: &str,
) -> Result<WriteAcknowledgement, Fault> {
    let WriteId { author, number } = read(deps, text)?;
    let scope = Scope::Tenant(tenant);
    let ack = deps.records.ack_of(scope, author, number.get()).await;
    let ack = ack.ok_or_else(|| Fault::not_found(Kind::Write, text))?;
    Ok(WriteAcknowledgement {
        id: ID(text.to_owned()),
        acknowledgement: ack.into(),
    })
}

/// One item when the write is safe, or one error.
pub(crate) fn follow(
    deps: Arc<Deps>,
    session: Session,
    tenant: TenantId,
    text: String,
) -> Result<impl Stream<Item = async_graphql::Result<WriteAcknowledgement>> + Send, Fault> {
    let WriteId { author, number } = read(&deps, &text)?;
    Ok(stream::once(async move {
        let safe = if deps.serves(&deps.records.config(), tenant) {
            let scope = Scope::Tenant(tenant);
            let safe = deps.records.replicated(scope, author, number.get()).await;
            safe.then_some(())
                .ok_or_else(|| Fault::not_found(Kind::Write, &text))
        } else {
            ask(&deps, &session, tenant, &text).await
        };
        safe?;
        Ok(WriteAcknowledgement {
            id: ID(text),
            acknowledgement: Acknowledgement::Replicated,
        })
    }))
}

/// Asks a node that serves the tenant until the write is safe.
async fn ask(deps: &Deps, session: &Session, tenant: TenantId, text: &str) -> Result<(), Fault> {
    let query = "query($id: ID!) { writeAcknowledgement(id: $id) { acknowledgement } }";
    let mut again = tokio::time::interval(AGAIN);
    loop {
        again.tick().await;
        let variables = Variables::from_value(value!({ "id": text }));
        let request = Request::new(query).variables(variables);
        let answer = forward(deps, tenant, session, request).await;
        if let Some(error) = answer.errors.first() {
            let code = error.extensions.as_ref().and_then(|e| e.get("code"));
            // Nobody may be there at the moment.
            if code != Some(&Value::from(code::UNAVAILABLE)) {
                return Err(Fault::not_found(Kind::Write, text));
            }
            continue;
        }
        let data = answer.data.into_json().unwrap_or_default();
        let word = &data["writeAcknowledgement"]["acknowledgement"];
        if *word == Acknowledgement::Replicated.word() {
            return Ok(());
        }
    }
}
