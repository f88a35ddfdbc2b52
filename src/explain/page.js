"use strict";
const data = JSON.parse(document.getElementById("data").textContent);
const bytes = (text) => Uint8Array.from(atob(text), (c) => c.charCodeAt(0));
const policies = data.policies.map((p) => ({ ...p, kept: bytes(p.kept), importance: bytes(p.importance) }));
const count = data.tokens.length;
const state = { policy: 0, layer: -1, view: "kept", size: "both" };
/** The token whose sum is under the pointer: the lines into it are drawn strongly. */
let pointed = -1;
const $ = (id) => document.getElementById(id);

/** The mean of a layer's bytes, or of all layers', as numbers from 0 to 1. */
function values(policy, array) {
  const out = new Float64Array(count);
  const layers = state.layer < 0 ? [...Array(policy.layers).keys()] : [state.layer];
  for (const l of layers) for (let v = 0; v < count; v++) out[v] += array[l * count + v] / 255 / layers.length;
  return out;
}

/** Dark blue over orange to pale yellow. */
function heat(x) {
  const stops = [[20, 22, 60], [94, 36, 110], [190, 60, 80], [245, 135, 40], [252, 250, 190]];
  const at = Math.min(x, 0.9999) * (stops.length - 1), i = Math.floor(at), t = at - i;
  return stops[i].map((a, c) => Math.round(a + t * (stops[i + 1][c] - a)));
}

/** Whether a token saw picture i: an image, or a frame of those that it saw together. */
const saw = (token, i) => token[0] <= i && i < token[0] + token[6];
/** Whether a token is merged into another one before the decoder. */
const merged = (policy, v) => policy.into.length > 0 && policy.into[v] >= 0 && policy.into[v] !== v;
const shown = (token) => token.length > 1 && (state.size === "both" || (state.size === "coarse") === (token[5] === 1));

function draw() {
  const policy = policies[state.policy];
  const kept = values(policy, policy.kept), importance = values(policy, policy.importance);
  const most = Math.max(...importance, 1e-9);
  document.querySelectorAll(".image").forEach((figure) => {
    const i = Number(figure.dataset.image), [height, width] = data.images[i];
    const canvas = figure.querySelector("canvas"), scale = Math.min(2, 1400 / Math.max(height, width));
    canvas.width = Math.max(1, Math.round(width * scale));
    canvas.height = Math.max(1, Math.round(height * scale));
    const pen = canvas.getContext("2d");
    const each = (f) => data.tokens.forEach((t, v) => {
      if (shown(t) && saw(t, i)) f(t[2] * scale, t[1] * scale, (t[4] - t[2]) * scale, (t[3] - t[1]) * scale, v);
    });
    if (state.view === "kept") {
      // A veil, in which what stays makes holes.
      pen.fillStyle = "rgba(12,14,22,0.8)";
      pen.fillRect(0, 0, canvas.width, canvas.height);
      pen.globalCompositeOperation = "destination-out";
      each((x, y, w, h, v) => { pen.fillStyle = `rgba(0,0,0,${kept[v]})`; pen.fillRect(x, y, w, h); });
      pen.globalCompositeOperation = "source-over";
      pen.lineWidth = 1;
      each((x, y, w, h, v) => {
        if (kept[v] > 0) { pen.strokeStyle = `rgba(232,89,12,${0.25 + 0.6 * kept[v]})`; pen.strokeRect(x + 0.5, y + 0.5, w - 1, h - 1); }
      });
      // A dot where a sum stands; under the pointer, a line from each patch of the sum to it.
      each((x, y, w, h, v) => {
        if (policy.into[v] === v) {
          pen.fillStyle = `rgba(120,200,255,${v === pointed ? 1 : 0.75})`;
          pen.beginPath();
          pen.arc(x + w / 2, y + h / 2, Math.max(2, Math.min(w, h) / 6), 0, 7);
          pen.fill();
        }
        const to = merged(policy, v) && policy.into[v] === pointed && data.tokens[pointed];
        if (!to || !shown(to) || !saw(to, i)) return;
        pen.strokeStyle = "rgba(120,200,255,0.9)";
        pen.strokeRect(x + 0.5, y + 0.5, w - 1, h - 1);
        pen.strokeStyle = "rgba(120,200,255,0.5)";
        pen.beginPath();
        pen.moveTo(x + w / 2, y + h / 2);
        pen.lineTo(((to[2] + to[4]) / 2) * scale, ((to[1] + to[3]) / 2) * scale);
        pen.stroke();
      });
    } else {
      each((x, y, w, h, v) => {
        const strength = Math.sqrt(importance[v] / most), [r, g, b] = heat(strength);
        pen.fillStyle = `rgba(${r},${g},${b},0.62)`;
        pen.fillRect(x, y, w, h);
      });
    }
  });
  const hidden = data.tokens.reduce((n, t, v) => n + (t.length === 1 ? kept[v] : 0), 0);
  const all = data.tokens.filter((t) => t.length === 1).length;
  const of = state.layer < 0 ? "a layer (mean)" : "this layer";
  $("legend").textContent = (state.view === "kept"
    ? "Bright: the patches whose entries are kept. Over all layers, a patch is brighter if more layers keep it. "
      + (policy.into.length ? "Dots: the patches whose places the sums of merged patches take; point at a patch to see its sum. " : "")
    : "Importance: the attention of the voting text to each patch (square root, relative to the largest). ")
    + (all ? `Not in the picture: ${hidden.toFixed(1).replace(/\.0$/, "")} of ${all} newline and padding rows are kept in ${of}.` : "");
}

