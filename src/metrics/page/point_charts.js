// Charts of points that do not lie over training.

// What both have in common: reading the points one by one. A chart gives this.points, and reveal(point) -> [x, y].
class PointChart extends Chart {
  showCross() {}

  show(index) {
    this.index = index;
    this.overlay.replaceChildren();
    const point = this.points[index];
    const [x, y] = this.reveal(point);
    const box = this.svg.getBoundingClientRect();
    const scale = box.width / this.width;
    tooltip.show(point.name, this.facts(point), box.left + x * scale, box.top + y * scale);
  }
  step(dx, dy) {
    if (this.points.length === 0) return;
    const by = dx || dy;
    const from = this.index ?? (by > 0 ? -1 : this.points.length);
    this.show(Math.min(this.points.length - 1, Math.max(0, from + by)));
  }
  leave() {
    this.index = null;
    if (this.overlay) this.overlay.replaceChildren();
  }

  // A little air around [low, high], and no range without extent.
  static aired(low, high, logarithmic) {
    if (!(low <= high)) return [0, 1];
    if (logarithmic) {
      const air = Math.max(1.08, (high / low) ** 0.06);
      return [low / air, high * air];
    }
    const air = (high - low) * 0.07 || Math.abs(high) * 0.05 || 1;
    return [low >= 0 ? Math.max(0, low - air) : low - air, high + air];
  }

  paintTicksBelow(svg, unit) {
    const wanted = Math.max(2, Math.floor((this.right - this.left) / 80));
    const { values, label } = (this.xLog ? logTicks : linearTicks)(...this.xRange, wanted);
    svg.append(svgElement("line", { class: "axis-line", x1: this.left, x2: this.right, y1: this.bottom, y2: this.bottom }));
    let free = -Infinity;  // where the last label ended
    for (const value of values) {
      const x = this.xOf(value);
      const half = textWidth(label(value)) / 2;
      svg.append(svgElement("line", { class: "axis-line", x1: x, x2: x, y1: this.bottom, y2: this.bottom + 4 }));
      const middle = Math.min(x, this.width - half);
      if (middle - half < free + 6) continue;
      free = middle + half;
      svg.append(svgElement("text", { x: middle, y: this.bottom + 16, "text-anchor": "middle" }, label(value)));
    }
    svg.append(svgElement("text", { x: this.right, y: this.bottom + 31, "text-anchor": "end" }, unit + (this.xLog ? " (log)" : "")));
  }

  xOf(value) {
    const [low, high] = this.xRange;
    const share = this.xLog ? Math.log(Math.max(value, 1e-300) / low) / Math.log(high / low) : (value - low) / (high - low);
    return this.left + share * (this.right - this.left);
  }

  whisker(svg, colour, x1, y1, x2, y2) {
    svg.append(svgElement("line", { class: "whisker", stroke: colour, x1, y1, x2, y2 }));
  }
}

const spreadText = (spread, format) =>
  format(spread.mean) + (isNumber(spread.deviation) ? ` \u00b1 ${format(spread.deviation)}` : "");

// spec: title, unit, height, xUnit(), points() -> [{name, label, colour, x, y: {mean, deviation}, ring}], front() -> those
// points that a line joins, in its order.
class ScatterChart extends PointChart {
  constructor(spec) {
    super(spec);
    this.addTool("Log", (on) => {
      this.logarithmic = on;
      this.draw();
    });
  }

  paint(svg, width) {
    this.points = this.spec.points().filter((point) => isNumber(point.x.mean) && isNumber(point.y.mean));
    const reach = (axis) => this.points.flatMap(({ [axis]: { mean, deviation } }) => [mean - (deviation || 0), mean + (deviation || 0)]);
    this.xLog = Boolean(this.logarithmic) && this.points.some((point) => point.x.mean > 0);
    const xs = this.xLog ? this.points.map((point) => point.x.mean).filter((x) => x > 0) : reach("x");
    this.xRange = PointChart.aired(Math.min(...xs), Math.max(...xs), this.xLog);
    const ys = reach("y");
    [this.low, this.high] = PointChart.aired(Math.min(...ys), Math.max(...ys));
    const ticks = linearTicks(this.low, this.high, 6);
    const labels = ticks.values.map(ticks.label);
    this.place(Math.ceil(Math.max(18, ...labels.map(textWidth))) + 10, width, 24, this.spec.height);
    svg.append(svgElement("text", { x: 0, y: 10 }, this.spec.unit));
    ticks.values.forEach((value, i) => {
      const y = this.yOf(value);
      svg.append(svgElement("line", { class: "grid-line", x1: this.left, x2: this.right, y1: y, y2: y }));
      svg.append(svgElement("text", { x: this.left - 7, y: y + 4, "text-anchor": "end" }, labels[i]));
    });
    this.paintTicksBelow(svg, this.spec.xUnit());
    const front = this.spec.front().filter((point) => this.points.some((one) => one.name === point.name) && (!this.xLog || point.x.mean > 0));
    const corners = front.map((point) => `${this.xOf(point.x.mean).toFixed(1)},${this.yOf(point.y.mean).toFixed(1)}`);
    svg.append(svgElement("path", { class: "front", d: corners.length > 1 ? `M${corners.join("L")}` : null }));
    for (const point of this.points) this.paintPoint(svg, point);
    this.paintNames(svg);
  }

