// HLS playlists (RFC 8216bis) as far as a live player needs them. Pure functions of text.

/** An attribute list as an object; quotes removed. */
export function attributes(text) {
  const out = {};
  for (const [, name, quoted, bare] of text.matchAll(/([A-Z0-9-]+)=(?:"([^"]*)"|([^",]*))/g)) out[name] = quoted ?? bare;
  return out;
}

/** Lines as [tag, value] or [null, uri]; comments left out. */
function* lines(text) {
  for (const raw of text.split(/\r?\n/)) {
    const line = raw.trim();
    if (!line || (line.startsWith("#") && !line.startsWith("#EXT"))) continue;
    if (!line.startsWith("#")) yield [null, line];
    else {
      const colon = line.indexOf(":");
      yield colon < 0 ? [line, ""] : [line.slice(0, colon), line.slice(colon + 1)];
    }
  }
}

/**
 * A multivariant playlist: `{variants: [{bandwidth, codecs, audio, url}], audios: [{group, url, isDefault}], steering}`.
 * URLs are absolute. A media playlist in its place gives one variant.
 */
export function multivariant(text, url) {
  if (!text.startsWith("#EXTM3U")) throw new Error("not a playlist");
  const out = { variants: [], audios: [], steering: null };
  let stream = null;
  for (const [tag, value] of lines(text)) {
    if (tag === "#EXT-X-STREAM-INF") stream = attributes(value);
    else if (tag === "#EXT-X-MEDIA") {
      const a = attributes(value);
      if (a.TYPE === "AUDIO" && a.URI) {
        out.audios.push({ group: a["GROUP-ID"], url: new URL(a.URI, url).href, isDefault: a.DEFAULT === "YES" });
      }
    } else if (tag === "#EXT-X-CONTENT-STEERING") {
      const a = attributes(value);
      if (a["SERVER-URI"]) out.steering = new URL(a["SERVER-URI"], url).href;
    } else if (tag === null && stream) {
      out.variants.push({
        bandwidth: Number(stream.BANDWIDTH) || 0,
        codecs: (stream.CODECS || "").split(",").map((c) => c.trim()).filter(Boolean),
        audio: stream.AUDIO,
        url: new URL(value, url).href,
      });
      stream = null;
    }
  }
  return out;
}

/**
 * A media playlist: `{first, last, end, partTarget, holdBack, target, canBlock, segments, hint}`. A segment is
 * `{msn, disc, map, url, duration, gap, parts, at}`, `at` its programme time in milliseconds or null; the open one at
 * the end has `url` null. A part is `{url, duration, independent, gap, range}`. URLs are absolute.
 */
export function media(text, url) {
  if (!text.startsWith("#EXTM3U")) throw new Error("not a playlist");
  const out = { first: 0, last: -1, end: false, partTarget: 0, holdBack: 0, target: 4, canBlock: false, segments: [], hint: null };
  let disc = 0, map = null, at = null, skipped = 0, next = fresh();
  function fresh() {
    return { duration: 0, gap: false, parts: [], touched: false };
  }
  const close = (uri) => {
    out.segments.push({
      msn: out.first + skipped + out.segments.length, disc, map, at, url: uri && new URL(uri, url).href,
      duration: uri ? next.duration : next.parts.reduce((sum, p) => sum + p.duration, 0), gap: next.gap, parts: next.parts,
    });
    if (at !== null) at += out.segments.at(-1).duration * 1000;
    next = fresh();
  };
  for (const [tag, value] of lines(text)) {
    switch (tag) {
      case null: close(value); break;
      case "#EXTINF": next.duration = parseFloat(value) || 0; break;
      case "#EXT-X-GAP": next.gap = true; break;
      case "#EXT-X-DISCONTINUITY": disc++; break;
      case "#EXT-X-PROGRAM-DATE-TIME": at = Date.parse(value) || null; break;
      case "#EXT-X-MAP": {
        const a = attributes(value);
        map = { url: new URL(a.URI, url).href, range: a.BYTERANGE ?? null };
        break;
      }
      case "#EXT-X-PART": {
        const a = attributes(value);
        next.parts.push({
          url: new URL(a.URI, url).href, duration: parseFloat(a.DURATION) || 0,
          independent: a.INDEPENDENT === "YES", gap: a.GAP === "YES", range: a.BYTERANGE ?? null,
        });
        break;
      }
      case "#EXT-X-PRELOAD-HINT": {
        const a = attributes(value);
        // A hint at bytes of a longer file is left alone: the part is fetched when it is listed.
        if (a.TYPE === "PART" && !a["BYTERANGE-START"] && !a["BYTERANGE-LENGTH"]) out.hint = new URL(a.URI, url).href;
        break;
      }
      case "#EXT-X-MEDIA-SEQUENCE": out.first = Number(value) || 0; break;
      case "#EXT-X-DISCONTINUITY-SEQUENCE": disc = Number(value) || 0; break;
      case "#EXT-X-SKIP": skipped = Number(attributes(value)["SKIPPED-SEGMENTS"]) || 0; break;
      case "#EXT-X-TARGETDURATION": out.target = Number(value) || 4; break;
      case "#EXT-X-PART-INF": out.partTarget = parseFloat(attributes(value)["PART-TARGET"]) || 0; break;
      case "#EXT-X-ENDLIST": out.end = true; break;
      case "#EXT-X-SERVER-CONTROL": {
        const a = attributes(value);
        out.canBlock = a["CAN-BLOCK-RELOAD"] === "YES";
        out.holdBack = parseFloat(a["PART-HOLD-BACK"] ?? a["HOLD-BACK"]) || 0;
        break;
      }
    }
  }
  if (next.parts.length) close(null);
  if (out.segments.length) {
    out.first = out.segments[0].msn;
    out.last = out.segments.at(-1).msn;
  }
  out.holdBack ||= out.partTarget ? 3 * out.partTarget : 3 * out.target;
  return out;
}

/** The boxes of an MP4 byte range as [type, start of the payload, end]. */
function* boxes(view, from, to) {
  for (let at = from; at + 8 <= to; ) {
    let size = view.getUint32(at), head = 8;
    const type = view.getUint32(at + 4);
    if (size === 1 && at + 16 <= to) [size, head] = [view.getUint32(at + 8) * 2 ** 32 + view.getUint32(at + 12), 16];
    else if (size === 0) size = to - at;
    if (size < head || at + size > to) return;
    yield [String.fromCharCode(type >>> 24, (type >> 16) & 255, (type >> 8) & 255, type & 255), at + head, at + size];
    at += size;
  }
}

/** Calls `found(view, start, end)` for the first box at a path such as ["moov", "trak"]. */
function descend(bytes, path) {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  let [from, to] = [0, bytes.byteLength];
  for (const want of path) {
    const hit = [...boxes(view, from, to)].find(([type]) => type === want);
    if (!hit) return null;
    [, from, to] = hit;
  }
  return { view, from, to };
}

/** Ticks a second of an init segment's first track. */
export function timescale(init) {
  const box = descend(init, ["moov", "trak", "mdia", "mdhd"]);
  if (!box) return 0;
  return box.view.getUint32(box.from + (box.view.getUint8(box.from) === 1 ? 20 : 12));
}

/** Base decode time in ticks of the first fragment of a segment or part. */
export function decodeTime(bytes) {
  const box = descend(bytes, ["moof", "traf", "tfdt"]);
  if (!box) return null;
  if (box.view.getUint8(box.from) !== 1) return box.view.getUint32(box.from + 4);
  return box.view.getUint32(box.from + 4) * 2 ** 32 + box.view.getUint32(box.from + 8);
}