function bars() {
  const p = policies[state.policy], most = Math.max(...p.budget, 1);
  const rows = p.budget.map((b, l) => `<tr data-layer="${l}" class="${l === state.layer ? "on" : ""}"><td>${l}</td>`
    + `<td class="bar"><i style="width:${(100 * b) / most}%"></i></td><td>${b}</td>`
    + (p.measures ? `<td>${p.strength[l].toFixed(3)}</td><td>${p.skewness[l].toFixed(2)}</td>` : "") + "</tr>");
  $("budgets").innerHTML = p.budget.length
    ? `<table><tr><th>layer</th><th></th><th>kept of ${count}</th>${p.measures ? "<th>strength</th><th>skewness</th>" : ""}</tr>${rows.join("")}</table>`
    : "All entries are kept.";
  $("budgets").querySelectorAll("tr[data-layer]").forEach((row) => {
    row.onclick = () => choose({ layer: state.layer === Number(row.dataset.layer) ? -1 : Number(row.dataset.layer) });
  });
}

function words() {
  const p = policies[state.policy], votes = new Map();
  const layers = state.layer < 0 ? p.window : [p.window[state.layer] || []];
  layers.forEach((rows) => rows.forEach((row) => votes.set(row, (votes.get(row) || 0) + 1)));
  const box = $("prompt");
  box.replaceChildren();
  for (const [row, what, visual] of data.prompt) {
    const span = document.createElement("span");
    const special = !visual && /^<.*>$/.test(what.trim());
    span.textContent = visual ? `${what} visual tokens` : what.replace(/\n/g, "⏎\n");
    span.className = visual ? "run" : special ? "mark" : "";
    let n = votes.get(row) || 0;
    if (visual) for (let r = row; r < row + what; r++) n = Math.max(n, votes.get(r) || 0);
    if (n && p.votes) {
      span.classList.add("elite");
      span.style.setProperty("background", `rgba(255,190,120,${0.25 + (0.75 * n) / Math.max(layers.length, 1)})`);
      span.title = state.layer < 0 ? `votes in ${n} of ${p.layers} layers` : `votes in layer ${state.layer}`;
    }
    box.append(span);
  }
  $("elite").textContent = !p.votes ? "No token votes: this policy reads no attention."
    : state.layer < 0 ? "Marked: the tokens that vote. The mark is stronger if a token votes in more layers."
    : `Marked: the tokens that vote in layer ${state.layer}.`;
}

