// One rendition: keeps its media playlist at the live edge and feeds its SourceBuffer piece by piece.
import { decodeTime, media, timescale } from "./playlist.js";

const sleep = (ms) => new Promise((go) => setTimeout(go, ms));

export class Track {
  constructor(engine, kind, url, mime) {
    Object.assign(this, { engine, kind, url, mime });
    this.list = null;
    this.next = null;           // {msn, part}: what is to be appended next
    this.disc = null;           // the discontinuity number that the buffer's offset is for
    this.map = null;            // the init segment in force
    this.scale = 0;
    this.inits = new Map();
    this.waiters = [];
    this.hinted = null;
    this.clock = [];            // [media time, programme time in ms], newest last
    this.stuck = 0;
    this.stopped = false;
  }

  open(source) {
    this.buffer = source.addSourceBuffer(this.mime);
    this.buffer.mode = "segments";
  }

  start() {
    this.reload().catch((e) => this.engine.broke(e));
    this.feed().catch((e) => this.engine.broke(e));
  }

  // --- The playlist ---

  /** Keeps the playlist fresh: by blocking reload where the server offers it. */
  async reload() {
    while (!this.stopped) {
      const began = performance.now();
      let url = this.url;
      if (this.list?.canBlock && !this.list.end) {
        const last = this.list.segments.at(-1);
        const [msn, part] = last && !last.url ? [last.msn, last.parts.length] : [this.list.last + 1, 0];
        url += `?_HLS_msn=${msn}${this.list.partTarget ? `&_HLS_part=${part}` : ""}`;
      }
      try {
        const list = media(await this.engine.ways.text(url), this.url);
        // A node that is a moment behind must not take back what another has shown.
        if (!this.older(list)) {
          this.list = list;
          this.misses = 0;
          this.wake();
        } else await sleep(100);
        if (list.end) await sleep(1000);
        else if (!list.canBlock) await sleep(((list.partTarget || list.target) * 1000) / 2);
      } catch (error) {
        if (this.stopped) return;
        this.engine.note(error);
        this.misses = (this.misses ?? 0) + 1;
        // The server no longer has what was asked for by number: ask for whatever it has.
        if (error.status >= 400 && error.status < 500) {
          if (this.misses > 3) this.list = this.list && { ...this.list, canBlock: false };
          if (this.misses > 20) return this.engine.restart("its playlist is gone");
          await sleep(300);
        } else if (performance.now() - began < 100) await sleep(Math.min(1000, 50 * this.misses));
      }
    }
  }

  older(list) {
    if (!this.list || this.list.last < 0) return false;
    const size = (l) => (l.segments.at(-1)?.parts.length ?? 0) + (l.segments.at(-1)?.url ? 1e6 : 0);
    const older = list.last < this.list.last || (list.last === this.list.last && size(list) < size(this.list));
    // For more than a few seconds: the numbers began anew.
    this.behind = older ? (this.behind ?? performance.now()) : null;
    return older && performance.now() - this.behind < 5000;
  }

  wake() {
    this.waiters.splice(0).forEach((go) => go());
  }

  changed() {
    return new Promise((go) => this.waiters.push(go));
  }

  // --- What comes next ---

  /** Where to start: at the last place with enough behind it, where a decoder can begin. */
  startAt(distance, independent) {
    let behind = 0;
    for (const segment of this.list.segments.toReversed()) {
      for (let part = segment.parts.length - 1; part >= 0; part--) {
        behind += segment.parts[part].duration;
        if (behind >= distance - 0.001 && !segment.gap && (!independent || segment.parts[part].independent || part === 0)) {
          return { msn: segment.msn, part, behind };
        }
      }
      if (!segment.parts.length) {
        behind += segment.duration;
        if (behind >= distance - 0.001 && !segment.gap) return { msn: segment.msn, part: 0, behind };
      }
    }
    const first = this.list.segments[0];
    return first && { msn: first.msn, part: 0, behind };
  }

  /** The next piece to append as `{url, segment, part, whole}`, or null when it is still to come. */
  pick() {
    const { list } = this;
    if (!list?.segments.length) return null;
    if (this.next && this.next.msn < list.first) this.next = null;
    if (this.next && this.next.msn > list.last + 1) this.next = null;
    if (!this.next) {
      const distance = this.engine.startDistance(this);
      if (distance === null) return null;
      this.next = this.startAt(distance, this.kind === "video");
      this.engine.started(this, this.next?.behind ?? 0);
      if (!this.next) return null;
    }
    for (;;) {
      const { msn, part } = this.next;
      const segment = list.segments[msn - list.first];
      if (!segment) return null;
      const closed = segment.url !== null;
      if (segment.gap || (closed && part > 0 && part >= segment.parts.length && segment.parts.length > 0)) {
        this.next = { msn: msn + 1, part: 0 };
        continue;
      }
      const held = segment.parts[part];
      // A closed segment from its start is one fetch; its parts are gone from older ones anyway.
      if (closed && (part === 0 || !held) && this.hinted?.url !== held?.url) return { url: segment.url, segment, part: 0, whole: true };
      if (!held) return null;
      if (held.gap) {
        this.next = { msn, part: part + 1 };
        continue;
      }
      return { url: held.url, range: held.range, segment, part, whole: false };
    }
  }

