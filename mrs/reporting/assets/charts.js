"use strict";
// Each kind of plot: a function of its data and the width in pixels, which returns nodes to show.
const charts = (() => {
  const COLOURS = ["var(--series-1)", "var(--series-2)", "var(--series-3)", "var(--series-4)", "var(--series-5)", "var(--series-6)"];
  const TONES = { ours: "var(--ours)", rival: "var(--rival)", floor: "var(--floor)", failed: "var(--failed)" };
  const NARROW = 560;
  const common = { style: { fontSize: "12px", fontFamily: "inherit", overflow: "visible" } };
  const round = (value) => (Math.abs(value) >= 1e7 ? value.toExponential(1) : Number(value.toPrecision(3)).toLocaleString("en"));
  // A name from a file may be longer than the plot is wide.
  const short = (text, width) => (text.length * 7 > width ? `${text.slice(0, Math.floor(width / 7) - 1)}…` : text);

  function element(name, attributes = {}, ...children) {
    const made = document.createElement(name);
    for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
    made.append(...children);
    return made;
  }

  // What stands for what. Lines differ in their marks, too: who sees no colours, or prints, can tell them apart.
  function key(entries) {
    const list = element("ul", { class: "key" });
    for (const { mark, colour, text } of entries) {
      const swatch = element("span", { class: "swatch" }, mark);
      swatch.style.color = colour;
      list.append(element("li", {}, swatch, text));
    }
    return list;
  }

  function tipOf(rows, options) {
    return Plot.tip(rows, Plot.pointer({ fontSize: 12, ...options }));
  }

  // Texts in plots are read before lines that cross them.
  const halo = { stroke: "var(--paper)", strokeWidth: 4, strokeLinejoin: "round" };

  // A scale whose ticks are ours: those of d3's logarithmic scale lose the texts that a plot needs.
  function axis(logarithmic, values, count) {
    const place = logarithmic ? Math.log10 : (value) => value;
    const [low, high] = d3.extent(values);
    if (!logarithmic) return { place, ticks: d3.ticks(low, high, count), text: round };
    const steps = [[1, 2, 5], [1, 3], [1]].map((digits) =>
      d3.range(Math.floor(Math.log10(low)), Math.ceil(Math.log10(high)) + 1)
        .flatMap((power) => digits.map((digit) => digit * 10 ** power))
        .filter((tick) => tick >= low && tick <= high));
    const chosen = steps.find((ticks) => ticks.length <= count) ?? steps[2].filter((_, index, all) => index % Math.ceil(all.length / count) === 0);
    return { place, ticks: (chosen.length ? chosen : [low, high]).map(place), text: (at) => round(10 ** at) };
  }

  function bars(data, width) {
    // All groups on one scale, so that results can be compared by eye.
    const most = d3.max(data.groups, (group) => d3.max(group.bars, (bar) => d3.max([bar.value, bar.q3, ...bar.dots])));
    // Long times in seconds, or their digits would run into each other.
    const [unit, name] = most >= 10000 ? [1000, "seconds"] : [1, "milliseconds"];
    return data.groups.flatMap(({ title, bars: rows }) => {
      const numbered = rows.map((bar, index) => ({ ...bar, y: index }));
      const dots = numbered.flatMap((bar) => bar.dots.map((value) => ({ value, y: bar.y })));
      const wide = width > NARROW;
      const plot = Plot.plot({
        ...common,
        width,
        height: 34 + 46 * rows.length,
        marginLeft: 1,
        marginRight: wide ? 150 : 12,
        marginTop: 6,
        marginBottom: 28,
        x: { domain: [0, most], label: null, ticks: wide ? 8 : 4, tickFormat: (value) => round(value / unit), grid: true },
        y: { type: "linear", domain: [-0.5, rows.length - 0.5], reverse: false, axis: null, range: [6, 6 + 46 * rows.length] },
        marks: [
          Plot.rect(numbered, {
            x1: 0, x2: "value", y1: (bar) => bar.y - 0.02, y2: (bar) => bar.y + 0.36,
            fill: (bar) => (bar.tone === "failed" ? "transparent" : TONES[bar.tone]),
            stroke: (bar) => TONES[bar.tone],
            strokeDasharray: "4 3", strokeWidth: (bar) => (bar.tone === "failed" ? 1.5 : 0),
            className: "bar",
          }),
          Plot.dot(dots, { x: "value", y: (dot) => dot.y + 0.17, r: 2, fill: "var(--ink)", fillOpacity: 0.35 }),
          Plot.ruleY(numbered, { y: (bar) => bar.y + 0.17, x1: "q1", x2: "q3", stroke: "var(--ink)", strokeWidth: 2 }),
          Plot.text(numbered, {
            frameAnchor: "left", y: (bar) => bar.y - 0.2, text: (bar) => (wide ? `${bar.label} · ${bar.detail}` : bar.label),
            textAnchor: "start", dx: 4, ...halo, lineWidth: (wide ? width - 160 : width * 0.52) / 12, textOverflow: "ellipsis", fill: "var(--ink)",
          }),
          wide
            ? Plot.text(numbered, { x: (bar) => d3.max([bar.value, bar.q3, ...bar.dots]), y: (bar) => bar.y + 0.17, text: "text", dx: 8, textAnchor: "start", ...halo, fill: "var(--ink)", fontWeight: 600 })
            : Plot.text(numbered, { frameAnchor: "right", y: (bar) => bar.y - 0.2, text: "text", textAnchor: "end", dx: 12, ...halo, fill: "var(--ink)", fontWeight: 600 }),
          Plot.ruleX([0], { stroke: "var(--muted)" }),
        ],
      });
      const heading = title ? [element("p", { class: "group" }, title)] : [];
      return [...heading, plot, element("p", { class: "axis" }, name)];
    });
  }

  function lines(data, width) {
    const points = data.series.flatMap((series, index) => series.points.map((point) => ({ ...point, series: series.name, index })));
    const reference = data.series.flatMap((series, index) => (series.reference ?? []).map((point) => ({ ...point, index })));
    const marks = ["circle", "square", "triangle", "diamond", "cross", "star"];
    const signs = ["●", "■", "▲", "◆", "✚", "★"];
    const at = (index) => index % COLOURS.length;
    // The seventh line has the first colour with the second mark.
    const turn = (index) => (index + Math.floor(index / COLOURS.length)) % marks.length;
    const xs = [...new Set(points.map((point) => point.x))].sort(d3.ascending);
    // A tick where something was measured, as long as their texts have room.
    const room = Math.max(2, Math.floor(width / 90));
    const ticks = xs.length <= room ? xs : xs.filter((_, index) => index % Math.ceil(xs.length / room) === 0);
    const named = new Map(points.map((point) => [point.x, point.name]));
    const across = axis(data.log_x, xs, room);
    const up = axis(data.log_y, points.flatMap((point) => [point.low, point.high]), 6);
    const at_x = (point) => across.place(point.x);
    const at_y = (key) => (point) => up.place(point[key]);
    const plot = Plot.plot({
      ...common,
      width,
      height: Math.max(260, Math.min(400, width * 0.6)),
      marginLeft: 56,
      marginRight: 24,
      marginBottom: 42,
      marginTop: 28,
      x: { label: data.x, labelAnchor: "center", labelArrow: "none", ticks: ticks.map(across.place), tickFormat: (place) => named.get(xs.find((x) => across.place(x) === place)), inset: 16 },
      y: { label: short(data.y, width), labelArrow: "none", grid: true, ticks: data.from_0 ? 5 : up.ticks, tickFormat: up.text, zero: data.from_0, nice: data.from_0, inset: data.from_0 ? 0 : 8 },
      marks: [
        Plot.line(reference, { x: at_x, y: at_y("y"), z: "index", stroke: "var(--muted)", strokeDasharray: "5 4" }),
        Plot.line(points, { x: at_x, y: at_y("y"), z: "index", stroke: (point) => COLOURS[at(point.index)], strokeWidth: 2 }),
        Plot.ruleX(points.filter((point) => point.high > point.low), { x: at_x, y1: at_y("low"), y2: at_y("high"), stroke: (point) => COLOURS[at(point.index)], strokeWidth: 1.5 }),
        Plot.dot(points, { x: at_x, y: at_y("y"), r: 4.5, symbol: (point) => marks[turn(point.index)], fill: (point) => COLOURS[at(point.index)], stroke: "var(--paper)", className: "point" }),
        tipOf(points, { x: at_x, y: at_y("y"), title: (point) => `${point.series}\n${point.text}`, fill: "var(--raised)", stroke: "var(--line)" }),
      ],
      symbol: { type: "identity" },
    });
    const entries = data.series.length > 1 ? data.series.map((series, index) => ({ mark: signs[turn(index)], colour: COLOURS[at(index)], text: series.name })) : [];
    if (reference.length) entries.push({ mark: "┅", colour: "var(--muted)", text: data.reference });
    return entries.length ? [plot, key(entries)] : [plot];
  }

  function pareto(data, width) {
    const front = data.points.filter((point) => point.best).sort((a, b) => a.x - b.x);
    const spans = d3.extent(data.points, (point) => point.x);
    const across = axis(spans[1] / spans[0] > 4, spans, width > NARROW ? 8 : 4);
    const at = (point) => across.place(point.x);
    const plot = Plot.plot({
      ...common,
      width,
      height: Math.max(280, Math.min(420, width * 0.6)),
      marginLeft: 56,
      marginRight: 24,
      marginBottom: 42,
      marginTop: 28,
      x: { label: "milliseconds for a restore (less is better)", labelAnchor: "center", labelArrow: "none", ticks: across.ticks, tickFormat: across.text, inset: 20 },
      y: { label: short(data.title, width), labelArrow: "none", grid: true, ticks: 5, tickFormat: round, zero: false, inset: 12, reverse: data.less },
      marks: [
        Plot.line(front, { x: at, y: "y", stroke: "var(--ours)", strokeDasharray: "4 4", strokeWidth: 1.5 }),
        Plot.ruleX(data.points.filter((point) => point.high > point.low), { x: at, y1: "low", y2: "high", stroke: (point) => TONES[point.tone], strokeWidth: 1.5 }),
        Plot.dot(data.points, { x: at, y: "y", r: 10, fill: (point) => TONES[point.tone], stroke: "var(--paper)", strokeWidth: 1.5, className: "point" }),
        Plot.text(data.points, { x: at, y: "y", text: "n", fill: "var(--paper)", fontWeight: 700 }),
        tipOf(data.points, { x: at, y: "y", title: (point) => `${point.name}\n${point.text}`, fill: "var(--raised)", stroke: "var(--line)" }),
      ],
    });
    const list = key(data.points.map((point) => ({ mark: String(point.n), colour: TONES[point.tone], text: `${point.name}: ${point.text}` })));
    list.classList.add("numbered");
    return [plot, list];
  }

  function timeline(data, width) {
    const lanes = [...new Set(data.spans.map((span) => span.lane))];
    // The longest parts have colours of their own, the others share one.
    const sums = d3.rollup(data.spans, (spans) => d3.sum(spans, (span) => span.end - span.start), (span) => span.name);
    const ordered = [...data.names].sort((a, b) => sums.get(b) - sums.get(a));
    const own = ordered.slice(0, ordered.length > COLOURS.length ? COLOURS.length - 1 : COLOURS.length);
    const colour = (name) => (own.includes(name) ? COLOURS[own.indexOf(name)] : "var(--muted)");
    const end = d3.max(data.spans, (span) => span.end);
    // What is shorter than a pixel is drawn a pixel wide, or it would not be there.
    const least = end / width;
    const height = 46;
    const plot = Plot.plot({
      ...common,
      width,
      height: 40 + height * lanes.length,
      marginLeft: 1,
      marginRight: 12,
      marginTop: 4,
      marginBottom: 36,
      x: { domain: [0, end || 1], label: "milliseconds", labelAnchor: "center", labelArrow: "none", ticks: width > NARROW ? 8 : 4 },
      y: { type: "linear", domain: [0, lanes.length], axis: null, range: [4, 4 + height * lanes.length] },
      marks: [
        Plot.text(lanes, { frameAnchor: "left", y: (_, index) => index + 0.2, text: (lane) => lane, textAnchor: "start", fill: "var(--muted-ink)", lineWidth: width / 12, textOverflow: "ellipsis" }),
        Plot.rect(data.spans, {
          x1: "start", x2: (span) => Math.max(span.end, span.start + least), y1: (span) => lanes.indexOf(span.lane) + 0.4, y2: (span) => lanes.indexOf(span.lane) + 0.94,
          fill: (span) => colour(span.name), insetLeft: 0.5, className: "span",
        }),
        tipOf(data.spans, { x: (span) => (span.start + span.end) / 2, y: (span) => lanes.indexOf(span.lane) + 0.4, title: "text", fill: "var(--raised)", stroke: "var(--line)" }),
      ],
    });
    const entries = own.map((name) => ({ mark: "■", colour: colour(name), text: name }));
    if (own.length < ordered.length) entries.push({ mark: "■", colour: "var(--muted)", text: "others" });
    return [plot, key(entries)];
  }

  return { bars, lines, pareto, timeline, element };
})();
