// Numbers and counts in words.

export function score(value) {
  return value.toFixed(3)
}

/** A fraction in percent, with two digits that count. */
export function percent(fraction) {
  const value = 100 * fraction
  if (value === 0) return "0%"
  if (value > 99.9 && value < 100) return "over 99.9%"
  if (value < 0.01) return `${value.toPrecision(1)}%`
  return `${Number(value.toPrecision(value >= 10 ? 3 : 2))}%`
}

export function counted(count, noun, plural = `${noun}s`) {
  return `${count.toLocaleString("en")} ${count === 1 ? noun : plural}`
}

/** "4 images, 1 text" */
export function holdings({ images, texts }) {
  const parts = []
  if (images || !texts) parts.push(counted(images, "image"))
  if (texts) parts.push(counted(texts, "text"))
  return parts.join(", ")
}

export function megabytes(bytes) {
  return `${Number((bytes / 2 ** 20).toPrecision(2))}\u00a0MB`
}

export function date(text) {
  const when = new Date(text)
  return Number.isNaN(when.getTime()) ? "" : when.toLocaleDateString("en", { dateStyle: "medium" })
}

/** What a threshold stands for, in a line. */
export function standsFor(threshold) {
  if (!threshold?.far) return "The threshold was set by hand: no error rates are known of it."
  const size = threshold.gallery_size ? ` with ${counted(threshold.gallery_size, "identity", "identities")}` : ""
  const target = `${threshold.gallery_size ? "FPIR" : "FAR"} ${percent(threshold.target)}${size}`
  const rates = [`FAR ${percent(threshold.far.value)}`, threshold.frr && `FRR ${percent(threshold.frr.value)}`].filter(Boolean).join(", ")
  const own = threshold.source === "validation split of the model" ? " on the model's validation images, not on yours" : ""
  return `The threshold was set for ${target}; measured${own}: ${rates}.`
}

export const SUPPORT = { image: "Identities of images", text: "Identities of texts", both: "Identities of images and texts" }
