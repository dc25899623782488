// Opens a page in headless Chromium and reports how it plays, every 250 ms, as JSON lines on standard output.
//
//   node watch.mjs URL [--player page|hls.js|shaka|dash.js|video|whep|whip] [--codec NAME|simulcast] [--resolver IP[:PORT]]
//                      [--map "NAME IP"]… [--insecure] [--for SECONDS] [--shot FILE.png] [--every MS]
//
// `--player page` (the default) opens URL, which is a page of Shoal's own; `--player hls.js`, `shaka` and
// `dash.js` play URL, a playlist or a DASH description, with that player on an empty page of ours; `video` gives URL to the
// video element itself; `whep` plays a WHEP URL, and `whip` publishes pictures with the bar code to a WHIP URL, its number the
// thirtieths of a second of now. Names are looked up by the system (in a namespace: its resolv.conf) unless
// mapped. The first line is {"event":"ready"} once the browser runs; then samples:
//
//   {"event":"sample","at":UNIX_MS,"currentTime":S,"readyState":N,"paused":B,"width":N,"frame":N|null,"node":TEXT,
//    "latency":S|null,"glass":S|null,"switches":N,"stalls":N,"jumps":N,"rounds":N,"buffered":[[S,S]],"phase":TEXT,
//    "errors":N,"lastError":TEXT|null,"first":MS|null}
//
// `frame` is the number in the demo clip's bar code (node/assets/README.md), null where the picture has none.
// Also {"event":"switch",…}, {"event":"console",…}, {"event":"end"}. Ends by itself after --for, or on SIGTERM.
import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { createServer } from "node:http";
import { createRequire } from "node:module";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { parseArgs } from "node:util";
import { chromium } from "playwright-core";

const { values: options, positionals } = parseArgs({
  allowPositionals: true,
  options: {
    player: { type: "string", default: "page" }, resolver: { type: "string" }, map: { type: "string", multiple: true, default: [] },
    insecure: { type: "boolean", default: false }, for: { type: "string", default: "3600" }, shot: { type: "string" },
    every: { type: "string", default: "250" }, codec: { type: "string", default: "" },
  },
});
const [target] = positionals;
if (!target) throw new Error("usage: node watch.mjs URL [options]");
const say = (event, more = {}) => process.stdout.write(`${JSON.stringify({ event, at: Date.now(), ...more })}\n`);

const profile = mkdtempSync(join(tmpdir(), "shoal-watch-"));
const args = [
  "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
  "--disable-component-update", "--disable-sync", "--autoplay-policy=no-user-gesture-required",
  // The system's own resolver, whose servers a test sets, and not a cache or an encrypted one.
  "--disable-features=AsyncDns,DnsOverHttps,MediaRouter,OptimizationHints", "--mute-audio",
];
if (options.map.length) args.push(`--host-resolver-rules=${options.map.map((m) => `MAP ${m}`).join(",")}`);
const context = await chromium.launchPersistentContext(profile, {
  executablePath: process.env.CHROMIUM ?? "/usr/bin/chromium", headless: true, args,
  viewport: { width: 1280, height: 900 }, ignoreHTTPSErrors: options.insecure,
});
const page = context.pages()[0] ?? (await context.newPage());
page.on("console", (m) => m.type() === "error" && say("console", { text: m.text().slice(0, 500) }));
page.on("pageerror", (e) => say("console", { text: String(e).slice(0, 500) }));
say("ready");

