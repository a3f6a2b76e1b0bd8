import { defineConfig } from "vite";

// Airflow's page provides these as globals; the bundle holds nothing but this folder's own code.
const globals = {
  react: "React",
  "react/jsx-runtime": "ReactJSXRuntime",
  "react-router-dom": "ReactRouterDOM",
  "@chakra-ui/react": "ChakraUI",
};

export default defineConfig({
  define: { "process.env.NODE_ENV": JSON.stringify("production") },
  build: {
    lib: { entry: "src/main.tsx", formats: ["iife"], name: "ClaudeBatches", fileName: () => "main.js" },
    outDir: "../static",
    emptyOutDir: true,
    target: "es2022",
    rollupOptions: { external: Object.keys(globals), output: { globals } },
  },
});
