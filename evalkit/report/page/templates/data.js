// What there is to show, and which of it is wanted. Nothing here touches what is on the screen.

const PAGE_SIZE = 50;
const ANY = -1;
const sets = JSON.parse(document.getElementById("data").textContent).sets;
const imageChunks = new Map();
const searchTexts = new Map();

// A thumbnail's data URI. They are read in chunks, when the first of a chunk is looked at.
function thumbnail(place, chunkSize) {
  const chunk = Math.floor(place / chunkSize);
  if (!imageChunks.has(chunk)) {
    imageChunks.set(chunk, JSON.parse(document.getElementById(`images-${chunk}`).textContent));
  }
  return imageChunks.get(chunk)[place % chunkSize];
}

// Every text of a sample in lower case, for searching; made when the first search of a set begins.
function textsOf(set) {
  if (!searchTexts.has(set)) {
    searchTexts.set(set, set.ids.map((id, place) => [
      id,
      set.asked[place],
      ...set.references[place].map(([text]) => text),
      ...set.groups.map((group) => group.values[group.of[place]] ?? ""),
      ...set.names[place],
      ...set.runs.flatMap((run) => [run.answers[place], run.asked[place], run.failures[place] ?? ""]),
    ].join("\n").toLowerCase()));
  }
  return searchTexts.get(set);
}

// The runs that a choice is about: one, or all of them.
function chosenRuns(set, run) {
  return run === ANY ? set.runs : [set.runs[run]];
}

// Whether any sample of a set is right or wrong; captions are neither.
const isJudged = (set) => set.runs.some((run) => run.right.some((right) => right !== null));
const hasFailures = (set) => set.runs.some((run) => run.failures.some((failure) => failure !== null));
const hasScores = (set) => set.runs.some((run) => run.scores.some((score) => score !== null));

// Whether one run's answer is as wanted, where `base` is the run that it is compared with. Offered where a set has such.
const STATES = {
  all: { label: "all", holds: () => true },
  right: { label: "right", offered: isJudged, holds: (run, base, place) => run.right[place] === true },
  wrong: { label: "wrong", offered: isJudged, holds: (run, base, place) => run.right[place] === false },
  failed: { label: "failed", offered: hasFailures, holds: (run, base, place) => run.failures[place] !== null },
  flipped: {
    label: "flipped: right in one, wrong in the other",
    several: true,
    offered: isJudged,
    holds: (run, base, place) => isFlip(run.right[place], base.right[place]),
  },
  gained: {
    label: "gained: wrong before, right now",
    several: true,
    offered: isJudged,
    holds: (run, base, place) => run.right[place] === true && base.right[place] === false,
  },
  lost: {
    label: "lost: right before, wrong now",
    several: true,
    offered: isJudged,
    holds: (run, base, place) => run.right[place] === false && base.right[place] === true,
  },
  other: {
    label: "another answer",
    several: true,
    holds: (run, base, place) => run.answers[place] !== base.answers[place],
  },
};

function isFlip(one, other) {
  return one !== null && other !== null && one !== other;
}

// The mean score of the chosen runs; null where none has one.
function scoreOf(runs, place) {
  const known = runs.map((run) => run.scores[place]).filter((score) => score !== null);
  return known.length ? known.reduce((sum, score) => sum + score, 0) / known.length : null;
}

// How far the chosen runs' scores are from the score of `base`, at most; null where nothing can be compared.
function changeOf(runs, base, place) {
  const before = base.scores[place];
  const changes = runs
    .filter((run) => run !== base && run.scores[place] !== null && before !== null)
    .map((run) => Math.abs(run.scores[place] - before));
  return changes.length ? Math.max(...changes) : null;
}

const SORTS = {
  data: { label: "order of the data" },
  id: { label: "id" },
  worst: { label: "worst score first", offered: hasScores },
  best: { label: "best score first", offered: hasScores },
  change: { label: "largest change first", several: true, offered: hasScores },
};

// Smallest first; what has no value comes last.
function byValue(places, valueOf) {
  const values = new Map(places.map((place) => [place, valueOf(place)]));
  return places.sort((one, other) => {
    const [left, right] = [values.get(one), values.get(other)];
    if (left === null || right === null) {
      return (left === null) - (right === null) || one - other;
    }
    return left - right || one - other;
  });
}

function sorted(places, set, choice) {
  const runs = chosenRuns(set, choice.run);
  const sign = set.higher ? 1 : -1;
  const value = {
    worst: (place) => scaled(scoreOf(runs, place), sign),
    best: (place) => scaled(scoreOf(runs, place), -sign),
    change: (place) => scaled(changeOf(runs, set.runs[choice.base], place), -1),
  }[choice.sort];
  if (choice.sort === "id") {
    const order = new Intl.Collator("en", { numeric: true });
    return places.sort((one, other) => order.compare(set.ids[one], set.ids[other]) || one - other);
  }
  return value ? byValue(places, value) : places;
}

function scaled(value, sign) {
  return value === null ? null : sign * value;
}

// The places of the samples that are wanted, in the order that is wanted.
function wanted(set, choice) {
  const words = choice.text.toLowerCase().split(/\s+/).filter(Boolean);
  const texts = words.length ? textsOf(set) : [];
  const runs = chosenRuns(set, choice.run);
  const base = set.runs[choice.base];
  const group = choice.group;
  const places = set.ids.map((_, place) => place).filter((place) =>
    (group === null || set.groups[group.kind].of[place] === group.value)
    && (choice.state === "all" || runs.some((run) => STATES[choice.state].holds(run, base, place)))
    && words.every((word) => texts[place].includes(word)));
  return sorted(places, set, choice);
}
