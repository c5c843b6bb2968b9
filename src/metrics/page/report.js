// Builds the page from the embedded data.

const data = JSON.parse(document.getElementById("data").textContent);
const runs = data.runs;
const kColours = 8;
runs.forEach((run, i) => {
  run.colour = `var(--run-${i % kColours})`;
  run.dash = [null, "6 3", "2 3", "8 3 2 3"][Math.floor(i / kColours) % 4];
});

shortNames(runs.map((run) => run.name)).forEach((label, i) => (runs[i].label = label));
const visibleRuns = () => runs.filter((run) => !view.hidden.has(run));
const several = runs.length > 1;
const hasRouting = runs.some((run) => run.layers.length > 0);

// ---- positions on the x axis ----

// Tokens seen by a step, from the training lines: between two of them on the straight line.
function tokensAt(run, step) {
  const steps = run.train.step;
  const column = run.train.columns.tokens;
  if (!column || steps.length === 0) return null;
  const tokens = column.high || column.mean;
  let i = nearestIndex(steps, step);
  if (steps[i] < step && i + 1 < steps.length) ++i;
  const [s0, t0] = i > 0 ? [steps[i - 1], tokens[i - 1]] : [0, 0];
  return steps[i] === s0 ? tokens[i] : t0 + ((tokens[i] - t0) * (step - s0)) / (steps[i] - s0);
}
const position = (run, step) => (view.axis === "tokens" ? tokensAt(run, step) : step);

function measureX() {
  const ends = visibleRuns().flatMap((run) => {
    const tables = [run.train, run.eval, ...run.layers];
    return tables.filter((table) => table.step.length > 0).map((table) => position(run, table.step[table.step.length - 1]));
  });
  view.xMax = Math.max(1, ...ends.filter(isNumber));
}

function refresh() {
  measureX();
  redrawAll();
}

// ---- curves ----

function lineOf(run, table, column, extra = {}) {
  const values = table && table.columns[column];
  if (!values) return [];
  return [{ name: several ? run.label : column, colour: run.colour, dash: run.dash, bucket: table.bucket,
    x: table.step.map((step) => position(run, step)), y: values.mean, low: values.low, high: values.high, ...extra }];
}
const runLines = (tableOf, column, name) => () =>
  visibleRuns().flatMap((run) => lineOf(run, tableOf(run), column, several ? {} : { name }));

// A chart, or nothing where no run has such numbers.
function chartOf(spec, tableOf, column) {
  if (!runs.some((run) => tableOf(run) && tableOf(run).columns[column])) return [];
  return [new LineChart({ lines: runLines(tableOf, column, spec.name || spec.title), ...spec })];
}
const trainChart = (column, spec) => chartOf(spec, (run) => run.train, column);

function domainNames() {
  return [...new Set(runs.flatMap((run) => Object.keys(run.domains)))].sort();
}

// One run: its domains in one chart. Several: a chart a domain, so that colour keeps meaning the run.
function domainCharts() {
  const names = domainNames();
  if (names.length === 0) return [];
  const shared = { unit: "nats per token", log: true };
  if (several) {
    return names.flatMap((name) =>
      chartOf({ ...shared, title: `Validation loss: ${name}` }, (run) => run.domains[name], "val_loss"));
  }
  const run = runs[0];
  const lines = () => names.flatMap((name, i) => lineOf(run, run.domains[name], "val_loss",
    { name, colour: `var(--run-${(i + 1) % kColours})`, dash: i + 1 >= kColours ? "6 3" : null }))
    .concat(lineOf(run, run.eval, "val_loss", { name: "all", strong: true }));
  return [new LineChart({ ...shared, title: "Validation loss by domain", lines, ownLegend: true })];
}

// ---- head ----

const kStatus = { running: "still running, or ended without a word", stopped: "stopped before its end", finished: "finished" };

function buildHead() {
  const run = runs[0];
  const lead = several
    ? `Up to ${formatCount(Math.max(...runs.map((one) => one.summary.step)))} steps`
    : `${formatCount(run.summary.step)} steps` + (isNumber(run.summary.tokens) ? `, ${formatCount(run.summary.tokens)} tokens` : "") +
      `; ${kStatus[run.status]}`;
  showHead("Switchyard training report", several ? `${runs.length} runs compared` : run.name, lead);
}

