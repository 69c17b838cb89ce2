// The blind comparison: pairs in random order, answered by keyboard or finger, kept in this browser and
// saved as a file. Until the end nothing in the document tells which version is A.

const trial = byId("trial");
const status = byId("trial-status");
const player = new Audio();
let test = null; // the comparison under way: {systems: [x, y], trials: [{clip, A, B, chosen}]}
let current = 0; // its pair
let playNext = null; // the letter that follows when the player ends

const storageKey = (systems) => `gru-audio blind ${data.id} ${[...systems].sort().join(" ")}`;
const preferred = ({ A, B, chosen }) => ({ A, B })[chosen];
const answered = (someTest) => someTest.trials.filter(({ chosen }) => chosen !== null).length;

/** The chance that fair guessing is at least this uneven: the exact two-sided binomial test at 1/2. */
function binomialP(successes, n) {
  const fewer = Math.min(successes, n - successes);
  let term = 0.5 ** n; // n choose 0
  let tail = 0;
  for (let k = 0; k <= fewer; k++) {
    tail += term;
    term *= (n - k) / (k + 1);
  }
  return Math.min(1, 2 * tail);
}

function stored(systems) {
  try {
    return JSON.parse(localStorage.getItem(storageKey(systems)));
  } catch {
    return null; // storage is shut off, as in a private window
  }
}

function keep() {
  try {
    localStorage.setItem(storageKey(test.systems), JSON.stringify(test));
  } catch {
    byId("blind-note").textContent = "This browser keeps nothing: save the answers before you leave the page.";
  }
}

function shuffle(items) {
  for (let i = items.length - 1; i > 0; i--) {
    const j = Math.floor(Math.random() * (i + 1));
    [items[i], items[j]] = [items[j], items[i]];
  }
  return items;
}

function newTest(systems) {
  const both = data.clips.filter(({ audio }) => systems.every((system) => system in audio));
  const trials = shuffle(both).map(({ name }) => {
    const [A, B] = shuffle([...systems]);
    return { clip: name, A, B, chosen: null };
  });
  return { systems, trials };
}

function play(letter, then = null) {
  const { clip, [letter]: system } = test.trials[current];
  playNext = then;
  player.src = data.clips.find(({ name }) => name === clip).audio[system];
  player.play().catch((error) => {
    // A quick listener asks for the next before the last has begun.
    if (error.name !== "AbortError") status.textContent = `The browser does not play it: ${error.message}`;
  });
  status.textContent = `Playing ${letter}`;
  trial.querySelectorAll("[data-play]").forEach((button) => {
    button.classList.toggle("playing", button.dataset.play === letter);
  });
}

function silence() {
  playNext = null;
  player.pause();
  trial.querySelectorAll(".playing").forEach((button) => button.classList.remove("playing"));
}

function showPair() {
  silence();
  byId("trial-question").hidden = false;
  byId("trial-result").hidden = true;
  byId("trial-heading").textContent = `Pair ${current + 1} of ${test.trials.length}`;
  byId("trial-progress").max = test.trials.length;
  byId("trial-progress").value = current;
  byId("trial-back").disabled = current === 0;
  byId("trial-heading").focus();
  if (byId("blind-auto").checked) play("A", "B");
}

function showPairOrResult() {
  current = answered(test);
  if (current < test.trials.length) showPair();
  else showResult();
}

function choose(letter) {
  test.trials[current].chosen = letter;
  keep();
  showPairOrResult();
  status.textContent = `Kept: ${letter}. ${status.textContent}`;
}

function goBack() {
  if (current === 0) return;
  test.trials[current - 1].chosen = null;
  keep();
  showPairOrResult();
}

/** Counts and the p-value of a finished comparison. */
function resultOf({ systems, trials }) {
  const [first, second] = systems.map((system) => trials.filter((pair) => preferred(pair) === system).length);
  return {
    counts: { [systems[0]]: first, [systems[1]]: second },
    p_value: binomialP(first, first + second),
  };
}

function showResult() {
  silence();
  const { counts, p_value } = resultOf(test);
  const [first, second] = test.systems.map((system) => `${labelOf(system)} ${counts[system]}`);
  byId("trial-question").hidden = true;
  byId("trial-result").hidden = false;
  byId("trial-heading").textContent = "Result";
  const p = p_value < 0.001 ? "p\u00a0<\u00a00.001" : `p\u00a0=\u00a0${p_value.toFixed(3)}`;
  byId("trial-verdict").textContent =
    `Of ${test.trials.length} pairs you preferred: ${first}, ${second}. ` +
    `This is ${p_value < 0.05 ? "a clear preference" : "no clear preference"}: someone who only guesses ` +
    `comes out at least this uneven with a probability of ${p} (two-sided binomial test).`;
  const rows = test.trials.map((pair) => [
    element("th", {}, pair.clip),
    element("td", {}, labelOf(preferred(pair))),
    element("td", {}, labelOf(pair.chosen === "A" ? pair.B : pair.A)),
  ]);
  fillTable(byId("trial-answers"), ["Clip", "You chose", "Over"], rows);
  status.textContent = "";
  byId("trial-heading").focus();
}

