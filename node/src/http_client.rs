//! A small HTTP client, for this program's own use on this machine's own nodes.
use std::{net::SocketAddr, time::Duration};

use anyhow::Context;
use http_body_util::{BodyExt, Full, Limited};
use hyper::{Request, body::Bytes, client::conn::http1};
use hyper_util::rt::TokioIo;
use serde_json::Value;
use tokio::net::TcpStream;

/// A node of one's own answers well within it.
const PATIENCE: Duration = Duration::from_secs(10);
/// Playlists and GraphQL answers; no media.
const MAX_ANSWER: usize = 4 << 20;

async fn send(addr: SocketAddr, request: Request<Full<Bytes>>) -> anyhow::Result<(u16, Bytes)> {
    let exchange = async {
        let stream = TcpStream::connect(addr).await?;
        let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
        let connection = tokio::spawn(connection);
        let response = sender.send_request(request).await?;
        let status = response.status().as_u16();
        let body = Limited::new(response.into_body(), MAX_ANSWER)
            .collect()
            .await;
        connection.abort();
        let body = body.map_err(|e| anyhow::anyhow!("{addr} answered with too much: {e}"))?;
        Ok((status, body.to_bytes()))
    };
    tokio::time::timeout(PATIENCE, exchange)
        .await
        .with_context(|| format!("{addr} does not answer"))?
}

/// The status and body of a GET.
///
/// # Errors
/// Where nobody answers.
pub async fn get(addr: SocketAddr, path: &str) -> anyhow::Result<(u16, Bytes)> {
    let request = Request::get(path)
        .header("host", addr.to_string())
        .body(Full::default())?;
    send(addr, request).await
}

/// The JSON that a POST of JSON is answered with.
///
/// # Errors
/// Where nobody answers, or not with JSON.
pub async fn post_json(
    addr: SocketAddr,
    path: &str,
    token: Option<&str>,
    body: &Value,
) -> anyhow::Result<Value> {
    let mut request = Request::post(path)
        .header("host", addr.to_string())
        .header("content-type", "application/json");
    if let Some(token) = token {
        request = request.header("authorization", format!("Bearer {token}"));
    }
    let (status, answer) = send(
        addr,
        request.body(Full::new(Bytes::from(serde_json::to_vec(body)?)))?,
    )
    .await?;
    serde_json::from_slice(&answer).with_context(|| {
        format!(
            "{addr} answered {status}: {}",
            String::from_utf8_lossy(&answer)
        )
    })
}
