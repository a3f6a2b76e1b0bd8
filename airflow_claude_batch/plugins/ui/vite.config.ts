import { createHash } from "node:crypto";
import { readFileSync, readdirSync } from "node:fs";
import { defineConfig, type Plugin } from "vite";

// Airflow's page provides these as globals; the bundle holds nothing but this folder's own code.
const globals = {
  react: "React",
  "react/jsx-runtime": "ReactJSXRuntime",
  "react-router-dom": "ReactRouterDOM",
  "@chakra-ui/react": "ChakraUI",
};

// The bundle names the source it was built from, so that a test without Node can tell when it is outdated.
const sources = ["package-lock.json", "vite.config.ts", ...readdirSync("src").map((name) => `src/${name}`)].sort();
const digest = createHash("sha256");

for (const name of sources) {
  digest.update(`${name}\n`).update(readFileSync(name));
}

const signed: Plugin = {
  enforce: "post",
  generateBundle(_, bundle) {
    for (const chunk of Object.values(bundle)) {
      if (chunk.type === "chunk") {
        chunk.code += `/* built from ${digest.digest("hex")} */\n`;
      }
    }
  },
  name: "signed",
};

export default defineConfig({
  define: { "process.env.NODE_ENV": JSON.stringify("production") },
  plugins: [signed],
  build: {
    lib: { entry: "src/main.tsx", formats: ["iife"], name: "ClaudeBatches", fileName: () => "main.js" },
    outDir: "../static",
    emptyOutDir: true,
    target: "es2022",
    rollupOptions: {
      external: Object.keys(globals),
      output: { globals },
    },
  },
});
