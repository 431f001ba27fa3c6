// Stands in a frame of another page (security S30): opens the login in a window and tells the page when it is done.
"use strict";

const key = new URLSearchParams(location.search).get("key") || "";
const deadline = Date.now() + 180000;
let watching = false;

async function isDone() {
  const response = await fetch("page/state", {
    method: "POST",
    headers: { "Content-Type": "application/json" },
    body: JSON.stringify({ key }),
    credentials: "omit",
    signal: AbortSignal.timeout(10000),
  });
  const state = await response.json();
  if (state.expired) throw new Error("expired");
  return Boolean(state.login && state.login.done);
}

async function wait() {
  const status = document.getElementById("waiting");
  try {
    if (await isDone()) {
      status.textContent = "You are logged in.";
      window.parent.postMessage({ type: "hypha-login-complete", key }, "*");
      return;
    }
  } catch (error) {
    if (error.message === "expired" || Date.now() > deadline) {
      status.textContent = "This login has expired. Start again.";
      return;
    }
  }
  if (Date.now() < deadline) setTimeout(wait, 1500);
}

document.getElementById("open").addEventListener("click", () => {
  window.open(location.href, "_blank", "noopener,width=480,height=760");
  document.getElementById("waiting").hidden = false;
  if (!key || watching) return;
  watching = true;
  wait();
});
