//! Sounds one by one from a line of PES packets, each with its time.
use std::collections::VecDeque;

use bytes::Bytes;

/// What is looked through for a frame at most, in bytes: more than two of any format that is read.
const MAX_BYTES: usize = 16 << 10;

/// What stands at the front of some bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Front<H> {
    /// A frame of so many bytes.
    Frame {
        /// Bytes, header included: 1 to 8191.
        len: usize,
        /// What its header says.
        head: H,
    },
    /// No frame.
    None,
    /// Too few bytes to tell.
    More,
}

/// A frame's header.
pub(super) trait Head: Sized + Copy {
    /// Reads it.
    fn read(bytes: &[u8]) -> Front<Self>;
    /// Samples of the frame.
    fn samples(&self) -> u32;
    /// Samples a second.
    fn rate(&self) -> u32;
    /// Bytes of the header that are not part of what is kept.
    fn skip(&self) -> usize;
}

/// A frame.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Sound<H> {
    /// In ticks of 90 kHz.
    pub(super) time: i64,
    pub(super) head: H,
    pub(super) data: Bytes,
}

/// Finds frames, which may begin in one PES packet and end in the next. A PES packet's time is that of the first frame
/// that begins in it (ISO/IEC 13818-1 2.4.3.7); those after it are counted in samples.
#[derive(Debug)]
pub(super) struct Frames {
    held: Vec<u8>,
    /// Where in `held` PES packets begin, and their times.
    marks: VecDeque<(usize, i64)>,
    /// The last time that was told, and the samples at so many a second since.
    since: Option<(i64, u64)>,
    synced: bool,
}

impl Frames {
    pub(super) const fn new() -> Self {
        Self {
            held: Vec::new(),
            marks: VecDeque::new(),
            since: None,
            synced: false,
        }
    }

    /// Takes a PES packet; gives each frame that is whole. Frames before the first time that is told are left out.
    pub(super) fn push<H: Head>(
        &mut self,
        data: &[u8],
        time: Option<i64>,
        after_loss: bool,
        mut each: impl FnMut(Sound<H>),
    ) {
        if after_loss {
            self.held.clear();
            self.marks.clear();
            (self.since, self.synced) = (None, false);
        }
        self.marks.extend(time.map(|time| (self.held.len(), time)));
        self.held.extend_from_slice(data);
        let mut at = 0;
        while let Some((len, head)) = self.next::<H>(&mut at) {
            while let Some((_, time)) = self.marks.front().copied().filter(|(mark, _)| *mark <= at)
            {
                self.marks.pop_front();
                self.since = Some((time, 0));
            }
            if let Some((time, samples)) = &mut self.since {
                let rate = u64::from(head.rate().max(1));
                let passed = i64::try_from(*samples * 90_000 / rate).unwrap_or(0);
                *samples += u64::from(head.samples());
                each(Sound {
                    time: *time + passed,
                    head,
                    data: Bytes::copy_from_slice(&self.held[at + head.skip().min(len)..at + len]),
                });
            }
            at += len;
        }
        self.held.drain(..at);
        for (mark, _) in &mut self.marks {
            *mark = mark.saturating_sub(at);
        }
        // Marks at one place: the last one is as good.
        while self.marks.len() > 1 && self.marks[1].0 == 0 {
            self.marks.pop_front();
        }
    }

    /// The next whole frame at or after `at`, which is moved to it.
    fn next<H: Head>(&mut self, at: &mut usize) -> Option<(usize, H)> {
        if self.synced {
            match H::read(&self.held[*at..]) {
                Front::Frame { len, head } if len <= self.held.len() - *at => {
                    return Some((len, head));
                }
                Front::Frame { .. } | Front::More => return None,
                Front::None => self.synced = false,
            }
        }
        // Out of step, a frame counts only where another one or nothing follows.
        for start in *at..self.held.len() {
            if let Front::Frame { len, head } = H::read(&self.held[start..])
                && let Some(after) = self.held.get(start + len..)
                && (after.is_empty() || matches!(H::read(after), Front::Frame { .. }))
            {
                (*at, self.synced) = (start, true);
                return Some((len, head));
            }
        }
        *at = (*at).max(self.held.len().saturating_sub(MAX_BYTES));
        None
    }
}
