// Builds the page of a sweep from the embedded data.

const data = JSON.parse(document.getElementById("data").textContent);
const settings = data.settings;
const kColours = 8;
const kLongestLine = 24;  // letters of a setting's name that stay on one line of a narrow table
settings.forEach((setting, i) => {
  setting.colour = `var(--run-${i % kColours})`;
  setting.dash = [null, "6 3", "2 3", "8 3 2 3"][Math.floor(i / kColours) % 4];
});
shortNames(settings.map((setting) => setting.name)).forEach((label, i) => (settings[i].label = label));
const measured = settings.filter((setting) => setting.finished > 0);
const visible = () => measured.filter((setting) => !view.hidden.has(setting));

// One domain alone is the same as the whole.
const allDomains = [...new Set(measured.flatMap((setting) => Object.keys(setting.domains)))].sort();
const domains = allDomains.length > 1 ? allDomains : [];

// ---- positions on the x axis ----

const position = (setting, step) => (view.axis === "tokens" ? step * setting.tokens_per_step : step);

function measureX() {
  const ends = visible().flatMap((setting) => Object.values(setting.curves).map((curve) => position(setting, curve.step[curve.step.length - 1])));
  view.xMax = Math.max(1, ...ends.filter(isNumber));
}

function refresh() {
  measureX();
  redrawAll();
}

// ---- head ----

function buildHead() {
  const count = (status) => data.runs.filter((run) => run.status === status).length;
  const left = data.runs.length - count("finished") - count("failed");
  const lead = `${count("finished")} of ${data.runs.length} runs finished` + (count("failed") ? `, ${count("failed")} failed` : "") +
    (left ? `, ${left} to be run` : "") + ` \u00b7 ${settings.length} settings, ${data.seeds.length === 1 ? "1 seed" : `${data.seeds.length} seeds`}` +
    ` \u00b7 ${formatCount(Math.max(...data.runs.map((run) => run.tokens)))} tokens a run`;
  showHead("Switchyard ablation report", data.title, lead);
}

function buildControls() {
  curveControls("Settings shown", measured, new Set(measured.map((setting) => setting.tokens_per_step)).size > 1);
}

// ---- numbers ----

const shown = data.measures.filter((measure) => measured.some((setting) => setting.measures[measure.name]));
const none = { mean: null, deviation: null };
const spreadOf = (setting, name) => setting.measures[name] || none;
const fixed = (decimals) => (value) => (isNumber(value) ? withMinus(grouped(value, decimals)) : "\u2013");

function differenceCell(setting) {
  if (setting.baseline) return element("td", {}, "baseline");
  const comparison = data.comparisons.find((one) => one.setting === setting.name);
  if (!comparison) return element("td", {}, "\u2013");
  const sign = comparison.difference > 0 ? "+" : "";
  const p = comparison.p_corrected < 1e-4 ? "p < 0.0001" : `p = ${Number(comparison.p_corrected.toPrecision(2))}`;
  return element("td", { class: comparison.significant ? "best" : null, title: `${comparison.test}, Holm's correction` },
    `${sign}${fixed(4)(comparison.difference)}`, element("small", {}, p));
}

function resultsTable() {
  const head = element("tr", {}, ...["Setting", "Seeds"].map((text) => element("th", { scope: "col" }, text)),
    ...["Against the baseline", ...shown.map((measure) => measure.title[0].toUpperCase() + measure.title.slice(1)),
      ...domains.map((name) => `Loss: ${name}`)].map((text) => element("th", { scope: "col", class: "name" }, text)));
  const body = element("tbody");
  for (const setting of settings) {
    const seeds = `${setting.finished}` + (setting.failed ? `, ${setting.failed} failed` : "");
    const cells = shown.map((measure) => {
      const best = measure.name === "val_loss" && setting.name === data.best;
      return element("td", { class: best ? "best" : null }, spreadText(spreadOf(setting, measure.name), fixed(measure.decimals)));
    });
    body.append(element("tr", {}, element("th", { scope: "row", class: setting.name.length <= kLongestLine ? "line" : null },
      swatch(setting.colour, setting.dash), setting.name),
      element("td", {}, seeds), differenceCell(setting), ...cells,
      ...domains.map((name) => element("td", {}, spreadText(setting.domains[name] || none, fixed(4))))));
  }
  return element("div", { class: "scroll", tabindex: 0, role: "region", "aria-label": "Results by setting" },
    element("table", {}, element("thead", {}, head), body));
}

// ---- charts ----

