//! Containers that go out as long as the broadcast lasts.
use axum::{body::Body, http::StatusCode};
use bytes::Bytes;
use futures::stream;
use routing::model::{Codec, TrackKind};
use tokio::time::timeout;

use super::{
    answer::{self, Answer},
    hls::{START, not_live},
};
use crate::{
    follow::{Follow, Takes},
    live::Broadcast,
    mux::{Form, Mux},
};

/// What a form takes, as a viewer's place asks for it.
pub(super) fn takes(form: Form) -> Takes {
    match form {
        Form::Ts => |codec| Form::Ts.takes(codec),
        Form::Mp4 => |codec| Form::Mp4.takes(codec),
        Form::Flv => |codec| Form::Flv.takes(codec),
        Form::Aac => |codec| Form::Aac.takes(codec),
        Form::Mkv => |codec| Form::Mkv.takes(codec),
        Form::Webm => |codec| Form::Webm.takes(codec),
    }
}

/// What `follow` gives, in this form.
pub(super) async fn file(mut follow: Follow, form: Form) -> Result<Answer, Answer> {
    let mut changes = follow.lease().broadcast().changes();
    // Its tracks are known before its first frames are here.
    let known = async {
        loop {
            changes.borrow_and_update();
            if let Some(kinds) = tracks(follow.lease().broadcast()) {
                return Some(kinds);
            }
            changes.changed().await.ok()?;
        }
    };
    let Ok(Some(tracks)) = timeout(START, known).await else {
        return Err(not_live());
    };
    if let Err(codec) = carried(form, &tracks) {
        return Err(not_carried(form, codec, &tracks));
    }
    let Ok(Some(first)) = timeout(START, follow.next()).await else {
        return Err(not_live());
    };
    let mut mux = Mux::new(form);
    let head = match mux.event(first) {
        Ok(head) => head,
        Err(why) => {
            let text = why.to_string();
            let status = StatusCode::INTERNAL_SERVER_ERROR;
            return Err(answer::error(
                status,
                "PLAYBACK_RESOLUTION_FAILED",
                &text,
                None,
            ));
        }
    };
    let out = Out {
        follow,
        mux,
        buffers: head.into_iter(),
    };
    let body = Body::from_stream(stream::unfold(out, |mut out| async {
        let next = out.next().await?;
        Some((Ok::<_, std::convert::Infallible>(next), out))
    }));
    Ok(answer::ok(form.media_type(), "no-store", body))
}

/// A body on its way: an event is muxed when what was muxed before is taken.
struct Out {
    follow: Follow,
    mux: Mux,
    buffers: std::vec::IntoIter<Bytes>,
}

impl Out {
    async fn next(&mut self) -> Option<Bytes> {
        loop {
            if let Some(bytes) = self.buffers.find(|b| !b.is_empty()) {
                return Some(bytes);
            }
            let event = self.follow.next().await?;
            match self.mux.event(event) {
                Ok(buffers) => self.buffers = buffers.into_iter(),
                Err(error) => {
                    tracing::info!(%error, "a viewer's container ends");
                    return None;
                }
            }
        }
    }
}

/// The codecs of a broadcast's first picture and its first sound.
fn tracks(broadcast: &Broadcast) -> Option<Vec<Codec>> {
    let epoch = broadcast.current()?;
    let first = |kind| {
        let mut tracks = epoch.epoch().tracks.iter();
        tracks.find(|t| t.kind == kind).map(|t| t.config.codec())
    };
    let all = [first(TrackKind::Video), first(TrackKind::Audio)];
    Some(all.into_iter().flatten().collect())
}

/// Whether a form carries all of it; of pictures nothing is asked of one for sound.
fn carried(form: Form, tracks: &[Codec]) -> Result<(), Option<Codec>> {
    let mut asked = tracks
        .iter()
        .filter(|c| form.has_pictures() || !c.is_video())
        .peekable();
    if asked.peek().is_none() {
        return Err(None);
    }
    asked
        .find(|c| !form.takes(**c))
        .map_or(Ok(()), |c| Err(Some(*c)))
}

fn not_carried(form: Form, codec: Option<Codec>, tracks: &[Codec]) -> Answer {
    let fits: Vec<String> = Form::ALL
        .into_iter()
        .filter(|f| carried(*f, tracks).is_ok())
        .map(|f| format!("/play/ID.{}", f.ending()))
        .collect();
    let what = codec.map_or("no sound".to_owned(), |c| c.name().to_owned());
    let text = format!(
        "This stream has {what}, so it is not to be had as .{}. It is to be had as /play/ID/cmaf/index.m3u8{}{}.",
        form.ending(),
        if fits.is_empty() { "" } else { ", " },
        fits.join(", "),
    );
    answer::error(
        StatusCode::NOT_ACCEPTABLE,
        "PROTOCOL_NOT_AVAILABLE",
        &text,
        None,
    )
}
