//! GraphQL over WebSocket by the protocol `graphql-transport-ws` (enisdenjo/graphql-ws, PROTOCOL.md).
//!
//! Shape: one task a connection reads, writes and keeps time; one task an operation sends answers through a channel of
//! 64. When that is full, because the client reads slowly, operations wait, their events are dropped in the live
//! channel, and the client is told how many. A write that takes 10 s ends the connection; so do 40 s without a word.
use std::{collections::HashMap, net::IpAddr, time::Duration};

use async_graphql::{Request, Response};
use axum::extract::ws::{CloseFrame, Message, WebSocket};
use futures::StreamExt as _;
use routing::model::Secret;
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::{
    sync::mpsc,
    task::JoinHandle,
    time::{interval, timeout},
};

use crate::{
    gateway::{Auth, Gateway, Session, failure},
    graphql::error::code,
    http::bearer_text,
};

/// The subprotocol's name.
pub(crate) const PROTOCOL: &str = "graphql-transport-ws";
/// Operations at once on one connection.
const MAX_OPERATIONS: usize = 32;
const MAX_ID: usize = 128;
const INIT: Duration = Duration::from_secs(10);
const WRITE: Duration = Duration::from_secs(10);
const PING: Duration = Duration::from_secs(20);
const QUEUE: usize = 64;

#[derive(Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
enum Client {
    ConnectionInit { payload: Option<Value> },
    Subscribe { id: String, payload: Box<Request> },
    Complete { id: String },
    Ping { payload: Option<Value> },
    Pong {},
}

