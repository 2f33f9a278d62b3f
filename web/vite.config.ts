import { svelte } from '@sveltejs/vite-plugin-svelte';
import { defineConfig } from 'vite';

// The API that `npm run dev` passes requests on to: a running `stonechat serve`, or `npm run mock`.
const api = process.env.STONECHAT_URL ?? 'http://127.0.0.1:8080';

export default defineConfig({
  plugins: [svelte()],
  server: { proxy: { '/api': api } },
  build: {
    target: 'es2022',
    cssTarget: ['chrome123', 'firefox120', 'safari17.5'],
    // The server sends `default-src 'self'`, which forbids data: addresses and inline scripts.
    assetsInlineLimit: 0,
    modulePreload: { polyfill: false },
    // The notices that the licences of the bundled packages ask for.
    license: { fileName: 'licenses.txt' },
  },
});