function choose(change) {
  Object.assign(state, change);
  const layers = policies[state.policy].layers;
  state.layer = Math.min(state.layer, layers - 1);
  $("layer").max = layers;
  $("layer").value = state.layer + 1;
  $("which").textContent = state.layer < 0 ? "all layers" : `layer ${state.layer}`;
  document.querySelectorAll("button").forEach((b) => b.classList.toggle("on", String(state[b.dataset.key]) === b.dataset.value));
  document.querySelectorAll("tr[data-policy]").forEach((r) => r.classList.toggle("on", Number(r.dataset.policy) === state.policy));
  draw();
  bars();
  words();
  const { policy, layer, view, size } = state;
  history.replaceState(null, "", "#" + new URLSearchParams({ policy, ...(layer < 0 ? {} : { layer }), view, size }));
}

/** Draws the lines into the sum at a token; no lines for -1. */
function point(token) {
  if (token === pointed) return;
  pointed = token;
  draw();
}

function buttons(where, key, choices) {
  for (const [value, label] of choices) {
    const button = document.createElement("button");
    button.textContent = label;
    button.dataset.key = key;
    button.dataset.value = value;
    button.onclick = () => choose({ [key]: key === "policy" ? Number(value) : value });
    $(where).append(button);
  }
}

buttons("policies", "policy", policies.map((p, i) => [i, p.name]));
buttons("views", "view", [["kept", "kept patches"], ["importance", "importance"]]);
if (data.tokens.some((t) => t[5] === 1)) buttons("sizes", "size", [["both", "all tokens"], ["coarse", "whole image"], ["fine", "tiles"]]);
$("layer").oninput = (e) => choose({ layer: Number(e.target.value) - 1 });
document.querySelectorAll("tr[data-policy]").forEach((r) => { r.onclick = () => choose({ policy: Number(r.dataset.policy) }); });

document.querySelectorAll(".image").forEach((figure) => {
  const i = Number(figure.dataset.image), [height, width] = data.images[i];
  figure.onmousemove = (e) => {
    const box = figure.getBoundingClientRect();
    const x = ((e.clientX - box.left) / box.width) * width, y = ((e.clientY - box.top) / box.height) * height;
    const p = policies[state.policy];
    const lines = [];
    let sum = -1;
    data.tokens.forEach((t, v) => {
      if (!shown(t) || !saw(t, i) || y < t[1] || y >= t[3] || x < t[2] || x >= t[4]) return;
      const in_layers = [...Array(p.layers).keys()].filter((l) => p.kept[l * count + v] > 0);
      let line = `visual token ${v}: kept in ${in_layers.length ? "layer " + in_layers.join(", ") : "no layer"}`;
      if (p.measures && state.layer >= 0) line += `; importance ${((p.importance[state.layer * count + v] / 255) * p.peak[state.layer]).toPrecision(2)}`;
      if (merged(p, v)) line += `; merged into visual token ${p.into[v]}`;
      else if (p.into.length && p.into[v] === v) line += `; ${p.into.filter((to) => to === v).length - 1} tokens are merged into it`;
      if (p.into.length && p.into[v] >= 0) sum = p.into[v];
      lines.push(line);
    });
    point(sum);
    $("tip").hidden = lines.length === 0;
    $("tip").textContent = lines.join("\n");
    $("tip").style.left = `${Math.min(e.clientX + 14, innerWidth - 290)}px`;
    $("tip").style.top = `${e.clientY + 16}px`;
  };
  figure.onmouseleave = () => { $("tip").hidden = true; point(-1); };
});
document.onkeydown = (e) => {
  if (e.target.tagName === "INPUT") return;
  const step = { ArrowLeft: -1, ArrowRight: 1 }[e.key];
  if (step) choose({ layer: Math.max(-1, Math.min(policies[state.policy].layers - 1, state.layer + step)) });
};
// The address says what is shown: page.html#policy=1&layer=3&view=importance
const asked = Object.fromEntries(new URLSearchParams(location.hash.slice(1)));
const whole = (text, least, most) => { const n = Number.parseInt(text, 10); return n >= least && n <= most ? n : undefined; };
choose({
  policy: whole(asked.policy, 0, policies.length - 1) ?? 0,
  layer: whole(asked.layer, 0, 1 << 20) ?? -1,
  view: asked.view === "importance" ? "importance" : "kept",
  size: ["coarse", "fine"].includes(asked.size) ? asked.size : "both",
});