// Players of others: where their script is in its package, and what the page does with it.
const players = {
  "hls.js": {
    script: "hls.js/dist/hls.min.js",
    start: (url) => {
      const video = document.getElementById("video");
      const hls = new window.Hls({ lowLatencyMode: true });
      const seen = { errors: [], switches: [], stalls: 0 };
      let last = "";
      hls.on(window.Hls.Events.FRAG_LOADED, (_, d) => {
        const { host } = new URL((d.part ?? d.frag).url);
        if (last && host !== last) seen.switches.push({ from: last, to: host });
        last = host;
      });
      hls.on(window.Hls.Events.ERROR, (_, d) => {
        seen.errors.push({ text: `${d.details}${d.fatal ? " (fatal)" : ""}` });
        if (d.details === "bufferStalledError") seen.stalls++;
      });
      hls.loadSource(url);
      hls.attachMedia(video);
      video.play().catch(() => {});
      window.shoal = {
        video,
        state: () => ({
          phase: "hls.js", node: last, latency: hls.latency, glass: null, switches: seen.switches, stalls: seen.stalls, jumps: 0, rounds: 1,
          errors: seen.errors, buffered: Array.from({ length: video.buffered.length }, (_, i) => [video.buffered.start(i), video.buffered.end(i)]),
        }),
      };
    },
  },
  "dash.js": {
    script: "dashjs",
    start: (url) => {
      const { dashjs } = window;
      const video = document.getElementById("video");
      const player = dashjs.MediaPlayer().create();
      const seen = { errors: [], switches: [], stalls: 0, chunked: 0 };
      let last = "";
      player.on(dashjs.MediaPlayer.events.FRAGMENT_LOADING_COMPLETED, (e) => {
        if (!e.request?.url || !e.request.mediaType || e.error) return;
        const { host } = new URL(e.request.url);
        if (last && host !== last) seen.switches.push({ from: last, to: host });
        last = host;
      });
      player.on(dashjs.MediaPlayer.events.ERROR, (e) => seen.errors.push({ text: `dash.js ${e.error?.code ?? ""} ${e.error?.message ?? e.error}` }));
      player.on(dashjs.MediaPlayer.events.PLAYBACK_WAITING, () => seen.stalls++);
      player.initialize(video, url, true);
      window.shoal = {
        video,
        state: () => {
          const latency = player.isReady() ? player.getCurrentLiveLatency() : NaN;
          return {
            phase: "dash.js", node: last, latency: Number.isFinite(latency) ? latency : null, glass: null,
            switches: seen.switches, stalls: seen.stalls, jumps: 0, rounds: 1, errors: seen.errors,
            buffered: Array.from({ length: video.buffered.length }, (_, i) => [video.buffered.start(i), video.buffered.end(i)]),
          };
        },
      };
    },
  },
  video: {
    start: (url) => {
      const video = document.getElementById("video");
      const seen = { errors: [], stalls: 0 };
      video.addEventListener("error", () => seen.errors.push({ text: `video ${video.error?.code} ${video.error?.message}` }));
      video.addEventListener("waiting", () => seen.stalls++);
      video.crossOrigin = "anonymous";
      video.src = url;
      video.play().catch((e) => seen.errors.push({ text: String(e) }));
      window.shoal = {
        video,
        state: () => ({
          phase: "video", node: "", latency: null, glass: null, switches: [], stalls: seen.stalls, jumps: 0, rounds: 1, errors: seen.errors,
          buffered: Array.from({ length: video.buffered.length }, (_, i) => [video.buffered.start(i), video.buffered.end(i)]),
        }),
      };
    },
  },
  shaka: {
    script: "shaka-player/dist/shaka-player.compiled.js",
    start: (url) => {
      const { shaka } = window;
      shaka.polyfill.installAll();
      const video = document.getElementById("video");
      const player = new shaka.Player();
      // Whole segments: at the live edge shaka 5.2 begins with holes although it has every part, which hls.js plays without.
      player.configure("streaming.lowLatencyMode", false);
      const seen = { errors: [], switches: [] };
      let last = "";
      const failed = (e) => seen.errors.push({ text: `shaka ${e.severity === 2 ? "(fatal) " : ""}${e.category}.${e.code ?? e}` });
      player.addEventListener("error", (e) => failed(e.detail));
      player.getNetworkingEngine().registerResponseFilter((type, response) => {
        if (type !== shaka.net.NetworkingEngine.RequestType.SEGMENT) return;
        const { host } = new URL(response.uri);
        if (last && host !== last) seen.switches.push({ from: last, to: host });
        last = host;
      });
      player.attach(video).then(() => player.load(url)).then(() => video.play()).catch(failed);
      window.shoal = {
        video,
        state: () => {
          const stats = player.getStats();
          return {
            phase: "shaka", node: last, latency: Number.isFinite(stats.liveLatency) ? stats.liveLatency : null, glass: null,
            switches: seen.switches, stalls: stats.stallsDetected, jumps: stats.gapsJumped, rounds: 1, errors: seen.errors,
            buffered: player.getBufferedInfo().total.map((r) => [r.start, r.end]),
          };
        },
      };
    },
  },
};