function buildControls() {
  curveControls("Runs shown", several ? runs : [], runs.every((run) => run.train.columns.tokens));
}

// ---- numbers ----

const kFactNames = {
  parameters: "Parameters", active_parameters: "Active parameters", total_parameters: "Parameters", num_layers: "Layers",
  num_experts: "Experts a layer", top_k: "Experts a token", hidden_size: "Hidden size", vocab_size: "Vocabulary",
  seq_length: "Sequence length", global_batch_size: "Sequences a step", tokens_per_step: "Tokens a step", flops_per_token: "FLOPs a token", max_steps: "Planned steps", time: "Started",
  evaluation_looks_ahead: "Validation loss looks ahead",
};

function factText(key, value) {
  if (value === undefined || value === null) return "\u2013";
  if (key === "time" && isNumber(value)) return new Date(value * 1000).toISOString().slice(0, 16).replace("T", " ") + " UTC";
  if (Number.isInteger(value)) return formatCount(value);
  if (isNumber(value)) return formatValue(value);
  return typeof value === "string" ? value : JSON.stringify(value);
}

// [label, note, text of a run, value to compare (smaller is better), class]
function numberRows() {
  const of = (label, note, key, format, sign = 0) =>
    [label, note, (run) => format(run.summary[key]), sign ? (run) => sign * run.summary[key] : null];
  const loss = (value) => (isNumber(value) ? value.toFixed(4) : "\u2013");
  const result = [of("Validation loss", "nats per token, last", "val_loss", loss, 1), of("Perplexity", "", "perplexity", formatValue, 1)];
  for (const name of domainNames()) {
    const value = (run) => run.summary.domains[name];
    result.push([`Validation loss: ${name}`, "", (run) => loss(value(run)), value]);
  }
  result.push(of("Training loss", "mean of the last tenth", "train_loss", loss));
  const routing = !hasRouting ? [] : [
    of("Balance loss", "1 is balanced", "aux_loss", formatValue),
    of("Max violation", "worst layer, mean of the last tenth, 0 is balanced", "max_violation", formatValue),
    of("Load entropy", "lowest layer, mean of the last tenth, 1 is uniform", "entropy", formatValue),
    of("Dead experts", "all layers, at the end", "dead_experts", formatCount),
    of("Routing alarms", "", "alarms", formatCount),
    of("Dropped assignments", "worst layer, mean of the last tenth", "dropped_fraction", formatShare),
  ];
  const speed = [of("Tokens a second", "median", "tokens_per_second", formatCount, -1), of("Tokens", "", "tokens", formatCount),
    of("Steps", "", "step", formatCount), ["Status", "", (run) => run.status, null],
    ["Resumed at step", "", (run) => run.resumed_at.map(formatCount).join(", ") || "never", null]];
  const keys = [...new Set([...Object.keys(kFactNames), ...runs.flatMap((run) => Object.keys(run.facts)).sort()])]
    .filter((key) => runs.some((run) => run.facts[key] !== undefined));
  const facts = keys.map((key) => [kFactNames[key] || (key[0] || "").toUpperCase() + key.slice(1).replace(/_/g, " "), "", (run) => factText(key, run.facts[key]), null]);
  return [["Result", result], ["Routing", routing], ["Run", speed], ["Start of the run", facts]];
}