  yOf(value) {
    return this.bottom - ((value - this.low) / (this.high - this.low)) * (this.bottom - this.top);
  }

  paintPoint(svg, point) {
    if (this.xLog && point.x.mean <= 0) return;
    const [x, y] = [this.xOf(point.x.mean), this.yOf(point.y.mean)];
    const inside = (value) => Math.max(this.left, Math.min(this.right, this.xOf(value)));
    const { deviation: dx } = point.x;
    const { deviation: dy } = point.y;
    if (isNumber(dx)) this.whisker(svg, point.colour, inside(point.x.mean - dx), y, inside(point.x.mean + dx), y);
    if (isNumber(dy)) this.whisker(svg, point.colour, x, this.yOf(point.y.mean - dy), x, this.yOf(point.y.mean + dy));
    if (point.ring) svg.append(svgElement("circle", { class: "ring", cx: x, cy: y, r: 8.5 }));
    svg.append(svgElement("circle", { class: "dot", cx: x, cy: y, r: 5, fill: point.colour }));
  }

  // Each name beside its point, in the first of eight places that is free, at best of the bars of deviation too; names
  // without a place are left to the legend.
  paintNames(svg) {
    const dots = this.points.map((point) => [this.xOf(point.x.mean), this.yOf(point.y.mean)]);
    const taken = dots.map(([x, y]) => [x - 6, y - 6, x + 6, y + 6]);
    const bars = [...svg.querySelectorAll(".whisker")].map((line) => ["x1", "y1", "x2", "y2"].map((name) => Number(line.getAttribute(name))))
      .map(([x1, y1, x2, y2]) => [Math.min(x1, x2), Math.min(y1, y2) - 1, Math.max(x1, x2), Math.max(y1, y2) + 1]);
    const meets = (box) => (other) => box[0] < other[2] && other[0] < box[2] && box[1] < other[3] && other[1] < box[3];
    this.points.forEach((point, i) => {
      const width = textWidth(point.label);
      const [x, y] = dots[i];
      const places = [[11, -7], [-11 - width, -7], [9, -21], [9, 8], [-9 - width, -21], [-9 - width, 8], [-width / 2, -24], [-width / 2, 11]]
        .map(([left, top]) => [x + left, y + top, x + left + width, y + top + 14])
        .filter((box) => box[0] >= this.left && box[2] <= this.right && box[1] >= this.top - 6 && box[3] <= this.bottom && !taken.some(meets(box)));
      const box = places.find((candidate) => !bars.some(meets(candidate))) || places[0];
      if (!box) return;
      taken.push(box);
      svg.append(svgElement("text", { class: "name", x: box[0], y: box[3] - 3, style: `fill: ${point.colour}` }, point.label));
    });
  }

  reveal(point) {
    const [x, y] = [this.xOf(point.x.mean), this.yOf(point.y.mean)];
    this.overlay.append(svgElement("circle", { class: "ring", cx: x, cy: y, r: 8.5 }));
    return [x, y];
  }
  facts(point) {
    return [[this.spec.unit, spreadText(point.y, formatValue)], [this.spec.xUnit(), spreadText(point.x, formatValue)]];
  }
  pointAt(x, y) {
    if (this.points.length === 0) return;
    const far = this.points.map((point) => (this.xOf(point.x.mean) - x) ** 2 + (this.yOf(point.y.mean) - y) ** 2);
    this.show(far.indexOf(Math.min(...far)));
  }