/// Why a connection ends: a close code and its words; `None` when the client went.
type End = Option<(u16, &'static str)>;

struct Operation {
    number: u64,
    task: JoinHandle<()>,
}

impl Drop for Operation {
    fn drop(&mut self) {
        self.task.abort();
    }
}

struct Out {
    id: String,
    number: u64,
    message: Value,
    last: bool,
}

struct Connection {
    socket: WebSocket,
    gateway: Gateway,
    addr: IpAddr,
    auth: Auth,
    operations: HashMap<String, Operation>,
    started: u64,
    out: mpsc::Sender<Out>,
}

/// Serves one connection until it ends.
pub(crate) async fn serve(
    socket: WebSocket,
    gateway: Gateway,
    addr: IpAddr,
    token: Option<Secret>,
) {
    let (out, answers) = mpsc::channel(QUEUE);
    let auth = Auth::of(
        &gateway.deps.records.config(),
        token.as_ref().map(Secret::expose),
    );
    let mut connection = Connection {
        socket,
        gateway,
        addr,
        auth,
        operations: HashMap::new(),
        started: 0,
        out,
    };
    if let Err(Some((code, reason))) = connection.run(answers).await {
        let close = Message::Close(Some(CloseFrame {
            code,
            reason: reason.into(),
        }));
        // The client may be gone already.
        let _ = timeout(WRITE, connection.socket.send(close)).await;
    }
}

impl Connection {
    async fn run(&mut self, mut answers: mpsc::Receiver<Out>) -> Result<(), End> {
        match timeout(INIT, self.begin()).await {
            Ok(begun) => begun?,
            Err(_) => return Err(Some((4408, "Connection initialisation timeout"))),
        }
        let mut ping = interval(PING);
        let mut heard = true;
        loop {
            tokio::select! {
                message = self.socket.recv() => {
                    heard = true;
                    let Some(Ok(message)) = message else {
                        return Err(None);
                    };
                    self.receive(message).await?;
                }
                Some(answer) = answers.recv() => self.pass(answer).await?,
                _ = ping.tick() => {
                    if !heard {
                        return Err(None);
                    }
                    heard = false;
                    self.send(Message::Ping(Vec::new().into())).await?;
                }
            }
        }
    }

    /// Waits for the client's greeting, which may bring the token that a browser cannot put into a header.
    async fn begin(&mut self) -> Result<(), End> {
        let payload = loop {
            match self.next().await? {
                Client::ConnectionInit { payload } => break payload,
                Client::Ping { payload } => self.pong(payload).await?,
                Client::Pong {} => {}
                _ => return Err(Some((4401, "Unauthorized"))),
            }
        };
        let text = |key: &str| payload.as_ref()?.get(key)?.as_str();
        let given = text("Authorization").or_else(|| text("authorization"));
        let given = given.and_then(bearer_text).or_else(|| text("token"));
        if given.is_some() {
            self.auth = Auth::of(&self.gateway.deps.records.config(), given);
        }
        if matches!(self.auth, Auth::Refused) {
            return Err(Some((4403, "Forbidden")));
        }
        self.say(&json!({ "type": "connection_ack" })).await
    }

    async fn next(&mut self) -> Result<Client, End> {
        loop {
            match self.socket.recv().await {
                Some(Ok(Message::Text(text))) => return read(&text),
                Some(Ok(Message::Binary(_))) => return Err(Some((4400, "Text messages only"))),
                Some(Ok(Message::Ping(_) | Message::Pong(_))) => {}
                Some(Ok(Message::Close(_)) | Err(_)) | None => return Err(None),
            }
        }
    }

    async fn receive(&mut self, message: Message) -> Result<(), End> {
        let text = match message {
            Message::Text(text) => text,
            Message::Binary(_) => return Err(Some((4400, "Text messages only"))),
            Message::Ping(_) | Message::Pong(_) => return Ok(()),
            Message::Close(_) => return Err(None),
        };
        match read(&text)? {
            Client::ConnectionInit { .. } => Err(Some((4429, "Too many initialisation requests"))),
            Client::Subscribe { id, payload } => self.start(id, *payload).await,
            Client::Complete { id } => {
                self.operations.remove(&id);
                Ok(())
            }
            Client::Ping { payload } => self.pong(payload).await,
            Client::Pong {} => Ok(()),
        }
    }

    async fn start(&mut self, id: String, request: Request) -> Result<(), End> {
        if id.is_empty() || id.len() > MAX_ID {
            return Err(Some((4400, "An id has 1 to 128 bytes")));
        }
        if self.operations.contains_key(&id) {
            return Err(Some((4409, "Subscriber for this id already exists")));
        }
        if self.operations.len() >= MAX_OPERATIONS {
            let message =
                format!("at most {MAX_OPERATIONS} operations run on one connection: complete one");
            let errors = failure(code::RATE_LIMITED, &message).errors;
            return self
                .say(&json!({ "type": "error", "id": id, "payload": errors }))
                .await;
        }
        self.started += 1;
        let number = self.started;
        let session = Session::new(self.auth.clone(), self.addr, None);
        let answers = self.gateway.subscribe(request, session);
        let out = self.out.clone();
        let name = id.clone();
        let task = tokio::spawn(async move {
            let mut answers = std::pin::pin!(answers);
            let mut first = true;
            while let Some(answer) = answers.next().await {
                let (message, last) = shape(&name, &answer, first);
                first = false;
                let id = name.clone();
                let sent = out
                    .send(Out {
                        id,
                        number,
                        message,
                        last,
                    })
                    .await;
                if last || sent.is_err() {
                    return;
                }
            }
            let message = json!({ "type": "complete", "id": name });
            // The connection may have ended; then nobody waits for this.
            let _ = out
                .send(Out {
                    id: name,
                    number,
                    message,
                    last: true,
                })
                .await;
        });
        self.operations.insert(id, Operation { number, task });
        Ok(())
    }

    /// Sends an operation's answer on, unless the client has completed that operation.
    async fn pass(&mut self, out: Out) -> Result<(), End> {
        if self
            .operations
            .get(&out.id)
            .is_none_or(|o| o.number != out.number)
        {
            return Ok(());
        }
        if out.last {
            self.operations.remove(&out.id);
        }
        self.say(&out.message).await
    }

    async fn pong(&mut self, payload: Option<Value>) -> Result<(), End> {
        let mut message = json!({ "type": "pong" });
        if let (Some(payload), Some(fields)) = (payload, message.as_object_mut()) {
            fields.insert("payload".to_owned(), payload);
        }
        self.say(&message).await
    }

    async fn say(&mut self, message: &Value) -> Result<(), End> {
        self.send(Message::Text(message.to_string().into())).await
    }

    async fn send(&mut self, message: Message) -> Result<(), End> {
        match timeout(WRITE, self.socket.send(message)).await {
            Ok(Ok(())) => Ok(()),
            _ => Err(None),
        }
    }
}

fn read(text: &str) -> Result<Client, End> {
    serde_json::from_str(text).map_err(|_| Some((4400, "Not a message of graphql-transport-ws")))
}

/// Reads a message, and hands the request of a subscription on.
#[cfg(any(test, fuzzing))]
pub(crate) fn bear(text: &str, request: impl FnOnce(Request)) {
    if let Ok(Client::Subscribe { payload, .. }) = read(text) {
        request(*payload);
    }
}

/// The message of an answer, and whether it is the operation's last. An operation that fails before its first answer
/// ends with `error`.
fn shape(id: &str, answer: &Response, first: bool) -> (Value, bool) {
    if first && answer.data == async_graphql::Value::Null && !answer.errors.is_empty() {
        let message = json!({ "type": "error", "id": id, "payload": answer.errors });
        (message, true)
    } else {
        let message = json!({ "type": "next", "id": id, "payload": answer });
        (message, false)
    }
}
