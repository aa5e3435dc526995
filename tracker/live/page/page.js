// The page asks for the next result when it has shown the last, so a slow line cannot fall behind.
"use strict";

const SECONDS = 60;
const THUMBNAILS_EVERY = 2500; // ms
const NOTES = {
  connecting: "Connecting …",
  stalled: "Connected, but no new picture comes.",
  reconnecting: "The stream has broken off; trying again.",
  failed: "The stream was given up.",
  ended: "The recording has ended.",
};
const $ = (id) => document.getElementById(id);
const show = (id, text) => { if ($(id).textContent !== text) $(id).textContent = text; };
const number = (value, digits = 0) => (value == null ? "–" : value.toFixed(digits));

let stream = decodeURIComponent(location.hash.slice(1));
let names = [];
let withPicture = [];
let chosen = null; // the id of the person whose keypoints are drawn
let sigma = null, age = null, pictureUrl = null;

// ---- the way of a message ------------------------------------------------------------------

function connect() {
  const socket = new WebSocket(`${location.origin.replace(/^http/, "ws")}/api/live`);
  let seen = null;
  socket.binaryType = "blob";
  socket.onopen = () => { link("live", "connected"); socket.send(stream); };
  socket.onclose = () => { link("offline", "no connection"); setTimeout(connect, 1000); };
  socket.onmessage = async (message) => {
    if (typeof message.data === "string") {
      seen = JSON.parse(message.data);
      streams(seen.streams);
      if (seen.people) return; // its picture is the next message
    } else if (seen.people.stream === stream) {
      people(seen.people);
      await picture(message.data);
    }
    requestAnimationFrame(() => socket.readyState === 1 && socket.send(stream));
  };
}

function link(state, text) {
  $("link").dataset.state = state;
  show("link", text);
}

async function picture(blob) {
  const url = URL.createObjectURL(blob);
  $("picture").src = url;
  await $("picture").decode().catch(() => {});
  if (pictureUrl) URL.revokeObjectURL(pictureUrl);
  pictureUrl = url;
}

// ---- streams -------------------------------------------------------------------------------

function streams(all) {
  if (!all.some((one) => one.stream === stream)) choose(all[0].stream);
  if (all.map((one) => one.stream).join() !== names.join()) buttons(all);
  names = all.map((one) => one.stream);
  withPicture = all.map((one) => one.processed > 0);
  all.forEach((one, i) => {
    const button = $("streams").children[i];
    button.setAttribute("aria-pressed", one.stream === stream);
    button.querySelector("span").dataset.state = one.state;
    const told = `${one.people} ${one.people === 1 ? "person" : "people"} · ${number(one.output_fps)} fps`;
    button.querySelector("small").textContent = one.state === "live" ? told : one.state;
  });
  numbers(all.find((one) => one.stream === stream));
}

function buttons(all) {
  $("streams").replaceChildren(...all.map((one) => {
    const button = document.createElement("button");
    const [img, text] = [document.createElement("img"), document.createElement("div")];
    const [name, small] = [document.createElement("span"), document.createElement("small")];
    img.alt = "";
    name.textContent = one.stream;
    text.append(name, small);
    button.append(img, text);
    button.onclick = () => choose(one.stream);
    return button;
  }));
  thumbnails();
}

async function thumbnails() {
  for (const [i, name] of names.entries()) {
    if (!withPicture[i]) continue;
    const address = `api/streams/${encodeURIComponent(name)}/picture.jpg?width=112&t=${Date.now()}`;
    const answer = await fetch(address).catch(() => null);
    const image = $("streams").children[i]?.querySelector("img");
    if (!answer?.ok || !image) continue;
    if (image.src) URL.revokeObjectURL(image.src);
    image.src = URL.createObjectURL(await answer.blob());
  }
}

function choose(name) {
  if (stream !== name) {
    $("picture").removeAttribute("src");
    $("people").replaceChildren();
    show("people-count", "–");
  }
  stream = name;
  chosen = null;
  history.replaceState(null, "", `#${encodeURIComponent(name)}`);
  if (sigma) forget();
}

function numbers(one) {
  if (!one) return;
  show("fps-out", number(one.output_fps, 1));
  show("fps-in", number(one.input_fps, 1));
  for (const p of ["p50", "p95", "p99"]) {
    show(`age-${p}`, one.age_ms[p] == null ? "–" : `${number(one.age_ms[p])} ms`);
  }
  const dead = one.state !== "live";
  document.querySelector("main").classList.toggle("dead", dead);
  $("notice").hidden = !dead;
  const silent = one.silent == null ? "" : ` Last picture ${number(one.silent, 1)} s ago.`;
  if (dead) show("notice", `${NOTES[one.state]}${silent} ${one.trouble}`);
  health(one);
  drawAge(one);
}

function health(one) {
  const size = one.size ? `${one.size[0]} × ${one.size[1]}` : "–";
  const cells = {
    state: one.state, received: one.received, processed: one.processed, dropped: one.dropped,
    late: one.late, duplicates: one.duplicates, damaged: one.damaged,
    reconnections: one.reconnects, picture: size, codec: one.codec || "–", source: one.source,
  };
  if (!$("health").children.length) {
    $("health").append(...Object.keys(cells).map((name) => {
      const div = document.createElement("div");
      div.className = name === "source" ? "wide" : "";
      div.append(document.createElement("dt"), document.createElement("dd"));
      div.firstChild.textContent = name;
      div.lastChild.id = `health-${name}`;
      return div;
    }));
  }
  for (const [name, value] of Object.entries(cells)) show(`health-${name}`, String(value));
  $("health-state").dataset.state = one.state;
}

