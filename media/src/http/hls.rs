//! Playlists, segments, parts: each held until the view has it.
use std::{sync::Arc, time::Duration};

use axum::http::{HeaderMap, StatusCode, header};
use routing::model::EpochId;
use tokio::time::timeout;

use super::{
    Http,
    answer::{self, Answer},
    dash,
};
use crate::{
    hls::{Ask, BadAsk, Container, Position, Reload, View, Watched},
    pack,
};

/// A stream that is about to start is waited for this long before it counts as not live.
pub(super) const START: Duration = Duration::from_secs(5);
/// Nobody asks for what is so far ahead: it is not held.
const AHEAD: u64 = 3;

/// What a look at a view gives.
pub(super) enum Look<T> {
    Found(T),
    Hold,
    Never,
}

/// Looks at views until one has it, no longer than `limit`.
pub(super) async fn until<T>(
    watched: &Watched,
    limit: Duration,
    mut look: impl FnMut(&View) -> Look<T>,
) -> Result<T, Answer> {
    let mut views = watched.views();
    let mut seen = |views: &mut tokio::sync::watch::Receiver<Option<Arc<View>>>| {
        let view = views.borrow_and_update().clone();
        view.map_or(Look::Hold, |view| look(&view))
    };
    match seen(&mut views) {
        Look::Found(found) => return Ok(found),
        Look::Never => return Err(not_here()),
        Look::Hold => {}
    }
    let Some(_place) = watched.waiter() else {
        return Err(busy(
            "Too many requests are held for this stream at this node.",
        ));
    };
    let wait = async {
        loop {
            if views.changed().await.is_err() {
                return Err(not_live());
            }
            match seen(&mut views) {
                Look::Found(found) => return Ok(found),
                Look::Never => return Err(not_here()),
                Look::Hold => {}
            }
        }
    };
    timeout(limit, wait)
        .await
        .unwrap_or_else(|_| Err(busy("What was asked for did not come in time.")))
}

pub(super) fn not_live() -> Answer {
    let text = "This stream is not live. Ask again when it is, or in a few seconds.";
    answer::error(StatusCode::NOT_FOUND, "STREAM_NOT_LIVE", text, Some(2))
}

fn not_here() -> Answer {
    let text = "There is no such file: it is older than what is kept, or was never made. Load the playlist again.";
    answer::error(StatusCode::NOT_FOUND, "NOT_FOUND", text, None)
}

pub(super) fn busy(text: &str) -> Answer {
    answer::error(
        StatusCode::SERVICE_UNAVAILABLE,
        "REMOTE_ARTIFACT_UNAVAILABLE",
        text,
        Some(1),
    )
}

fn bad(why: BadAsk) -> Answer {
    answer::error(
        StatusCode::BAD_REQUEST,
        "BAD_DIRECTIVE",
        &why.to_string(),
        None,
    )
}

pub(super) async fn index(watched: &Watched, container: Container) -> Result<Answer, Answer> {
    let text = until(watched, START, |view| {
        let any = view.renditions.iter().any(|r| r.container == container);
        if any {
            Look::Found(Some(view.multivariant(container)))
        } else if container == Container::Ts && pack::multiplexed(&view.epoch).is_none() {
            Look::Found(None)
        } else {
            Look::Hold
        }
    });
    let text = text.await?.ok_or_else(|| {
        answer::error(
            StatusCode::NOT_FOUND,
            "PROTOCOL_NOT_AVAILABLE",
            "MPEG-TS does not carry this stream's codec. Use /play/ID/cmaf/index.m3u8.",
            None,
        )
    })?;
    Ok(answer::ok(answer::PLAYLIST, answer::FRESH, text))
}

