// Lists sessions and shows one as it grows. Whatever comes from a transcript becomes text, never markup.

const POLL_MS = 1000;
const LIST_MS = 5000;
const PAGE = 200;
const CUT_CHARS = 4000;
const KEY = "transcriptd.token";
const API = "/v1/session_ingress";

const $ = (id) => document.getElementById(id);
const numbers = new Intl.NumberFormat();
let token = "";
let sessions = new Map();
let nextCursor = null;
let shown = null;

class Refused extends Error {
  constructor(status) {
    super(`the server answers ${status}`);
    this.status = status;
  }
}

function make(tag, className, text) {
  const element = document.createElement(tag);
  if (className) element.className = className;
  if (text !== undefined) element.textContent = text;
  return element;
}

async function ask(path, signal) {
  const reply = await fetch(path, { headers: { Authorization: `Bearer ${token}` }, signal, cache: "no-store" });
  if (!reply.ok) throw new Refused(reply.status);
  return reply;
}

function say(text, kind) {
  const state = $("state");
  if (state.textContent !== text) state.textContent = text;
  state.className = `state ${kind ?? ""}`;
}

function sayBroken(error) {
  if (error.name === "AbortError") return;
  if (error.status === 401) {
    leave("This token is not accepted (any more).");
    return;
  }
  say(error.status ? `Server answers ${error.status}` : "Server not reachable", "broken");
}

// ---- token ----

function takeTokenFromAddress() {
  const given = new URLSearchParams(location.hash.slice(1));
  if (!given.has("token")) return;
  sessionStorage.setItem(KEY, given.get("token"));
  given.delete("token");
  const rest = given.toString();
  history.replaceState(null, "", location.pathname + (rest ? `#${rest}` : ""));
}

function leave(problem = "") {
  sessionStorage.removeItem(KEY);
  token = "";
  close();
  sessions.clear();
  $("sessions").replaceChildren();
  $("house").hidden = $("leave").hidden = true;
  $("door").hidden = false;
  $("door-problem").textContent = problem;
  say("");
  $("token").focus();
}

async function enter(given) {
  token = given;
  try {
    await loadSessions();
  } catch (error) {
    if (error.status === 401) leave("The server does not know this token.");
    else {
      $("door").hidden = false;
      $("door-problem").textContent = error.status ? `The server answers ${error.status}.` : "The server can't be reached.";
    }
    return;
  }
  sessionStorage.setItem(KEY, given);
  $("token").value = "";
  $("door").hidden = true;
  $("house").hidden = $("leave").hidden = false;
  openFromAddress();
}

// ---- the list ----

function sizeText(bytes) {
  const units = ["B", "kB", "MB", "GB", "TB"];
  let unit = 0;
  while (bytes >= 1000 && unit < units.length - 1) {
    bytes /= 1000;
    unit += 1;
  }
  return `${bytes < 10 && unit ? bytes.toFixed(1) : Math.round(bytes)} ${units[unit]}`;
}

function agoText(seconds) {
  const ago = Math.max(0, Date.now() / 1000 - seconds);
  if (ago < 60) return "just now";
  if (ago < 3600) return `${Math.floor(ago / 60)} min ago`;
  if (ago < 86400) return `${Math.floor(ago / 3600)} h ago`;
  return new Date(seconds * 1000).toLocaleDateString();
}

async function loadSessions(cursor) {
  const query = cursor ? `?limit=100&cursor=${encodeURIComponent(cursor)}` : "?limit=100";
  const page = await (await ask(`${API}/sessions${query}`)).json();
  for (const session of page.sessions) sessions.set(session.session_id, session);
  if (cursor || sessions.size <= page.sessions.length) nextCursor = page.next_cursor;
  renderSessions();
}

function renderSessions() {
  const wanted = $("filter").value.trim().toLowerCase();
  const rows = [...sessions.values()].sort((a, b) => b.changed_at_s - a.changed_at_s);
  const focused = document.activeElement?.dataset?.session;
  $("sessions").replaceChildren(
    ...rows.filter((row) => searchText(row).includes(wanted)).map(renderSession),
  );
  if (focused) document.querySelector(`[data-session="${CSS.escape(focused)}"]`)?.focus();
  $("more").hidden = !nextCursor;
  if (!rows.length) $("empty").textContent = "No sessions yet. They appear here as an agent sends them.";
}

function searchText(row) {
  return `${row.meta.project} ${row.meta.title} ${row.session_id} ${row.meta.provider}`.toLowerCase();
}

