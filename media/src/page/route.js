// Draws the way from the publisher to this page, from the JSON of /resolve/ID.
//
// Read from it, all of it optional: `served_by: {node, label, name}`, the node that answered; `route: [{node, name, place,
// from}]`, every node that holds the stream and from which node it gets the frames, null at the origin.

const NS = "http://www.w3.org/2000/svg";

function element(name, attributes, ...children) {
  const out = document.createElementNS(NS, name);
  for (const [key, value] of Object.entries(attributes)) out.setAttribute(key, value);
  out.append(...children);
  return out;
}

const GLYPHS = {
  publisher: "M-7 -5h9v10h-9zM2 -2l6 -3v10l-6 -3",
  node: "M-7 -6h14v5h-14zM-7 1h14v5h-14zM-4 -3.5h.1M-4 3.5h.1",
  you: "M-8 -6h16v10h-16zM-3 7h6",
};

/** The stops from publisher to viewer; `serving` names the node that serves where the document does not. */
export function stops(resolved, serving) {
  const holders = new Map((Array.isArray(resolved?.route) ? resolved.route : []).map((h) => [h.node, h]));
  const nodes = [];
  // From the node that serves back to the origin; a loop, which should not be, ends it.
  for (let at = resolved?.served_by?.node, holder; nodes.length < 16 && (holder = holders.get(at)); at = holder.from) {
    holders.delete(at);
    const role = holder.from == null ? "origin" : nodes.length ? "relay" : "edge";
    nodes.unshift({ kind: role === "origin" ? "origin" : "node", name: String(holder.name), note: [role, holder.place?.region].filter(Boolean).join(" · ") });
  }
  if (!nodes.length) nodes.push({ kind: "node", name: resolved?.served_by?.name ?? serving, note: "serves you" });
  return [{ kind: "publisher", name: "publisher", note: "" }, ...nodes, { kind: "you", name: "you", note: "this page" }];
}

/** Replaces what is in `place` with a drawing of the stops. */
export function draw(place, list) {
  const step = 150, width = list.length * step, y = 38;
  const svg = element("svg", { viewBox: `0 0 ${width} 110`, width, height: 110, role: "img", "aria-label": list.map((s) => s.name).join(", then ") });
  list.forEach((stop, i) => {
    const x = step / 2 + i * step;
    if (i > 0) svg.append(element("path", { class: "hop", d: `M${x - step + 28} ${y}H${x - 28}` }));
    const name = element("text", { x, y: y + 42 }), note = element("text", { x, y: y + 60, class: "dim" });
    name.textContent = stop.name.length > 20 ? `${stop.name.slice(0, 19)}…` : stop.name;
    note.textContent = stop.note;
    svg.append(element("g", { class: stop.kind }, element("circle", { cx: x, cy: y, r: 20 }),
      element("path", { class: "glyph", transform: `translate(${x} ${y})`, d: GLYPHS[stop.kind] ?? GLYPHS.node }), name, note));
  });
  place.replaceChildren(svg);
}
