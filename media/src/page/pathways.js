// Which node to ask: Content Steering (RFC 8216bis section 7), plus a watch that does not wait for the steering server.
//
// Names and numbers of segments and parts are the same at every node, so a change is nothing but another host in the
// next URL. A change happens at once when a fetch fails, and after 1.5 s in which data was due and nothing came.

/** Silence that makes a node suspect: it is asked for its manifest, and an answer buys it a little more time. */
const SUSPECT_MS = 800;
/** Silence after which the next node is asked. */
const SILENCE_MS = 1500;
/** The same for a node that answers, but has nothing to send: most likely the publisher paused, everywhere. */
const SILENCE_ANSWERING_MS = 4000;
/** A node that failed is asked again only after this, unless all have failed. */
const PENALTY_MS = 30_000;

export class Pathways {
  /** `masterUrl`: where the page's playlists are. `changed(reason)` is called after each change of node. */
  constructor(masterUrl, changed) {
    const { host, protocol } = new URL(masterUrl);
    this.protocol = protocol;
    this.base = { id: "base", host };
    this.list = [this.base];
    this.current = this.base;
    this.changed = changed;
    this.switches = [];
    this.steering = null;
    this.failed = new Map();
    this.lastLife = performance.now();
    this.answering = false;
    this.abort = new AbortController();
    this.lastChange = 0;
    this.streak = 0;
  }

  /** A URL of the base, at the node that is asked now. */
  at(url, way = this.current) {
    const out = new URL(url);
    if (out.host !== this.base.host) return url;
    // Both by themselves: the `host` setter keeps the old port where the new host names none.
    const to = new URL(`${out.protocol}//${way.host}`);
    out.hostname = to.hostname;
    out.port = to.port;
    return out.href;
  }

  /** Fetches from the node that is asked now; `{bytes, url}`. Rejects when the node changes under way. */
  async get(url, { range, headers = {} } = {}) {
    const way = this.current, { signal } = this.abort;
    if (range) {
      const [length, offset = "0"] = range.split("@");
      headers = { ...headers, Range: `bytes=${offset}-${Number(offset) + Number(length) - 1}` };
    }
    let response;
    const chunks = [];
    try {
      response = await fetch(this.at(url, way), { signal, headers, cache: "no-store" });
      this.serves(way, response.headers.get("shoal-node"));
      if (response.ok) {
        // The headers alone are no sign of media, but the bytes are.
        const reader = response.body.getReader();
        for (let step; !(step = await reader.read()).done; ) {
          chunks.push(step.value);
          this.alive(way);
        }
      }
    } catch (error) {
      if (!signal.aborted) this.fail(way, `failed: ${error.message}`);
      throw Object.assign(new Error(error.message), { network: true });
    }
    if (!response.ok) {
      if (response.status >= 500 && !signal.aborted) this.fail(way, `HTTP ${response.status}`);
      throw Object.assign(new Error(`HTTP ${response.status} for ${url}`), { status: response.status });
    }
    const bytes = new Uint8Array(chunks.reduce((n, c) => n + c.length, 0));
    let at = 0;
    for (const chunk of chunks) {
      bytes.set(chunk, at);
      at += chunk.length;
    }
    this.streak = 0;
    return { bytes, url: response.url };
  }

  async text(url) {
    return new TextDecoder().decode((await this.get(url)).bytes);
  }

  /** A name can lead to another node without a change of ours: by its second address. */
  serves(way, label) {
    if (!label || way.serving === label) return;
    const before = way.serving;
    way.serving = label;
    if (before && way === this.current) this.changed("another node answers");
  }

  alive(way) {
    if (way === this.current) {
      this.lastLife = performance.now();
      this.answering = false;
    }
  }