function renderSession(row) {
  const link = make("a");
  link.href = `#${new URLSearchParams({ session: row.session_id })}`;
  link.dataset.session = row.session_id;
  link.title = `${row.session_id}\n${row.meta.project}`;
  if (shown?.id === row.session_id) link.setAttribute("aria-current", "true");
  const project = make("div", "row");
  project.append(make("span", "", row.meta.project || row.session_id), make("span", "", agoText(row.changed_at_s)));
  const size = make("div", "row");
  const streams = row.streams > 1 ? `, ${row.streams} streams` : "";
  size.append(make("span", "", `${numbers.format(row.entries)} entries${streams}`), make("span", "", sizeText(row.size_bytes)));
  link.append(make("div", "name", row.meta.title || row.session_id), project, size);
  const item = make("li");
  item.append(link);
  return item;
}

// ---- one session ----

function close() {
  shown?.abort.abort();
  shown = null;
  $("opened").hidden = true;
  $("empty").hidden = false;
  $("back").hidden = true;
  $("follow").hidden = true;
  $("house").classList.remove("reading");
}

function openFromAddress() {
  const given = new URLSearchParams(location.hash.slice(1));
  const id = given.get("session");
  close();
  if (id === null) {
    say("");
    renderSessions();
    return;
  }
  // Without a generation in the address the current one is shown, and followed when another one becomes it.
  const subpath = given.get("stream") ?? "";
  shown = { id, subpath, older: given.get("generation"), from: 0, last: 0, total: 0, generation: null, abort: new AbortController() };
  $("empty").hidden = true;
  $("opened").hidden = $("back").hidden = false;
  $("house").classList.add("reading");
  $("entries").replaceChildren();
  $("streams").replaceChildren();
  $("generations").replaceChildren();
  $("files").hidden = true;
  $("files").open = false;
  $("earlier").hidden = true;
  renderHead();
  renderSessions();
  begin(shown);
}

function sessionPath(session, tail, query) {
  return `${API}/session/${encodeURIComponent(session.id)}${tail}?${new URLSearchParams(query)}`;
}

function renderHead() {
  const row = sessions.get(shown.id);
  $("title").textContent = row?.meta.title || row?.meta.project || shown.id;
  const facts = [row?.meta.provider, row?.meta.project, row?.meta.host, shown.id, `${numbers.format(shown.total)} entries`];
  $("facts").textContent = facts.filter(Boolean).join(" · ");
  document.title = `${$("title").textContent} · transcripts`;
}

async function loadStreams(session) {
  const { streams } = await (await ask(sessionPath(session, "/streams", {}), session.abort.signal)).json();
  if (session !== shown) return;
  const current = streams.filter((stream) => stream.current);
  if (current.length > 1 && current.some((stream) => stream.subpath === session.subpath)) {
    $("streams").replaceChildren(
      ...current.map((stream) => {
        const text = `${streamName(stream, current)} (${numbers.format(stream.head.entry_count)})`;
        return streamLink(session, stream.subpath, null, text, stream.subpath === session.subpath);
      }),
    );
  }
  renderGenerations(session, streams.filter((stream) => stream.subpath === session.subpath));
}

// What goes on in another file, because something was taken back, is the session's own conversation still.
function streamName({ subpath }, streams) {
  if (!subpath.startsWith("rollouts/")) return subpath || "main";
  const rollouts = streams.filter((one) => one.subpath.startsWith("rollouts/"));
  const number = rollouts.findIndex((one) => one.subpath === subpath) + 1;
  return rollouts.length > 1 ? `goes on ${number}` : "goes on";
}

function streamLink(session, subpath, generation, text, isShown) {
  const link = make("a", "", text);
  link.href = `#${new URLSearchParams({ session: session.id, ...(subpath && { stream: subpath }), ...(generation && { generation }) })}`;
  if (isShown) link.setAttribute("aria-current", "true");
  return link;
}

// A transcript that was rewritten, or that two machines went on with apart, has several histories.
function renderGenerations(session, generations) {
  if (generations.length < 2) return;
  const links = generations.map((one, index) => {
    const name = one.head.generation;
    const what = one.current ? "current" : `older ${index + 1}`;
    const shared = one.parent ? `, ${numbers.format(one.shared_entries)} shared` : "";
    const text = `${what} (${numbers.format(one.head.entry_count)} entries${shared})`;
    const isShown = session.older ? session.older === name : one.current;
    return streamLink(session, session.subpath, one.current ? null : name, text, isShown);
  });
  $("generations").replaceChildren(make("span", "label", "Histories"), ...links.reverse());
}

async function loadFiles(session) {
  let files;
  try {
    ({ files } = await (await ask(sessionPath(session, "/files", {}), session.abort.signal)).json());
  } catch (error) {
    if (error.status === 404) return; // this server keeps no files
    throw error;
  }
  if (session !== shown || !files.length) return;
  $("files").querySelector("summary").textContent = files.length === 1 ? "1 file" : `${numbers.format(files.length)} files`;
  $("files").querySelector("ul").replaceChildren(...files.map((file) => renderFile(session, file)));
  $("files").hidden = false;
}

