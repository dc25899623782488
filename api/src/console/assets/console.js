// The operators' page: draws each state that /console/events sends, and keeps nothing of the one before.
import { HEIGHT, land, project } from "./map.js";

const $ = (id) => document.getElementById(id);
const NS = "http://www.w3.org/2000/svg";

/** An element with attributes and children; text stays text. */
function make(name, attributes = {}, ...children) {
  const out = name.startsWith("svg:") ? document.createElementNS(NS, name.slice(4)) : document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) if (value !== null) out.setAttribute(key, value);
  out.append(...children.filter((c) => c !== null).map((c) => (c instanceof Node ? c : String(c))));
  return out;
}

const health = (node) => (!node.alive ? "dead" : node.mode === "normal" ? "alive" : "draining");
const plural = (n, word) => `${n} ${word}${n === 1 ? "" : "s"}`;

function rate(bits) {
  if (bits < 1e3) return `${bits} b/s`;
  if (bits < 1e6) return `${(bits / 1e3).toFixed(0)} kb/s`;
  return bits < 1e9 ? `${(bits / 1e6).toFixed(1)} Mb/s` : `${(bits / 1e9).toFixed(2)} Gb/s`;
}

function span(ms) {
  const s = Math.max(0, Math.floor(ms / 1000));
  if (s < 60) return `${s} s`;
  if (s < 3600) return `${Math.floor(s / 60)} min`;
  return s < 86400 ? `${Math.floor(s / 3600)} h ${Math.floor((s % 3600) / 60)} min` : `${Math.floor(s / 86400)} d`;
}

/** A player's link. An id is checked before it becomes one. */
function link(stream) {
  const name = stream.name ?? stream.broadcast.slice(0, 8);
  return /^[a-z0-9]{16}$/.test(stream.playback_id ?? "") ? make("a", { href: `/play/${stream.playback_id}` }, name) : make("span", {}, name);
}

// --- The map ---

/** Positions by node id; nodes of one place stand around it, nodes without a place along the bottom. */
function positions(nodes) {
  const out = new Map(), taken = new Map();
  let homeless = 0;
  for (const node of nodes) {
    if (!node.place) {
      out.set(node.id, [560 + 90 * homeless++, HEIGHT - 44]);
      continue;
    }
    const [x, y] = project(node.place), key = `${Math.round(x / 24)} ${Math.round(y / 24)}`;
    const n = taken.get(key) ?? 0;
    taken.set(key, n + 1);
    const turn = n * 2.4, far = n ? 26 + 5 * n : 0;
    out.set(node.id, [x + far * Math.cos(turn), y + far * Math.sin(turn)]);
  }
  return out;
}

function arc([x1, y1], [x2, y2]) {
  const lift = Math.min(90, 18 + Math.hypot(x2 - x1, y2 - y1) * 0.18);
  return `M${x1} ${y1}Q${(x1 + x2) / 2} ${Math.max(4, (y1 + y2) / 2 - lift)} ${x2} ${y2}`;
}

const layers = [make("svg:path", { class: "land", d: land() }), make("svg:g"), make("svg:g")];
$("map").append(...layers);

let arcsDrawn = "";
function drawMap(state) {
  const at = positions(state.nodes), alive = new Set(state.nodes.filter((n) => n.alive).map((n) => n.id));
  const hops = new Set();
  for (const stream of state.streams)
    for (const holder of stream.holders)
      if (holder.from && at.has(holder.from) && at.has(holder.node) && alive.has(holder.from) && alive.has(holder.node)) hops.add(`${holder.from} ${holder.node}`);
  const paths = [...hops].map((hop) => arc(...hop.split(" ").map((id) => at.get(id))));
  // The same lines stay as they are, so that their movement does not begin anew with each state.
  if (paths.join() !== arcsDrawn) {
    layers[1].replaceChildren(...paths.flatMap((d) => [make("svg:path", { class: "arc under", d }), make("svg:path", { class: "arc", d })]));
    arcsDrawn = paths.join();
  }
  const origins = new Set(state.streams.map((s) => s.origin));
  layers[2].replaceChildren(...state.nodes.map((node) => {
    const [x, y] = at.get(node.id), { viewers } = node.load;
    const r = 6 + Math.min(8, Math.sqrt(viewers));
    return make("svg:g", { class: `node ${health(node)}${origins.has(node.id) ? " origin" : ""}`, transform: `translate(${x} ${y})` },
      make("svg:title", {}, `${node.name} (${node.label}), ${health(node)}, ${plural(viewers, "viewer")}`),
      make("svg:circle", { class: "halo", r: r + 7 }), make("svg:circle", { r }),
      origins.has(node.id) ? make("svg:circle", { class: "ring", r: r + 4 }) : null,
      make("svg:text", { y: r + 18 }, node.name),
      make("svg:text", { y: r + 32, class: "small" }, node.alive ? plural(viewers, "viewer") : "dead"));
  }));
}

// --- The rest ---

