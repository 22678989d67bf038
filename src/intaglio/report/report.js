// What is pointed at, beside the pointer. The page is whole without it: titles do the same, slowly.
(function () {
  var tip = document.createElement("div");
  tip.id = "tip";
  document.body.appendChild(tip);
  document.querySelectorAll("svg title").forEach(function (title) {
    var owner = title.parentNode;
    owner.dataset.tip = title.textContent;
    owner.setAttribute("aria-label", title.textContent);
    title.remove();
  });
  function show(event) {
    var text = event.target.dataset && event.target.dataset.tip;
    tip.style.display = text ? "block" : "none";
    if (!text) return;
    tip.textContent = text;
    var x = Math.min(event.clientX + 14, innerWidth - tip.offsetWidth - 8);
    var y = event.clientY + 16;
    if (y + tip.offsetHeight > innerHeight - 8) y = event.clientY - tip.offsetHeight - 12;
    tip.style.left = Math.max(x, 8) + "px";
    tip.style.top = y + "px";
  }
  // a picture wider than the window opens where this chip is
  document.querySelectorAll(".scroll .here").forEach(function (mark) {
    var box = mark.closest(".scroll"), at = mark.getBoundingClientRect();
    box.scrollLeft += at.left - box.getBoundingClientRect().left - box.clientWidth / 2;
  });
  document.addEventListener("pointermove", show);
  document.addEventListener("pointerdown", show);
  document.addEventListener("scroll", function () { tip.style.display = "none"; }, true);
})();
