//! Everything that nodes serve of a stream, gathered while it runs and held against each other.
//!
//! A [`Harvest`] follows a stream's playlists at each node as a player does, with blocking reloads, and fetches all files
//! that they name. Two answers under one name that are not the same bytes, two playlists of one edge that are not the
//! same text, and a file that a playlist names and its node refuses are [`Harvest::faults`].
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{
        Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use crate::{lab::until, stage::Node};

/// Container and name of each rendition of a stream with pictures and sound.
pub const RENDITIONS: [(&str, &str); 3] = [("cmaf", "v0"), ("cmaf", "a0"), ("hls", "ts")];
/// Between two tries at a node that does not answer.
const PAUSE: Duration = Duration::from_millis(200);

/// What a playlist names: parts and segments and init segments, relative to the playlist.
#[must_use]
pub fn names(playlist: &str) -> Vec<&str> {
    fn named(line: &str) -> Option<&str> {
        if line.starts_with("#EXT-X-PART:") || line.starts_with("#EXT-X-MAP:") {
            let (_, rest) = line.split_once("URI=\"")?;
            return Some(rest.split_once('"')?.0);
        }
        (!line.starts_with('#') && !line.is_empty()).then_some(line)
    }
    playlist.lines().filter_map(named).collect()
}

/// The playlist's last place: its last segment or part, as its line says it.
#[must_use]
pub fn edge(playlist: &str) -> Option<&str> {
    let mut lines = playlist.lines().rev();
    lines.find(|l| l.starts_with("#EXT-X-PART:") || !l.starts_with('#') && !l.is_empty())
}

/// The number of the last segment in a playlist that is whole.
#[must_use]
pub fn last_segment(playlist: &str) -> Option<u64> {
    let number = |key| -> Option<u64> {
        let mut lines = playlist.lines();
        lines.find_map(|l| l.strip_prefix(key))?.parse().ok()
    };
    let first = number("#EXT-X-MEDIA-SEQUENCE:")?;
    let count = u64::try_from(playlist.matches("#EXTINF").count()).ok()?;
    (first + count).checked_sub(1)
}

/// What a playlist names, but says is missing.
fn gaps(playlist: &str) -> Vec<&str> {
    let mut lines = playlist.lines();
    let mut gaps = Vec::new();
    while lines.any(|l| l == "#EXT-X-GAP") {
        gaps.extend(lines.by_ref().find(|l| !l.starts_with('#')));
    }
    gaps
}

/// Lines of one text that another has not.
fn lacking<'a>(of: &'a str, other: &str) -> Vec<&'a str> {
    let all: BTreeSet<&str> = other.lines().collect();
    of.lines().filter(|line| !all.contains(line)).collect()
}

/// One thing that was served, and by whom.
struct Kept<T> {
    what: T,
    by: BTreeSet<&'static str>,
}

#[derive(Default)]
struct Found {
    files: BTreeMap<String, Kept<Vec<u8>>>,
    /// By path and edge.
    lists: BTreeMap<(String, String), Kept<String>>,
    /// The last whole segment of each playlist, by node and path.
    last: BTreeMap<(&'static str, String), u64>,
    faults: Vec<String>,
}

/// What nodes serve under one stream's path.
pub struct Harvest {
    base: String,
    ended: AtomicBool,
    found: Mutex<Found>,
}

/// What was gathered.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Count {
    /// Files that all the nodes in question served.
    pub files: usize,
    /// Edges at which they all gave the playlist.
    pub lists: usize,
}

/// Ends a harvest where it goes out of scope, be it by a failed test.
pub struct Ending<'a>(&'a Harvest);

impl Drop for Ending<'_> {
    fn drop(&mut self) {
        self.0.ended.store(true, Ordering::Relaxed);
    }
}

impl Harvest {
    /// A harvest of what is under `base`, such as `/play/ID`.
    #[must_use]
    pub fn new(base: String) -> Self {
        Self {
            base,
            ended: AtomicBool::new(false),
            found: Mutex::default(),
        }
    }