  /** Goes to the best other node, if there is one that is worth it. */
  fail(way, reason) {
    if (way !== this.current) return;
    const now = performance.now();
    this.failed.set(way.host, now);
    const others = this.list.filter((w) => w !== way);
    const fit = others.find((w) => now - (this.failed.get(w.host) ?? -Infinity) > PENALTY_MS);
    // All have failed lately: the one that failed longest ago, but no faster than the silence allows.
    const oldest = others.toSorted((a, b) => (this.failed.get(a.host) ?? 0) - (this.failed.get(b.host) ?? 0))[0];
    if (!fit && now - this.lastChange < Math.min(8000, 500 * 2 ** this.streak)) return;
    const next = fit ?? oldest;
    this.lastLife = now;
    this.answering = false;
    if (!next) return;
    this.streak++;
    this.lastChange = now;
    this.current = next;
    this.abort.abort();
    this.abort = new AbortController();
    this.switches.push({ at: Date.now(), from: way.id, to: next.id, reason });
    if (this.switches.length > 100) this.switches.shift();
    this.changed(reason);
  }

  /** Called ten times a second while data is due. */
  watch() {
    const now = performance.now(), silent = now - this.lastLife;
    if (silent > SUSPECT_MS && !this.probing) this.probe();
    if (silent > (this.answering ? SILENCE_ANSWERING_MS : SILENCE_MS)) this.fail(this.current, `silent for ${(silent / 1000).toFixed(1)} s`);
  }

  /** Asks the suspect for its manifest. */
  async probe() {
    this.probing = true;
    const way = this.current, since = this.lastLife;
    try {
      await this.load(AbortSignal.timeout(SILENCE_MS - SUSPECT_MS));
      if (way === this.current && since === this.lastLife) this.answering = true;
    } catch {
      // No answer: the silence decides.
    } finally {
      setTimeout(() => (this.probing = false), 500);
    }
  }

  /** Fetches the manifest of the node that is asked now. */
  async load(signal) {
    if (!this.steering) return;
    const way = this.current;
    const response = await fetch(this.at(this.steering, way), { signal, cache: "no-store" });
    if (!response.ok) throw new Error(`HTTP ${response.status}`);
    this.read(await response.json(), way);
  }

  /** Takes a manifest over. "base" in it is the node that gave it, so it stands for the one that was asked. */
  read(manifest, giver) {
    if (manifest.VERSION !== 1) return;
    this.ttl = Math.min(30, Math.max(2, manifest.TTL || 5));
    if (manifest["RELOAD-URI"]) this.steering = new URL(manifest["RELOAD-URI"], this.steering).href;
    const hosts = new Map();
    for (const clone of (manifest["PATHWAY-CLONES"] ?? []).slice(0, 64)) {
      const host = clone?.["URI-REPLACEMENT"]?.HOST;
      if (typeof clone?.ID === "string" && typeof host === "string") hosts.set(clone.ID, host);
    }
    const list = [];
    for (const id of (manifest["PATHWAY-PRIORITY"] ?? []).slice(0, 64)) {
      if (id === "base") list.push(giver);
      else if (hosts.has(id)) list.push(this.known(id, hosts.get(id)));
    }
    for (const last of [giver, this.current, this.base]) if (!list.includes(last)) list.push(last);
    this.list = list;
    // The giver wants to be rid of its viewers (it drains): go where it points, unless that has just failed.
    const [first] = list;
    if (manifest["PATHWAY-PRIORITY"]?.length && first !== giver && giver === this.current && !this.failed.has(first.host)) {
      this.fail(giver, "steered");
    }
  }

  known(id, host) {
    // As the base is written: without the scheme's own port.
    host = new URL(`${this.protocol}//${host}`).host;
    return this.list.find((w) => w.id === id && w.host === host) ?? { id, host };
  }

  /** Keeps the list fresh for as long as the page is there. */
  async follow(steering) {
    this.steering = steering;
    for (;;) {
      try {
        await this.load(AbortSignal.timeout(3000));
      } catch {
        // The list that is there stays good; the watch finds out whether the node does.
      }
      await new Promise((go) => setTimeout(go, (this.ttl ?? 5) * 1000));
    }
  }
}
