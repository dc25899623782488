// Draws each state that /console/events sends (see state.rs for its form) and keeps nothing of the one before.
"use strict";
const at = (id) => document.getElementById(id);
const cells = (tag, texts) => {
  const row = document.createElement("tr");
  for (const text of texts) row.appendChild(document.createElement(tag)).textContent = text;
  return row;
};
const table = (id, head, rows) => at(id).replaceChildren(cells("th", head), ...rows);
const draw = (state) => {
  const names = new Map(state.nodes.map((n) => [n.id, n.name]));
  const name = (id) => names.get(id) ?? id?.slice(0, 8) ?? "";
  at("mesh").textContent = `${state.mesh.base}, seen from ${name(state.self)}`;
  table("nodes", ["name", "alive", "mode", "roles", "place", "viewers"], state.nodes.map((n) => {
    const row = cells("td", [n.name, n.alive ? "yes" : "no", n.mode, n.roles.join(" "), n.place?.region ?? "", n.load.viewers]);
    row.className = n.alive ? "" : "gone";
    return row;
  }));
  table("streams", ["name", "tenant", "origin", "viewers", "served by"], state.streams.map((s) =>
    cells("td", [s.name ?? s.broadcast, s.tenant ?? "", name(s.origin), s.viewers,
      s.holders.map((h) => h.from ? `${name(h.node)} from ${name(h.from)}` : name(h.node)).join(", ")])));
};
const events = new EventSource(`/console/events${location.search}`);
events.addEventListener("state", (event) => {
  at("note").textContent = "";
  draw(JSON.parse(event.data));
});
events.onerror = () => { at("note").textContent = "This node does not answer; trying again."; };