function renderFile(session, file) {
  const path = `${API}/session/${encodeURIComponent(session.id)}/files/${file.path.split("/").map(encodeURIComponent).join("/")}`;
  const link = make("a", "", file.path);
  link.href = path;
  link.addEventListener("click", (event) => {
    event.preventDefault(); // the link alone would come without the token
    download(path, file.path.split("/").pop()).catch(sayBroken);
  });
  const item = make("li");
  item.append(link, " ", make("span", "", sizeText(file.size)));
  return item;
}

async function download(path, name) {
  const address = URL.createObjectURL(await (await ask(path)).blob());
  const link = make("a");
  link.href = address;
  link.download = name;
  link.click();
  setTimeout(() => URL.revokeObjectURL(address), 60000);
}

async function fetchEntries(session, after, limit) {
  const query = { subpath: session.subpath, after, limit, ...(session.older && { generation: session.older }) };
  const reply = await ask(sessionPath(session, "/entries", query), session.abort.signal);
  const text = await reply.text();
  const lines = text.split("\n");
  lines.pop();
  return {
    lines,
    total: Number(reply.headers.get("Entry-Count")),
    generation: reply.headers.get("Generation"),
  };
}

// A long session opens at its end; what is before comes by pages.
async function begin(session) {
  try {
    const query = { subpath: session.subpath, ...(session.older && { generation: session.older }) };
    const head = await (await ask(sessionPath(session, "/head", query), session.abort.signal)).json();
    session.from = session.last = Math.max(0, head.entry_count - PAGE);
    renderEarlier();
    await loadStreams(session);
    await loadFiles(session);
  } catch (error) {
    sayBroken(error);
  }
  poll(session);
}

async function poll(session) {
  while (session === shown) {
    if (!document.hidden) {
      try {
        while (session === shown && (await grow(session)));
        say("Live", "live");
      } catch (error) {
        if (session !== shown) return;
        if (error.status === 404) say("Nothing here yet");
        else sayBroken(error);
      }
    }
    await pause(POLL_MS, session.abort.signal);
  }
}

async function grow(session) {
  const found = await fetchEntries(session, session.last, PAGE);
  if (session !== shown) return false;
  if (session.generation !== null && found.generation !== session.generation) {
    openFromAddress(); // the stream began anew
    return false;
  }
  session.generation = found.generation;
  const atBottom = isAtBottom();
  const first = session.last === session.from;
  $("entries").append(...found.lines.map((line, index) => renderEntry(line, session.last + index + 1)));
  session.last += found.lines.length;
  if (session.total !== found.total) {
    session.total = found.total;
    renderHead();
  }
  if (found.lines.length && (atBottom || first)) scrollToEnd();
  else if (found.lines.length) $("follow").hidden = false;
  return found.lines.length === PAGE;
}

async function loadEarlier() {
  const session = shown;
  const after = Math.max(0, session.from - PAGE);
  $("earlier").disabled = true;
  try {
    const found = await fetchEntries(session, after, session.from - after);
    if (session !== shown) return;
    const box = scroller();
    const below = box.scrollHeight - box.scrollTop;
    $("entries").prepend(...found.lines.map((line, index) => renderEntry(line, after + index + 1)));
    session.from = after;
    renderEarlier();
    box.scrollTop = box.scrollHeight - below;
  } catch (error) {
    sayBroken(error);
  } finally {
    $("earlier").disabled = false;
  }
}

function renderEarlier() {
  $("earlier").hidden = shown.from === 0;
  $("earlier").textContent = `↑ Earlier entries (${numbers.format(shown.from)})`;
}

const scroller = () => document.querySelector(".session");
const isAtBottom = () => scroller().scrollHeight - scroller().scrollTop - scroller().clientHeight < 60;

function scrollToEnd() {
  scroller().scrollTop = scroller().scrollHeight;
  $("follow").hidden = true;
}

function pause(milliseconds, signal) {
  return new Promise((resolve) => {
    const timer = setTimeout(resolve, milliseconds);
    signal?.addEventListener("abort", () => (clearTimeout(timer), resolve()), { once: true });
  });
}

// ---- entries ----

function renderEntry(line, ordinal) {
  let entry = null;
  try {
    entry = JSON.parse(line);
  } catch {
    // a torn line is an entry too
  }
  const item = make("li", "entry");
  item.dataset.ordinal = ordinal;
  try {
    if (!renderMessage(item, entry)) renderOther(item, entry, line);
  } catch {
    item.replaceChildren(); // a shape that nobody foresaw
    renderOther(item, null, line);
  }
  return item;
}