  /** Seconds that the playlist lists beyond what is appended. */
  ahead() {
    if (!this.list || !this.next) return 0;
    let sum = 0;
    for (const segment of this.list.segments) {
      if (segment.msn > this.next.msn) sum += segment.duration;
      else if (segment.msn === this.next.msn) {
        const done = segment.parts.slice(0, this.next.part).reduce((s, p) => s + p.duration, 0);
        sum += Math.max(0, segment.duration - done);
      }
    }
    return sum;
  }

  async feed() {
    while (!this.stopped) {
      const piece = this.pick();
      if (!piece) {
        this.hint();
        await this.changed();
        continue;
      }
      try {
        const bytes = await this.fetch(piece);
        if (this.stopped) return;
        await this.put(piece, bytes);
        this.stuck = 0;
        this.next = piece.whole ? { msn: piece.segment.msn + 1, part: 0 } : { msn: piece.segment.msn, part: piece.part + 1 };
      } catch (error) {
        if (this.stopped) return;
        if (error.name === "Restart") return;
        this.engine.note(error);
        if (error.name === "QuotaExceededError") await this.trim(2);
        else if (!error.network && ++this.stuck > 5) {
          // It stays missing: go on behind it, as with EXT-X-GAP.
          this.stuck = 0;
          this.next = { msn: piece.segment.msn + 1, part: 0 };
        }
        await sleep(error.network ? 20 : 200);
      }
      await this.engine.room(this);
    }
  }

  /** Asks for the hinted part before it exists: the server holds the answer until it does. */
  hint() {
    const url = this.list?.hint;
    if (!url || !this.next || this.hinted?.url === url) return;
    const bytes = this.engine.ways.get(url).then((got) => got.bytes);
    bytes.catch(() => {});
    this.hinted = { url, bytes };
  }

  async fetch(piece) {
    if (this.hinted?.url === piece.url) {
      const { bytes } = this.hinted;
      this.hinted = null;
      try {
        return await bytes;
      } catch {
        // The node changed, or the hint came to nothing: the piece is listed now, so it is fetched as any other.
      }
    }
    return (await this.engine.ways.get(piece.url, { range: piece.range })).bytes;
  }

  // --- The buffer ---

  async put({ segment, part }, bytes) {
    if (segment.map && segment.map.url !== this.map) {
      if (!this.inits.has(segment.map.url)) {
        const { bytes: init } = await this.engine.ways.get(segment.map.url, { range: segment.map.range });
        this.inits.set(segment.map.url, init);
        if (this.inits.size > 8) this.inits.delete(this.inits.keys().next().value);
      }
      const init = this.inits.get(segment.map.url);
      if (this.disc !== null && this.disc !== segment.disc) {
        const mime = await this.engine.mime(this.kind, segment.disc);
        if (mime !== this.mime) {
          this.buffer.changeType(mime);
          this.mime = mime;
        }
      }
      this.scale = timescale(init);
      await this.append(init);
      this.map = segment.map.url;
    }
    const decode = decodeTime(bytes);
    const start = decode === null || !this.scale ? null : decode / this.scale;
    if (segment.disc !== this.disc) {
      const offset = await this.engine.offset(this, segment.disc, start ?? 0);
      await this.idle();
      this.buffer.timestampOffset = offset;
      this.disc = segment.disc;
    }
    await this.append(bytes);
    if (segment.at !== null && start !== null) {
      const into = segment.parts.slice(0, part).reduce((sum, p) => sum + p.duration, 0);
      this.clock.push([start + this.buffer.timestampOffset, segment.at + into * 1000]);
      if (this.clock.length > 200) this.clock.shift();
    }
  }

  idle() {
    return this.buffer.updating ? new Promise((go) => this.buffer.addEventListener("updateend", go, { once: true })) : Promise.resolve();
  }

  async append(bytes) {
    await this.idle();
    await new Promise((go, fail) => {
      const { buffer } = this;
      const done = (event) => {
        buffer.removeEventListener("updateend", done);
        buffer.removeEventListener("error", done);
        if (event.type === "error") fail(new Error("the browser could not read the media"));
        else go();
      };
      buffer.addEventListener("updateend", done);
      buffer.addEventListener("error", done);
      try {
        buffer.appendBuffer(bytes);
      } catch (error) {
        buffer.removeEventListener("updateend", done);
        buffer.removeEventListener("error", done);
        fail(error);
      }
    });
  }

  /** Removes what lies more than `keep` seconds behind the picture. */
  async trim(keep) {
    const until = this.engine.video.currentTime - keep;
    if (!this.buffer.buffered.length || this.buffer.buffered.start(0) > until - 1) return;
    await this.idle();
    this.buffer.remove(0, until);
    await this.idle();
  }

  /** End of what is buffered. */
  end() {
    const { buffered } = this.buffer;
    return buffered.length ? buffered.end(buffered.length - 1) : null;
  }
}
