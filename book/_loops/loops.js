// The two loops of MAML, one move at a time. Data: data.js, computed by book/builder/loops.py with the package's own code.
"use strict";
document.addEventListener("DOMContentLoaded", () => {
  const root = document.getElementById("dsaml-loops"), data = window.dsamlLoops;
  if (!root || !data) return;
  const SIDE = 360, EDGE = 1.6, SVG = "http://www.w3.org/2000/svg";
  const make = (tag, attributes = {}, ...children) => {
    const svg = ["svg", "path", "line", "circle", "text", "g", "marker", "defs"].includes(tag);
    const element = svg ? document.createElementNS(SVG, tag) : document.createElement(tag);
    for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
    element.append(...children);
    return element;
  };
  // weights (arousal, valence) to the plane: valence to the right, arousal upwards
  const spot = ([arousal, valence]) => [((valence + EDGE) / (2 * EDGE)) * SIDE, ((EDGE - arousal) / (2 * EDGE)) * SIDE];
  const number = (value) => value.toFixed(2).replace("-", "−");
  const pair = ([arousal, valence]) => `(${number(arousal)}, ${number(valence)})`;
  const color = (id) => data.listeners.find((one) => one.id === id).color;
  let place = 0;

  const group = make("g"), [zero] = spot([0, 0]);
  const head = make("marker", { id: "dl-head", viewBox: "0 0 8 8", refX: 7, refY: 4, markerWidth: 7, markerHeight: 7, orient: "auto" },
    make("path", { d: "M0,0L8,4L0,8Z", fill: "context-stroke" }));
  const picture = make("svg", { viewBox: `-34 -10 ${SIDE + 48} ${SIDE + 50}`, role: "img", class: "dl-plane" }, make("defs", {}, head),
    make("line", { x1: 0, x2: SIDE, y1: zero, y2: zero, class: "dl-axis" }), make("line", { x1: zero, x2: zero, y1: 0, y2: SIDE, class: "dl-axis" }),
    ...[-1, 0, 1].flatMap((value) => {
      const [across, up] = spot([value, value]);
      return [make("text", { x: -8, y: up + 5, "text-anchor": "end" }, String(value).replace("-", "−")),
        make("text", { x: across, y: SIDE + 18, "text-anchor": "middle" }, String(value).replace("-", "−"))];
    }),
    make("text", { x: SIDE, y: SIDE + 36, "text-anchor": "end" }, "weight of valence →"),
    make("text", { x: 0, y: 6 }, "↑ weight of arousal"), group);
  const arrow = (from, to, look) => {
    const [[x1, y1], [x2, y2]] = [spot(from), spot(to)];
    return make("line", { x1, y1, x2, y2, "marker-end": "url(#dl-head)", ...look });
  };

  const say = ({ line, turn, theta, listeners, adapted = {}, losses = {}, outer }) => {
    const each = (values, show) => Object.entries(values).map(([id, value]) => `${id}: ${show(value)}`).join(", ");
    const who = Object.keys(adapted).at(-1);
    return {
      2: `Turn ${turn} of the outer loop. The shared start is θ = ${pair(theta)}. Listeners ${listeners.join(" and ")} are drawn, with two songs each.`,
      4: `Inner loop. One gradient step (α = ${data.inner}) on the support song of ${who}: from θ to θ′ = ${pair(adapted[who] ?? theta)}. θ itself has not moved.`,
      5: `The query song of each, judged with their own θ′. Squared error: ${each(losses, number)}. The support songs play no part in it.`,
      6: `Outer loop. The mean query loss is differentiated through the inner step, down to θ: θ moves by ${pair(outer ?? [0, 0])} (β = ${data.outer}).`,
      7: `After ${turn} turns θ = ${pair(theta)}. It is nobody: it is where one step of one song leads nearest to anybody.`,
    }[line];
  };
  const draw = () => {
    const move = data.moves[place], { theta, path, listeners, adapted = {}, outer } = move;
    group.replaceChildren(
      ...data.listeners.map(({ id, color: stroke, weights }) => {
        const [cx, cy] = spot(weights), drawn = listeners.includes(id);
        return make("g", { opacity: drawn || !listeners.length ? 1 : 0.35 }, make("circle", { cx, cy, r: 11, fill: "none", stroke, "stroke-width": 3 }),
          make("text", { x: cx, y: cy + 5, "text-anchor": "middle" }, id));
      }),
      make("path", { d: `M${path.map((point) => spot(point).join(",")).join("L")}`, class: "dl-path" }),
      ...Object.entries(adapted).map(([id, to]) => arrow(theta, to, { class: "dl-inner", style: `stroke: ${color(id)}` })),
      ...(outer ? [arrow(theta, theta.map((value, d) => value + outer[d]), { class: "dl-outer" })] : []),
      make("circle", { cx: spot(theta)[0], cy: spot(theta)[1], r: 6, class: "dl-theta" }),
      make("text", { x: spot(theta)[0] - 10, y: spot(theta)[1] - 9, "text-anchor": "end" }, "θ"));
    text.textContent = say(move);
    picture.setAttribute("aria-label", `The plane of the two weights. ${text.textContent}`);
    slider.value = place;
    slider.setAttribute("aria-valuetext", `move ${place + 1} of ${data.moves.length}`);
    back.disabled = place === 0;
    next.disabled = place === data.moves.length - 1;
    document.querySelectorAll("#dsaml-algorithm [data-line]").forEach((line) => {
      if (Number(line.dataset.line) === move.line) line.setAttribute("aria-current", "step");
      else line.removeAttribute("aria-current");
    });
  };
  const go = (to) => {
    place = Math.max(0, Math.min(data.moves.length - 1, to));
    draw();
  };
  const button = (label, by) => {
    const element = make("button", { type: "button" }, label);
    element.addEventListener("click", () => go(place + by));
    return element;
  };
  const back = button("← back", -1), next = button("next →", 1);
  const slider = make("input", { type: "range", min: 0, max: data.moves.length - 1, step: 1, "aria-label": "move" });
  slider.addEventListener("input", () => go(Number(slider.value)));
  const text = make("p", { role: "status", class: "dl-say" });
  root.addEventListener("keydown", (event) => {
    const to = { ArrowRight: place + 1, ArrowLeft: place - 1, Home: 0, End: data.moves.length - 1 }[event.key];
    if (to === undefined) return;
    event.preventDefault();
    go(to);
  });
  picture.setAttribute("tabindex", 0);
  picture.addEventListener("click", () => go(place + 1));
  root.replaceChildren(make("div", { class: "dl-controls" }, back, slider, next), text, picture);
  draw();
});
