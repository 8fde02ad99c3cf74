for (const plot of document.querySelectorAll(".plot")) {
  const buttons = plot.parentElement.querySelectorAll(".legend button")
  Bokeh.embed.embed_item(JSON.parse(plot.nextElementSibling.textContent), plot).then((views) => {
    const renderers = [...views][0].model.renderers
    for (const button of buttons)
      button.addEventListener("click", () => {
        const shown = button.getAttribute("aria-pressed") != "true"
        button.setAttribute("aria-pressed", shown)
        for (const renderer of renderers) if (renderer.name == button.value) renderer.visible = shown
      })
  })
}