function saveAnswers() {
  const answers = test.trials.map((pair) => ({ ...pair, chosen: preferred(pair) }));
  const saved = { page: data.id, voice: data.title, saved: new Date().toISOString(), ...resultOf(test), answers };
  const link = element("a", { download: `blind-${test.systems.join("-")}.json` });
  link.href = URL.createObjectURL(new Blob([JSON.stringify(saved, null, 2)], { type: "application/json" }));
  link.click();
  URL.revokeObjectURL(link.href);
  status.textContent = `Saved as ${link.download}`;
}

function onKey(event) {
  if (byId("trial-question").hidden || event.ctrlKey || event.metaKey || event.altKey || event.repeat) return;
  const onButton = event.target.closest?.("button");
  const actions = {
    a: () => choose("A"),
    1: () => choose("A"),
    b: () => choose("B"),
    2: () => choose("B"),
    arrowleft: () => play("A"),
    arrowright: () => play("B"),
    backspace: goBack,
  };
  if (!onButton) actions[" "] = () => play("A", "B"); // on a button, space presses the button
  const action = actions[event.key.toLowerCase()];
  if (!action) return;
  event.preventDefault();
  action();
}

const chosenSystems = () => [byId("blind-first").value, byId("blind-second").value];

/** Bring the form in step with its selects and with what is stored for them. */
function showChoice() {
  const systems = chosenSystems();
  const before = stored(systems);
  const n_pairs = newTest(systems).trials.length;
  const ready = systems[0] !== systems[1] && n_pairs > 0;
  byId("blind-start").disabled = !ready;
  byId("blind-anew").hidden = !(ready && before);
  byId("blind-start").textContent = !before ? "Start" : answered(before) < n_pairs ? "Go on" : "Show the result";
  byId("blind-note").textContent = !ready
    ? "Choose two different systems."
    : `${n_pairs} pairs${before ? `, ${answered(before)} answered` : ""}.`;
}

function begin(someTest) {
  document.querySelectorAll("audio").forEach((audio) => audio.pause());
  test = someTest;
  trial.showModal();
  showPairOrResult();
}

function showBlind() {
  const withAudio = data.systems.filter(({ key }) => data.clips.some(({ audio }) => key in audio));
  byId("blind").hidden = withAudio.length < 2;
  if (withAudio.length < 2) return;
  const choices = withAudio.map(({ key, label }) => [key, label]);
  fillSelect("blind-first", choices);
  fillSelect("blind-second", choices);
  byId("blind-first").value = data.sort_system;
  byId("blind-second").value = choices.map(([key]) => key).find((key) => key !== byId("blind-first").value);
  byId("blind-first").addEventListener("change", showChoice);
  byId("blind-second").addEventListener("change", showChoice);
  byId("blind-form").addEventListener("submit", (event) => {
    event.preventDefault();
    begin(stored(chosenSystems()) ?? newTest(chosenSystems()));
  });
  byId("blind-anew").addEventListener("click", () => {
    begin(newTest(chosenSystems()));
  });
  for (const button of trial.querySelectorAll("[data-play]")) {
    button.addEventListener("click", () => play(button.dataset.play));
  }
  for (const button of trial.querySelectorAll("[data-choose]")) {
    button.addEventListener("click", () => choose(button.dataset.choose));
  }
  for (const button of trial.querySelectorAll("[data-close]")) {
    button.addEventListener("click", () => trial.close());
  }
  byId("trial-both").addEventListener("click", () => play("A", "B"));
  byId("trial-back").addEventListener("click", goBack);
  byId("trial-save").addEventListener("click", saveAnswers);
  player.addEventListener("ended", () => (playNext ? play(playNext) : silence()));
  // All else is inert while the dialog is open, so the document's keys are the dialog's.
  document.addEventListener("keydown", (event) => trial.open && onKey(event));
  trial.addEventListener("close", () => {
    silence();
    showChoice();
  });
  showChoice();
}

showFigures();
showAbout();
showClips();
showBlind();