// ---- people --------------------------------------------------------------------------------

const errors = (person) => person.cov.map(([x, , y]) => Math.sqrt((x + y) / 2));
const mean = (values) => values.reduce((a, b) => a + b, 0) / values.length;
// As the overlay colours people: the golden ratio spreads any number of hues.
const colour = (id) => `hsl(${360 * ((0.08 + 0.618034 * (id - 1)) % 1)} 85% 62%)`;

function people(result) {
  $("picture").parentElement.style.aspectRatio = `${result.size[0]} / ${result.size[1]}`;
  // Of this very result: the health that comes with it may know of a newer one already.
  show("people-count", String(result.people.length));
  $("nobody").hidden = result.people.length > 0;
  if (!result.people.some((p) => p.id === chosen)) { chosen = result.people[0]?.id ?? null; forget(); }
  $("people").replaceChildren(...result.people.map((p) => row(p, result.keypoint_names)));
  const person = result.people.find((p) => p.id === chosen);
  drawSigma(person ? errors(person) : null, result.keypoint_names);
}

function row(person, keypoints) {
  const tr = document.createElement("tr");
  const sigmas = errors(person);
  const worst = sigmas.indexOf(Math.max(...sigmas));
  const visible = mean(person.visible);
  tr.className = person.status;
  tr.setAttribute("aria-selected", person.id === chosen);
  tr.onclick = () => { chosen = person.id; forget(); };
  const cells = [
    person.id, person.status, mean(sigmas).toFixed(1),
    `${keypoints[worst].replace("_", " ")} ${sigmas[worst].toFixed(0)}`,
    `${Math.round(100 * visible)} %`,
    `${person.hypotheses} · ${Math.round(100 * person.weight)} %`,
  ].map((text) => Object.assign(document.createElement("td"), { textContent: text }));
  const dot = document.createElement("i");
  dot.style.background = colour(person.id);
  cells[0].prepend(dot);
  const [bar, filled] = [document.createElement("span"), document.createElement("b")];
  bar.className = "bar";
  filled.style.width = `${100 * visible}%`;
  bar.append(filled);
  cells[4].prepend(bar);
  tr.append(...cells);
  return tr;
}

// ---- charts --------------------------------------------------------------------------------

const now = () => Date.now() / 1000;
const clock = (t) => new Date(1000 * t).toLocaleTimeString([], { hour12: false });
const axis = (more) => ({
  stroke: "#8d9aa8", font: "11px system-ui, sans-serif", grid: { stroke: "#29323c", width: 1 },
  ticks: { show: false }, ...more,
});

function chart(element, labels, colours, unit) {
  const data = [[], ...labels.map(() => [])];
  const plot = new uPlot({
    width: element.clientWidth, height: element.clientHeight, legend: { show: false },
    cursor: { show: false },
    scales: { x: { range: () => [now() - SECONDS, now()] }, y: { range: (_, __, most) => [0, 1.1 * (most || 1)] } },
    axes: [axis({ space: 80, values: (_, ticks) => ticks.map(clock) }), axis({ size: 58, values: (_, ticks) => ticks.map((t) => `${t}${unit}`) })],
    series: [{}, ...labels.map((label, i) => ({ label, stroke: colours[i], width: 1.4, points: { show: false } }))],
  }, data, element);
  new ResizeObserver(() => plot.setSize({ width: element.clientWidth, height: element.clientHeight })).observe(element);
  let drawn = 0;
  return {
    add(values) {
      data[0].push(now());
      values.forEach((value, i) => data[i + 1].push(value));
      while (data[0][0] < now() - SECONDS) data.forEach((column) => column.shift());
      if (now() - drawn > 0.2) { plot.setData(data); drawn = now(); }
    },
    clear() { data.forEach((column) => (column.length = 0)); plot.setData(data); },
  };
}

function forget() {
  if (sigma) sigma.clear();
  if (age) age.clear();
}

function jointColours(keypoints) {
  // Left, right and middle in their own tones; from head to foot from light to dark.
  return keypoints.map((name, i) => {
    const hue = name.startsWith("left") ? 200 : name.startsWith("right") ? 28 : 140;
    return `hsl(${hue} 80% ${78 - (40 * i) / keypoints.length}%)`;
  });
}

function drawSigma(values, keypoints) {
  if (!sigma) {
    const colours = jointColours(keypoints);
    sigma = chart($("sigma"), keypoints, colours, "");
    $("joints").append(...keypoints.map((name, i) => {
      const label = document.createElement("span");
      const line = document.createElement("i");
      line.style.background = colours[i];
      label.append(line, name.replace("_", " "));
      return label;
    }));
  }
  show("sigma-who", chosen == null ? "" : `· person ${chosen}, px`);
  sigma.add(values ?? keypoints.map(() => null));
}

function drawAge(one) {
  age ??= chart($("age"), ["p50", "p95", "p99"], ["#4cc38a", "#f0b440", "#f2636b"], " ms");
  age.add(["p50", "p95", "p99"].map((p) => (one.state === "live" ? one.age_ms[p] : null) ?? null));
}

connect();
setInterval(() => document.hidden || thumbnails(), THUMBNAILS_EVERY);
