// The player without its face: LL-HLS by Media Source, from whichever node answers.
import { multivariant } from "./playlist.js";
import { Pathways } from "./pathways.js";
import { Track } from "./track.js";

/** Behind the live edge, in seconds: less than the 2 s that low latency promises, more than a part that is late. */
const TARGET = 1.2;
/** Further behind than this, catching up would take too long: jump. */
const TOO_FAR = 6;

const sleep = (ms) => new Promise((go) => setTimeout(go, ms));
const Source = window.ManagedMediaSource ?? window.MediaSource;

export class Engine {
  /** `changed()` is called whenever the state that a page shows may have changed. */
  constructor(video, url, changed) {
    Object.assign(this, { video, url, changed });
    this.ways = new Pathways(url, () => changed());
    this.tracks = [];
    this.errors = [];
    this.stalls = 0;
    this.jumps = 0;
    this.phase = "starting";     // starting, live, offline, ended
    this.rounds = 0;
    this.offsets = new Map();
    this.mimes = new Map();
    video.addEventListener("playing", () => (this.played = this.shown));
    video.addEventListener("waiting", () => this.played && !video.seeking && this.stalls++);
    video.addEventListener("play", () => this.toEdge());
    video.addEventListener("error", () => this.restart(video.error?.message || "the decoder gave up"));
    setInterval(() => this.control(), 100);
    setInterval(() => this.tracks.forEach((t) => t.trim(12).catch((e) => this.note(e))), 5000);
  }

  static get supported() {
    return !!Source && Source.isTypeSupported('video/mp4; codecs="avc1.4d401f"');
  }

  async start() {
    for (let tries = 0; ; tries++) {
      try {
        if (await this.begin()) return;
      } catch (error) {
        this.note(error);
        if (error.status && error.status !== 429) this.set("offline");
      }
      this.ways.lastLife = performance.now();
      await sleep(Math.min(2000, 250 * (tries + 1)));
    }
  }

  async master() {
    const found = multivariant(await this.ways.text(this.url), this.url);
    if (found.steering && !this.followed) {
      this.followed = true;
      this.ways.follow(found.steering);
    }
    const variant = found.variants
      .filter((v) => v.codecs.every((c) => Source.isTypeSupported(`${kindOf(c)}/mp4; codecs="${c}"`)))
      .toSorted((a, b) => b.bandwidth - a.bandwidth)[0];
    if (!variant) throw new Error("no variant that this browser can play");
    const audio = found.audios.filter((a) => a.group === variant.audio).toSorted((a, b) => b.isDefault - a.isDefault)[0];
    const codecs = (kind) => variant.codecs.filter((c) => kindOf(c) === kind).join(",");
    const plan = [];
    if (codecs("video")) plan.push({ kind: "video", url: variant.url, mime: `video/mp4; codecs="${audio ? codecs("video") : variant.codecs.join(",")}"` });
    if (audio) plan.push({ kind: "audio", url: audio.url, mime: `audio/mp4; codecs="${codecs("audio")}"` });
    else if (!plan.length) plan.push({ kind: "audio", url: variant.url, mime: `audio/mp4; codecs="${codecs("audio")}"` });
    return plan;
  }

  async begin() {
    const round = ++this.rounds;
    const plan = await this.master();
    const source = new Source();
    const opened = new Promise((go) => source.addEventListener("sourceopen", go, { once: true }));
    this.video.disableRemotePlayback = true;
    if (this.object) URL.revokeObjectURL(this.object);
    this.video.src = this.object = URL.createObjectURL(source);
    await opened;
    if (round !== this.rounds) return true;
    source.duration = Infinity;
    this.offsets.clear();
    this.mimes.clear();
    this.shown = false;
    this.chosen = null;
    this.tracks = plan.map((p) => new Track(this, p.kind, p.url, p.mime));
    this.tracks.forEach((t) => t.open(source));
    this.tracks.forEach((t) => t.start());
    return true;
  }

  /** Begins again from the multivariant playlist; the page stays. */
  restart(why) {
    if (this.restarting) return;
    this.restarting = true;
    this.note(new Error(`restarted: ${why}`));
    this.tracks.forEach((t) => {
      t.stopped = true;
      t.wake();
    });
    this.tracks = [];
    sleep(300).then(() => {
      this.restarting = false;
      return this.start();
    });
  }

  broke(error) {
    this.restart(error.message);
  }

  note(error) {
    if (error.network) return;
    this.errors.push({ at: Date.now(), text: String(error.message ?? error) });
    if (this.errors.length > 100) this.errors.shift();
  }

  set(phase) {
    if (this.phase !== phase) {
      this.phase = phase;
      this.changed();
    }
  }

  // --- What tracks ask ---

  get lead() {
    return this.tracks[0];
  }

  /** How far behind the edge a track starts; null while it has to wait for the leading one. */
  startDistance(track) {
    if (track === this.lead) return Math.max(track.list.holdBack, track.list.partTarget ? 0 : 3 * track.list.target);
    return this.chosen;
  }

  started(track, behind) {
    if (track !== this.lead) return;
    this.chosen = behind;
    this.tracks.forEach((t) => t !== track && t.wake());
  }

