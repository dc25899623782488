//! The demo's publisher: the built-in clip over RTMP, in a loop, at the next node when the present one goes away.
use std::{net::SocketAddr, sync::Arc, time::Duration};

use anyhow::Context;
use media::{
    flv::{self, Looped},
    rtmp::{Publisher, Target},
};
use routing::model::{Clock, StreamKey};
use tokio_util::sync::CancellationToken;

use crate::clock::SystemClock;

/// 640x360 at 30 frames a second with a running clock, and a tone; see `node/assets/README.md`.
static CLIP: &[u8] = include_bytes!("../../assets/demo.flv");
/// Before another node is tried.
const PAUSE: Duration = Duration::from_millis(300);

/// Publishes under `key` at the first of `targets` that takes it, until `stop`.
pub(super) async fn run(targets: Vec<SocketAddr>, key: StreamKey, stop: CancellationToken) {
    let clock: Arc<dyn Clock> = Arc::new(SystemClock::start());
    for (seed, target) in targets.iter().cycle().enumerate() {
        let attempt = publish(*target, &key, seed as u64, &clock, &stop);
        let ended = tokio::select! {
            () = stop.cancelled() => return,
            ended = attempt => ended,
        };
        if let Err(error) = ended {
            tracing::debug!(%target, %error, "the demo's publisher goes to the next node");
        }
        tokio::select! {
            () = stop.cancelled() => return,
            () = tokio::time::sleep(PAUSE) => {}
        }
    }
}

async fn publish(
    target: SocketAddr,
    key: &StreamKey,
    seed: u64,
    clock: &Arc<dyn Clock>,
    stop: &CancellationToken,
) -> anyhow::Result<()> {
    let tags = flv::file(CLIP).context("the built-in clip is damaged")?;
    let target = Target {
        host: target.to_string(),
        app: "live".into(),
        key: key.clone(),
    };
    let mut publisher = Publisher::connect(&target, seed).await?;
    publisher
        .send_paced(Looped::new(tags)?, clock, stop)
        .await?;
    publisher.finish().await?;
    Ok(())
}
