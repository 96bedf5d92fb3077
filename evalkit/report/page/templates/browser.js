// The sample browser. Texts of runs and data are set as text, and never as mark-up.

const byId = (id) => document.getElementById(id);
const controls = {
  set: byId("set"), text: byId("text"), run: byId("run"), state: byId("state"),
  base: byId("base"), group: byId("group"), sort: byId("sort"),
};
const list = byId("list");
let current = sets[0];
let shown = [];
let page = 0;

function element(name, properties = {}, ...children) {
  const made = Object.assign(document.createElement(name), properties);
  made.append(...children);
  return made;
}

// Text that came from elsewhere, in its own direction.
function foreign(text, name = "span") {
  const made = element(name, { className: "foreign", dir: "auto" });
  made.textContent = text;
  return made;
}

// A long text, folded.
function folded(text) {
  const [start, most] = [240, 600];
  if (text.length <= most) {
    return foreign(text);
  }
  return element("details", {}, element("summary", {}, foreign(`${text.slice(0, start)} …`)), foreign(text));
}

// ---------------------------------------------------------------------------------------------------------------------
// The controls
// ---------------------------------------------------------------------------------------------------------------------
function fill(select, options) {
  const before = select.value;
  select.replaceChildren(...options.map(([value, label]) => element("option", { value, textContent: label })));
  if (options.some(([value]) => value === before)) {
    select.value = before;
  }
}

function fillControls() {
  const several = current.runs.length > 1;
  const usable = (choices) => Object.entries(choices)
    .filter(([, { several: needsSeveral, offered }]) => (several || !needsSeveral) && (!offered || offered(current)))
    .map(([value, choice]) => [value, choice.label]);
  const runs = current.runs.map((run, place) => [String(place), run.name]);
  fill(controls.run, several ? [[String(ANY), "any run"], ...runs] : runs);
  fill(controls.base, runs);
  fill(controls.state, usable(STATES));
  fill(controls.sort, usable(SORTS));
  controls.base.parentElement.hidden = !several;
  controls.group.parentElement.hidden = current.groups.length === 0;
  controls.group.replaceChildren(
    element("option", { value: "", textContent: "all groups" }),
    ...current.groups.map((group, kind) => element("optgroup", { label: group.kind },
      ...group.values.map((value, place) => element("option", { value: `${kind}/${place}`, textContent: value })))),
  );
}

function choice() {
  const [kind, value] = controls.group.value.split("/").map(Number);
  return {
    text: controls.text.value,
    run: Number(controls.run.value),
    base: Number(controls.base.value),
    state: controls.state.value,
    sort: controls.sort.value,
    group: controls.group.value === "" ? null : { kind, value },
  };
}

// ---------------------------------------------------------------------------------------------------------------------
// Samples
// ---------------------------------------------------------------------------------------------------------------------
function pictures(place) {
  const names = current.names[place];
  const shownImages = current.images[place].map((image, number) => {
    const name = names[number];
    if (image < 0) {
      return element("span", {}, "not shown: ", foreign(name));
    }
    const alt = `image ${name} of sample ${current.ids[place]}`;
    return element("img", { src: thumbnail(image, current.chunk), alt, decoding: "async" });
  });
  const more = current.more[place] ? [`and ${current.more[place]} more images`] : [];
  return element("div", { className: "pictures" }, ...shownImages, ...more);
}

function score(value) {
  const decimals = current.unit === "score" ? 3 : 1;
  const unit = current.unit === "%" ? " %" : "";
  return element("span", { className: "score", textContent: `${value.toFixed(decimals)}${unit}` });
}

function badge(run, place) {
  const told = run.failures[place] !== null ? "failed"
    : run.right[place] === null ? "" : run.right[place] ? "right" : "wrong";
  return told ? [element("span", { className: `badge ${told}`, textContent: told })] : [];
}

function answer(run, place) {
  const parts = badge(run, place);
  if (run.scores[place] !== null) {
    parts.push(score(run.scores[place]));
  }
  parts.push(folded(run.failures[place] ?? run.answers[place]));
  if (run.ranks[place]) {
    parts.push(element("p", { className: "tags", textContent: `ranks ${run.ranks[place]}` }));
  }
  if (run.asked[place]) {
    parts.push(element("p", { className: "tags" }, "asked: ", foreign(run.asked[place])));
  }
  const route = run.route ? [element("br"), element("small", {}, foreign(run.route))] : [];
  return [element("dt", {}, foreign(run.name), ...route), element("dd", {}, ...parts)];
}

function references(place) {
  const items = current.references[place].map(([text, count]) =>
    element("li", {}, folded(text), count > 1 ? ` ×${count}` : ""));
  return items.length
    ? [element("dt", { textContent: "references" }), element("dd", {}, element("ul", { className: "references" }, ...items))]
    : [];
}

function asked(place) {
  const text = current.asked[place];
  return text ? [element("dt", { textContent: "asked" }), element("dd", {}, folded(text))] : [];
}

function tags(place) {
  return current.groups
    .filter((group) => group.of[place] >= 0)
    .map((group) => `${group.kind}: ${group.values[group.of[place]]}`)
    .join(" · ");
}

function sampleItem(place) {
  const id = current.ids[place];
  const facts = element("dl", {}, ...asked(place), ...references(place),
    ...current.runs.flatMap((run) => answer(run, place)));
  const item = element("li", { tabIndex: -1 }, pictures(place), element("div", { className: "sample" },
    element("h3", {}, foreign(id)), facts, element("p", { className: "tags", textContent: tags(place) })));
  item.setAttribute("aria-label", `sample ${id}`);
  return item;
}

// ---------------------------------------------------------------------------------------------------------------------
// Pages
// ---------------------------------------------------------------------------------------------------------------------
function pages() {
  return Math.max(1, Math.ceil(shown.length / PAGE_SIZE));
}

function drawPage() {
  const first = page * PAGE_SIZE;
  const here = shown.slice(first, first + PAGE_SIZE);
  list.replaceChildren(...here.map(sampleItem));
  list.start = first + 1;
  if (list.firstElementChild) {
    list.firstElementChild.tabIndex = 0;
  }
  const count = (value) => value.toLocaleString("en");
  const kept = current.ids.length;
  const range = here.length
    ? `Samples ${count(first + 1)} to ${count(first + here.length)} of ${count(shown.length)}` : "No sample is like that";
  const among = shown.length < kept ? `, among ${count(kept)} here` : "";
  const whole = kept < current.total ? ` (${count(current.total)} in the run)` : "";
  byId("status").textContent = `${range}${among}${whole}; page ${page + 1} of ${pages()}`;
  for (const suffix of ["", "-below"]) {
    byId(`previous${suffix}`).disabled = page === 0;
    byId(`next${suffix}`).disabled = page + 1 >= pages();
  }
}

function refresh() {
  shown = wanted(current, choice());
  page = 0;
  drawPage();
}

// Go to another page, and put the focus on its first sample. Returns whether there is such a page.
function turn(step) {
  const target = page + step;
  if (target < 0 || target >= pages()) {
    return false;
  }
  page = target;
  drawPage();
  focusSample(0);
  return true;
}

function chooseSet() {
  current = sets[Number(controls.set.value)];
  controls.group.value = "";
  fillControls();
  refresh();
}