  /** What is added to the times of a discontinuity's media, so that the timeline goes on where it was. */
  async offset(track, disc, start) {
    if (track !== this.lead) {
      for (let i = 0; i < 60 && !this.offsets.has(disc) && !track.stopped; i++) await sleep(50);
    }
    if (!this.offsets.has(disc)) {
      const ends = this.tracks.map((t) => t.end()).filter((e) => e !== null);
      this.offsets.set(disc, ends.length ? Math.max(...ends) - start : 0);
    }
    return this.offsets.get(disc);
  }

  /** A track's type in a discontinuity; begins again where the tracks are others. */
  async mime(kind, disc) {
    if (!this.mimes.has(disc)) this.mimes.set(disc, this.master());
    let plan;
    try {
      plan = await this.mimes.get(disc);
    } catch (error) {
      this.mimes.delete(disc);
      throw error;
    }
    const same = plan.length === this.tracks.length && plan.every((p, i) => p.kind === this.tracks[i].kind && p.url === this.tracks[i].url);
    if (!same) {
      this.restart("the stream has other tracks now");
      throw Object.assign(new Error("other tracks"), { name: "Restart" });
    }
    return plan.find((p) => p.kind === kind).mime;
  }

  /** Waits while more is buffered than a paused page should hold. */
  async room(track) {
    while (!track.stopped && (track.end() ?? 0) - this.video.currentTime > 30 && this.video.paused && this.shown) await sleep(250);
  }

  // --- Where the picture is ---

  /** The range that holds both picture and sound at `time`, or the next one. */
  range(time) {
    const { buffered } = this.video;
    for (let i = 0; i < buffered.length; i++) {
      if (buffered.end(i) > time) return { start: buffered.start(i), end: buffered.end(i) };
    }
    return null;
  }

  /** End of what can be played, and how far that is from the live edge. */
  edge() {
    const { buffered } = this.video;
    if (!buffered.length) return null;
    return { end: buffered.end(buffered.length - 1), ahead: Math.max(0, ...this.tracks.map((t) => t.ahead())) };
  }

  latency() {
    const edge = this.edge();
    return edge && Math.max(0, edge.end + edge.ahead - this.video.currentTime);
  }

  /** Seconds from the publisher's clock to the picture, where both clocks agree; else null. */
  glass() {
    const clock = this.lead?.clock ?? [];
    const mark = clock.findLast(([time]) => time <= this.video.currentTime);
    return mark ? (Date.now() - mark[1]) / 1000 - (this.video.currentTime - mark[0]) : null;
  }

  get target() {
    return Math.max(TARGET, this.lead?.list?.partTarget ? this.lead.list.holdBack : (this.lead?.list?.holdBack ?? TARGET));
  }

  toEdge() {
    const edge = this.edge();
    if (!edge || !this.shown) return;
    if (this.latency() > TOO_FAR) {
      this.jumps++;
      if (edge.ahead > 2) this.tracks.forEach((t) => ((t.next = null), t.wake()));
      this.video.currentTime = Math.max(this.range(edge.end - this.target)?.start ?? 0, edge.end - this.target);
    }
  }

  /** Ten times a second: watch for silence, start, step over holes, keep the distance. */
  control() {
    const { video } = this;
    const idle = video.paused && this.shown;
    if (idle || this.phase === "offline") this.ways.lastLife = performance.now();
    else this.ways.watch();
    const edge = this.edge();
    if (!edge) return;
    if (!this.shown) {
      const range = this.range(edge.end - 0.1);
      if (!range || edge.end - range.start < Math.min(0.4, this.target)) return;
      this.shown = true;
      this.since = performance.now();
      video.currentTime = Math.max(range.start, edge.end - this.target);
      video.play().catch(() => this.changed());
      this.set("live");
      return;
    }
    const ended = this.lead?.list?.end && edge.end - video.currentTime < 0.3;
    this.set(ended ? "ended" : "live");
    if (video.paused || video.seeking) return;
    // A decoder stops a little before the end of a range, so what is nearly at the end counts as there.
    const next = this.range(video.currentTime + (video.readyState < 3 ? 0.15 : 0.01));
    if (next && next.start > video.currentTime + 0.02) {
      video.currentTime = next.start + 0.01;
      this.jumps++;
      return;
    }
    const latency = this.latency();
    if (latency > TOO_FAR) return this.toEdge();
    const off = latency - this.target;
    // A slow start is made good by one step while nobody has settled in; later it is by speed.
    if (off > 0.8 && performance.now() - this.since < 5000 && edge.end - this.target > video.currentTime + 0.5) {
      video.currentTime = edge.end - this.target;
      return;
    }
    const cushion = edge.end - video.currentTime;
    let rate = 1;
    // Faster only with enough in hand; slower only where there is nearly nothing.
    if (off > 0.15 && cushion > 0.5) rate = 1 + Math.min(0.05, off * 0.1);
    else if (off < -0.15 || cushion < 0.25) rate = 0.97;
    if (Math.abs(video.playbackRate - rate) > 0.004) video.playbackRate = rate;
  }
}

function kindOf(codec) {
  return /^(mp4a|opus|ac-3|ec-3|fLaC)/i.test(codec) ? "audio" : "video";
}
