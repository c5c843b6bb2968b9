// Builds the page of `switchyard specialisation` from the embedded data.

const data = JSON.parse(document.getElementById("data").textContent);
const checkpoints = data.checkpoints;
const kLabels = [["domain", "domain"], ["class", "kind of token"], ["position", "place in the sequence"]];
const kExpertColours = 8;
const shown = { checkpoint: checkpoints.length - 1, label: "domain", layer: 0, sample: 0, expert: -1 };
const current = () => checkpoints[shown.checkpoint];
const kNames = { domain: "Domain", domain_given_token: "Domain, where the token is known", class: "Kind of token", position: "Place", token: "Token itself" };

const colourOf = (expert) => `var(--run-${expert % kExpertColours})`;
// With 12 significant digits, tiny numbers of nats are all that is left of rounding.
const nats = (value) => (value < 5e-5 ? "0" : value.toFixed(4));

function choice(label, options, value, use) {
  const select = element("select", {}, ...options.map(([key, text]) => element("option", { value: key, selected: key === value }, text)));
  select.addEventListener("change", () => use(Number(select.value)));
  return element("label", { class: "field" }, label, select);
}

function addHeading(id, title, note) {
  main.append(element("h2", { id }, title), element("p", { class: "note" }, note));
}

// ---- the score ----

function scoreRows(checkpoint) {
  return checkpoint.layers.flatMap((layer) => Object.keys(kNames).filter((name) => layer.information[name]).map((name, i) => {
    const found = layer.information[name];
    return element("tr", {}, element("th", { scope: "row" }, i === 0 ? `Layer ${layer.layer}` : "", element("small", {}, kNames[name])),
      ...[nats(found.nats), formatShare(found.of_label), formatShare(found.of_expert), nats(found.chance), nats(found.highest_chance),
        found.p_value.toFixed(3)].map((text) => element("td", {}, text)));
  }));
}

function scoreTable(checkpoint) {
  const head = ["Layer, and what about a token", "nats", "of the label", "of the expert", "by chance", "at most", "p"];
  return element("div", { class: "scroll", tabindex: 0, role: "region", "aria-label": "Mutual information" },
    element("table", {}, element("thead", {}, element("tr", {}, ...head.map((text) => element("th", { scope: "col" }, text)))),
      element("tbody", {}, ...scoreRows(checkpoint))));
}

// The checkpoints of each run, one a step, by step; runs of one checkpoint are no curve.
function histories() {
  const runs = new Map();
  checkpoints.forEach((one) => runs.set(one.run, (runs.get(one.run) || new Map()).set(one.step, one)));
  return [...runs].map(([run, steps]) => [run, [...steps.values()].sort((a, b) => a.step - b.step)])
    .filter(([, history]) => history.length > 1);
}

function emergence() {
  const found = histories();
  if (found.length === 0) return;
  view.xMax = Math.max(1, ...found.flatMap(([, history]) => history.map((one) => one.step)));
  const names = shortNames(found.map(([run]) => run));
  const linesOf = (name) => () => found.flatMap(([, history], r) => history[0].layers.map((layer, i) => (
    { name: `layer ${layer.layer}` + (found.length > 1 ? `, ${names[r]}` : ""), colour: colourOf(i),
      dash: [null, "6 3", "2 3", "8 3 2 3"][(r + Math.floor(i / kExpertColours)) % 4], bucket: 1,
      x: history.map((one) => one.step), y: history.map((one) => one.layers[i].information[name].of_expert) })));
  const first = checkpoints[0].layers[0].information;
  const charts = Object.entries(kNames).filter(([name]) => first[name]).map(([name, title]) =>
    new LineChart({ title, unit: "share of the expert that it tells", lines: linesOf(name), range: [0], ownLegend: true }));
  section("emergence", "From checkpoint to checkpoint",
    "How much of what is unknown about a token's expert is known once one knows its domain, its kind, its place or the token.", charts);
}

// ---- heat maps ----

function buildMaps() {
  addHeading("maps", "Who goes where",
    "Each row is one kind of token; a cell's colour is the share of its assignments that the expert gets, relative to the uniform share. Rows that look alike: the experts do not tell them apart.");
  const scale = element("div");
  let most = 2;
  const layerOf = (i) => current().layers[i];
  const cards = current().layers.map((layer, i) => new TableMap({ title: `Layer ${layer.layer}`, most: () => most,
    rows: () => current()[shown.label + "_names"], values: () => layerOf(i).load[shown.label] }));
  const show = () => {
    const layers = current().layers;
    const all = layers.flatMap((layer) => layer.load[shown.label].flatMap((row) => row.map((share) => share * row.length)));
    most = Math.max(2, Math.ceil(2 * Math.max(...all)) / 2);
    scale.replaceChildren(colourScale(most));
    cards.forEach((card, i) => {
      const found = layerOf(i).information[shown.label];
      card.about.textContent = `${nats(found.nats)} nats, ${formatShare(found.of_label)} of the label; by chance ${nats(found.chance)}`;
      card.draw();
    });
  };
  const controls = element("div", { class: "head" }, segmented("Rows", kLabels, shown.label, (label) => {
    shown.label = label;
    show();
  }), scale);
  main.append(controls, element("div", { class: "grid" }, ...cards.map((card) => card.node)));
  return show;
}