function numbersTable(groups) {
  const head = element("tr", {}, element("th", { scope: "col" }, ""),
    ...runs.map((run) => element("th", { scope: "col", class: "name", title: run.name }, ...(several ? [swatch(run.colour, run.dash)] : []), run.label)));
  const body = element("tbody");
  for (const [group, rows] of groups) {
    if (rows.length === 0) continue;
    body.append(element("tr", { class: "group" }, element("th", { colspan: runs.length + 1, scope: "rowgroup" }, group)));
    for (const [label, note, text, order] of rows) {
      const values = order && several ? runs.map(order).filter(isNumber) : [];
      const best = values.length > 1 ? Math.min(...values) : null;
      const cells = runs.map((run) => {
        const content = text(run);
        const kind = best !== null && order(run) === best ? "best" : content.length > 28 ? "wrap" : null;
        return element("td", { class: kind }, content);
      });
      body.append(element("tr", {}, element("th", { scope: "row" }, label, note ? element("small", {}, note) : null), ...cells));
    }
  }
  return element("div", { class: "scroll", tabindex: 0, role: "region", "aria-label": groups.map(([group]) => group).join(", ") },
    element("table", {}, element("thead", {}, head), body));
}

// One run: a sheet a group, side by side. Several: one table with a column each.
function numbers() {
  const groups = numberRows().filter(([, rows]) => rows.length > 0);
  if (several) return numbersTable(groups);
  return element("div", { class: "sheets" }, ...groups.map((group) => numbersTable([group])));
}

function tiles() {
  const run = runs[0];
  const items = [["Validation loss", run.summary.val_loss, (value) => value.toFixed(3)],
    ["Perplexity", run.summary.perplexity, formatValue],
    ["Max violation, worst layer", run.summary.max_violation, formatValue],
    ["Load entropy, lowest layer", run.summary.entropy, (value) => value.toFixed(3)],
    ["Tokens a second, median", run.summary.tokens_per_second, formatCount]];
  return element("div", { class: "tiles" }, ...items.filter(([, value]) => isNumber(value)).map(([label, value, format]) =>
    element("div", { class: "tile" }, element("b", {}, format(value)), element("span", {}, label))));
}

// ---- sections ----

function buildLearning() {
  const loss = { unit: "nats per token", noisy: true, log: true };
  section("learning", "Learning", "Losses in nats per token, without the router's. The pale line is what was logged, the strong one is smoothed; a pale " +
    "band spans least to largest where several logged steps share a point. Zoom fits the axis to the last three quarters.", [
    ...trainChart(runs.every((run) => run.train.columns.lm_loss) ? "lm_loss" : "loss", { ...loss, title: "Training loss", wide: true, height: 250 }),
    ...(several || domainNames().length === 0
      ? chartOf({ ...loss, noisy: false, title: "Validation loss" }, (run) => run.eval, "val_loss") : []),
    ...domainCharts(),
    ...several ? [] : chartOf({ title: "Perplexity", unit: "exp(validation loss)", log: true }, (run) => run.eval, "perplexity"),
  ]);
  section("balance", "Router losses", "Both before their coefficients. The balance loss is 1 when every expert gets the same share; " +
    "the z-loss grows with the size of the router's logits.", [
    ...trainChart("aux_loss", { title: "Balance loss", unit: "times balanced", noisy: true, range: [1],
      guide: { value: 1, text: "dotted: balanced" } }),
    ...trainChart("z_loss", { title: "Router z-loss", unit: "squared nats", noisy: true, log: true }),
  ]);
  section("optimisation", "Optimisation and speed", "The gradient norm is taken before clipping.", [
    ...trainChart("lr", { title: "Learning rate", unit: "per update", log: true, range: [0] }),
    ...trainChart("grad_norm", { title: "Gradient norm", unit: "L2 norm", noisy: true, log: true }),
    ...trainChart("tokens_per_second", { title: "Speed", unit: "tokens per second", noisy: true, range: [0] }),
  ]);
}

function lastOf(layer, name) {
  const column = layer.columns[name];
  return column ? column.mean[column.mean.length - 1] : null;
}

