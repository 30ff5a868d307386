// The experimenter's page: who is where; in a class the curves as they arrive, how far they agree, and what is predicted for each.
"use strict";
document.addEventListener("DOMContentLoaded", () => {
  const { make, x, chart, transport, table, WIDTH } = window.dsamlParts;
  const people = document.getElementById("people"), said = document.getElementById("said"), root = document.getElementById("class");
  const EVERY = 2000, HEIGHT = 140; // ms; of the chart of disagreement
  let state = null, song = 0;

  const showPeople = () => people.replaceChildren(...state.people.map(({ id, done, of, link }) => make("tr", {},
    make("th", { scope: "row" }, id), make("td", {}, `${done} of ${of}`),
    ...(link ? [make("td", {}, make("a", { href: link }, new URL(link, location.href).href))] : []))));

  let showClass = () => {};
  if (root) {
    const join = document.getElementById("join");
    join.textContent = join.href;
    const charts = [0, 1].map((d) => chart(d, 220)), numbers = table("agreement"), growth = make("svg", {
      viewBox: `0 0 ${WIDTH} ${HEIGHT}`, role: "img", class: "dp-chart",
    });
    const number = (value) => (value === null ? "–" : value.toFixed(2));
    const plays = transport("class", (next) => {
      song = Number(next.id);
      showClass();
    }, (now) => {
      for (const { cursor } of charts) {
        cursor.setAttribute("x1", x(now));
        cursor.setAttribute("x2", x(now));
      }
    });
    const showGrowth = (rows) => {
      const last = rows.length ? rows[rows.length - 1][0] : 2, top = Math.max(0.1, ...rows.flatMap((row) => row.slice(1)));
      const place = (n, value) => `${(40 + ((WIDTH - 60) * (n - 1)) / Math.max(1, last - 1)).toFixed(1)},${(HEIGHT - 15 - (HEIGHT - 30) * (value / top)).toFixed(1)}`;
      const looks = [["var(--dp-you)", ""], ["var(--dp-model)", "9 5"]];
      growth.replaceChildren(
        make("line", { x1: 40, x2: WIDTH - 20, y1: HEIGHT - 15, y2: HEIGHT - 15, class: "dp-axis" }),
        make("text", { x: 4, y: 18 }, top.toFixed(2)), make("text", { x: 4, y: HEIGHT - 15 }, "0"),
        ...looks.flatMap(([color, dash], d) => {
          const there = rows.filter((row) => row[d + 1] !== null).map((row) => place(row[0], row[d + 1]));
          const [cx, cy] = (there.at(-1) ?? "0,0").split(",");
          return there.length ? [
            make("path", { d: `M${there.join("L")}`, class: "dp-line", "stroke-dasharray": dash, style: `color: ${color}` }),
            make("circle", { cx, cy, r: 4, class: "dp-dot", style: `color: ${color}` }),
          ] : [];
        }));
      growth.setAttribute("aria-label", `disagreement from 2 to ${last} people: arousal solid, valence dashed`);
    };
    showClass = () => {
      if (!state) return;
      const { curves, mean, sd, agreement, growth: rows } = state.songs[song];
      const whole = mean.every((value) => !value.includes(null)) && sd.every((value) => !value.includes(null));
      for (const { name, svg, lines, line, band } of charts) {
        const average = line({ values: mean, color: "var(--dp-you)", dash: "" });
        average.classList.add("mean");
        lines.replaceChildren(
          ...(whole ? [band({ values: mean, sd: sd.map((pair) => pair.map((v) => v / 1.645)), color: "var(--dp-you)" })] : []),
          ...curves.map((values) => line({ values, color: "inherit", dash: "", faint: true })), ...(curves.length ? [average] : []));
        svg.setAttribute("aria-label", `${name} over the song: ${curves.length} people, their average and standard deviation`);
      }
      numbers.fill(["of this class", "arousal", "valence"], [
        [make("th", { scope: "row" }, "people"), String(curves.length), String(curves.length)],
        [make("th", { scope: "row" }, "agreement (mean CCC of two people)"), number(agreement.arousal), number(agreement.valence)],
        [make("th", { scope: "row" }, "disagreement (SD, mean over time)"), ...(rows.at(-1) ?? [0, null, null]).slice(1).map(number)],
      ]);
      showGrowth(rows);
    };
    root.replaceChildren(
      plays.songs, plays.audio, plays.row, ...charts.map(({ figure }) => figure), numbers.frame,
      make("figure", {}, make("figcaption", {}, "disagreement (SD) against the number of people: arousal solid, valence dashed"), growth),
    );
    plays.load(window.dsamlPlayer.songs[0]);
  }

  const ask = async () => {
    try {
      const reply = await fetch(`${people.dataset.base}/state.json?have=${state?.count ?? ""}`, { signal: AbortSignal.timeout(10_000) });
      if (reply.status === 200) {
        state = await reply.json();
        showPeople();
        showClass();
      }
      said.textContent = reply.ok ? "" : await reply.text();
    } catch {
      said.textContent = "The server does not answer; this page asks again.";
    }
    setTimeout(ask, EVERY);
  };
  ask();
});
