// Requests to the server, and what it answers where it cannot do what it was asked.

/** A refusal (problem+json) or no answer at all (status 0). */
export class Problem extends Error {
  constructor(message, status, body = {}) {
    super(message)
    this.status = status
    /** Of single images: [{image, detail}]. */
    this.errors = body.errors ?? []
    /** Whether the same request may succeed later. */
    this.passing = status === 0 || status === 408 || status === 429 || status >= 500
  }
}

/** Another of the same for each name in the object; empty ones are left out. */
export function query(values) {
  const pairs = Object.entries(values).filter(([, value]) => value !== null && value !== undefined && value !== "")
  return pairs.length ? `?${new URLSearchParams(pairs)}` : ""
}

/**
 * One request; the JSON of its answer, or null where it has none.
 *
 * Paths are relative, so that the page works under a prefix, too.
 */
export async function call(method, path, { json, form, headers = {}, signal, keepalive = false } = {}) {
  const body = json === undefined ? form : JSON.stringify(json)
  if (json !== undefined) headers = { ...headers, "Content-Type": "application/json" }
  let response
  try {
    response = await fetch(path, { method, body, headers, signal, keepalive, cache: "no-store" })
  } catch (error) {
    if (error.name === "AbortError") throw error
    document.dispatchEvent(new CustomEvent("server-gone"))
    throw new Problem("The server does not answer.", 0)
  }
  document.dispatchEvent(new CustomEvent("server-here"))
  const isJson = /\bjson\b/.test(response.headers.get("Content-Type") ?? "")
  const answer = isJson ? await response.json().catch(() => null) : null
  if (response.ok) return answer
  if (response.status === 401 && path !== "session") document.dispatchEvent(new CustomEvent("signed-out"))
  throw toProblem(answer ?? {}, response.status)
}

/** The problem in a body of problem+json. */
export function toProblem(body, status = body.status ?? 400) {
  const message = typeof body.detail === "string" ? body.detail : body.title
  return new Problem(message || `The server answered with status ${status}.`, status, body)
}

/** A key for a request that may be sent again: crypto.randomUUID is missing where there is no HTTPS. */
export function newKey() {
  return Array.from(crypto.getRandomValues(new Uint8Array(16)), (byte) => byte.toString(16).padStart(2, "0")).join("")
}