pub(super) async fn playlist(
    http: &Http,
    watched: &Watched,
    (container, name): (Container, &str),
    query: &str,
) -> Result<Answer, Answer> {
    let ask = Ask::read(query).map_err(bad)?;
    let known = |view: &View| {
        view.rendition(name)
            .is_some_and(|r| r.container == container)
    };
    let Some(position) = ask.until else {
        let look = |late: bool| {
            move |view: &View| match view.rendition(name) {
                Some(r) if r.container == container && view.ready(name, late) => {
                    Look::Found(r.playlist(ask.skip))
                }
                Some(r) if r.container == container => Look::Hold,
                _ => Look::Never,
            }
        };
        let now = http.clock.uptime();
        // The window is fetched back first; where that takes too long, what is here is served.
        let early = watched.late_in(now).max(Duration::from_millis(1));
        let text = match until(watched, early, look(watched.late(now))).await {
            Err(a) if a.status() == StatusCode::SERVICE_UNAVAILABLE => {
                until(watched, START, look(true)).await?
            }
            other => other?,
        };
        return Ok(answer::ok(answer::PLAYLIST, answer::FRESH, text));
    };
    let text = until(watched, Reload::LIMIT, |view| {
        let Some(rendition) = view.rendition(name).filter(|_| known(view)) else {
            return Look::Never;
        };
        let now = http.clock.uptime();
        let late = watched.late(now);
        match rendition.reload(position) {
            Reload::Now if !watched.in_step(view, rendition, now) => Look::Hold,
            Reload::Now if view.ready(name, late) => Look::Found(Ok(rendition.playlist(ask.skip))),
            // Not there yet, or not yet as at every other node.
            Reload::Now | Reload::Hold => Look::Hold,
            // A player that comes from another node is not too far ahead: this one is still fetching.
            Reload::Refuse(_) if !view.ready(name, late) => Look::Hold,
            Reload::Refuse(why) => Look::Found(Err(why)),
        }
    });
    let text = text.await?.map_err(bad)?;
    Ok(answer::ok(answer::PLAYLIST, answer::BLOCKED, text))
}

pub(super) async fn init(
    watched: &Watched,
    (epoch, name, number): (EpochId, &str, u32),
    headers: &HeaderMap,
) -> Result<Answer, Answer> {
    let (track, config) = until(watched, START, |view| {
        match view.config(epoch, name, number) {
            Some(found) => Look::Found(found),
            None if view.epoch.id < epoch => Look::Hold,
            None => Look::Never,
        }
    })
    .await?;
    let bytes = pack::init(&track, &config).map_err(|e| {
        answer::error(
            StatusCode::INTERNAL_SERVER_ERROR,
            "PLAYBACK_RESOLUTION_FAILED",
            &e.to_string(),
            None,
        )
    })?;
    let body = pack::Chain::new(vec![bytes]);
    Ok(answer::media(kind(name), &body, headers))
}

pub(super) async fn media(
    watched: &Watched,
    (epoch, name, at): (EpochId, &str, Position),
    headers: &HeaderMap,
) -> Result<Answer, Answer> {
    if at.part.is_none() && name != "ts" && !headers.contains_key(header::RANGE) {
        return dash::segment(watched, (epoch, name, at.segment), headers).await;
    }
    let body = until(watched, Reload::LIMIT, |view| find(view, epoch, name, at)).await?;
    Ok(answer::media(kind(name), &body, headers))
}

pub(super) fn kind(name: &str) -> &'static str {
    match name.as_bytes().first() {
        Some(b't') => "video/mp2t",
        Some(b'a') => "audio/mp4",
        _ => "video/mp4",
    }
}

pub(super) fn find(view: &View, epoch: EpochId, name: &str, at: Position) -> Look<pack::Chain> {
    let Some(rendition) = view.rendition(name) else {
        return Look::Never;
    };
    let last = rendition.last();
    let ahead = last.is_none_or(|last| at.segment >= last && at.segment - last <= AHEAD);
    let Some(segment) = rendition.any(at.segment) else {
        return if ahead { Look::Hold } else { Look::Never };
    };
    if segment.epoch.id != epoch || segment.is_gap() {
        return Look::Never;
    }
    let closed = rendition.segment(at.segment).is_some();
    match at.part.map(|part| {
        segment
            .parts
            .get(usize::try_from(part).unwrap_or(usize::MAX))
    }) {
        Some(Some(part)) => Look::Found(part.body().clone()),
        None if closed => Look::Found(segment.body().clone()),
        Some(None) if closed => Look::Never,
        _ => Look::Hold,
    }
}
