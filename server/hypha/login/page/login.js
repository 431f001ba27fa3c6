// The login page. It never sees a token: the session is a cookie that scripts cannot read,
// and the program that waits gets its token through its key. Text only, no markup, is put into the page.
"use strict";

const query = new URLSearchParams(location.search);
const key = query.get("key") || "";
const wantsProfile = /\/profile\/?$/.test(location.pathname);
let account = null;
let pending = null;
let redirect = null;

const element = (id) => document.getElementById(id);
const show = (id, visible) => { element(id).hidden = !visible; };
const write = (id, text) => { element(id).textContent = text; };

async function ask(step, fields) {
  let response;
  try {
    response = await fetch(`page/${step}`, {
      method: "POST",
      headers: { "Content-Type": "application/json" },
      body: JSON.stringify(fields),
      credentials: "same-origin",
      cache: "no-store",
      signal: AbortSignal.timeout(60000),
    });
  } catch {
    throw new Error("The server cannot be reached. Try again.");
  }
  const answer = await response.json().catch(() => null);
  if (answer === null) throw new Error("The server answered with something unexpected. Try again.");
  if (!response.ok) throw Object.assign(new Error(answer.error || "That did not work."), { status: response.status });
  return answer;
}

function complain(text) {
  write("problem", text);
  show("problem", Boolean(text));
}

function say(text) {
  write("said", text);
  show("said", Boolean(text));
}

function duration(seconds) {
  const units = [["day", 86400], ["hour", 3600], ["minute", 60], ["second", 1]];
  const [name, size] = units.find(([, size]) => seconds >= size && seconds % size < size / 10) || units[2];
  const count = Math.max(1, Math.round(seconds / size));
  return `${count} ${name}${count === 1 ? "" : "s"}`;
}

function ago(started) {
  const seconds = Math.max(0, Math.round(Date.now() / 1000 - started));
  return seconds < 60 ? (seconds < 5 ? "just now" : `${seconds} seconds ago`) : `${duration(seconds - (seconds % 60))} ago`;
}

function describe(login) {
  write("request-address", login.address || "unknown");
  write("request-program", login.program ? `client ${login.program}` : "an HTTP request");
  write("request-time", ago(login.started_at));
  write("request-workspace", login.workspace ? `workspace ${login.workspace}` : "your whole account");
  write("request-life", duration(login.life));
  show("request-network", !login.same_network);
}

function choose(tab, focus) {
  for (const name of ["login", "signup"]) {
    const chosen = name === tab;
    element(`tab-${name}`).setAttribute("aria-selected", String(chosen));
    element(`tab-${name}`).tabIndex = chosen ? 0 : -1;
    show(name, chosen);
  }
  if (focus === "tab") element(`tab-${tab}`).focus();
  if (focus === "field") element(tab === "login" ? "login-email" : "signup-name").focus();
}

function render() {
  show("loading", false);
  show("done", false);
  show("request", pending !== null);
  show("enter", account === null);
  show("member", account !== null);
  show("settings", account !== null && wantsProfile);
  show("approve", account !== null && pending !== null);
  show("other", account !== null && pending !== null);
  for (const button of document.querySelectorAll("button[data-label]")) {
    button.textContent = pending ? button.dataset.labelPending : button.dataset.label;
  }
  if (account !== null) {
    write("member-name", account.name);
    write("member-email", account.email + (account.verified ? "" : " (not verified)"));
    write("approve", `Continue as ${account.name}`);
    element("rename-name").value = account.name;
    element("password-email").value = account.email;
  }
}

function finish() {
  for (const id of ["request", "enter", "member", "settings", "loading"]) show(id, false);
  show("done", true);
  element("done").focus();
  if (window.parent !== window) {
    // Only that the key was used; the token is fetched with it by whoever started the login.
    window.parent.postMessage({ type: "hypha-login-complete", key }, "*");
  }
  if (redirect) location.assign(redirect);
}

async function attempt(form, step, fields) {
  const buttons = [...document.querySelectorAll("button")];
  complain("");
  say("");
  for (const button of buttons) button.disabled = true;
  if (form) form.setAttribute("aria-busy", "true");
  try {
    return await ask(step, fields);
  } catch (error) {
    complain(error.message);
    if (error.status === 401) {
      account = null;
      render();
    }
    return null;
  } finally {
    for (const button of buttons) button.disabled = false;
    if (form) form.removeAttribute("aria-busy");
  }
}

async function enter(form, step) {
  const fields = Object.fromEntries(new FormData(form));
  if (pending) fields.key = key;
  const answer = await attempt(form, step, fields);
  if (answer === null) {
    form.querySelector("input[type=password]").focus();
    return;
  }
  if (answer.verification_required) {
    say("Your account waits for the code that was sent to you.");
    return;
  }
  form.reset();
  account = answer.account;
  if (answer.approved || redirect) {
    pending = null;
    finish();
  } else {
    render();
    element("logout").focus();
  }
}

async function approve() {
  if ((await attempt(null, "approve", { key })) !== null) finish();
}

async function logOut() {
  if ((await attempt(null, "logout", {})) === null) return;
  account = null;
  render();
  choose("login", "field");
  say("You are logged out in this browser. Programs keep the tokens they have.");
  if (query.get("close") === "true") window.close();
}

async function change(form, done) {
  const answer = await attempt(form, "change", Object.fromEntries(new FormData(form)));
  if (answer === null) return;
  account = answer.account;
  form.reset();
  render();
  say(done);
}

function onSubmit(id, handler) {
  element(id).addEventListener("submit", (event) => {
    event.preventDefault();
    handler(event.currentTarget);
  });
}

function onTabKey(event) {
  if (event.key !== "ArrowLeft" && event.key !== "ArrowRight") return;
  choose(element("tab-login").tabIndex === 0 ? "signup" : "login", "tab");
}

function listen() {
  element("tab-login").addEventListener("click", () => choose("login"));
  element("tab-signup").addEventListener("click", () => choose("signup"));
  document.querySelector(".tabs").addEventListener("keydown", onTabKey);
  onSubmit("login", (form) => enter(form, "login"));
  onSubmit("signup", (form) => enter(form, "signup"));
  onSubmit("rename", (form) => change(form, "Your name was saved."));
  onSubmit("password", (form) => change(form, "Your password was changed."));
  element("approve").addEventListener("click", approve);
  element("logout").addEventListener("click", logOut);
  element("other").addEventListener("click", () => {
    account = null;
    render();
    choose("login", "field");
  });
}

async function start() {
  listen();
  let state;
  try {
    state = await ask("state", { key, redirect: query.get("redirect") });
  } catch (error) {
    show("loading", false);
    complain(error.message);
    return;
  }
  account = query.get("clear") === "true" ? null : state.account;
  redirect = state.redirect;
  if (query.get("logout") === "true" && account !== null) {
    await logOut();
    return;
  }
  if (state.expired || (state.login && state.login.done)) {
    complain("This login has expired or was completed before. Start again in your program.");
  } else if (state.login) {
    pending = state.login;
    describe(pending);
  }
  render();
  if (account === null) element("login-email").focus();
}

start();
