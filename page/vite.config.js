import { defineConfig } from "vite";

// The page is served below a secret path that changes with every start, so every address in it is relative.
export default defineConfig({
  base: "./",
  build: {
    outDir: "../src/terradelta/view/bundle",
    emptyOutDir: true,
    target: "es2022",
    modulePreload: { polyfill: false },
    chunkSizeWarningLimit: 600,
  },
});