function renderMessage(item, entry) {
  if (entry?.type === "system" && entry.subtype === "compact_boundary") {
    item.append(make("div", "compaction", "The conversation was compacted here"));
    return true;
  }
  const message = entry?.message;
  if (!["user", "assistant"].includes(entry?.type) || typeof message !== "object" || message === null) return false;
  const blocks = typeof message.content === "string" ? [{ type: "text", text: message.content }] : message.content;
  if (!Array.isArray(blocks)) return false;
  const onlyResults = blocks.length > 0 && blocks.every((block) => block?.type === "tool_result");
  const person = entry.type === "user" && !onlyResults;
  if (person) item.classList.add("person");
  const names = { true: "Tool", false: person ? "User" : "Assistant" };
  const who = make("div", "who");
  who.append(make("b", "", entry.isCompactSummary ? "Summary" : names[onlyResults]));
  if (entry.isSidechain) who.append(make("span", "", "subagent"));
  if (entry.timestamp) who.append(make("time", "at", timeText(entry.timestamp)));
  item.append(who, ...blocks.map(renderBlock));
  return true;
}

function timeText(value) {
  const at = new Date(value);
  return Number.isNaN(at.getTime()) ? String(value) : at.toLocaleString();
}

function renderBlock(block) {
  switch (block?.type) {
    case "text":
      return renderText(make("div", "said"), String(block.text ?? ""));
    case "thinking":
      return renderFold([make("b", "", "Thinking")], String(block.thinking ?? ""));
    case "tool_use":
      return renderFold([make("b", "", String(block.name ?? "tool")), ` ${toolHint(block.input)}`], pretty(block.input));
    case "tool_result":
      return renderResult(block);
    default:
      return renderFold([make("b", "", String(block?.type ?? "block"))], pretty(block));
  }
}

function renderResult(block) {
  const text = resultText(block.content);
  const label = make("b", block.is_error ? "bad" : "", block.is_error ? "Failed" : "Result");
  return renderFold([label, ` ${firstLine(text)}`], text);
}

function resultText(content) {
  if (typeof content === "string") return content;
  if (!Array.isArray(content)) return pretty(content);
  return content.map((part) => (part?.type === "text" ? String(part.text ?? "") : pretty(part))).join("\n");
}

function toolHint(input) {
  if (typeof input !== "object" || input === null) return "";
  const value = input.description ?? input.command ?? input.file_path ?? input.pattern ?? input.prompt ?? input.url;
  return typeof value === "string" ? firstLine(value) : "";
}

const firstLine = (text) => text.trimStart().split("\n", 1)[0].slice(0, 160);
const pretty = (value) => JSON.stringify(value, null, 2) ?? "";

// The content of a fold is made when it is opened first: most never are.
function renderFold(summary, text) {
  const fold = make("details");
  const line = make("summary");
  line.append(...summary);
  fold.append(line);
  fold.addEventListener("toggle", () => fold.append(renderText(make("pre"), text)), { once: true });
  return fold;
}

function renderText(element, text) {
  if (text.length <= CUT_CHARS) {
    element.textContent = text;
    return element;
  }
  element.textContent = text.slice(0, CUT_CHARS) + "… ";
  const all = make("button", "quiet cut", `show all ${numbers.format(text.length)} characters`);
  all.type = "button";
  all.addEventListener("click", () => (element.textContent = text));
  element.append(all);
  return element;
}

function renderOther(item, entry, line) {
  item.classList.add("other");
  const type = typeof entry?.type === "string" ? entry.type : "not JSON";
  const detail = typeof entry?.subtype === "string" ? ` ${entry.subtype}` : "";
  item.append(renderFold([make("b", "", type + detail), ` ${line.slice(0, 160)}`], line));
}

// ---- beginning ----

$("door").addEventListener("submit", (event) => {
  event.preventDefault();
  enter($("token").value.trim());
});
$("leave").addEventListener("click", () => leave());
$("back").addEventListener("click", () => (location.hash = ""));
$("more").addEventListener("click", () => loadSessions(nextCursor).catch(sayBroken));
$("filter").addEventListener("input", renderSessions);
$("earlier").addEventListener("click", loadEarlier);
$("follow").addEventListener("click", scrollToEnd);
scroller().addEventListener("scroll", () => isAtBottom() && ($("follow").hidden = true), { passive: true });
addEventListener("hashchange", () => {
  const before = token;
  takeTokenFromAddress();
  const now = sessionStorage.getItem(KEY);
  if (now && now !== before) enter(now);
  else if (token) openFromAddress();
});
setInterval(() => {
  if (token && !document.hidden && !$("house").hidden) loadSessions().catch(sayBroken);
}, LIST_MS);

takeTokenFromAddress();
const kept = sessionStorage.getItem(KEY);
if (kept) enter(kept);
else leave();
