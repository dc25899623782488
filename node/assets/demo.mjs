// Draws the demo clip's pictures and writes them as raw RGB to standard output: README.md has the command.
// Everything moves with periods that divide the clip's length, so the last frame leads into the first.
const W = 640, H = 360, FPS = 30, SECONDS = 24, FRAMES = FPS * SECONDS;
const TAU = Math.PI * 2;

/** The cells of the bar code of frame `n`, left to right, true for white: README.md has the layout. */
function cells(n) {
  const check = (n ^ (n >> 4) ^ (n >> 8) ^ 0b1010) & 15;
  const bits = [true, false];
  for (let i = 9; i >= 0; i--) bits.push(((n >> i) & 1) === 1);
  for (let i = 3; i >= 0; i--) bits.push(((check >> i) & 1) === 1);
  return bits;
}

// A small generator of our own (mulberry32's shape), so that the school is the same on every machine.
let state = 20;
function random() {
  state = (state + 0x6d2b79f5) | 0;
  let t = Math.imul(state ^ (state >>> 15), 1 | state);
  t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t;
  return ((t ^ (t >>> 14)) >>> 0) / 2 ** 32;
}

const school = Array.from({ length: 46 }, (_, i) => ({
  near: i / 46,                                   // 0 far … 1 near: size, brightness, order
  lag: random() * 1.5,                            // behind the leader, in radians of the path
  dx: (random() - 0.5) * 210, dy: (random() - 0.5) * 105,
  sway: random() * TAU, beats: 10 + Math.floor(random() * 14),
  hue: random(),
}));
const bubbles = Array.from({ length: 26 }, () => ({
  x: random() * W, y: random(), r: 1 + random() * 2.6, laps: 1 + Math.floor(random() * 3), sway: random() * TAU,
}));

/** Where the school's path is at phase `p` (0 … 2π over the clip). */
const path = (p) => [320 + 225 * Math.sin(p * 2), 192 + 58 * Math.sin(p * 3 + 0.6)];

function frame(n, out) {
  const t = (n / FRAMES) * TAU;
  for (let y = 0, o = 0; y < H; y++) {
    const depth = y / H;
    for (let x = 0; x < W; x++) {
      const ray = Math.max(0, Math.sin(x / 71 + y / 190 + Math.sin(t * 2) * 0.9) * Math.sin(x / 43 - y / 260 - t * 2));
      const light = ray * ray * (1 - depth) * 46;
      out[o++] = 6 + 14 * (1 - depth) + light * 0.55;
      out[o++] = 38 + 78 * (1 - depth) ** 1.3 + light;
      out[o++] = 66 + 94 * (1 - depth) + light * 0.9;
    }
  }
  for (const b of bubbles) {
    const y = ((((b.y - (n / FRAMES) * b.laps) % 1) + 1) % 1) * (H + 20) - 10;
    const x = b.x + 5 * Math.sin(t * 6 + b.sway);
    blend(out, x, y, b.r + 1.5, (dx, dy) => {
      const d = Math.hypot(dx, dy);
      return [clamp(1 - Math.abs(d - b.r)) * 0.55, 190, 232, 240];
    });
  }
  for (const f of school) {
    const p = t - f.lag * 0.16;
    const [px, py] = path(p), [qx, qy] = path(p + 0.004);
    const x = px + f.dx + 9 * Math.sin(t * 4 + f.sway), y = py + f.dy + 7 * Math.sin(t * 5 + f.sway * 2);
    const heading = Math.atan2((qy - py) * 0.8, qx - px);
    const [c, s] = [Math.cos(heading), Math.sin(heading)];
    const size = 7 + 13 * f.near, tail = Math.sin(t * f.beats * 3 + f.sway) * 0.32;
    const tone = 0.42 + 0.58 * f.near;
    const base = f.hue > 0.82 ? [255, 150, 74] : [196 + 40 * f.hue, 226, 232];
    blend(out, x, y, size * 2, (dx, dy) => {
      const u = (dx * c + dy * s) / size, v = (-dx * s + dy * c) / size;
      const bend = u < 0 ? tail * u * u : 0;
      const w = v - bend;
      const body = 0.42 * Math.sqrt(Math.max(0, 1 - u * u)) * (1 - 0.22 * u * u + 0.16 * u);
      let cover = Math.abs(u) < 1 ? clamp((body - Math.abs(w)) * size + 0.5) : 0;
      if (u < -0.72 && u > -1.5) cover = Math.max(cover, clamp((0.5 * (-u - 0.72) + 0.05 - Math.abs(w)) * size + 0.5));
      const belly = 0.78 + 0.5 * clamp(w + 0.5);
      const eye = Math.hypot(u - 0.62, w + 0.1) < 0.1 ? 0.1 : 1;
      const k = tone * (1.35 - belly * 0.5) * eye;
      return [cover * (0.35 + 0.65 * f.near), base[0] * k, base[1] * k, base[2] * k + 12 * (1 - f.near)];
    });
  }
  cells(n).forEach((white, i) => {
    for (let y = 0; y < 24; y++)
      for (let x = i * 40; x < i * 40 + 40; x++) out.fill(white ? 250 : 6, (y * W + x) * 3, (y * W + x) * 3 + 3);
  });
}

const clamp = (v) => (v < 0 ? 0 : v > 1 ? 1 : v);

/** Blends `shade(dx, dy)` = [cover, r, g, b] over the square of `reach` pixels around a point. */
function blend(out, cx, cy, reach, shade) {
  const x1 = Math.min(W - 1, Math.ceil(cx + reach)), y1 = Math.min(H - 1, Math.ceil(cy + reach));
  for (let y = Math.max(0, Math.floor(cy - reach)); y <= y1; y++)
    for (let x = Math.max(0, Math.floor(cx - reach)); x <= x1; x++) {
      const [a, r, g, b] = shade(x - cx, y - cy);
      if (a <= 0) continue;
      const o = (y * W + x) * 3;
      out[o] += (r - out[o]) * a;
      out[o + 1] += (g - out[o + 1]) * a;
      out[o + 2] += (b - out[o + 2]) * a;
    }
}

const out = new Uint8ClampedArray(W * H * 3);
for (let n = 0; n < FRAMES; n++) {
  frame(n, out);
  if (!process.stdout.write(Buffer.from(out))) await new Promise((go) => process.stdout.once("drain", go));
}
