// What every script here stands on. All text goes through textContent, so a clip's name cannot become markup.

const byId = (id) => document.getElementById(id);
const data = JSON.parse(byId("data").textContent);

/** A new element with attributes' values and children (elements or text). */
function element(tag, properties = {}, ...children) {
  const made = Object.assign(document.createElement(tag), properties);
  made.append(...children);
  return made;
}
