// What the player and "Draw your curve" are made of: elements, charts, the plane, and what plays a song.
"use strict";
globalThis.dsamlParts = (() => {
  const { seconds: SECONDS, step: STEP, songs: SONGS } = globalThis.dsamlPlayer ?? {}; // data.js
  const { clamp } = globalThis.dsamlLight;
  const BASE = document.currentScript.src || document.baseURI; // of a script inside a page
  const WIDTH = 600, SIDE = 300, TRAIL = 6; // of a chart, of the plane; steps of the trail
  const DIMENSIONS = ["arousal", "valence"], ENDS = [["excited", "calm"], ["pleasant", "unpleasant"]];
  const SVG = "http://www.w3.org/2000/svg";

  // a new element: make("p", {class: "x"}, "text", child, ...)
  const make = (tag, attributes = {}, ...children) => {
    const svg = ["svg", "path", "line", "circle", "text", "g"].includes(tag);
    const element = svg ? document.createElementNS(SVG, tag) : document.createElement(tag);
    for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
    element.append(...children);
    return element;
  };

  const x = (seconds) => (seconds / SECONDS) * WIDTH;
  const y = (value, height) => ((1 - value) / 2) * height;
  const spot = ([arousal, valence]) => [(((valence + 1) / 2) * SIDE).toFixed(1), y(arousal, SIDE).toFixed(1)];
  const at = (values, seconds) => { // linear between labels; null where the curve has a gap
    const place = clamp(seconds / STEP, 0, values.length - 1), k = Math.floor(place);
    const [a, b] = [values[k], values[Math.min(k + 1, values.length - 1)]];
    return [...a, ...b].includes(null) ? null : [0, 1].map((d) => a[d] + (place - k) * (b[d] - a[d]));
  };

  // A dimension over time. `line` draws a curve {values, color, dash}, `band` a prediction {values, sd, color}: 9 of 10 labels.
  const chart = (d, height) => {
    const name = DIMENSIONS[d], lines = make("g"), own = make("g");
    const cursor = make("line", { y1: 0, y2: height, class: "dp-cursor" });
    const svg = make("svg", { viewBox: `0 0 ${WIDTH} ${height}`, role: "img", class: "dp-chart", "data-dimension": name },
      make("line", { x1: 0, x2: WIDTH, y1: height / 2, y2: height / 2, class: "dp-axis" }),
      make("text", { x: 6, y: 22 }, ENDS[d][0]), make("text", { x: 6, y: height - 8 }, ENDS[d][1]), lines, own, cursor);
    const point = (value, k) => `${x(k * STEP).toFixed(1)},${y(value, height).toFixed(1)}`;
    const line = ({ values, color, dash, faint }) => {
      const there = (k) => k >= 0 && values[k][d] !== null;
      const path = values.map((value, k) => (there(k) ? `${there(k - 1) ? "L" : "M"}${point(value[d], k)}` : "")).join("");
      const look = { "stroke-dasharray": dash, style: `color: ${color}`, class: faint ? "dp-line dp-faint" : "dp-line" };
      return make("path", { d: path || "M0,0", ...look });
    };
    const band = ({ values, sd, color }) => {
      const edge = (sign) => values.map((value, k) => point(clamp(value[d] + sign * 1.645 * sd[k][d], -1, 1), k));
      return make("path", { d: `M${[...edge(1), ...edge(-1).reverse()].join("L")}Z`, style: `color: ${color}`, class: "dp-band" });
    };
    return { d, name, height, svg, lines, own, cursor, line, band, figure: make("figure", {}, make("figcaption", {}, name), svg) };
  };

  // Valence to the right, arousal upwards; `dots` shows curves at one moment, with the last three seconds.
  const plane = () => {
    const group = make("g"), middle = SIDE / 2;
    const svg = make("svg", { viewBox: `0 0 ${SIDE} ${SIDE}`, role: "img", class: "dp-plane" },
      make("line", { x1: 0, x2: SIDE, y1: middle, y2: middle, class: "dp-axis" }),
      make("line", { x1: middle, x2: middle, y1: 0, y2: SIDE, class: "dp-axis" }),
      make("text", { x: SIDE - 4, y: middle - 6, "text-anchor": "end" }, "pleasant"),
      make("text", { x: 4, y: middle - 6 }, "unpleasant"),
      make("text", { x: middle + 6, y: 14 }, "excited"),
      make("text", { x: middle + 6, y: SIDE - 6 }, "calm"), group);
    const dots = (curves, now) => group.replaceChildren(...curves.flatMap(({ values, color, dash }) => {
      const here = at(values, now), trail = [];
      if (!here) return [];
      for (let k = TRAIL; k >= 0; k -= 1) trail.push(at(values, Math.max(0, now - k * STEP)));
      const path = trail.filter(Boolean).map((point) => spot(point).join(",")), [cx, cy] = spot(here);
      return [
        make("path", { d: `M${path.join("L")}`, style: `color: ${color}`, class: "dp-trail" }),
        make("circle", { cx, cy, r: 6, style: `color: ${color}`, class: dash ? "dp-ring" : "dp-dot" }),
      ];
    }));
    return { svg, group, dots, figure: make("figure", {}, make("figcaption", {}, "valence and arousal now"), svg) };
  };

  // As a whole where a server sends it, for some servers cannot send a part, and then nobody can seek; ours can.
  const source = async (address) => (location.protocol === "file:" || globalThis.dsamlPlayer.ranges ? address
    : URL.createObjectURL(await (await fetch(address)).blob()));

  // What plays a song: the choice of one, the browser's controls, and a slider; `onMoment(seconds)` follows it, from frame to frame.
  const transport = (id, onSong, onMoment) => {
    const audio = make("audio", { controls: "", preload: "auto", "aria-label": "the song" });
    const slider = make("input", { type: "range", min: 0, max: SECONDS, step: STEP, value: 0, id: `${id}-time` });
    const clock = make("output", { for: `${id}-time`, class: "dp-clock" });
    let song = null;
    const now = () => clamp(audio.currentTime || 0, 0, SECONDS);
    const moment = () => {
      if (document.activeElement !== slider || !audio.paused) slider.value = now();
      clock.textContent = `${now().toFixed(1)} s of ${SECONDS} s`;
      slider.setAttribute("aria-valuetext", clock.textContent);
      onMoment(now());
    };
    const seek = (seconds) => {
      audio.currentTime = clamp(seconds, 0, SECONDS - 0.01);
      moment();
    };
    const follow = () => {
      moment();
      if (!audio.paused) requestAnimationFrame(follow);
    };
    audio.addEventListener("play", () => {
      document.querySelectorAll("audio").forEach((other) => other !== audio && other.pause());
      follow();
    });
    ["seeked", "timeupdate", "loadedmetadata"].forEach((event) => audio.addEventListener(event, moment));
    slider.addEventListener("input", () => seek(Number(slider.value)));

    const load = async (next) => {
      song = next;
      audio.pause();
      const address = await source(new URL(song.audio, BASE).href);
      if (song !== next) return; // another one was chosen meanwhile
      URL.revokeObjectURL(audio.src);
      audio.src = address;
      onSong(song);
      moment();
    };
    const songs = make("fieldset", { class: "dp-choice" }, make("legend", {}, "Song"));
    songs.hidden = SONGS.length < 2;
    SONGS.forEach((item, k) => {
      const input = make("input", { type: "radio", name: `${id}-song`, value: item.id });
      input.checked = k === 0;
      input.addEventListener("change", () => load(item));
      songs.append(make("label", {}, input, ` ${item.title}`));
    });
    const row = make("div", { class: "dp-time" }, make("label", { for: `${id}-time` }, "moment"), slider, clock);
    return { audio, songs, row, now, seek, moment, load };
  };

  // A table in a frame that scrolls by itself; `fill(head, rows)` replaces what it shows, the first cell of each row names it.
  const table = (label) => {
    const element = make("table", { class: "dp-curves" });
    const fill = (head, rows) => element.replaceChildren(
      make("thead", {}, make("tr", {}, ...head.map((text) => make("th", { scope: "col" }, text)))),
      make("tbody", {}, ...rows.map(([name, ...cells]) => make("tr", {}, name, ...cells.map((cell) => make("td", {}, cell))))));
    return { fill, frame: make("div", { class: "dp-scroll", tabindex: 0, role: "region", "aria-label": label }, element) };
  };

  return { WIDTH, make, x, y, spot, at, chart, plane, transport, table };
})();
