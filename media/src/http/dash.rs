//! The DASH description, the origin's time, and the segment at the edge as its parts come.
use std::{sync::Arc, time::Duration};

use axum::body::Body;
use bytes::Bytes;
use futures::stream;
use routing::model::EpochId;
use tokio::{
    sync::{OwnedSemaphorePermit, watch},
    time::timeout,
};

use super::{
    Http,
    answer::{self, Answer},
    hls::{Look, START, busy, find, kind, not_live, until},
};
use crate::{
    hls::{Container, DateTime, Position, Reload, View, Watched},
    pack::{Chain, Part},
};

/// The description, once every rendition can be shown as it is at every node, or time is up for that.
pub(super) async fn index(http: &Http, watched: &Watched) -> Result<Answer, Answer> {
    let look = |late: bool| {
        move |view: &View| {
            let mut cmaf = view
                .renditions
                .iter()
                .filter(|r| r.container == Container::Cmaf)
                .peekable();
            if cmaf.peek().is_some() && cmaf.all(|r| view.ready(&r.name, late)) {
                Look::Found(view.mpd())
            } else {
                Look::Hold
            }
        }
    };
    let now = http.clock.uptime();
    let early = watched.late_in(now).max(Duration::from_millis(1));
    let text = match until(watched, early, look(watched.late(now))).await {
        Ok(text) => text,
        Err(_) => until(watched, START, look(true)).await?,
    };
    Ok(answer::ok("application/dash+xml", answer::FRESH, text))
}

/// The origin's time, for `UTCTiming`.
pub(super) async fn time(http: &Http, watched: &Watched) -> Result<Answer, Answer> {
    let time = || watched.origin_time(http.clock.uptime());
    let look = |_: &View| time().map_or(Look::Hold, Look::Found);
    until(watched, START, look).await?;
    let time = time().ok_or_else(not_live)?;
    Ok(answer::ok(
        "text/plain",
        "no-store",
        DateTime(time.0).to_string(),
    ))
}

/// A segment's body on its way: what is left of the parts that are there, then those that come.
struct Coming {
    views: watch::Receiver<Option<Arc<View>>>,
    name: String,
    epoch: EpochId,
    number: u64,
    /// Parts taken from views so far.
    taken: usize,
    buffers: std::vec::IntoIter<Bytes>,
    ended: bool,
    _place: OwnedSemaphorePermit,
}

/// What a view has of a segment.
enum Edge {
    Closed(Chain),
    Open(Vec<Arc<Part>>),
}

fn edge(view: &View, epoch: EpochId, name: &str, number: u64) -> Look<Edge> {
    let at = Position {
        segment: number,
        part: None,
    };
    match find(view, epoch, name, at) {
        Look::Found(body) => Look::Found(Edge::Closed(body)),
        Look::Never => Look::Never,
        Look::Hold => {
            let open = view.rendition(name).and_then(|r| r.any(number));
            match open.filter(|s| s.epoch.id == epoch && !s.parts.is_empty()) {
                Some(open) => Look::Found(Edge::Open(open.parts.clone())),
                None => Look::Hold,
            }
        }
    }
}

/// A whole segment without a range: at once where it is closed; at the edge, part by part as they close.
pub(super) async fn segment(
    watched: &Watched,
    (epoch, name, number): (EpochId, &str, u64),
    headers: &axum::http::HeaderMap,
) -> Result<Answer, Answer> {
    let found = until(watched, Reload::LIMIT, |view| {
        edge(view, epoch, name, number)
    })
    .await?;
    let body = match found {
        Edge::Closed(body) => return Ok(answer::media(kind(name), &body, headers)),
        Edge::Open(_) => Coming {
            views: watched.views(),
            name: name.to_owned(),
            epoch,
            number,
            taken: 0,
            buffers: Vec::new().into_iter(),
            ended: false,
            _place: watched
                .waiter()
                .ok_or_else(|| busy("Too many requests are held for this stream at this node."))?,
        },
    };
    let body = Body::from_stream(stream::unfold(body, |mut body| async {
        let next = body.next().await?;
        Some((next, body))
    }));
    Ok(answer::ok(kind(name), answer::FOREVER, body))
}

impl Coming {
    /// The next bytes; an error, which breaks the answer off, where the segment will not be whole.
    async fn next(&mut self) -> Option<std::io::Result<Bytes>> {
        loop {
            if let Some(bytes) = self.buffers.next() {
                return Some(Ok(bytes));
            }
            if self.ended {
                return None;
            }
            let view = self.views.borrow_and_update().clone();
            let found = view.map_or(Look::Hold, |v| {
                edge(&v, self.epoch, &self.name, self.number)
            });
            let parts = match found {
                Look::Never => return self.fail("the segment will not be whole"),
                Look::Hold => Vec::new(),
                Look::Found(Edge::Open(parts)) => parts,
                Look::Found(Edge::Closed(_)) => {
                    self.ended = true;
                    self.closed_parts()
                }
            };
            let fresh: Vec<Bytes> = parts
                .iter()
                .skip(self.taken)
                .flat_map(|p| p.body().buffers().to_vec())
                .collect();
            self.taken = self.taken.max(parts.len());
            if fresh.is_empty() && !self.ended {
                match timeout(Reload::LIMIT, self.views.changed()).await {
                    Ok(Ok(())) => {}
                    _ => return self.fail("no frames come"),
                }
            }
            self.buffers = fresh.into_iter();
        }
    }

    fn fail(&mut self, why: &str) -> Option<std::io::Result<Bytes>> {
        self.ended = true;
        Some(Err(std::io::Error::other(why.to_owned())))
    }

    fn closed_parts(&self) -> Vec<Arc<Part>> {
        let view = self.views.borrow().clone();
        let parts =
            view.and_then(|v| Some(v.rendition(&self.name)?.segment(self.number)?.parts.clone()));
        parts.unwrap_or_default()
    }
}
