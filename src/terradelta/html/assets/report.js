document.querySelectorAll(".swipe").forEach((figure) => {
  const slider = figure.querySelector("input");
  const move = () => figure.style.setProperty("--cut", slider.value + "%");
  slider.addEventListener("input", move);
  move();
});