// ---- tokens ----

// Blanks and line ends made visible.
const visible = (text) => text.replace(/\n/g, "\u23ce").replace(/\t/g, "\u21e5").replace(/\r/g, "\u240d").replace(/ /g, "\u2423") || "\u2205";

function tokenList(tokens) {
  return element("td", { class: "wrap left" }, ...tokens.flatMap((token) =>
    [element("code", { class: "token", title: `${formatCount(token.count)} times; ${formatShare(token.share)} of this token's assignments` }, visible(token.text)), " "]));
}

function layerChoice(use) {
  return current().layers.length < 2 ? null : choice("Layer", current().layers.map((layer, i) => [i, layer.layer]), shown.layer, use);
}

function buildTokens() {
  addHeading("tokens", "The tokens that each expert sees",
    "Typical: those that its share of, times how often they come, sets apart most from the other experts. Most: the most frequent. " +
    "\u2423 is a blank, \u23ce a line end, \u2205 a token without text (the end of a document).");
  const body = element("tbody");
  const show = () => body.replaceChildren(...current().layers[shown.layer].experts.map((expert, i) =>
    element("tr", {}, element("th", { scope: "row" }, `Expert ${i}`), tokenList(expert.typical), tokenList(expert.most))));
  const head = ["", "typical", "most"].map((text) => element("th", { scope: "col", class: "left" }, text));
  main.append(element("div", { class: "head" }, layerChoice((layer) => {
    shown.layer = layer;
    show();
  })), element("div", { class: "scroll", tabindex: 0, role: "region", "aria-label": "Tokens by expert" },
    element("table", {}, element("thead", {}, element("tr", {}, ...head)), body)));
  return show;
}

// ---- coloured text ----

function paintText(box) {
  const sample = current().samples[shown.sample];
  const routes = sample.experts[shown.textLayer];
  let before = null;
  const spans = sample.tokens.flatMap((text, i) => {
    const experts = routes[i];
    const first = experts.length > 0 ? experts[0] : null;
    const marked = shown.expert < 0 ? first : experts.includes(shown.expert) ? shown.expert : null;
    const span = element("span", { title: experts.length > 0 ? `experts ${experts.join(", ")}` : "no expert",
      style: marked === null ? null : `--expert: ${colourOf(marked)}`, class: marked === null ? null : "routed" },
      ...(marked !== null && marked !== before ? [element("sub", {}, String(marked))] : []), text.replace(/\n/g, "\u23ce\n"));
    before = marked;
    return [span];
  });
  box.replaceChildren(...spans);
}

function buildText() {
  addHeading("text", "Which expert took each token",
    "Colour and number say which expert a token went to first; the number stands where the expert changes. Choose one expert to see only its tokens, as any choice.");
  shown.textLayer = 0;
  const box = element("div", { class: "text", tabindex: 0, role: "region", "aria-label": "Text, coloured by expert" });
  const show = () => paintText(box);
  const set = (name) => (value) => {
    shown[name] = value;
    show();
  };
  const layers = current().layers;
  const experts = Array.from({ length: layers[0].experts.length }, (_, i) => [i, `expert ${i}`]);
  main.append(element("div", { class: "head" },
    current().samples.length < 2 ? null : choice("Text", current().samples.map((sample, i) => [i, sample.domain]), 0, set("sample")),
    layers.length < 2 ? null : choice("Layer", layers.map((layer, i) => [i, layer.layer]), 0, set("textLayer")),
    choice("Show", [[-1, "first choices"], ...experts], -1, set("expert"))), box);
  return show;
}

function build() {
  document.querySelector("noscript").remove();
  const names = checkpoints.map((one) => `${one.name}, step ${formatCount(one.step)}`);
  const last = current();
  showHead("Switchyard specialisation report", checkpoints.length > 1 ? `${checkpoints.length} checkpoints compared` : names[0],
    `${formatCount(last.tokens)} validation tokens in ${formatCount(last.sequences)} texts; ${last.num_experts} experts, ${last.top_k} a token`);
  const verdict = element("p", { class: "verdict" });
  const table = element("div");
  const shows = [() => {
    verdict.textContent = current().verdict;
    table.replaceChildren(scoreTable(current()));
  }];
  if (checkpoints.length > 1) {
    document.getElementById("controls").append(choice("Checkpoint", names.map((name, i) => [i, name]).reverse(), shown.checkpoint, (i) => {
      shown.checkpoint = i;
      shows.forEach((show) => show());
    }));
  } else {
    document.getElementById("controls").remove();
  }
  addHeading("results", "Do the experts specialise?",
    `Mutual information between the expert of an assignment and what is known about its token. By chance: mean, and the largest, over ${formatCount(last.shufflings)} ` +
    "shufflings of the labels (domains over whole texts, the rest over tokens).");
  main.append(verdict, table);
  emergence();
  shows.push(buildMaps(), buildTokens(), buildText());
  shows.forEach((show) => show());
  finish();
}
build();
