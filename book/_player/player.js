// The book's player: a song, the curves of its listeners and of the model, and one moment that all views show.
// Data: data.js, written by dsaml/player.py. Waveform: wavesurfer.js, if it came with the book.
"use strict";
document.addEventListener("DOMContentLoaded", () => {
  const root = document.getElementById("dsaml-player");
  const data = window.dsamlPlayer;
  if (!root) return;
  if (!data) {
    root.textContent = "The player's data are missing: build the book with 'make book'.";
    return;
  }
  const COLORS = ["#0173b2", "#9a5b00", "#027a5a", "#b0479c", "#8a5a2b"]; // dark enough for text on white
  const DIMENSIONS = ["arousal", "valence"];
  const WIDTH = 600, HEIGHT = 150, SIDE = 300, TRAIL = 6; // of a chart, of the plane; steps of the trail
  const SVG = "http://www.w3.org/2000/svg";

  // a new element: make("p", {class: "x"}, "text", child, ...)
  const make = (tag, attributes = {}, ...children) => {
    const svg = ["svg", "path", "line", "circle", "text", "rect", "g"].includes(tag);
    const element = svg ? document.createElementNS(SVG, tag) : document.createElement(tag);
    for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
    element.append(...children);
    return element;
  };

  const audio = make("audio", { controls: "", preload: "auto", "aria-label": "the song" });
  const wave = make("div", { class: "dp-wave" });
  const slider = make("input", { type: "range", min: 0, max: data.seconds, step: data.step, value: 0, id: "dp-time" });
  const clock = make("output", { for: "dp-time", class: "dp-clock" });
  let song = data.songs[0], surfer = null;
  const shown = new Set(["average", "own 0", "own 4"]); // what is drawn at first: two who differ, and the average

  // Every curve that can be drawn: {key, label, values, color, dash}
  const curves = () => {
    const all = [
      { key: "average", label: "average listener", values: song.average, color: "currentColor", dash: "" },
      { key: "before", label: "model before", values: song.before, color: "currentColor", dash: "2 4" },
    ];
    song.listeners.forEach((listener, k) => {
      all.push({ key: `own ${k}`, label: listener.id, values: listener.own, color: COLORS[k], dash: "" });
      all.push({ key: `after ${k}`, label: `model for ${listener.id}`, values: listener.after, color: COLORS[k], dash: "7 4" });
    });
    return all;
  };
  const visible = () => curves().filter((curve) => shown.has(curve.key));

  const x = (seconds) => (seconds / data.seconds) * WIDTH;
  const y = (value, size) => ((1 - value) / 2) * size;
  const clamp = (value, low, high) => Math.min(high, Math.max(low, value));
  const at = (values, seconds) => { // linear between labels
    const place = clamp(seconds / data.step, 0, values.length - 1), k = Math.floor(place);
    const next = values[Math.min(k + 1, values.length - 1)];
    return [0, 1].map((d) => values[k][d] + (place - k) * (next[d] - values[k][d]));
  };

  const charts = DIMENSIONS.map((name, d) => {
    const svg = make("svg", { viewBox: `0 0 ${WIDTH} ${HEIGHT}`, role: "img", class: "dp-chart", "data-dimension": name });
    const lines = make("g");
    const cursor = make("line", { y1: 0, y2: HEIGHT, class: "dp-cursor" });
    svg.append(make("line", { x1: 0, x2: WIDTH, y1: HEIGHT / 2, y2: HEIGHT / 2, class: "dp-axis" }), lines, cursor);
    svg.addEventListener("click", (event) => {
      const box = svg.getBoundingClientRect();
      seek(((event.clientX - box.left) / box.width) * data.seconds);
    });
    return { name, d, svg, lines, cursor };
  });
  const plane = make("svg", { viewBox: `0 0 ${SIDE} ${SIDE}`, role: "img", class: "dp-plane" });
  const dots = make("g");
  plane.append(
    make("line", { x1: 0, x2: SIDE, y1: SIDE / 2, y2: SIDE / 2, class: "dp-axis" }),
    make("line", { x1: SIDE / 2, x2: SIDE / 2, y1: 0, y2: SIDE, class: "dp-axis" }),
    make("text", { x: SIDE - 4, y: SIDE / 2 - 6, "text-anchor": "end" }, "pleasant"),
    make("text", { x: 4, y: SIDE / 2 - 6 }, "unpleasant"),
    make("text", { x: SIDE / 2 + 6, y: 14 }, "excited"),
    make("text", { x: SIDE / 2 + 6, y: SIDE - 6 }, "calm"),
    dots,
  );

  const drawLines = () => {
    const names = visible().map((curve) => curve.label).join(", ") || "no curve chosen";
    for (const { name, d, svg, lines } of charts) {
      svg.setAttribute("aria-label", `${name} over the song: ${names}`);
      lines.replaceChildren(...visible().map(({ values, color, dash }) => {
        const points = values.map((value, k) => `${x(k * data.step).toFixed(1)},${y(value[d], HEIGHT).toFixed(1)}`);
        return make("path", { d: `M${points.join("L")}`, stroke: color, "stroke-dasharray": dash, class: "dp-line" });
      }));
    }
    plane.setAttribute("aria-label", `valence to the right, arousal upwards, at this moment: ${names}`);
    drawMoment();
  };

  const drawMoment = () => {
    const now = clamp(audio.currentTime || 0, 0, data.seconds);
    for (const { cursor } of charts) {
      cursor.setAttribute("x1", x(now));
      cursor.setAttribute("x2", x(now));
    }
    if (document.activeElement !== slider || !audio.paused) slider.value = now;
    clock.textContent = `${now.toFixed(1)} s of ${data.seconds} s`;
    slider.setAttribute("aria-valuetext", clock.textContent);
    dots.replaceChildren(...visible().flatMap(({ values, color, dash }) => {
      const place = (seconds) => {
        const [arousal, valence] = at(values, seconds);
        return [(((valence + 1) / 2) * SIDE).toFixed(1), y(arousal, SIDE).toFixed(1)];
      };
      const trail = [];
      for (let k = TRAIL; k >= 0; k -= 1) trail.push(place(Math.max(0, now - k * data.step)).join(","));
      const [cx, cy] = place(now);
      return [
        make("path", { d: `M${trail.join("L")}`, stroke: color, class: "dp-trail" }),
        make("circle", { cx, cy, r: 6, stroke: color, fill: dash ? "none" : color, "stroke-width": 2.5 }),
      ];
    }));
  };

  const seek = (seconds) => {
    audio.currentTime = clamp(seconds, 0, data.seconds - 0.01);
    drawMoment();
  };
  const follow = () => {
    drawMoment();
    if (!audio.paused) requestAnimationFrame(follow);
  };
  audio.addEventListener("play", follow);
  ["seeked", "timeupdate", "loadedmetadata"].forEach((event) => audio.addEventListener(event, drawMoment));
  slider.addEventListener("input", () => seek(Number(slider.value)));

  const box = (key, label) => {
    const input = make("input", { type: "checkbox", "data-curve": key, "aria-label": label });
    input.checked = shown.has(key);
    input.addEventListener("change", () => {
      if (input.checked) shown.add(key);
      else shown.delete(key);
      drawLines();
    });
    return input;
  };
  const cell = (tag, ...content) => make(tag, tag === "th" ? { scope: "col" } : {}, ...content);
  const table = make("table", { class: "dp-curves" });
  const drawTable = () => {
    const head = ["listener", "own curve ━", "model for them ╍", "CCC before", "after"].map((text) => cell("th", text));
    const rows = song.listeners.map((listener, k) => {
      const name = make("th", { scope: "row", style: `color: ${COLORS[k]}` }, `● ${listener.id}`);
      name.title = `personalized on song ${listener.support}`;
      return make("tr", {}, name,
        cell("td", box(`own ${k}`, `own curve of ${listener.id}`)),
        cell("td", box(`after ${k}`, `model personalized for ${listener.id}`)),
        cell("td", listener.ccc_before.toFixed(2)), cell("td", listener.ccc_after.toFixed(2)));
    });
    const everybody = make("tr", {}, make("th", { scope: "row" }, "everybody"),
      cell("td", box("average", "average listener")), cell("td", box("before", "model before personalization")),
      cell("td"), cell("td"));
    table.replaceChildren(make("thead", {}, make("tr", {}, ...head)), make("tbody", {}, everybody, ...rows));
  };

  // As a whole where a server sends it, for some servers cannot send a part, and then nobody can seek.
  const source = async (address) =>
    location.protocol === "file:" ? address : URL.createObjectURL(await (await fetch(address)).blob());

  const choose = async (next) => {
    song = next;
    const address = await source(new URL(song.audio, base).href);
    if (song !== next) return; // another one was chosen meanwhile
    if (surfer) surfer.destroy();
    URL.revokeObjectURL(audio.src);
    audio.src = address;
    wave.replaceChildren();
    surfer = window.WaveSurfer
      ? WaveSurfer.create({
        container: wave, media: audio, peaks: [song.peaks], duration: data.seconds, height: 56, dragToSeek: true,
        waveColor: "#8a8a8a", progressColor: "#0173b2", cursorColor: "#c03030", normalize: true,
      })
      : null;
    drawTable();
    drawLines();
  };

  const base = new URL(document.getElementById("dsaml-player-script").src);
  const songs = make("fieldset", { class: "dp-songs" }, make("legend", {}, "Song"));
  data.songs.forEach((item, k) => {
    const input = make("input", { type: "radio", name: "dp-song", value: item.id });
    input.checked = k === 0;
    input.addEventListener("change", () => choose(item));
    songs.append(make("label", {}, input, ` ${item.title}`));
  });
  const figure = ({ name, svg }) => make("figure", {}, make("figcaption", {}, name), svg);
  root.replaceChildren(
    songs, audio, wave,
    make("div", { class: "dp-time" }, make("label", { for: "dp-time" }, "moment"), slider, clock),
    make("div", { class: "dp-views" },
      make("div", {}, ...charts.map(figure)),
      make("figure", {}, make("figcaption", {}, "valence and arousal now"), plane)),
    make("div", { class: "dp-scroll", tabindex: 0, role: "region", "aria-label": "curves to show" }, table),
  );
  choose(song);
});