function buildTradeOff() {
  if (measured.length === 0) return;
  const balances = data.balance_measures.filter((name) => shown.some((measure) => measure.name === name));
  const titleOf = (name) => data.measures.find((measure) => measure.name === name).title;
  let balance = balances[0];
  let chosen = "val_loss";
  const charts = [];
  const fields = [];
  if (balances.length > 0) {
    const pointOf = (setting) => ({ name: setting.name, label: setting.label, colour: setting.colour, ring: setting.baseline,
      x: spreadOf(setting, balance), y: spreadOf(setting, "val_loss") });
    const scatter = new ScatterChart({ title: "Quality against balance", unit: "validation loss", height: 300, xUnit: () => titleOf(balance),
      points: () => visible().map(pointOf),
      front: () => (data.front[balance] || []).map((name) => measured.find((setting) => setting.name === name)).filter((setting) => setting && !view.hidden.has(setting)).map(pointOf) });
    charts.push(scatter);
    if (balances.length > 1) fields.push(chooser("Balance as", balances.map((name) => [name, titleOf(name)]), (name) => {
      balance = name;
      scatter.draw();
    }));
  }
  const rows = new RowChart({ title: "Setting by setting", unit: () => titleOf(chosen),
    rows: () => visible().map((setting) => ({ name: setting.name, label: setting.label, colour: setting.colour,
      spread: spreadOf(setting, chosen), values: data.runs.filter((run) => run.setting === setting.name && isNumber(run.measures[chosen]))
        .map((run) => [run.seed, run.measures[chosen]]) })) });
  charts.push(rows);
  fields.push(chooser("Settings by", shown.map((measure) => [measure.name, measure.title]), (name) => {
    chosen = name;
    rows.draw();
  }));
  section("trade-off", "Quality against balance", "Left and down is better. The dashed line joins the Pareto front: the settings that no other beats in both. " +
    "A ring marks the baseline; bars are one standard deviation over seeds.", charts, [element("div", { class: "head" }, ...fields)]);
}

function curveChart(spec, name) {
  if (!measured.some((setting) => setting.curves[name])) return [];
  const lines = () => visible().filter((setting) => setting.curves[name]).map((setting) => {
    const curve = setting.curves[name];
    return { name: setting.name, colour: setting.colour, dash: setting.dash, x: curve.step.map((step) => position(setting, step)),
      y: curve.mean, low: curve.low, high: curve.high };
  });
  return [new LineChart({ lines, ...spec })];
}

function buildCurves() {
  const loss = { unit: "nats per token", log: true };
  section("learning", "Learning", "Means over seeds; the pale band spans the least to the largest seed. Zoom fits the axis to the last three quarters.", [
    ...curveChart({ ...loss, title: "Validation loss", wide: true, height: 260 }, "val_loss"),
    ...curveChart({ ...loss, title: "Training loss", noisy: true }, "lm_loss"),
    ...domains.flatMap((name) => curveChart({ ...loss, title: `Validation loss: ${name}` }, `domain:${name}`)),
  ]);
  section("balance", "Balance over training", "Means over the layers with experts and over seeds.", [
    ...curveChart({ title: "Max-violation", unit: "largest load / uniform \u2212 1", noisy: true, log: true, range: [0] }, "max_violation"),
    ...curveChart({ title: "Load CV", unit: "deviation / mean of the load", noisy: true, log: true, range: [0] }, "load_cv"),
    ...curveChart({ title: "Load entropy", unit: "1 = uniform", noisy: true, range: [1] }, "entropy"),
    ...curveChart({ title: "Balance loss", unit: "1 = balanced", noisy: true, range: [1] }, "aux_loss"),
    ...curveChart({ title: "Dead experts", unit: "all layers", noisy: true, range: [0] }, "dead_experts"),
    ...curveChart({ title: "Dropped assignments", unit: "share", noisy: true, range: [0] }, "dropped_fraction"),
  ]);
}

function buildRuns() {
  const failed = data.runs.filter((run) => run.error);
  if (failed.length > 0) {
    main.append(element("h2", { id: "failed" }, "Failed runs"),
      ...failed.map((run) => element("details", { open: true }, element("summary", {}, `${run.setting}, seed ${run.seed}`), element("pre", { tabindex: 0 }, run.error))));
  }
  const rows = data.runs.map((run) => element("tr", {}, element("th", { scope: "row" }, run.name), element("td", {}, run.status),
    element("td", {}, fixed(4)(run.measures.val_loss)), element("td", {}, formatCount(run.seconds))));
  const head = element("tr", {}, ...["Run", "Status", "Validation loss", "Seconds"].map((text) => element("th", { scope: "col" }, text)));
  main.append(element("h2", { id: "runs" }, "Runs"), element("p", { class: "note" }, "Each is an ordinary run folder under runs/, which switchyard report draws."),
    element("details", {}, element("summary", {}, `All ${data.runs.length} runs`),
      element("div", { class: "scroll", tabindex: 0, role: "region", "aria-label": "All runs" }, element("table", {}, element("thead", {}, head), element("tbody", {}, ...rows)))),
    element("details", {}, element("summary", {}, "The sweep file"), element("pre", { tabindex: 0 }, data.sweep)));
}

const noscript = document.querySelector("noscript");
noscript.remove();
buildHead();
if (measured.length > 0) buildControls();
main.append(element("h2", { id: "results" }, "Results"), element("p", { class: "answer" }, data.conclusion), resultsTable());
measureX();
buildTradeOff();
buildCurves();
buildRuns();
finish();