  label() {
    const parts = this.points.map((point) => `${point.name}: ${formatValue(point.y.mean)} at ${formatValue(point.x.mean)}`);
    return `${this.spec.title}: ${this.spec.unit} against ${this.spec.xUnit()}. ${parts.join(". ") || "No data"}. Arrow keys read values.`;
  }
  table() {
    const front = this.spec.front().map((point) => point.name);
    return {
      head: ["setting", this.spec.unit, this.spec.xUnit(), "on the Pareto front"],
      rows: this.points.map((point) => [point.name, spreadText(point.y, formatValue), spreadText(point.x, formatValue), front.includes(point.name) ? "yes" : ""]),
    };
  }
}

const kRowHeights = [26, 42];
const kRowsHeight = 300;  // of all rows together where they can be chosen so

// A row a setting: a dot a seed, their mean, and one standard deviation to both sides. spec: title, unit(), rows() ->
// [{name, label, colour, spread, values: [[seed, value]]}].
class RowChart extends PointChart {
  paint(svg, width) {
    this.points = this.spec.rows().filter((row) => isNumber(row.spread.mean));
    const reach = this.points.flatMap(({ spread: { mean, deviation }, values }) =>
      [mean - (deviation || 0), mean + (deviation || 0), ...values.map(([, value]) => value)]);
    this.xRange = PointChart.aired(Math.min(...reach), Math.max(...reach));
    const names = this.points.map((row) => this.shortened(row.label, width * 0.42));
    const count = Math.max(1, this.points.length);
    this.rowHeight = Math.min(kRowHeights[1], Math.max(kRowHeights[0], kRowsHeight / count));
    this.place(Math.ceil(Math.max(18, ...names.map(textWidth))) + 12, width, 8, count * this.rowHeight);
    this.points.forEach((row, i) => {
      const y = this.yOf(i);
      svg.append(svgElement("line", { class: "grid-line", x1: this.left, x2: this.right, y1: y, y2: y }));
      svg.append(svgElement("text", { x: this.left - 9, y: y + 4, "text-anchor": "end" }, names[i]));
      this.paintRow(svg, row, y);
    });
    this.paintTicksBelow(svg, this.spec.unit());
  }

  yOf(index) {
    return this.top + (index + 0.5) * this.rowHeight;
  }

  shortened(text, room) {
    if (textWidth(text) <= room) return text;
    let end = text.length;
    while (end > 1 && textWidth(text.slice(0, end) + "\u2026") > room) --end;
    return text.slice(0, end) + "\u2026";
  }

  paintRow(svg, row, y) {
    const { mean, deviation } = row.spread;
    if (isNumber(deviation)) {
      svg.append(svgElement("line", { class: "bar", stroke: row.colour, x1: this.xOf(mean - deviation), x2: this.xOf(mean + deviation), y1: y, y2: y }));
    }
    for (const [, value] of row.values) {
      svg.append(svgElement("circle", { class: "dot", cx: this.xOf(value), cy: y, r: 3.5, fill: row.colour }));
    }
    svg.append(svgElement("line", { class: "mean", stroke: row.colour, x1: this.xOf(mean), x2: this.xOf(mean), y1: y - 8, y2: y + 8 }));
  }

  reveal(row) {
    const y = this.yOf(this.points.indexOf(row));
    const size = { x: this.left, y: y - this.rowHeight / 2, width: this.right - this.left, height: this.rowHeight };
    this.overlay.append(svgElement("rect", { class: "row", ...size }));
    return [this.xOf(row.spread.mean), y];
  }
  facts(row) {
    return [[this.spec.unit(), spreadText(row.spread, formatValue)], ...row.values.map(([seed, value]) => [`seed ${seed}`, formatValue(value)])];
  }
  pointAt(x, y) {
    const index = Math.floor((y - this.top) / this.rowHeight);
    if (index >= 0 && index < this.points.length) this.show(index);
  }

  label() {
    const parts = this.points.map((row) => `${row.name}: ${spreadText(row.spread, formatValue)}`);
    return `${this.spec.title}: ${this.spec.unit()} by setting. ${parts.join(". ") || "No data"}. Arrow keys read values.`;
  }
  table() {
    const seeds = [...new Set(this.points.flatMap((row) => row.values.map(([seed]) => seed)))];
    return {
      head: ["setting", "mean \u00b1 deviation", ...seeds.map((seed) => `seed ${seed}`)],
      rows: this.points.map((row) => [row.name, spreadText(row.spread, formatValue),
        ...seeds.map((seed) => formatValue((row.values.find(([one]) => one === seed) || [])[1]))]),
    };
  }
}
