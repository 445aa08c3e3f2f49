// The page: its state is in the address, and every change of it draws the sections anew.
const data = JSON.parse(document.getElementById("data").textContent);
const $ = (id) => document.getElementById(id);
const { batch, learned, chains } = data;
const COUNT = 300; // trajectories of the chain in section 2

// ---- state -----------------------------------------------------------------------------------
const nodes = [...new Set(chains.map((c) => `${c.net} ${c.layer} ${c.unit}`))];
const DEFAULTS = {
  along: "columns", what: "softmax", moment: 4, image: 10, y: 3,
  energy: "bowl", eps: 0.15, L: 10, m: 0, T: 0, n: 8, seed: 1, // m and T are powers of 10
  node: 3, reference: "data", frame: 99, updates: 99, // 99: the last one
};
const LIMITS = {
  moment: [0, batch.moments.length - 1], image: [0, batch.labels.length - 1], y: [0, 9], eps: [0.001, 3], L: [1, 60],
  m: [-1, 1], T: [-2, 1], n: [1, COUNT], seed: [1, 20], node: [0, nodes.length - 1],
  frame: [0, Math.max(...chains.map((c) => c.stages.length)) - 1],
  updates: [0, (learned ? learned.updates.length : 1) - 1],
};
const WORDS = {
  along: ["rows", "columns"], what: ["scores", "softmax", "change"],
  energy: Object.keys(Formulas.energies), reference: ["white", "natural", "data"],
};
let state = {};

function accept(key, text) { // a value of the address, if it is one that we know
  if (WORDS[key]) return WORDS[key].includes(text) ? text : DEFAULTS[key];
  const number = Number(text), [low, high] = LIMITS[key];
  if (text === "" || !Number.isFinite(number)) return Math.min(DEFAULTS[key], high);
  const whole = ["eps", "m", "T"].includes(key) ? number : Math.round(number);
  return Math.min(Math.max(whole, low), high);
}

