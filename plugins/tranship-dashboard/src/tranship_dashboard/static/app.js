// A page takes what is new from itself: told by the server that there is something, it fetches its own address and
// replaces the parts that may change, except where somebody is at work.
(() => {
  "use strict";
  const news = document.body.dataset.news;
  let stream = null, busy = false, again = false;

  const occupied = (part) => {
    const at = document.activeElement;
    return (part.contains(at) && at.matches("input, select, textarea")) || part.querySelector("details.confirm[open]") !== null;
  };

  const replace = (part, fresh) => {
    if (part.innerHTML === fresh.innerHTML || occupied(part)) return;
    const open = [...part.querySelectorAll("details")].map((one) => one.open);
    const at = part.contains(document.activeElement) ? focusable(part).indexOf(document.activeElement) : -1;
    part.replaceChildren(...fresh.cloneNode(true).childNodes);
    part.querySelectorAll("details").forEach((one, number) => { if (open[number]) one.open = true; });
    if (at >= 0) focusable(part)[at]?.focus();
  };

  const focusable = (part) => [...part.querySelectorAll("a, button, summary, [tabindex]")];

  const refresh = async () => {
    if (busy) { again = true; return; }
    busy = true;
    try {
      const answer = await fetch(location.href, { redirect: "error", headers: { "X-Refresh": "1" } });
      if (!answer.headers.get("content-type")?.startsWith("text/html")) return;
      const page = new DOMParser().parseFromString(await answer.text(), "text/html");
      if (document.querySelector("[data-again]")) {
        if (answer.ok) location.reload();
        return;
      }
      if (!answer.ok) return;
      document.querySelectorAll("[data-live]").forEach((part) => {
        const fresh = page.getElementById(part.id);
        if (fresh) replace(part, fresh);
      });
    } catch { /* the server is away: the stream tells when it is back */ } finally {
      busy = false;
      if (again) { again = false; refresh(); }
    }
  };

  const listen = () => {
    if (!news || document.hidden || stream) return;
    let opened = false;
    stream = new EventSource(news);
    stream.addEventListener("look", refresh);
    stream.addEventListener("open", () => { if (opened) refresh(); opened = true; });
    stream.addEventListener("error", () => { if (stream?.readyState === EventSource.CLOSED) leave(); });
  };

  // The session is over: nothing here is new any more, and nobody else is to read it.
  const leave = async () => {
    const answer = await fetch(location.href, { redirect: "manual" }).catch(() => null);
    if (answer?.type === "opaqueredirect") location.reload();
  };

  document.addEventListener("visibilitychange", () => {
    if (document.hidden) { stream?.close(); stream = null; } else { listen(); refresh(); }
  });
  window.addEventListener("pagehide", () => { stream?.close(); stream = null; });
  window.addEventListener("pageshow", (event) => { if (event.persisted) listen(); });
  document.addEventListener("change", (event) => {
    if (event.target.matches("[data-all]"))
      event.target.form.querySelectorAll("input[name=ids]").forEach((one) => { one.checked = event.target.checked; });
  });
  document.querySelector("nav [aria-current]")?.scrollIntoView({ block: "nearest", inline: "center" });
  listen();
})();
