// The face of the player. `window.shoal` is for tests and the curious.
import { Engine } from "./engine.js";
import { draw, stops } from "./route.js";

const $ = (id) => document.getElementById(id);
const id = document.body.dataset.id;
const video = $("video");
const url = new URL(`/play/${id}/cmaf/index.m3u8`, location.href).href;

let resolved = null;
const engine = Engine.supported ? new Engine(video, url, () => queueMicrotask(show)) : null;

/** The label or name of the node that serves, as well as it is known. */
function node() {
  if (!engine) return location.hostname;
  const way = engine.ways.current;
  if (way.id !== "base") return way.id;
  const [first] = way.host.split(".");
  if (first.startsWith("n-")) return first;
  const by = resolved?.served_by;
  return (by && (!way.serving || by.label === way.serving) ? by.name : way.serving) ?? way.host;
}

/** Whether another node serves than the one that the drawing is from. */
function moved() {
  const serving = engine?.ways.current.serving;
  return Boolean(serving && resolved && resolved.served_by?.label !== serving);
}

window.shoal = {
  video,
  engine,
  /** What a test wants to know, as plain data. */
  state() {
    const buffered = Array.from({ length: video.buffered.length }, (_, i) => [video.buffered.start(i), video.buffered.end(i)]);
    return {
      phase: engine?.phase ?? "native",
      node: node(),
      host: engine?.ways.current.host ?? location.host,
      pathways: engine?.ways.list.map((w) => ({ id: w.id, host: w.host })) ?? [],
      latency: engine?.latency() ?? null,
      glass: engine?.glass() ?? null,
      currentTime: video.currentTime,
      rate: video.playbackRate,
      paused: video.paused,
      readyState: video.readyState,
      buffered,
      switches: engine?.ways.switches ?? [],
      stalls: engine?.stalls ?? 0,
      jumps: engine?.jumps ?? 0,
      rounds: engine?.rounds ?? 0,
      errors: engine?.errors ?? [],
    };
  },
};

const MESSAGES = {
  starting: "Looking for the stream…",
  offline: "Nothing is on the air here yet. This page starts by itself when it is.",
  ended: "The stream has ended. This page goes on by itself when it comes back.",
};

function show() {
  const phase = engine?.phase ?? "live";
  const waiting = phase === "live" && video.readyState < 3 && !video.paused;
  $("badge").textContent = phase === "live" ? "live" : phase;
  $("badge").classList.toggle("live", phase === "live");
  $("veil").classList.toggle("off", phase === "live" && !waiting);
  $("message").textContent = waiting ? "Catching up…" : (MESSAGES[phase] ?? "");
  const latency = engine?.latency();
  $("latency").textContent = phase === "live" && latency != null ? `${latency.toFixed(1)} s` : "–";
  $("node").textContent = node();
  $("sound").hidden = !video.muted || phase !== "live";
  $("stage").classList.toggle("muted", video.muted);
  $("play").setAttribute("aria-label", video.paused ? "Play" : "Pause");
  $("play-icon").setAttribute("d", video.paused ? "M7 4v16l13-8z" : "M7 5h4v14H7zm6 0h4v14h-4z");
  if ($("how").open) facts();
}

function facts() {
  const state = window.shoal.state();
  const last = state.switches.at(-1);
  const rows = {
    Node: `${state.node} (${state.host})`,
    "Other ways": state.pathways.filter((w) => w.host !== state.host).map((w) => w.id).join(", ") || "none known",
    "Behind the live edge": state.latency === null ? "–" : `${state.latency.toFixed(2)} s`,
    "Behind the publisher": state.glass === null ? "–" : `${state.glass.toFixed(2)} s, if the clocks agree`,
    Picture: video.videoWidth ? `${video.videoWidth} × ${video.videoHeight}` : "–",
    "Node changes": last ? `${state.switches.length}, last to ${last.to} (${last.reason})` : "none",
    Stalls: String(state.stalls),
  };
  $("facts").replaceChildren(...Object.entries(rows).flatMap(([name, value]) => {
    const [dt, dd] = [document.createElement("dt"), document.createElement("dd")];
    [dt.textContent, dd.textContent] = [name, value];
    return [dt, dd];
  }));
}

let drawn = "";
async function resolve() {
  const from = new URL(`/resolve/${id}`, location.href).href;
  try {
    const response = await fetch(engine?.ways.at(from) ?? from, { signal: AbortSignal.timeout(3000), cache: "no-store" });
    if (response.ok) resolved = await response.json();
  } catch {
    // The picture matters more; the drawing stays as it was.
  }
  const title = resolved?.metadata?.title ?? resolved?.metadata?.name;
  if (title) document.title = $("title").textContent = title;
  const list = stops(resolved, node());
  const text = JSON.stringify(list);
  if (text !== drawn) draw($("route"), list);
  drawn = text;
}

$("sound").onclick = $("mute").onclick = () => {
  video.muted = !video.muted;
  if (!video.muted && video.volume === 0) video.volume = 1;
};
$("volume").oninput = () => {
  video.volume = Number($("volume").value);
  video.muted = video.volume === 0;
};
$("play").onclick = video.onclick = () => (video.paused ? video.play().catch(() => {}) : video.pause());
$("full").onclick = () => (document.fullscreenElement ? document.exitFullscreen() : $("stage").requestFullscreen?.());
$("how").ontoggle = () => (show(), resolve());
for (const event of ["play", "pause", "volumechange", "waiting", "playing", "canplay"]) video.addEventListener(event, show);
setInterval(show, 500);
setInterval(() => ($("how").open || !resolved || moved()) && resolve(), 2000);

video.muted = true;
if (engine) {
  let seen = 0;
  engine.changed = () => {
    queueMicrotask(show);
    if (engine.ways.switches.length !== seen) resolve();
    seen = engine.ways.switches.length;
  };
  engine.start();
} else if (video.canPlayType("application/vnd.apple.mpegurl")) {
  video.src = url;
  video.play().catch(() => {});
} else {
  $("message").textContent = "This browser can play neither Media Source nor HLS.";
}
resolve();
show();
