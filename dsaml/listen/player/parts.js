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
    const svg = ["svg", "path", "line", "rect", "circle", "text", "g"].includes(tag);
    const element = svg ? document.createElementNS(SVG, tag) : document.createElement(tag);
    for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
    element.append(...children);
    return element;
  };

  const x = (seconds) => (seconds / SECONDS) * WIDTH;
  const y = (value, height) => ((1 - value) / 2) * height;
  // Room around the fields for numbers, and for what lies on an edge: user coordinates of a field stay 0 to its width and height.
  const LEFT = 42, RIGHT = 14, TOP = 14, BELOW = 40;
  const frame = (width, height) => `${-LEFT} ${-TOP} ${LEFT + width + RIGHT} ${TOP + height + BELOW}`;
  const tick = (text, at) => make("text", { ...at, class: "dp-tick" }, text);
  const signed = (value) => String(value).replace("-", "−");
  const field = (width, height) => make("rect", { width, height, class: "dp-field" });
  const rule = (x1, y1, x2, y2) => make("line", { x1, y1, x2, y2, class: "dp-axis" });
  // Where an event points in a field of this width and height: shares from the left and from the top, 0 to 1.
  const place = (svg, event) => {
    const at = new DOMPoint(event.clientX, event.clientY).matrixTransform(svg.getScreenCTM().inverse());
    const { fieldWidth, fieldHeight } = svg.dataset;
    return { right: clamp(at.x / fieldWidth, 0, 1), down: clamp(at.y / fieldHeight, 0, 1) };
  };
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
    const size = { viewBox: frame(WIDTH, height), "data-field-width": WIDTH, "data-field-height": height };
    const svg = make("svg", { ...size, role: "img", class: "dp-chart", "data-dimension": name }, field(WIDTH, height),
      ...[1, 0, -1].flatMap((value) => [
        rule(0, y(value, height), WIDTH, y(value, height)), tick(signed(value), { x: -8, y: y(value, height) + 6, "text-anchor": "end" })]),
      ...Array.from({ length: Math.floor(SECONDS / 5) + 1 }, (_, k) => 5 * k).flatMap((seconds) => {
        const last = seconds + 5 > SECONDS;
        const at = { x: x(seconds), y: height + 28, "text-anchor": last ? "end" : "middle" };
        return [rule(x(seconds), height, x(seconds), height + 6), tick(last ? `${seconds} s` : seconds, at)];
      }),
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
    const size = { viewBox: frame(SIDE, SIDE), "data-field-width": SIDE, "data-field-height": SIDE };
    const svg = make("svg", { ...size, role: "img", class: "dp-plane" }, field(SIDE, SIDE),
      ...[-1, 0, 1].flatMap((value) => {
        const [across, up] = spot([value, value]);
        return [
          rule(0, up, SIDE, up), tick(signed(value), { x: -8, y: Number(up) + 5, "text-anchor": "end" }),
          rule(across, 0, across, SIDE), tick(signed(value), { x: across, y: SIDE + 18, "text-anchor": "middle" })];
      }),
      tick("valence →", { x: SIDE, y: SIDE + 37, "text-anchor": "end" }),
      make("text", { x: -LEFT + 13, y: middle, class: "dp-tick", "text-anchor": "middle",
        transform: `rotate(-90 ${-LEFT + 13} ${middle})` }, "arousal →"),
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
  // `groups` are the songs to choose from, by the legend above them.
  const transport = (id, onSong, onMoment, groups = { Song: SONGS }) => {
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
    const songs = make("div", { class: "dp-songs" });
    songs.hidden = Object.values(groups).flat().length < 2;
    Object.entries(groups).forEach(([legend, items], group) => {
      const choice = make("fieldset", { class: "dp-choice" }, make("legend", {}, legend));
      items.forEach((item, k) => {
        const input = make("input", { type: "radio", name: `${id}-song`, value: item.id });
        input.checked = group === 0 && k === 0;
        input.addEventListener("change", () => load(item));
        choice.append(make("label", {}, input, ` ${item.title}`));
      });
      songs.append(choice);
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

  return { WIDTH, make, x, y, spot, at, place, chart, plane, transport, table };
})();