// One side of WebRTC, and what it says: without a script of others.
players.whep = {
  start: async (url) => {
    const video = document.getElementById("video"), seen = { errors: [], first: null }, begun = performance.now();
    const pc = new RTCPeerConnection(), stream = new MediaStream();
    window.shoal = {
      video, pc,
      state: () => ({
        phase: pc.connectionState, node: "", latency: null, glass: null, switches: [], stalls: 0, jumps: 0, rounds: 1, errors: seen.errors,
        buffered: [], first: seen.first,
      }),
    };
    for (const kind of ["video", "audio"]) pc.addTransceiver(kind, { direction: "recvonly" });
    pc.ontrack = (e) => stream.addTrack(e.track);
    pc.onconnectionstatechange = () => pc.connectionState === "failed" && seen.errors.push({ text: "the connection failed (fatal)" });
    video.srcObject = stream;
    video.play().catch(() => {});
    video.requestVideoFrameCallback(() => (seen.first = performance.now() - begun));
    await pc.setLocalDescription();
    const answer = await fetch(url, { method: "POST", headers: { "content-type": "application/sdp" }, body: pc.localDescription.sdp });
    const text = await answer.text();
    if (answer.status !== 201) return void seen.errors.push({ text: `${answer.status} ${text}` });
    await pc.setRemoteDescription({ type: "answer", sdp: text });
  },
};
players.whip = {
  start: async (url) => {
    const canvas = document.createElement("canvas"), g = canvas.getContext("2d", { alpha: false }), seen = { errors: [] };
    [canvas.width, canvas.height] = [640, 360];
    const draw = () => {
      const n = Math.floor((Date.now() * 30) / 1000) % 720, check = (n ^ (n >> 4) ^ (n >> 8) ^ 10) & 15;
      const bits = [1, 0, ...[9, 8, 7, 6, 5, 4, 3, 2, 1, 0].map((b) => (n >> b) & 1), ...[3, 2, 1, 0].map((b) => (check >> b) & 1)];
      g.fillStyle = `hsl(${n} 60% 40%)`;
      g.fillRect(0, 0, 640, 360);
      bits.forEach((bit, i) => ((g.fillStyle = bit ? "#fff" : "#000"), g.fillRect(i * 40, 0, 40, 24)));
    };
    setInterval(draw, 1000 / 60);
    const audio = new AudioContext(), tone = new OscillatorNode(audio), sound = audio.createMediaStreamDestination();
    tone.connect(sound);
    tone.start();
    const video = document.getElementById("video"), pc = new RTCPeerConnection();
    video.srcObject = canvas.captureStream(30);
    video.play().catch(() => {});
    window.shoal = {
      video, pc,
      state: () => ({
        phase: pc.connectionState, node: "", latency: null, glass: null, switches: [], stalls: 0, jumps: 0, rounds: 1, errors: seen.errors, buffered: [],
      }),
    };
    const [track] = video.srcObject.getVideoTracks();
    // Of pictures of this size Chromium sends two layers at most.
    const layers = [{ rid: "h", scaleResolutionDownBy: 2 }, { rid: "f" }];
    const simulcast = window.watchCodec === "simulcast";
    const sender = pc.addTransceiver(track, simulcast ? { direction: "sendonly", sendEncodings: layers } : { direction: "sendonly" });
    pc.addTransceiver(sound.stream.getAudioTracks()[0], { direction: "sendonly" });
    if (window.watchCodec && !simulcast) {
      const wanted = (c) => c.mimeType.toLowerCase() === `video/${window.watchCodec}`.toLowerCase();
      const all = RTCRtpSender.getCapabilities("video").codecs;
      if (!all.some(wanted)) seen.errors.push({ text: `this browser does not encode ${window.watchCodec} (fatal)` });
      else sender.setCodecPreferences(all.filter(wanted));
    }
    await pc.setLocalDescription();
    const answer = await fetch(url, { method: "POST", headers: { "content-type": "application/sdp" }, body: pc.localDescription.sdp });
    const text = await answer.text();
    if (answer.status !== 201) return void seen.errors.push({ text: `${answer.status} ${text}` });
    await pc.setRemoteDescription({ type: "answer", sdp: text });
  },
};