function layerCard(run, layer) {
  const { max_violation: violation, dropped_fraction: dropped } = layer.settled;
  const about = `max violation ${formatValue(violation)}` + (dropped > 0 ? `, ${formatShare(dropped)} dropped` : "") +
    " (mean of the last tenth)" +
    (lastOf(layer, "dead_experts") > 0 ? `, ${formatCount(Math.round(lastOf(layer, "dead_experts")))} dead at the end` : "");
  const map = new HeatMap({ title: `Layer ${layer.layer}`, about, load: layer.load,
    x: () => layer.step.map((step) => position(run, step)) });
  const same = (one) => one.layers.find((candidate) => candidate.layer === layer.layer);
  const small = (title, unit, column, range) =>
    chartOf({ title, unit, height: 84, range }, same, column);
  const probe = (title, unit, column, range) => chartOf({ title, unit, height: 84, range }, (run) => (same(run) || {}).probe, column);
  const entropies = () => visibleRuns().flatMap((one) => [
    ...lineOf(one, same(one), "entropy", several ? {} : { name: "load" }),
    ...(several ? [] : lineOf(one, same(one), "token_entropy", { name: "per token", colour: "var(--run-1)" }))]);
  const charts = [...small("Max violation", "largest load / uniform \u2212 1", "max_violation", [0]),
    ...(layer.columns.entropy ? [new LineChart({ title: "Entropy", unit: "1 = uniform", height: 84, lines: entropies,
      range: [1], ownLegend: !several })] : []),
    ...probe("Drift", "tokens that changed experts", "drift", [0]),
    ...probe("Domain", "share that the expert tells", "domain_share", [0])];
  map.node.append(element("div", { class: "pair" }, ...charts.map((chart) => chart.node)));
  return map.node;
}

function buildRouting() {
  const routed = runs.filter((run) => run.layers.length > 0);
  if (routed.length === 0) return;
  const grid = element("div", { class: "grid" });
  const head = element("div", { class: "head" });
  const before = view.charts.length;
  const show = (run) => {
    view.charts.length = before;
    grid.replaceChildren(...run.layers.map((layer) => layerCard(run, layer)));
    view.charts.slice(before).forEach((chart) => chart.draw());
  };
  if (routed.length > 1) {
    const select = element("select", { id: "routed-run" }, ...routed.map((run, i) => element("option", { value: i, title: run.name }, run.label)));
    select.addEventListener("change", () => show(routed[Number(select.value)]));
    head.append(element("label", { class: "field" }, "Load pictures of", select));
  }
  head.append(colourScale(kMostLoad));
  main.append(element("h2", { id: "routing" }, "Routing, layer by layer"),
    element("p", { class: "note" }, "Each row of a picture is an expert; its colour is the share of the assignments that it got, before " +
      "any drop, relative to the uniform share." + (several ? " The small charts compare all runs: the entropy is that of the load, 1 when uniform."
        : " Entropies are divided by their largest value: that of the load is 1 when experts are used alike, that per token is 1 " +
          "when the router is undecided.")), head, grid);
  show(routed[0]);
}

function buildAlarms() {
  const lines = runs.flatMap((run) => run.alarms.map((alarm) => [run, alarm]));
  if (lines.length === 0) return;
  main.append(element("h2", { id: "alarms" }, "Routing alarms"),
    element("p", { class: "note" }, "When a layer\u2019s experts count as collapsed is set by metrics.alarm."));
  const body = element("tbody");
  for (const [run, alarm] of lines) {
    body.append(element("tr", {}, element("th", { scope: "row" }, ...(several ? [swatch(run.colour, run.dash), `${run.label}, `] : []),
      `step ${formatCount(alarm.step)}`), element("td", { class: "wrap left" }, `${alarm.message}; ${alarm.advice}`)));
  }
  main.append(element("div", { class: "scroll", tabindex: 0, role: "region", "aria-label": "Routing alarms" }, element("table", {}, body)));
}

function buildConfigs() {
  const shown = runs.filter((run) => run.config !== "");
  if (shown.length === 0) return;
  main.append(element("h2", { id: "config" }, "Configuration"));
  for (const run of shown) {
    main.append(element("details", {}, element("summary", {}, `config.yaml${several ? ` of ${run.name}` : ""}, resolved`),
      element("pre", { tabindex: 0 }, run.config)));
  }
}

document.querySelector("noscript").remove();
buildHead();
buildControls();
main.append(element("h2", { id: "results" }, "Results"), ...(several ? [] : [tiles()]), numbers());
measureX();
buildAlarms();
buildLearning();
buildRouting();
buildConfigs();
finish();
