//! The door for commands on the same machine: HTTP over the Unix socket `shoal.sock` in the data directory (0600).
//! Who may read the node's keys may command it; nobody else reaches the socket.
use std::{
    io,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
};

use axum::{Router, body::Body};
use http_body_util::{BodyExt, Full, Limited};
use hyper::{Request, body::Bytes, client::conn::http1};
use hyper_util::rt::TokioIo;
use serde::{Serialize, de::DeserializeOwned};
use tokio::net::{UnixListener, UnixStream};
use tokio_util::sync::CancellationToken;

/// The socket's file name in the data directory.
pub const SOCKET: &str = "shoal.sock";
/// An answer longer than this is not read: a status of thousands of nodes fits.
const MAX_ANSWER: usize = 32 << 20;

/// Why a command could not be carried out by the running node.
#[derive(Debug, thiserror::Error)]
pub enum LocalError {
    /// Nobody listens.
    #[error(
        "no node runs with the data directory {0}. Start it with `shoal run`, or name another with --data."
    )]
    NotRunning(PathBuf),
    /// The socket is another user's.
    #[error(
        "this user may not command the node of {0}: do it as the user that runs the node, or as root"
    )]
    Forbidden(PathBuf),
    /// The socket is there but does not answer as it should.
    #[error("the running node did not answer: {0}")]
    Broken(String),
    /// It answered with an error; the text is the node's.
    #[error("{0}")]
    Refused(String),
}

/// The socket, open: commands wait until it is served. Gone with the value.
#[derive(Debug)]
pub struct Door {
    listener: UnixListener,
    file: File,
}

#[derive(Debug)]
struct File(PathBuf);

impl Drop for File {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}

/// Makes the socket.
///
/// # Errors
/// Where it cannot be made: the directory is not writable, or its path too long for a socket (107 bytes).
pub fn open(dir: &Path) -> io::Result<Door> {
    let path = dir.join(SOCKET);
    match std::fs::remove_file(&path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let listener = UnixListener::bind(&path)?;
    let file = File(path);
    std::fs::set_permissions(&file.0, std::fs::Permissions::from_mode(0o600))?;
    Ok(Door { listener, file })
}

/// Answers commands until `stop`.
pub async fn serve(door: Door, router: Router, stop: CancellationToken) {
    let Door { listener, file } = door;
    let served = axum::serve(listener, router)
        .with_graceful_shutdown(stop.cancelled_owned())
        .await;
    if let Err(error) = served {
        tracing::error!(%error, "the command socket ended");
    }
    drop(file);
}

/// Asks the running node.
///
/// # Errors
/// [`LocalError`].
pub async fn ask<B: Serialize + Sync, R: DeserializeOwned>(
    dir: &Path,
    method: &str,
    path: &str,
    body: &B,
) -> Result<R, LocalError> {
    let stream = UnixStream::connect(dir.join(SOCKET))
        .await
        .map_err(|error| match error.kind() {
            io::ErrorKind::PermissionDenied => LocalError::Forbidden(dir.to_owned()),
            _ => LocalError::NotRunning(dir.to_owned()),
        })?;
    let broken = |e: &dyn std::fmt::Display| LocalError::Broken(e.to_string());
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream))
        .await
        .map_err(|e| broken(&e))?;
    let connection = tokio::spawn(connection);
    let body = serde_json::to_vec(body).map_err(|e| broken(&e))?;
    let request = Request::builder()
        .method(method)
        .uri(path)
        .header("host", "shoal.local")
        .header("content-type", "application/json")
        .body(Full::new(Bytes::from(body)))
        .map_err(|e| broken(&e))?;
    let response = sender.send_request(request).await.map_err(|e| broken(&e))?;
    let status = response.status();
    let body = Body::new(response.into_body());
    let bytes = Limited::new(body, MAX_ANSWER)
        .collect()
        .await
        .map_err(|e| broken(&e))?
        .to_bytes();
    connection.abort();
    if status.is_success() {
        serde_json::from_slice(&bytes).map_err(|e| broken(&e))
    } else {
        Err(LocalError::Refused(
            String::from_utf8_lossy(&bytes).trim().to_owned(),
        ))
    }
}

#[cfg(test)]
mod tests {
    use axum::{
        Json,
        http::StatusCode,
        routing::{get, post},
    };

    use super::*;

    #[tokio::test]
    async fn commands_reach_the_running_node_and_only_that() {
        let dir = tempfile::tempdir().unwrap();
        let missing = ask::<_, String>(dir.path(), "GET", "/x", &())
            .await
            .unwrap_err()
            .to_string();
        assert!(missing.contains("no node runs"), "{missing}");
        let router = Router::new()
            .route(
                "/twice",
                post(|Json(n): Json<u32>| async move { Json(n * 2) }),
            )
            .route("/no", get(|| async { (StatusCode::CONFLICT, "not here") }));
        let stop = CancellationToken::new();
        let door = open(dir.path()).unwrap();
        let server = tokio::spawn(serve(door, router, stop.clone()));
        assert_eq!(
            ask::<_, u32>(dir.path(), "POST", "/twice", &21)
                .await
                .unwrap(),
            42
        );
        let refused = ask::<_, u32>(dir.path(), "GET", "/no", &())
            .await
            .unwrap_err();
        assert_eq!(refused.to_string(), "not here");
        let mode = std::fs::metadata(dir.path().join(SOCKET))
            .unwrap()
            .permissions()
            .mode();
        assert_eq!(mode & 0o777, 0o600);
        stop.cancel();
        server.await.unwrap();
        assert!(!dir.path().join(SOCKET).exists());
    }
}
