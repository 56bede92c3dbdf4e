// The tabs: arrow keys, Home, End, and the hash of the page's address.

/** Make the tabs work; return a function that selects one by the id of its panel. */
export function startTabs(list) {
  const tabs = [...list.querySelectorAll("[role=tab]:not([hidden])")];
  const named = (id) => tabs.find((tab) => tab.getAttribute("aria-controls") === id);

  function select(id) {
    const chosen = named(id) ?? tabs[0];
    for (const tab of tabs) {
      const panel = document.getElementById(tab.getAttribute("aria-controls"));
      tab.setAttribute("aria-selected", String(tab === chosen));
      tab.tabIndex = tab === chosen ? 0 : -1;
      panel.hidden = tab !== chosen;
      // Stages measure themselves, which a hidden one cannot do.
      if (tab === chosen) panel.dispatchEvent(new Event("shown"));
    }
    return chosen;
  }

  function go(id) {
    // Setting location.hash would scroll to the panel and take the focus from the tab.
    if (location.hash.slice(1) !== id) history.pushState(null, "", `#${id}`);
    select(id);
  }

  list.addEventListener("click", (event) => {
    const tab = event.target.closest("[role=tab]");
    if (tab) go(tab.getAttribute("aria-controls"));
  });
  list.addEventListener("keydown", (event) => {
    const at = tabs.indexOf(document.activeElement);
    const last = tabs.length - 1;
    const to = { ArrowRight: at === last ? 0 : at + 1, ArrowLeft: at ? at - 1 : last, Home: 0, End: last }[event.key];
    if (at < 0 || to === undefined) return;
    event.preventDefault();
    tabs[to].focus();
    go(tabs[to].getAttribute("aria-controls"));
  });
  // Both "back" and an address typed by hand.
  addEventListener("popstate", () => select(location.hash.slice(1)));
  select(location.hash.slice(1));
  return go;
}
