// A listener in closed form: the mathematics of dsaml/arena/low_rank.py for the page, and curves as files. No DOM, nothing is sent.
// A curve is a list of [arousal, valence], one for each step; null where nothing was said. Dimension 0 is arousal, 1 is valence.
// No module, for a browser loads none without a server.
"use strict";
globalThis.dsamlLight = (() => {
  const COLUMNS = ["time_s", "arousal", "valence"];
  const SHORTEST = 10, LARGEST_GAP = 2; // steps, s: as in dsaml/listen/curves.py
  const clamp = (value, low, high) => Math.min(high, Math.max(low, value));
  const dot = (a, b) => a.reduce((sum, value, k) => sum + value * b[k], 0);

  // L with L L' = a, for a symmetric positive definite matrix a.
  const cholesky = (a) => {
    const l = a.map((row) => row.map(() => 0));
    for (let i = 0; i < a.length; i += 1) {
      for (let j = 0; j <= i; j += 1) {
        const rest = a[i][j] - dot(l[i].slice(0, j), l[j].slice(0, j));
        l[i][j] = i === j ? Math.sqrt(rest) : rest / l[j][j];
      }
    }
    return l;
  };
  // x with L x = b.
  const forward = (l, b) => {
    const x = [];
    l.forEach((row, i) => x.push((b[i] - dot(row.slice(0, i), x)) / row[i]));
    return x;
  };
  // x with L' x = b: from the last row to the first.
  const backward = (l, b) => {
    const x = [...b];
    for (let i = b.length - 1; i >= 0; i -= 1) {
      for (let j = i + 1; j < b.length; j += 1) x[i] -= l[j][i] * x[j];
      x[i] /= l[i][i];
    }
    return x;
  };

  // LowRank.adapt: the posterior of w for each dimension, {w, factor}, from songs {base, basis} and what was said of each. Nothing said
  // leaves the prior N(0, I), which is nobody in particular.
  const adapt = ({ noise }, said) => noise.map((sd, d) => {
    const width = 5; // LowRank.RANK + 1
    const precision = Array.from({ length: width }, (_, i) => Array.from({ length: width }, (_, j) => Number(i === j)));
    const projected = Array(width).fill(0);
    for (const { song, curve } of said) {
      curve.forEach((value, t) => {
        if (value[d] === null) return;
        const basis = song.basis[t][d].map((b) => b / sd);
        const residual = (Math.atanh(clamp(value[d], -0.97, 0.97)) - song.base[t][d]) / sd;
        basis.forEach((b, i) => {
          projected[i] += b * residual;
          basis.forEach((c, j) => { precision[i][j] += b * c; });
        });
      });
    }
    const factor = cholesky(precision);
    return { factor, w: backward(factor, forward(factor, projected)) };
  });

  // LowRank.predict: a listener's curve of a song, and its standard deviation: {mean (T, 2), sd (T, 2)}.
  const predict = ({ calibration }, listener, song) => {
    const each = song.base.map((base, t) => listener.map(({ factor, w }, d) => {
      const mean = Math.tanh(base[d] + dot(song.basis[t][d], w)), whitened = forward(factor, song.basis[t][d]);
      return [mean, Math.sqrt((1 - mean ** 2) ** 2 * dot(whitened, whitened) * calibration[0] + calibration[1])];
    }));
    const part = (k) => each.map((row) => row.map((pair) => pair[k]));
    return { mean: part(0), sd: part(1) };
  };

  const mean = (values) => values.reduce((sum, value) => sum + value, 0) / values.length;
  // The steps at which both curves say something of a dimension: pairs of numbers.
  const pairs = (a, b, d) => a.map((value, t) => [value[d], b[t][d]]).filter(([x, y]) => x !== null && y !== null);

  // Concordance of a dimension, as dsaml.evaluate.metrics.ccc; 0 if either curve is constant.
  const ccc = (a, b, d) => {
    const both = pairs(a, b, d), [x, y] = [0, 1].map((k) => both.map((pair) => pair[k]));
    if (!both.length || [x, y].some((values) => Math.max(...values) === Math.min(...values))) return 0;
    const mx = mean(x), my = mean(y);
    const spread = mean(x.map((value) => (value - mx) ** 2)) + mean(y.map((value) => (value - my) ** 2));
    return (2 * mean(both.map(([p, q]) => (p - mx) * (q - my)))) / (spread + (mx - my) ** 2);
  };
  // Root mean square distance over some dimensions.
  const rmse = (a, b, dims) => Math.sqrt(mean(dims.flatMap((d) => pairs(a, b, d)).map(([x, y]) => (x - y) ** 2)));
  // Who of {id: curve} is nearest to a curve.
  const nearest = (curve, listeners, dims) =>
    Object.keys(listeners).reduce((a, b) => (rmse(curve, listeners[b], dims) < rmse(curve, listeners[a], dims) ? b : a));

  const blank = (steps) => Array.from({ length: steps }, () => [null, null]);
  const count = (curve, d) => curve.filter((value) => value[d] !== null).length;
  // The dimensions of which enough was drawn to say something.
  const drawn = (curve) => [0, 1].filter((d) => count(curve, d) >= SHORTEST);
  // Write what a hand did from one moment {seconds, value} to the next at all labels between them; the first at the nearest label.
  const fill = (curve, dims, from, to, step) => {
    const begin = from ? Math.ceil(from.seconds / step) : Math.round(to.seconds / step);
    const end = Math.min(curve.length - 1, from ? Math.floor(to.seconds / step) : begin);
    for (let k = begin; k <= end; k += 1) {
      const share = from && to.seconds > from.seconds ? (k * step - from.seconds) / (to.seconds - from.seconds) : 1;
      for (const d of dims) curve[k][d] = to.value[d] + (1 - share) * ((from ?? to).value[d] - to.value[d]);
    }
  };

  // What `python -m dsaml personalize --curve` reads; times count from the start of the whole song.
  const toCsv = (curve, start, step) => {
    const rows = curve.map((value, k) => [start + k * step, ...value]).filter((row) => !row.includes(null));
    if (rows.length < SHORTEST) throw new Error(`Draw ${SHORTEST * step} s or more of arousal and of valence first; a file needs both.`);
    const gap = rows.findIndex((row, k) => k && row[0] - rows[k - 1][0] > LARGEST_GAP);
    if (gap > 0) {
      const [from, to] = [rows[gap - 1], rows[gap]].map((row) => (row[0] - start).toFixed(1));
      throw new Error(`Between ${from} and ${to} s of the clip arousal or valence is missing; draw the passage first.`);
    }
    return [COLUMNS.join(","), ...rows.map((row) => row.map((value) => value.toFixed(4)).join(","))].join("\n") + "\n";
  };

  // A curve at the labels of a clip from such a file, at any rate; throws an Error that says in one sentence what is wrong.
  const fromCsv = (text, start, step, steps) => {
    const lines = text.replace(/^\ufeff/, "").split(/\r?\n/).filter((line) => line.trim());
    const fields = (line) => line.split(",").map((field) => field.trim().replace(/^"(.*)"$/, "$1"));
    const header = fields(lines[0] ?? "");
    if (COLUMNS.some((name) => header.filter((other) => other === name).length !== 1)) {
      throw new Error(`The file needs the columns ${COLUMNS.join(",")}, each once.`);
    }
    const rows = lines.slice(1).map((line, k) => {
      const row = fields(line), values = COLUMNS.map((name) => row[header.indexOf(name)]);
      const numbers = values.map((value) => (value ? Number(value) : NaN));
      const where = `Row ${k + 1}`;
      if (row.length !== header.length || !numbers.every(Number.isFinite)) throw new Error(`${where} is not one number for each column.`);
      if (Math.max(...numbers.slice(1).map(Math.abs)) > 1) throw new Error(`${where} has a value beyond [-1, 1]; rescale the curve.`);
      return numbers;
    });
    rows.forEach(([time], k) => {
      const since = k ? time - rows[k - 1][0] : 1;
      if (since <= 0) throw new Error(`The time of row ${k + 1} is not after the one before it; sort the rows by time_s.`);
      if (since > LARGEST_GAP) throw new Error(`Before row ${k + 1} more than ${LARGEST_GAP} s are missing; annotate the whole time.`);
    });
    const curve = blank(steps);
    curve.forEach((value, k) => {
      const time = start + k * step, after = rows.findIndex((row) => row[0] >= time);
      if (after < 0 || (after === 0 && rows[0][0] > time)) return; // beyond what was annotated
      const b = rows[after], a = rows[Math.max(0, after - 1)], share = b[0] > a[0] ? (time - a[0]) / (b[0] - a[0]) : 1;
      for (const d of [0, 1]) value[d] = a[d + 1] + share * (b[d + 1] - a[d + 1]);
    });
    if (!drawn(curve).length) {
      throw new Error(`The file covers under ${SHORTEST * step} s of the clip, which begins at ${start} s of the song.`);
    }
    return curve;
  };

  return { adapt, blank, ccc, clamp, count, drawn, fill, fromCsv, nearest, predict, rmse, toCsv };
})();