    /// Whoever holds this keeps it going.
    #[must_use]
    pub const fn ending(&self) -> Ending<'_> {
        Ending(self)
    }

    fn lock(&self) -> MutexGuard<'_, Found> {
        self.found.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Follows one rendition at one node until the harvest ends, and a last round after. The node may go and come back.
    pub fn gather(&self, node: &Node, (container, name): (&str, &str)) {
        let folder = format!("{}/{container}", self.base);
        let list = format!("{folder}/{name}.m3u8");
        let mut seen = BTreeSet::new();
        let mut next = None;
        loop {
            let ended = self.ended.load(Ordering::Relaxed);
            let path = match next {
                Some(next) if !ended => format!("{list}?_HLS_msn={next}"),
                _ => list.clone(),
            };
            let whole = self
                .text(node, &path)
                .and_then(|text| self.take(node, (&folder, &list), &text, &mut seen));
            next = whole.map(|last| last + 1);
            if ended {
                return;
            }
            if next.is_none() {
                // It does not answer, or not with a playlist: the next try is not at once.
                let gone = || self.ended.load(Ordering::Relaxed).then_some(());
                drop(until("the end", PAUSE, gone));
            }
        }
    }

    fn text(&self, node: &Node, path: &str) -> Option<String> {
        let (status, body) = node.get(path).ok()?;
        (status == 200).then(|| String::from_utf8(body).ok())?
    }

    /// Takes a playlist in and fetches what is new in it. Its last whole segment, where all of that came.
    fn take(
        &self,
        node: &Node,
        (folder, list): (&str, &str),
        text: &str,
        seen: &mut BTreeSet<String>,
    ) -> Option<u64> {
        let (edge, last) = (edge(text)?, last_segment(text)?);
        {
            let mut found = self.lock();
            let key = (list.to_owned(), edge.to_owned());
            let gaps = gaps(text);
            if !gaps.is_empty() {
                let gap = format!(
                    "{}: gaps in {list} from {:?} to {edge}: {gaps:?}",
                    node.name(),
                    names(text).first()
                );
                found.faults.push(gap);
            }
            let first = found.lists.entry(key).or_insert_with(|| Kept {
                what: text.to_owned(),
                by: BTreeSet::new(),
            });
            if first.what == text {
                first.by.insert(node.name());
            } else {
                let differ = format!(
                    "{list} at {edge}: by {:?}, but not by {}: {:?}; the other way round: {:?}",
                    first.by,
                    node.name(),
                    lacking(&first.what, text),
                    lacking(text, &first.what)
                );
                found.faults.push(differ);
            }
            found.last.insert((node.name(), list.to_owned()), last);
        }
        let new: Vec<String> = names(text)
            .into_iter()
            .map(|name| format!("{folder}/{name}"))
            .filter(|name| !seen.contains(name))
            .collect();
        let got = node.get_all(&new).ok()?;
        let mut found = self.lock();
        for (name, (status, body)) in new.into_iter().zip(got) {
            if status != 200 {
                let refused = format!("{}: {status} for {name}, which it names", node.name());
                found.faults.push(refused);
                continue;
            }
            let length = body.len();
            let first = found.files.entry(name.clone()).or_insert_with(|| Kept {
                what: body.clone(),
                by: BTreeSet::new(),
            });
            if first.what == body {
                first.by.insert(node.name());
            } else {
                let differ = format!(
                    "{name}: {} bytes by {:?}, other {length} by {}",
                    first.what.len(),
                    first.by,
                    node.name()
                );
                found.faults.push(differ);
            }
            seen.insert(name);
        }
        Some(last)
    }

    /// The last whole segment of a rendition that a node was seen to list.
    #[must_use]
    pub fn last(&self, node: &Node, (container, name): (&str, &str)) -> Option<u64> {
        let list = format!("{}/{container}/{name}.m3u8", self.base);
        self.lock().last.get(&(node.name(), list)).copied()
    }

    /// What should not have been, so far.
    #[must_use]
    pub fn faults(&self) -> Vec<String> {
        self.lock().faults.clone()
    }

    /// How much of a rendition all of these nodes served alike.
    #[must_use]
    pub fn alike(&self, nodes: &[&Node], (container, name): (&str, &str)) -> Count {
        let folder = format!("{}/{container}/", self.base);
        let list = format!("{folder}{name}.m3u8");
        let all = |by: &BTreeSet<&str>| nodes.iter().all(|n| by.contains(n.name()));
        let found = self.lock();
        let of = |file: &str| {
            let rest = file.strip_prefix(&folder).unwrap_or_default();
            container != "cmaf" || rest.split('/').nth(1) == Some(name)
        };
        Count {
            files: found
                .files
                .iter()
                .filter(|(path, kept)| path.starts_with(&folder) && of(path) && all(&kept.by))
                .count(),
            lists: found
                .lists
                .iter()
                .filter(|((path, _), kept)| *path == list && all(&kept.by))
                .count(),
        }
    }

    /// Which nodes served a rendition's segment of this number.
    #[must_use]
    pub fn served(&self, (container, name): (&str, &str), segment: u64) -> BTreeSet<&'static str> {
        let folder = format!("{}/{container}/", self.base);
        let end = match container {
            "cmaf" => format!("/{name}/{segment}.m4s"),
            _ => format!("/{segment}.ts"),
        };
        let found = self.lock();
        let mut files = found.files.iter();
        let file = files.find(|(path, _)| path.starts_with(&folder) && path.ends_with(&end));
        file.map(|(_, kept)| kept.by.clone()).unwrap_or_default()
    }
}