let server = null;
if (options.player !== "page") {
  const { script: path, start } = players[options.player];
  const script = path ? readFileSync(createRequire(import.meta.url).resolve(path)) : "";
  server = createServer((request, response) => {
    const isScript = request.url === "/player.js";
    response.setHeader("content-type", isScript ? "text/javascript" : "text/html");
    response.end(isScript ? script : "<!doctype html><title>player</title><video id=video muted playsinline></video><script src=/player.js></script>");
  });
  await new Promise((go) => server.listen(0, "127.0.0.1", go));
  await page.goto(`http://127.0.0.1:${server.address().port}/`);
  await page.evaluate((codec) => (window.watchCodec = codec), options.codec);
  await page.evaluate(start, target);
} else {
  await page.goto(target, { waitUntil: "domcontentloaded" });
}
// A context of its own that survives nothing: if the page reloads, `loaded` changes, and a test sees it.
await page.evaluate(() => (window.watchMark = Math.random()));

let ended = false;
const stop = () => (ended = true);
process.on("SIGTERM", stop);
process.on("SIGINT", stop);
const until = Date.now() + Number(options.for) * 1000;
let switches = 0;
while (!ended && Date.now() < until) {
  const state = await page.evaluate(() => {
    const { shoal } = window;
    if (!shoal) return null;
    const { video } = shoal, s = shoal.state();
    let frame = null;
    if (video.readyState >= 2 && video.videoWidth) {
      const canvas = (window.watchCanvas ??= new OffscreenCanvas(160, 90)), g = canvas.getContext("2d", { willReadFrequently: true });
      g.drawImage(video, 0, 0, 160, 90);
      // The middle of each cell: 10 × 6 pixels at this size.
      const light = Array.from({ length: 16 }, (_, i) => {
        const [r, gr, b] = g.getImageData(i * 10 + 5, 3, 1, 1).data;
        return 0.3 * r + 0.6 * gr + 0.1 * b;
      });
      const middle = (light[0] + light[1]) / 2;
      const number = (from, to) => light.slice(from, to).reduce((n, l) => n * 2 + (l > middle ? 1 : 0), 0);
      const n = number(2, 12);
      if (light[0] - light[1] > 60 && number(12, 16) === ((n ^ (n >> 4) ^ (n >> 8) ^ 10) & 15)) frame = n;
    }
    return {
      currentTime: video.currentTime, readyState: video.readyState, paused: video.paused, width: video.videoWidth, frame,
      node: s.node, latency: s.latency, glass: s.glass, switches: s.switches.length, stalls: s.stalls, jumps: s.jumps, rounds: s.rounds,
      buffered: s.buffered, phase: s.phase, errors: s.errors.length, lastError: s.errors.at(-1)?.text ?? null, first: s.first ?? null,
      reloaded: window.watchMark === undefined, changes: s.switches,
    };
  }).catch((e) => ({ broken: String(e) }));
  if (state && !state.broken) {
    const { changes, ...sample } = state;
    for (const change of changes.slice(switches)) say("switch", change);
    switches = changes.length;
    say("sample", sample);
  } else say("sample", { broken: state?.broken ?? "no player on the page" });
  await new Promise((go) => setTimeout(go, Number(options.every)));
}
if (options.shot) await page.screenshot({ path: options.shot });
say("end");
await context.close();
server?.close();
rmSync(profile, { recursive: true, force: true });