function read(hash) {
  const given = new URLSearchParams(hash.replace(/^#/, ""));
  const found = {};
  for (const key of Object.keys(DEFAULTS)) {
    found[key] = accept(key, given.has(key) ? given.get(key) : String(DEFAULTS[key]));
  }
  return found;
}

let writing = null;
function write() { // browsers allow few changes of the address a second
  clearTimeout(writing);
  writing = setTimeout(() => {
    const changed = Object.entries(state).filter(([key, value]) => value !== accept(key, String(DEFAULTS[key])));
    const hash = "#" + new URLSearchParams(changed).toString();
    if (hash !== location.hash && (hash !== "#" || location.hash)) {
      try { history.replaceState(null, "", hash); } catch { location.hash = hash; }
    }
  }, 150);
}

const SECTION = { // what each key changes
  along: softmaxes, what: softmaxes, moment: softmaxes, image: softmaxes, y: softmaxes,
  energy: leapfrog, eps: leapfrog, L: leapfrog, m: leapfrog, T: leapfrog, n: leapfrog, seed: leapfrog,
  node: node, reference: node, frame: node, updates: samples,
};

function set(changes) {
  const sections = new Set();
  for (const [key, value] of Object.entries(changes)) {
    state[key] = accept(key, String(value));
    sections.add(SECTION[key]);
  }
  show();
  sections.forEach((draw) => draw());
  write();
}

function show() { // the controls as the state has them
  for (const control of document.querySelectorAll("[data-key]")) {
    const value = String(state[control.dataset.key]);
    if (control.tagName === "FIELDSET") {
      for (const radio of control.querySelectorAll("input")) radio.checked = radio.value === value;
    } else control.value = value;
  }
}

// ---- drawing ---------------------------------------------------------------------------------
const colour = (name) => getComputedStyle(document.documentElement).getPropertyValue(`--${name}`).trim();
const fixed = (value, digits = 2) => {
  if (value === null || !Number.isFinite(value)) return "–";
  if (value !== 0 && Math.abs(value) < 10 ** -digits) return value.toExponential(1).replaceAll("-", "−");
  return value.toFixed(digits).replace("-", "−");
};
const share = (p) => (Number.isFinite(p) ? p.toFixed(2) : "–"); // of probabilities
const four = (value) => (Number.isFinite(value) ? String(Number(value.toPrecision(4))).replace("-", "−") : "–");

function sharp(canvas, width, height) { // a context in CSS pixels, on screens of any density
  const scale = Math.min(window.devicePixelRatio || 1, 3);
  canvas.width = Math.round(width * scale);
  canvas.height = Math.round(height * scale);
  const g = canvas.getContext("2d");
  g.setTransform(scale, 0, 0, scale, 0, 0);
  g.clearRect(0, 0, width, height);
  g.font = "12px system-ui, sans-serif";
  return g;
}

function text(parent, rows) { // rows of a table: [heading, cell, ...]
  parent.replaceChildren(...rows.map(([heading, ...cells]) => {
    const tr = document.createElement("tr"), th = document.createElement("th");
    th.scope = "row";
    th.textContent = heading;
    tr.append(th, ...cells.map((cell) => {
      const td = document.createElement("td");
      td.textContent = cell;
      return td;
    }));
    return tr;
  }));
}

// A line chart. lines: [{values, color, width}]; x: a place for each value, or their order.
function chart(canvas, { lines, x, marker, height, ticks, shade, low, high }) {
  const W = canvas.clientWidth || 360, H = height, left = 46, right = 8, top = 8, bottom = 22;
  const g = sharp(canvas, W, H);
  const finite = lines.flatMap((l) => l.values).filter(Number.isFinite);
  let [a, b] = [low ?? Math.min(...finite), high ?? Math.max(...finite)];
  if (!(b - a > 1e-9)) [a, b] = [a - 1, b + 1];
  const count = Math.max(...lines.map((l) => l.values.length));
  const places = x || Array.from({ length: count }, (_, k) => k);
  const last = places[places.length - 1] || 1;
  const X = (p) => left + ((W - left - right) * p) / last;
  const Y = (v) => top + (H - top - bottom) * (1 - (v - a) / (b - a));
  g.fillStyle = colour("panel");
  if (shade) g.fillRect(X(0), top, X(shade) - X(0), H - top - bottom);
  g.strokeStyle = colour("line");
  g.fillStyle = colour("faint");
  g.textAlign = "right";
  for (const v of [a, (a + b) / 2, b]) {
    g.beginPath(); g.moveTo(left, Y(v)); g.lineTo(W - right, Y(v)); g.stroke();
    g.fillText(Math.abs(b - a) >= 10 ? v.toFixed(0) : v.toPrecision(2), left - 5, Y(v) + 4);
  }
  for (const [p, label] of ticks || [[0, "0"], [last, String(last)]]) {
    g.textAlign = p === 0 ? "left" : p === last ? "right" : "center";
    g.fillText(label, X(p), H - 6);
  }
  for (const { values, color, width } of lines) {
    g.strokeStyle = color;
    g.lineWidth = width || 2;
    g.beginPath();
    values.forEach((v, k) => Number.isFinite(v) && g.lineTo(X(places[k]), Math.max(-9e3, Math.min(9e3, Y(v)))));
    g.stroke();
  }
  if (marker !== undefined) {
    g.strokeStyle = colour("ink");
    g.lineWidth = 1;
    g.beginPath(); g.moveTo(X(marker), top); g.lineTo(X(marker), H - bottom); g.stroke();
    g.fillStyle = colour("ink");
    lines.forEach(({ values }) => {
      const v = values[places.indexOf(marker)];
      if (Number.isFinite(v)) { g.beginPath(); g.arc(X(marker), Y(v), 3.5, 0, 7); g.fill(); }
    });
  }
}

const pictures = {}; // {file: Image}
function part(canvas, file, row, column, [h, w]) { // one image of a sprite
  canvas.width = w;
  canvas.height = h;
  const draw = () => canvas.getContext("2d").drawImage(pictures[file], column * w, row * h, w, h, 0, 0, w, h);
  const picture = pictures[file];
  if (picture.complete) draw();
  else picture.addEventListener("load", draw, { once: true });
}

// ---- 1. one score matrix, two softmaxes ------------------------------------------------------
const moments = batch.scores.map((F) => Formulas.twoSoftmaxes(F, batch.labels));
const CELL = 8, WIDTH = 30; // of the matrix, in pixels

function buildSoftmaxes() {
  document.querySelector("[data-key=moment]").max = batch.moments.length - 1;
  const tiles = batch.labels.map((label, i) => {
    const tile = document.createElement("button"), picture = document.createElement("span"), bar = document.createElement("span");
    tile.type = "button";
    picture.className = "picture";
    picture.style.backgroundImage = `url(${data.images["batch.png"]})`;
    picture.style.backgroundPosition = `${((i % 8) / 7) * 100}% ${(Math.floor(i / 8) / 7) * 100}%`;
    bar.className = "bar";
    tile.append(picture, bar);
    tile.addEventListener("focus", () => set({ image: i }));
    tile.addEventListener("mouseenter", () => set({ image: i }));
    tile.addEventListener("click", () => set({ image: i, y: label }));
    tile.addEventListener("keydown", (event) => {
      const step = { ArrowLeft: -1, ArrowRight: 1, ArrowUp: -8, ArrowDown: 8 }[event.key];
      const other = step && $("tiles").children[i + step];
      if (other) { other.focus(); event.preventDefault(); }
    });
    return tile;
  });
  $("tiles").append(...tiles);
  $("classes").append(...Array.from({ length: 10 }, (_, y) => {
    const button = document.createElement("button");
    button.type = "button";
    button.innerHTML = `${y}<small></small><span class="bar"></span>`;
    button.addEventListener("click", () => set({ y }));
    return button;
  }));
  $("matrix").addEventListener("click", (event) => {
    const box = $("matrix").getBoundingClientRect();
    set({
      image: Math.floor(((event.clientY - box.top) / box.height) * batch.labels.length),
      y: Math.floor(((event.clientX - box.left) / box.width) * 10),
    });
  });
}

function mixed(from, to, share) { // a colour between two of #rrggbb
  const parts = (c) => {
    const long = c.length === 4 ? "#" + [...c.slice(1)].map((d) => d + d).join("") : c;
    return [1, 3, 5].map((k) => parseInt(long.slice(k, k + 2), 16));
  };
  const [a, b] = [parts(from), parts(to)];
  return `rgb(${a.map((v, k) => Math.round(v + (b[k] - v) * share)).join(",")})`;
}

function softmaxes() {
  const { along, what, moment, image, y } = state;
  const F = batch.scores[moment], now = moments[moment], n = F.length;
  const rows = along === "rows";
  const soft = rows ? now.P : now.W, change = rows ? now.dg : now.gg;
  const shown = { scores: F, softmax: soft, change }[what];
  $("moment-out").textContent = batch.moments[moment];

  const g = $("matrix").getContext("2d");
  const largest = Math.max(...shown.flat().map(Math.abs));
  const [page, ink, up, down] = ["page", "ink", "up", "down"].map(colour);
  shown.forEach((row, i) => row.forEach((v, k) => {
    const strength = (Math.abs(v) / largest) ** (what === "softmax" ? 0.5 : 1);
    g.fillStyle = mixed(page, what === "softmax" ? ink : v > 0 ? up : down, strength);
    g.fillRect(k * WIDTH, i * CELL, WIDTH, CELL);
  }));
  g.strokeStyle = colour("accent");
  g.lineWidth = 3;
  if (rows) g.strokeRect(1.5, image * CELL - 1, 297, CELL + 2);
  else g.strokeRect(y * WIDTH, 1.5, WIDTH, n * CELL - 3);
  g.lineWidth = 2;
  g.strokeRect(y * WIDTH + 2, image * CELL, WIDTH - 4, CELL);
  $("matrix-caption").textContent = {
    scores: "Scores F: red is positive, blue is negative.",
    softmax: rows ? "p(y | x): every row sums to 1." : "Weights: every column sums to 1 (square roots shown).",
    change: `Change that ${rows ? "DG" : "GG"} asks for: red raises a score, blue lowers it. Every ${rows ? "row" : "column"} sums to 0.`,
  }[what];

  const column = soft.map((row) => row[y]), most = rows ? 1 : Math.max(...column);
  [...$("tiles").children].forEach((tile, i) => {
    tile.setAttribute("aria-pressed", i === image);
    tile.tabIndex = i === image ? 0 : -1;
    tile.setAttribute("aria-label", `Image ${i + 1}, a ${batch.labels[i]}: ${rows ? "probability" : "weight"} ${fixed(column[i], 3)} for class ${y}`);
    tile.querySelector(".bar").style.width = `${(100 * column[i]) / most}%`;
    tile.querySelector(".picture").style.opacity = 0.25 + 0.75 * (column[i] / most) ** 0.5;
  });
  $("tiles-caption").textContent = rows
    ? `The images. Bars: p(${y} | x), how sure the net is that it is a ${y}.`
    : `The images. Bars: the weight of each as a sample from class ${y}; the largest is ${fixed(most, 3)}.`;
  const bars = rows ? soft[image] : now.ess.map((e) => e / n);
  [...$("classes").children].forEach((button, k) => {
    button.setAttribute("aria-pressed", k === y);
    button.querySelector("small").textContent = rows ? share(soft[image][k]) : fixed(now.ess[k], 1);
    button.querySelector(".bar").style.width = `${100 * bars[k]}%`;
  });
  $("class-caption").textContent = rows ? "p(y | x) of the chosen image." : "effective sample size of each class.";
  $("cell").caption.textContent = `Image ${image + 1}, a ${batch.labels[image]}; class ${y}; score ${fixed(F[image][y], 2)}`;
  text($("cell").tBodies[0], [
    ["probability; weight", fixed(now.P[image][y], 3), fixed(now.W[image][y], 3)],
    ["change asked for", fixed(now.dg[image][y], 3), fixed(now.gg[image][y], 3)],
  ]);

  const means = moments.map((m) => Formulas.mean(m.ess)), own = moments.map((m) => m.ess[y]);
  const x = batch.moments.map((m) => Math.sqrt(m));
  $("ess-caption").textContent = `Effective sample size: mean of the classes ${fixed(means[moment], 1)} (thick), class ${y}: ${fixed(own[moment], 1)} (thin), of ${n}. The batch has ${now.count[y]} ${now.count[y] === 1 ? "image" : "images"} of class ${y}.`;
  chart($("ess"), {
    lines: [{ values: means, color: colour("accent"), width: 3 }, { values: own, color: colour("dots"), width: 1.5 }],
    x, marker: x[moment], height: 180, low: 0, high: n,
    ticks: batch.moments.map((m, k) => [x[k], String(m)]).filter(([, t]) => [0, 20, 100, 250, 600, 938].includes(Number(t))),
  });
}

// ---- 2. leapfrog -----------------------------------------------------------------------------
function leapfrog() {
  const { energy, eps, L, n, seed } = state, m = 10 ** state.m, T = 10 ** state.T;
  const target = Formulas.energies[energy];
  const all = Formulas.chain({ energy, eps, L, m, T, seed }, COUNT), now = all[n - 1];
  const told = Formulas.forecast({ eps, L, m, T });
  for (const [id, value] of [["eps", fixed(eps, 3)], ["L", L], ["m", four(m)], ["T", four(T)], ["n", n], ["seed", seed]]) {
    $(`${id}-out`).textContent = value;
  }
  plane(target, T, all.slice(0, n), now);
  const errors = now.H.map((h) => h - now.H[0]);
  const reach = Math.min(Math.max(...errors.map((e) => (Number.isFinite(e) ? Math.abs(e) : 20)), 0.01), 20);
  chart($("energy"), {
    lines: [{ values: errors, color: colour(now.accepted ? "good" : "up") }],
    height: 150, low: -reach, high: reach, ticks: [[0, "0"], [L, `step ${L}`]],
  });
  chart($("trace"), { lines: [{ values: all.map((t) => t.path[0][0]), color: colour("dots"), width: 1 }], height: 150, marker: n - 1, ticks: [[0, "1"], [COUNT - 1, String(COUNT)]] });
  const found = Formulas.correlation(all, target.mean), acceptance = Formulas.mean(all.map((t) => t.probability));
  text($("leapfrog-numbers").tBodies[0], [
    ["angle of a trajectory θ = εL / √(Tm)", `${fixed(told.theta / Math.PI, 2)} π`],
    ["ε / √(Tm), unstable from 2 on", fixed(told.x, 2)],
    ["energy error ΔH of this trajectory", fixed(now.error, 2)],
    ["accepted with probability", `${share(now.probability)}: ${now.accepted ? "yes" : "no"}`],
    ["acceptance, mean of 300", share(acceptance)],
    ["correlation with the place before: forecast", told.unstable ? "stuck" : fixed(told.remains, 2)],
    ["the same, measured over 300 trajectories", found === null ? "stuck" : fixed(found, 2)],
  ]);
  $("verdict").textContent = verdict(told, acceptance, energy, found);
}

function verdict(told, acceptance, energy, found) {
  if (told.unstable) return "Unstable: every step makes the swing larger. Almost nothing is accepted.";
  if (acceptance < 0.2) return "Few trajectories are accepted: the steps are too long for this landscape.";
  const turned = told.turned / Math.PI, off = Math.abs(turned - Math.round(turned));
  if (Math.abs(told.remains) > 0.9 && turned > 0.5 && off < 0.15) {
    const where = Math.round(turned) % 2 ? "opposite to where it began" : "where it began";
    return `Resonance: in the bowl a trajectory ends ${where}. ${energy === "filters" ? "Here the landscape is not a bowl, so it is weaker. " : ""}Change ε or L a little.`;
  }
  if (told.remains > 0.9) return "The chain hardly moves: a trajectory is too short. Raise ε or L.";
  if (found !== null && Math.abs(told.remains) < 0.35 && found > 0.5) {
    return "The forecast is that of a bowl. In this landscape the chain stays for long in one place before it finds another.";
  }
  if (Math.abs(told.remains) < 0.35 && turned > 0.8) {
    return `It forgets where it began, but makes ${fixed(turned / 2, 1)} swings for it: a quarter of one would do.`;
  }
  if (Math.abs(told.remains) < 0.35) return "Good: a trajectory is near a quarter turn, and forgets where it began.";
  return "It works, but nearer to a quarter turn (θ = 0.5 π) the chain would forget faster.";
}

function plane(target, T, before, now) {
  const S = 360, R = target.reach + 3.3 * Math.sqrt(T), g = sharp($("plane"), S, S);
  const X = (v) => S / 2 + (v / R) * (S / 2), Y = (v) => S / 2 - (v / R) * (S / 2);
  const U = Formulas.tempered(target, T), N = 72, cell = S / N, page = colour("page"), ink = colour("ink");
  const at = (k) => ((k + 0.5) / N) * 2 * R - R;
  const values = Array.from({ length: N }, (_, i) => Array.from({ length: N }, (_, j) => U.value([at(j), -at(i)])));
  const lowest = Math.min(...values.flat());
  values.forEach((row, i) => row.forEach((u, j) => {
    g.fillStyle = mixed(page, ink, 0.45 * Math.exp(-(u - lowest) / 2));
    g.fillRect(j * cell, i * cell, cell + 0.5, cell + 0.5);
  }));
  g.fillStyle = colour("dots");
  for (const { path } of before) { g.beginPath(); g.arc(X(path[0][0]), Y(path[0][1]), 2, 0, 7); g.fill(); }
  const line = now.path.filter((z) => z.every((v) => Number.isFinite(v) && Math.abs(v) < 50 * R));
  const tone = colour(now.accepted ? "good" : "up");
  g.strokeStyle = g.fillStyle = tone;
  g.lineWidth = 2;
  g.beginPath();
  line.forEach((z) => g.lineTo(X(z[0]), Y(z[1])));
  g.stroke();
  line.forEach((z) => { g.beginPath(); g.arc(X(z[0]), Y(z[1]), 3, 0, 7); g.fill(); });
  const [first, last] = [line[0], line[line.length - 1]];
  g.beginPath(); g.arc(X(last[0]), Y(last[1]), 8, 0, 7); g.fill();
  g.fillStyle = page;
  g.beginPath(); g.arc(X(first[0]), Y(first[1]), 5, 0, 7); g.fill(); g.stroke();
  g.fillStyle = ink;
  g.textAlign = "left";
  g.fillText(`○ start  ● end, ${now.accepted ? "accepted" : "rejected"}`, 8, S - 9);
}

// ---- 3. what a node looks for ----------------------------------------------------------------
const MEANING = { // app/runs/report.py
  "settled": "its two halves agree, as they should if the chain has settled at this T",
  "still moving": "the score still drifts: an image on the way, no sample yet",
  "stuck": "the chain never moved",
  "too few": "there are too few iterations to judge the chain by",
};

function of(node) {
  return chains.filter((c) => `${c.net} ${c.layer} ${c.unit}` === nodes[node]);
}

function buildNodes() {
  const select = document.querySelector("[data-key=node]");
  nodes.forEach((name, k) => {
    const net = of(k)[0].net;
    let group = [...select.children].find((child) => child.label === net);
    if (!group) { group = document.createElement("optgroup"); group.label = net; select.append(group); }
    group.append(new Option(name, k));
  });
  const fieldset = document.querySelector("fieldset[data-key=reference]");
  const NAMES = { white: "white noise", natural: "natural images", data: "the data" };
  for (const value of WORDS.reference) {
    const label = document.createElement("label");
    label.innerHTML = `<input type="radio" name="reference" value="${value}"> ${NAMES[value]}<small></small>`;
    fieldset.append(label);
  }
  let timer = null;
  const stop = () => { clearInterval(timer); timer = null; $("play").textContent = "Play"; };
  $("play").addEventListener("click", () => {
    if (timer) return stop();
    const last = chosen().stages.length - 1;
    if (state.frame >= last) set({ frame: 0 });
    $("play").textContent = "Stop";
    timer = setInterval(() => (state.frame >= last ? stop() : set({ frame: state.frame + 1 })), 500);
  });
}

function chosen() { // the chain on this node with the reference asked for, or with another
  const there = of(state.node);
  return there.find((c) => c.reference === state.reference) || there[0];
}

function node() {
  const chain = chosen(), last = chain.stages.length - 1;
  for (const radio of document.querySelectorAll("input[name=reference]")) {
    radio.disabled = !of(state.node).some((c) => c.reference === radio.value);
    radio.checked = radio.value === chain.reference;
    radio.parentElement.querySelector("small").textContent = radio.disabled ? "(no run)" : "";
  }
  const slider = document.querySelector("[data-key=frame]");
  slider.max = last;
  const frame = Math.min(state.frame, last), iteration = chain.stages[frame];
  slider.value = frame;
  $("frame-out").textContent = `${iteration} of ${chain.stages[last]}`;
  part($("image"), chain.image, chain.row, frame, chain.size);
  const name = `${chain.net}, ${chain.layer}, ${chain.unit}`;
  $("image").setAttribute("aria-label", `Image of the chain on ${name}, q ${chain.reference}, after ${iteration} iterations: score ${four(chain.score[iteration])}`);
  $("score-caption").textContent = `Score f by iteration, ${chain.start === "ascent" ? "from an ascent on: the best image is no typical sample, so it falls first" : "from noise on"}` + (chain.warm_up ? "; shaded: the warm-up, in which the step size is tuned" : "");
  chart($("score"), {
    lines: [{ values: chain.score, color: colour("accent") }], marker: iteration, height: 220, shade: chain.warm_up,
  });
  $("node-numbers").caption.textContent = `${name}; q ${chain.reference}, σ = ${chain.sigma}, T = ${chain.temperature}; ${chain.size[0]} × ${chain.size[1]} pixels`;
  text($("node-numbers").tBodies[0], [
    ["score f of this image", four(chain.score[iteration])],
    ["this trajectory was accepted with probability", iteration ? share(chain.probability[iteration - 1]) : "–"],
    ["acceptance, mean after the warm-up", share(chain.acceptance)],
    ...Object.entries(chain.judges).map(([who, p]) => [`p(${chain.unit} | this image) by ${who}`, fixed(p[frame], 3)]),
    ["judgement of the chain", `${chain.judgement}: ${MEANING[chain.judgement]}`],
  ]);
}

// ---- 4. learned from its own samples ---------------------------------------------------------
function buildSamples() {
  document.querySelector("[data-key=updates]").max = learned.updates.length - 1;
  const digit = (label) => {
    const canvas = document.createElement("canvas");
    canvas.className = "digit";
    canvas.setAttribute("role", "img");
    canvas.setAttribute("aria-label", label);
    return canvas;
  };
  const classes = Array.from({ length: learned.classes }, (_, y) => y);
  $("samples").append(...classes.map((y) => digit(`The chain of class ${y}`)));
  $("real").append(...classes.map((y) => digit(`A real image of class ${y}`)));
  [...$("real").children].forEach((canvas, y) => {
    const i = batch.labels.indexOf(y);
    part(canvas, "batch.png", Math.floor(i / 8), i % 8, [28, 28]);
  });
}

function samples() {
  if (!learned) return;
  const k = state.updates;
  $("updates-out").textContent = `${learned.updates[k]} of ${learned.updates[learned.updates.length - 1]}`;
  [...$("samples").children].forEach((canvas, y) => part(canvas, "samples.png", k, y, learned.size));
  $("learned-caption").textContent = `Chains of the net "${learned.net}" on classes 0 to ${learned.classes - 1}. As a classifier it has ${fixed(learned.error, 2)} % test error at the end; its chains' mean acceptance was ${fixed(learned.acceptance, 2)}.`;
}

// ---- start -----------------------------------------------------------------------------------
function drawAll() {
  show();
  [softmaxes, leapfrog, node, samples].forEach((draw) => draw());
}

for (const [name, url] of Object.entries(data.images)) {
  pictures[name] = new Image();
  pictures[name].src = url;
}
if (learned) buildSamples();
else $("learned").remove();
$("last-section").textContent = learned ? "4" : "3";
for (const heading of document.querySelectorAll("h2")) {
  const link = document.createElement("a");
  link.href = "#";
  link.textContent = heading.textContent;
  link.addEventListener("click", (event) => { // the address is for the settings
    event.preventDefault();
    heading.parentElement.scrollIntoView();
    heading.tabIndex = -1;
    heading.focus({ preventScroll: true });
  });
  document.querySelector("nav").append(link);
}
buildSoftmaxes();
buildNodes();
state = read(location.hash);
drawAll();
document.addEventListener("input", (event) => {
  const key = event.target.dataset.key || event.target.closest("fieldset[data-key]")?.dataset.key;
  if (key) set({ [key]: event.target.value });
});
for (const button of document.querySelectorAll("[data-set]")) {
  button.addEventListener("click", () => set(Object.fromEntries(new URLSearchParams(button.dataset.set))));
}
window.addEventListener("hashchange", () => { state = read(location.hash); drawAll(); });
window.addEventListener("resize", drawAll);
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", drawAll);