function drawFigures(state) {
  const dead = state.nodes.filter((n) => !n.alive).length;
  const viewers = state.streams.reduce((sum, s) => sum + s.viewers, 0);
  const egress = state.nodes.reduce((sum, n) => sum + (n.alive ? n.load.egress : 0), 0);
  const rows = [["nodes alive", `${state.nodes.length - dead} of ${state.nodes.length}`, dead > 0], ["clusters", state.clusters.length], ["tenants", state.tenants],
    ["live streams", state.streams.length], ["viewers", viewers], ["going out", rate(egress)]];
  $("figures").replaceChildren(...rows.map(([name, value, bad]) => make("div", { class: `figure${bad ? " bad" : ""}` }, make("b", {}, value), make("span", { class: "dim" }, name))));
}

function drawStreams(state) {
  const name = (id) => state.nodes.find((n) => n.id === id)?.name ?? (id ? `${id.slice(0, 8)}…` : "–");
  const rows = state.streams.map((stream) => make("tr", {},
    make("td", {}, link(stream), stream.playback_id ? make("div", {}, make("code", {}, stream.playback_id)) : null),
    make("td", {}, stream.tenant ?? "–"), make("td", {}, name(stream.origin)),
    make("td", {}, ...stream.holders.map((h) => make("div", {}, h.from ? `${name(h.node)} ← ${name(h.from)}` : name(h.node), make("span", { class: "dim" }, ` · ${plural(h.viewers, "viewer")}`)))),
    make("td", { class: "n" }, stream.viewers), make("td", { class: "n" }, span(state.at - stream.claimed))));
  $("streams").replaceChildren(...(rows.length ? rows : [make("tr", {}, make("td", { colspan: 6, class: "empty" }, "Nothing is on the air. A stream appears here as soon as its encoder connects."))]));
}

function meter(name, share, text) {
  return make("div", { class: `meter${share > 0.85 ? " high" : ""}` }, make("span", { class: "dim" }, name), make("progress", { max: 1, value: Math.min(1, share) }), make("span", {}, text));
}

function drawNodes(state) {
  const clusters = new Map(state.clusters.map((c) => [c.id, c]));
  $("nodes").replaceChildren(...state.nodes.map((node) => {
    const is = health(node), { load } = node;
    const tone = { alive: "good", draining: "warm", dead: "bad" }[is];
    return make("article", { class: `card ${is}` },
      make("h3", {}, node.name, make("span", { class: `chip ${tone}` }, is === "draining" ? node.mode : is), node.id === state.self ? make("span", { class: "chip" }, "this node") : null),
      make("p", { class: "dim" }, [clusters.get(node.cluster)?.name, node.place?.region, `${is === "dead" ? "gone" : "up"} ${span(state.at - node.since)}`].filter(Boolean).join(" · ")),
      make("p", {}, make("code", {}, node.label)),
      meter("CPU", load.cpu / 1000, `${(load.cpu / 10).toFixed(0)} %`), meter("memory", load.memory / 1000, `${(load.memory / 10).toFixed(0)} %`),
      meter("out", node.capacity?.egress ? load.egress / node.capacity.egress : 0, rate(load.egress)),
      make("p", {}, make("b", {}, load.viewers), ` ${load.viewers === 1 ? "viewer" : "viewers"}`, make("span", { class: "dim" }, ` · ${[].concat(node.roles).join(", ")}`)),
      make("div", { class: "services" }, ...node.services.map((s) => make("code", { class: s.verified ? "" : "no", title: s.verified ? "other nodes reached it" : "no other node has reached it yet" }, `${s.service} ${s.addr}`))));
  }));
}

function draw(state) {
  $("mesh").textContent = state.mesh.base;
  $("notice").hidden = state.mesh.settled;
  $("notice").textContent = "This node has not yet compared its records with another node: what is shown may be out of date, and it answers no DNS.";
  drawFigures(state);
  drawMap(state);
  drawStreams(state);
  drawNodes(state);
}

function status(text, tone) {
  $("link").textContent = text;
  $("link").className = `chip ${tone}`;
}

let source = null;
async function connect() {
  const query = location.search.includes("token=") ? `?token=${encodeURIComponent(new URLSearchParams(location.search).get("token"))}` : "";
  source = new EventSource(`/console/events${query}`);
  source.addEventListener("state", (event) => {
    status("live", "good");
    draw(JSON.parse(event.data));
  });
  source.onerror = async () => {
    status("no connection", "bad");
    if (source.readyState !== EventSource.CLOSED) return;
    // The browser does not try again after a refusal: say why, and try ourselves.
    const answer = await fetch(`/console/state${query}`).catch(() => null);
    if (answer && !answer.ok) {
      $("notice").hidden = false;
      $("notice").textContent = (await answer.json().catch(() => ({}))).error ?? `This node refuses: HTTP ${answer.status}. Open the console from the node itself, or with ?token= and an operator's token.`;
    }
    setTimeout(connect, 2000);
  };
}
connect();
